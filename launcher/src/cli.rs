//! What can be typed. `styxy run` is parsed by itself, because it is what everybody's commands wait for and
//! building the whole command tree costs several times as much; the help of both is the same definition.

mod config;
mod daemon;
mod leases;
mod ports;
mod run;
mod values;

pub(crate) use config::*;
pub(crate) use daemon::*;
pub(crate) use leases::*;
pub(crate) use ports::*;
pub(crate) use run::*;
pub(crate) use values::is_lock_id;

use clap::{Args, Parser, Subcommand};

/// The commands in groups, which clap does not know; a test holds them against the definitions.
const OVERVIEW: &str = "\
{about}

{usage-heading} {usage}

Servers:
  run        Run a command on a port of its own

Leases:
  allocate   Lease a port
  release    Give leased ports back
  list       List the leased ports
  cleanup    End leases that nobody uses
  instances  List the registered instances (agents, sessions, editors)

Ports:
  check      Tell whether a port is free, and who has it
  whose      Tell which process listens on a port, and what it belongs to
  scan       List the ports of a range that are leased or in use
  suggest    Name free ports for a kind of service

Daemon:
  status     Tell how the daemon is and what it serves
  daemon     Start, stop or look at the daemon
  config     Show or change the configuration
  token      Manage the token of the HTTP API
  audit      Show what was changed, and when
  doctor     Find out what is wrong with styxy on this machine

Options:
{options}{after-help}";

const TOP_EXAMPLES: &str =
    "`styxy help COMMAND` tells more. The daemon starts by itself when a command needs it.";

/// The whole command line.
#[derive(Debug, Parser)]
#[command(
    name = "styxy",
    version,
    about = "Run development servers on ports of their own",
    help_template = OVERVIEW,
    after_help = TOP_EXAMPLES
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a command on a port of its own
    #[command(after_help = RUN_EXAMPLES)]
    Run(RunArgs),
    #[command(flatten)]
    Manage(ManageCommand),
}

/// The commands that manage the daemon and show what it knows.
#[derive(Debug, Subcommand)]
pub(crate) enum ManageCommand {
    /// Lease a port
    Allocate(AllocateArgs),
    /// Give leased ports back
    Release(ReleaseArgs),
    /// List the leased ports
    List(ListArgs),
    /// End leases that nobody uses
    Cleanup(CleanupArgs),
    /// List the registered instances (agents, sessions, editors)
    Instances(Format),
    /// Tell whether a port is free, and who has it
    Check(CheckArgs),
    /// Tell which process listens on a port, and what it belongs to
    Whose(WhoseArgs),
    /// List the ports of a range that are leased or in use
    Scan(ScanArgs),
    /// Name free ports for a kind of service
    Suggest(SuggestArgs),
    /// Tell how the daemon is and what it serves
    Status(Format),
    /// Start, stop or look at the daemon
    #[command(subcommand, disable_help_subcommand = true)]
    Daemon(DaemonCommand),
    /// Show or change the configuration
    #[command(disable_help_subcommand = true)]
    Config(ConfigArgs),
    /// Manage the token of the HTTP API
    #[command(subcommand, disable_help_subcommand = true)]
    Token(TokenCommand),
    /// Show what was changed, and when
    Audit(AuditArgs),
    /// Find out what is wrong with styxy on this machine
    #[command(after_help = DOCTOR_EXIT)]
    Doctor(Format),
}

/// How to print what was found.
#[derive(Clone, Copy, Debug, Default, Args)]
pub(crate) struct Format {
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[cfg(test)]
mod tests;
