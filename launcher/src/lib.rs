//! The launcher: everything that `styxy` does in the foreground.
//!
//! `styxy run` goes through [`run`] stage by stage: what was typed (`cli`), the outside world (`context`, `places`,
//! `observe`), the port (`lease`, `background`, `client`), what will be run (`plan`), what the processes of the run
//! share (`tree`, `session`, `watch`), and the child (`supervise`). The management commands are in `manage`.
//! Invariant: only `main` decides how the process ends, and `run` never writes to stdout.

mod background;
mod cli;
mod client;
mod context;
mod env_names;
mod exit_codes;
mod follow;
mod lease;
mod manage;
mod notice;
mod observe;
mod output;
mod places;
mod plan;
mod run;
pub mod session;
mod supervise;
mod sys;
mod tree;
mod watch;

use std::ffi::OsString;
use std::process::ExitCode;

pub use styxy_protocol::api::Build;

use clap::Parser as _;
use clap::error::ErrorKind;
use styxy_protocol::api::PROTOCOL;

use cli::{Cli, Command, RunArgs, RunCli};
use context::Context;

/// The styxy that is shipped.
pub const BUILD: Build = Build {
    version: env!("CARGO_PKG_VERSION"),
    protocol: PROTOCOL,
};

/// The whole program: reads the process world, does what was typed, returns how to end. `build` is what it tells
/// daemons and their clients that it is.
pub fn main(build: Build) -> ExitCode {
    let context = Context::read(build);
    match parse(std::env::args_os().collect()) {
        Ok(Command::Run(args)) => run::run(&context, &args),
        Ok(Command::Manage(command)) => manage::manage(&context, &command),
        Err(error) => explain(&error),
    }
}

/// `run` is parsed without building the rest of the command tree: it stands in front of everybody's commands.
fn parse(args: Vec<OsString>) -> Result<Command, clap::Error> {
    if args.get(1).is_some_and(|word| word == "run") {
        if let Some(run) = RunArgs::of_command_alone(&args[2..]) {
            return Ok(Command::Run(run));
        }
        RunCli::try_parse_from(args.into_iter().skip(1)).map(|cli| Command::Run(cli.run))
    } else {
        Cli::try_parse_from(args).map(|cli| cli.command)
    }
}

/// Help and version go to stdout with exit code 0, everything else to stderr with exit code 2.
fn explain(error: &clap::Error) -> ExitCode {
    let text = error.to_string();
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            output::print(&text);
            return ExitCode::SUCCESS;
        }
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => notice::plain(&text),
        ErrorKind::MissingRequiredArgument if text.contains("\n  <COMMAND>") => {
            notice::fatal(&"no command to run; the usage is `styxy run [OPTIONS] -- COMMAND...`");
        }
        _ => notice::fatal(&text.trim_end().trim_start_matches("error: ")),
    }
    ExitCode::from(exit_codes::USAGE)
}
