//! `styxy run`.

use std::ffi::OsString;
use std::time::Duration;

use clap::{Args, Parser};
use styxy_protocol::{Port, ServiceType};

use super::values;

/// What `--grace` says by itself.
const DEFAULT_GRACE: Duration = Duration::from_secs(10);

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
#[derive(Clone, Debug, Args, PartialEq, Eq)]
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
    /// How long the command's processes may keep the port when the run is asked to end; then they are killed
    ///
    /// A signal that a process sends asks for the end. ^C at a terminal reaches the command itself, and that decides.
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = values::seconds)]
    pub(crate) grace: Duration,
    /// Become the command instead of standing in front of it
    ///
    /// Nothing of styxy stays beside it: nobody ends its processes with it or tells when it is ready. The lease ends with the command.
    #[arg(long, conflicts_with = "grace")]
    pub(crate) exec: bool,
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

impl RunArgs {
    /// What was typed if it was a command and no option, which is nearly always and needs no parser; `None` if it may
    /// be more.
    pub(crate) fn of_command_alone(words: &[OsString]) -> Option<Self> {
        let command = match words.split_first()? {
            (first, rest) if first == "--" => rest,
            (first, _) if first.as_encoded_bytes().starts_with(b"-") => return None,
            _ => words,
        };
        (!command.is_empty()).then(|| Self {
            port: None,
            strict: false,
            service_type: None,
            name: None,
            grace: DEFAULT_GRACE,
            exec: false,
            quiet: false,
            dry_run: false,
            json: false,
            command: command.to_vec(),
        })
    }
}
