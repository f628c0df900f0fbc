//! What each development tool is and how it takes its port.
//!
//! Pure: a command and facts about the project go in, a [`Detection`] comes out. Nothing here opens a
//! file, looks at the environment or knows which ports are in use; [`Project`] and [`Command`] carry what
//! is needed. Knowledge about tools is data (`builtin/*.toml`, see [`schema`] for how to write a recipe);
//! knowledge about what stands in front of tools (package managers, `env`, shells) is code.
//!
//! The invariant: [`Detection::inject`] changes no word of the command except the port's own, and a
//! command that is not understood is left as it is and gets `PORT` at most.

mod asked;
mod catalog;
mod command;
mod detection;
mod error;
mod invocation;
mod matching;
mod options;
mod package;
mod plan;
mod running;
pub mod schema;
mod tool;
mod unwrap;
mod words;

pub use catalog::{Catalog, RecipeSource};
pub use command::{Command, Project};
pub use detection::{
    Asked, AskedFrom, Detection, FurtherPort, Injection, Intercept, Outcome, Ports, Reach,
    ToolFacts, detect,
};
pub use error::RecipeError;
pub use package::{Package, PackageError};
pub use running::service_type_of_process;
