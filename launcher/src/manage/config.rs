//! `styxy config`: the configuration, shown and changed.

mod auto_allocation;
mod generate;
mod instances;
mod show;
mod validate;

use std::process::ExitCode;

use crate::cli::ConfigCommand;
use crate::context::Context;

/// Does what was typed.
pub(super) fn config(context: &Context, command: &ConfigCommand) -> ExitCode {
    let format = command.format();
    match command {
        ConfigCommand::Show(_) => super::with_console(context, format, &show::show),
        ConfigCommand::Validate(_) => super::told(format, validate::validate(context, format.json)),
        ConfigCommand::Generate(args) => super::told(format, generate::generate(context, *args)),
        ConfigCommand::Instances(_) => super::with_console(context, format, &instances::instances),
        ConfigCommand::AutoAllocation(args) => super::with_console(context, format, &|it| {
            auto_allocation::auto_allocation(it, &args.to_command())
        }),
    }
}

#[cfg(test)]
mod tests;
