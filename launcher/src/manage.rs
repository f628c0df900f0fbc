//! The commands that manage the daemon and show what it knows: one command, one file of its name.
//!
//! A command asks through its [`Console`] and hands back what to print or why it failed; only here it is said.

mod allocate;
mod audit;
mod check;
mod cleanup;
mod config;
mod console;
mod daemon;
mod doctor;
mod facts;
mod failure;
mod instances;
mod list;
mod release;
mod remote;
mod scan;
mod status;
mod suggest;
mod table;
mod token;
mod view;
mod whose;

use std::error::Error;
use std::fmt::Display;
use std::process::ExitCode;

use styxy_daemon::config::ConfigError;

use crate::cli::{Format, ManageCommand, TokenCommand};
use crate::context::Context;
use console::Console;
use failure::Failure;

/// How a command ends.
type Done = Result<ExitCode, Failure>;

/// Does what was typed.
pub(crate) fn manage(context: &Context, command: &ManageCommand) -> ExitCode {
    let with = |format, act: &dyn Fn(&Console<'_>) -> Done| with_console(context, format, act);
    match command {
        ManageCommand::Allocate(args) => with(args.format, &|it| allocate::allocate(it, args)),
        ManageCommand::Release(args) => with(args.format, &|it| release::release(it, args)),
        ManageCommand::List(args) => with(args.format, &|it| list::list(it, args)),
        ManageCommand::Cleanup(args) => with(args.format, &|it| cleanup::cleanup(it, args)),
        ManageCommand::Instances(format) => with(*format, &instances::instances),
        ManageCommand::Check(args) => with(args.format, &|it| check::check(it, args)),
        ManageCommand::Whose(args) => with(args.format, &|it| whose::whose(it, args)),
        ManageCommand::Scan(args) => with(args.format, &|it| scan::scan(it, args)),
        ManageCommand::Suggest(args) => with(args.format, &|it| suggest::suggest(it, args)),
        ManageCommand::Status(format) => with(*format, &status::status),
        ManageCommand::Daemon(command) => daemon::daemon(context, command),
        ManageCommand::Config(args) => config::config(context, &args.to_command()),
        ManageCommand::Token(TokenCommand::Rotate(format)) => token::rotate(context, *format),
        ManageCommand::Audit(args) => with(args.format, &|it| audit::audit(it, args)),
        ManageCommand::Doctor(format) => doctor::doctor(context, *format),
    }
}

/// Does something with the daemon, and says why not if it cannot be done.
fn with_console(context: &Context, format: Format, act: &dyn Fn(&Console<'_>) -> Done) -> ExitCode {
    told(
        format,
        Console::open(context, format).and_then(|console| act(&console)),
    )
}

/// How a command ends, which is said if it failed.
fn told(format: Format, done: Done) -> ExitCode {
    done.unwrap_or_else(|failure| failure.tell(format))
}

/// Says why a command failed.
fn failed(error: &dyn Display) -> ExitCode {
    crate::notice::fatal(error);
    ExitCode::from(crate::exit_codes::FAILURE)
}

/// An error and what is behind it, on one line.
fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
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
