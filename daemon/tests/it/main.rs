//! The daemon as its clients meet it: a socket, real processes, real ports. Each test has a daemon of its own.

mod api;
mod config;
mod files;
mod harness;
mod life;
mod observation;
mod scan;
