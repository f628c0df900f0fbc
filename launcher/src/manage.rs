//! The commands that manage the daemon and show what it knows.

pub(crate) mod daemon;
pub(crate) mod list;
mod remote;

use std::fmt::Display;
use std::process::ExitCode;

/// Says why a command failed.
fn failed(error: &dyn Display) -> ExitCode {
    crate::notice::fatal(error);
    ExitCode::from(crate::exit_codes::FAILURE)
}
