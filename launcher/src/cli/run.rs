//! `styxy run`.

use std::ffi::OsString;

use clap::{Args, Parser};
use styxy_protocol::{Port, ServiceType};

use super::values;

pub(super) const RUN_EXAMPLES: &str = "Examples:
  styxy run -- npm run storybook      the next free storybook port, as a flag of the tool
  styxy run --port 4000 -- vite       port 4000 if it is free, else another one
  styxy run --dry-run -- npm run dev  what would be run, on which port, and why

Exit codes: the command's own; 2 wrong options, 123 the service ran elsewhere and has ended,
125 `--strict` and the port is taken, 126 the command cannot be executed, 127 the command was
not found.";

/// `styxy run` by itself.
#[derive(Debug, Parser)]
#[command(name = "styxy run", bin_name = "styxy run", about = "Run a command on a port of its own", after_help = RUN_EXAMPLES)]
pub(crate) struct RunCli {
    #[command(flatten)]
    pub(crate) run: RunArgs,
}

/// What was typed after `styxy run`.
#[derive(Clone, Debug, Args)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a switch of the command line"
)]
pub(crate) struct RunArgs {
    /// Use this port if it is free (1024 to 65535)
    ///
    /// Without it the port that the command itself names is tried first, then the one that the service had last time.
    #[arg(long, short = 'p', value_name = "PORT", value_parser = values::unprivileged_port)]
    pub(crate) port: Option<Port>,
    /// Fail with exit code 125 rather than use another port than the wanted one
    #[arg(long)]
    pub(crate) strict: bool,
    /// Treat the command as this kind of service, such as `dev`, `api` or `storybook`
    ///
    /// A kind that styxy does not know is given a range of ports of its own.
    #[arg(long = "type", short = 't', value_name = "TYPE", value_parser = values::service_type)]
    pub(crate) service_type: Option<ServiceType>,
    /// Name of the service; services of one package that run side by side need different ones
    #[arg(long, short = 'n', value_name = "NAME", value_parser = values::service_name)]
    pub(crate) name: Option<String>,
    /// Say nothing, not even which port it became
    #[arg(long, short = 'q')]
    pub(crate) quiet: bool,
    /// Print what would be run, on which port, and why; run nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// With --dry-run: print JSON
    #[arg(long, requires = "dry_run")]
    pub(crate) json: bool,
    /// The command and its arguments; everything after its name is the command's own
    #[arg(value_name = "COMMAND", required = true, trailing_var_arg = true)]
    pub(crate) command: Vec<OsString>,
}
