//! `styxy daemon`, `token` and `audit`.

use clap::{Args, Subcommand};
use styxy_protocol::Port;

use super::Format;

/// What can be done with the daemon.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum DaemonCommand {
    /// Run the daemon here until it is stopped (`styxy run` starts one by itself)
    Start(DaemonStartArgs),
    /// Stop the running daemon; leases are kept for the next one
    Stop,
    /// Tell whether the daemon runs
    Status(Format),
    /// Stop the daemon and start it again in the background; leases are kept
    Restart(DaemonRestartArgs),
    /// Show the log of daemons in the background
    Logs(LogsArgs),
}

/// What was typed after `styxy daemon start`.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct DaemonStartArgs {
    /// Serve the API on this port of 127.0.0.1 too, to clients that have the token
    #[arg(long, short = 'p', value_name = "PORT")]
    pub(crate) port: Option<Port>,
    /// Start it in the background and return when it answers
    #[arg(long, short = 'd')]
    pub(crate) detach: bool,
    /// Leave session and terminal, and keep stderr only until it answers
    #[arg(long, hide = true)]
    pub(crate) background: bool,
    /// End by itself after this many seconds without a lease
    #[arg(long, value_name = "SECONDS")]
    pub(crate) idle_exit: Option<u64>,
}

/// What was typed after `styxy daemon restart`.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct DaemonRestartArgs {
    /// Accepted for the sake of scripts: it always goes into the background
    #[arg(long, short = 'd', hide = true)]
    pub(crate) detach: bool,
}

const LOGS_EXAMPLES: &str = "Examples:
  styxy daemon logs          the last 50 lines
  styxy daemon logs -n 5 -f  the last 5 lines, and every line that is still to come";

/// What was typed after `styxy daemon logs`.
#[derive(Clone, Copy, Debug, Args)]
#[command(after_help = LOGS_EXAMPLES)]
pub(crate) struct LogsArgs {
    /// Go on with every line that is written
    #[arg(long, short = 'f')]
    pub(crate) follow: bool,
    /// How many of the last lines
    #[arg(long, short = 'n', value_name = "N", default_value_t = 50)]
    pub(crate) lines: usize,
}

/// What can be done with the token.
#[derive(Clone, Copy, Debug, Subcommand)]
pub(crate) enum TokenCommand {
    /// Make a new token; the old one is void at once
    Rotate(Format),
}

/// What was typed after `styxy audit`.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct AuditArgs {
    /// How many of the newest entries
    #[arg(long, short = 'n', value_name = "N", default_value_t = 20)]
    pub(crate) lines: usize,
    #[command(flatten)]
    pub(crate) format: Format,
}

pub(super) const DOCTOR_EXIT: &str = "Exit codes: 0 everything is healthy, 1 something is not.";
