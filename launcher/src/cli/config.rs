//! `styxy config`.

use clap::{Args, Subcommand};
use styxy_protocol::ServiceType;

use super::{Format, values};

const CONFIG_EXAMPLES: &str = "Examples:
  styxy config                       the service types and settings in force
  styxy config generate              write a commented config.toml to start from
  styxy config validate              what is wrong with the configuration files
  styxy config auto-allocation list  the ranges that new service types were given";

/// What was typed after `styxy config`.
#[derive(Clone, Debug, Args)]
#[command(after_help = CONFIG_EXAMPLES, args_conflicts_with_subcommands = true)]
pub(crate) struct ConfigArgs {
    /// Absent: as `show`.
    #[command(subcommand)]
    pub(crate) command: Option<ConfigCommand>,
    #[command(flatten)]
    pub(crate) format: Format,
}

/// What can be done with the configuration.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Show the service types and settings in force
    Show(Format),
    /// Tell what is wrong with the configuration files
    Validate(Format),
    /// Write a commented config.toml to start from
    Generate(ConfigGenerateArgs),
    /// Show a table of fixed ports for up to four copies of a project side by side
    Instances(Format),
    /// Show or change how service types that are not known get a range of ports
    #[command(disable_help_subcommand = true)]
    AutoAllocation(AutoAllocationArgs),
}

/// What was typed after `styxy config generate`.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct ConfigGenerateArgs {
    /// Replace the file that is there
    #[arg(long, short = 'f')]
    pub(crate) force: bool,
    #[command(flatten)]
    pub(crate) format: Format,
}

/// What was typed after `styxy config auto-allocation`.
#[derive(Clone, Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct AutoAllocationArgs {
    /// Absent: as `status`.
    #[command(subcommand)]
    pub(crate) command: Option<AutoAllocationCommand>,
    #[command(flatten)]
    pub(crate) format: Format,
}

/// What can be done with auto-allocation.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum AutoAllocationCommand {
    /// Show whether it is on, its rules and its ranges
    Status(Format),
    /// List the ranges that it made
    List(Format),
    /// Give service types that are not known a range from now on
    Enable(Format),
    /// Refuse service types that are not known from now on
    Disable(Format),
    /// Take back the range that a service type was given
    Undo(AutoAllocationUndoArgs),
}

/// What was typed after `styxy config auto-allocation undo`.
#[derive(Clone, Debug, Args)]
pub(crate) struct AutoAllocationUndoArgs {
    /// The service type
    #[arg(value_name = "TYPE", value_parser = values::service_type)]
    pub(crate) service_type: ServiceType,
    #[command(flatten)]
    pub(crate) format: Format,
}

impl ConfigArgs {
    /// What is to be done.
    pub(crate) fn to_command(&self) -> ConfigCommand {
        self.command
            .clone()
            .unwrap_or(ConfigCommand::Show(self.format))
    }
}

impl ConfigCommand {
    /// How to print what comes of it.
    pub(crate) fn format(&self) -> Format {
        match self {
            Self::Show(format) | Self::Validate(format) | Self::Instances(format) => *format,
            Self::Generate(args) => args.format,
            Self::AutoAllocation(args) => args.to_command().format(),
        }
    }
}

impl AutoAllocationArgs {
    /// What is to be done.
    pub(crate) fn to_command(&self) -> AutoAllocationCommand {
        let command = self.command.clone();
        command.unwrap_or(AutoAllocationCommand::Status(self.format))
    }
}

impl AutoAllocationCommand {
    fn format(&self) -> Format {
        match self {
            Self::Status(format)
            | Self::List(format)
            | Self::Enable(format)
            | Self::Disable(format) => *format,
            Self::Undo(args) => args.format,
        }
    }
}
