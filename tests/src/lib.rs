//! Harness of the end-to-end tests: a [`Sandbox`] in which the program under test, the servers that it starts, the
//! processes that get in its way and a browser run, and from which nothing escapes.
//!
//! A sandbox has its own home, runtime directory, daemon and network, so an expectation like "port 6007" is exact and
//! tests run in parallel. Nothing here waits for time to pass: a wait is for a line, an exit or a state, with a
//! [`Deadline`] that only a broken program reaches.

mod api;
mod browser;
mod deadline;
mod fixture;
mod http;
pub mod namespace;
mod ports;
mod processes;
mod running;
mod sandbox;
mod skip;
mod terminal;

pub use api::Api;
pub use browser::Browser;
pub use deadline::{Deadline, eventually};
pub use fixture::{Fixture, Fixtures, Missing};
pub use http::Page;
pub use ports::{Host, Manners, Squatter};
pub use processes::{ProcessId, Processes};
pub use running::{Ended, Running, Source};
pub use sandbox::{Call, Programs, Sandbox};
pub use skip::{available, say};
