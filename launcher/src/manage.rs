//! The commands that manage the daemon and show what it knows.

pub(crate) mod daemon;
pub(crate) mod list;
mod remote;

use std::fmt::Display;
use std::process::ExitCode;

use styxy_daemon::config::ConfigError;

/// Says why a command failed.
fn failed(error: &dyn Display) -> ExitCode {
    crate::notice::fatal(error);
    ExitCode::from(crate::exit_codes::FAILURE)
}

/// Says what is wrong with the configuration files, and shows the lines that are meant.
fn broken_configuration(error: &ConfigError) -> ExitCode {
    let told = error.problems.iter().map(|problem| {
        let excerpt = problem.excerpt().map(|lines| format!("\n{lines}"));
        format!("{problem}{}", excerpt.unwrap_or_default())
    });
    let told: Vec<_> = told.collect();
    crate::notice::fatal(&told.join("\n"));
    ExitCode::from(crate::exit_codes::CONFIG)
}
