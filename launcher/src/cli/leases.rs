//! `styxy allocate`, `release`, `list` and `cleanup`.

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;

use clap::Args;
use styxy_protocol::{Port, ServiceType};

use super::{Format, values};

const ALLOCATE_EXAMPLES: &str = "Examples:
  styxy allocate dev                           a port for a front end, until it is released
  styxy allocate api users --port 8000         port 8000 for `users`, if it is free
  PORT=$(styxy allocate dev -q --pid $$)       in a script: the port, while the script runs
  styxy allocate dev --hold -- ./serve.sh      become this command, with PORT set
  coproc { styxy allocate dev --hold -q; }     a port until the pipe is closed

Without --pid and --hold the lease is kept until it is released, until what listened on
the port has gone, or until --ttl seconds have passed in which nobody listened.";

/// What was typed after `styxy allocate`.
#[derive(Clone, Debug, Args)]
#[command(after_help = ALLOCATE_EXAMPLES)]
pub(crate) struct AllocateArgs {
    /// Kind of service, such as `dev`, `api` or `storybook`; a new kind gets a range of its own
    #[arg(value_name = "TYPE", value_parser = values::service_type, required_unless_present = "service", conflicts_with = "service")]
    kind: Option<ServiceType>,
    /// Name of the service; services of one directory that run side by side need different ones
    #[arg(value_name = "NAME", value_parser = values::service_name, conflicts_with = "named")]
    label: Option<String>,
    /// As TYPE
    #[arg(long, short = 's', value_name = "TYPE", value_parser = values::service_type)]
    service: Option<ServiceType>,
    /// As NAME
    #[arg(id = "named", long = "name", short = 'n', value_name = "NAME", value_parser = values::service_name)]
    name: Option<String>,
    /// Use this port if it is free (1024 to 65535)
    #[arg(long, short = 'p', visible_alias = "preferred", value_name = "PORT", value_parser = values::unprivileged_port)]
    pub(crate) port: Option<Port>,
    /// Fail rather than use another port than --port
    #[arg(long, requires = "port")]
    pub(crate) strict: bool,
    /// Directory that the service belongs to; it gets the same port again next time [default: this directory]
    #[arg(long, value_name = "DIR")]
    pub(crate) project: Option<PathBuf>,
    /// Who asks, for display [default: `$CLAUDE_INSTANCE_ID`, else `cli`]
    #[arg(long, value_name = "ID", value_parser = values::instance_id)]
    pub(crate) instance: Option<String>,
    /// Keep the lease this long after somebody last listened [default: a day]
    #[arg(long, value_name = "SECONDS", value_parser = values::ttl, conflicts_with_all = ["pid", "hold"])]
    pub(crate) ttl: Option<u64>,
    /// Keep the lease for as long as this process runs
    #[arg(long, value_name = "PID", value_parser = clap::value_parser!(u32).range(1..), conflicts_with = "hold")]
    pub(crate) pid: Option<u32>,
    /// Become CMD and keep the lease for as long as it runs; without CMD: until stdin ends
    #[arg(long)]
    pub(crate) hold: bool,
    /// Print the port and nothing else
    #[arg(long, short = 'q', conflicts_with = "json")]
    pub(crate) quiet: bool,
    #[command(flatten)]
    pub(crate) format: Format,
    /// With --hold: the command and its arguments
    #[arg(
        last = true,
        value_name = "CMD",
        requires = "hold",
        conflicts_with = "json"
    )]
    pub(crate) command: Vec<OsString>,
}

impl AllocateArgs {
    /// The kind of service. The parser sees to it that there is one.
    pub(crate) fn service_type(&self) -> &ServiceType {
        self.kind
            .as_ref()
            .or(self.service.as_ref())
            .expect("one of the two is required")
    }

    /// The name of the service.
    pub(crate) fn service_name(&self) -> Option<&str> {
        self.label.as_deref().or(self.name.as_deref())
    }
}

/// A lease, as it is named on the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// By its id.
    LockId(String),
    /// By a port of it.
    Port(Port),
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LockId(id) => f.write_str(id),
            Self::Port(port) => port.fmt(f),
        }
    }
}

const RELEASE_EXAMPLES: &str = "Examples:
  styxy release 3000       the lease of port 3000
  styxy release 3000 8000  several

A port that somebody still listens on stays leased until that ends.";

/// What was typed after `styxy release`.
#[derive(Clone, Debug, Args)]
#[command(after_help = RELEASE_EXAMPLES)]
pub(crate) struct ReleaseArgs {
    /// The leases, each by its lock id or its port
    #[arg(value_name = "LOCKID|PORT", required = true, value_parser = values::target)]
    pub(crate) targets: Vec<Target>,
    #[command(flatten)]
    pub(crate) format: Format,
}

const LIST_EXAMPLES: &str = "Examples:
  styxy list                every lease, by worktree
  styxy list -v             with lock ids, ages, instances and listeners
  styxy list --service api  those of one kind
  styxy list --port 3000    the lease of one port";

/// What was typed after `styxy list`.
#[derive(Clone, Debug, Args)]
#[command(after_help = LIST_EXAMPLES)]
pub(crate) struct ListArgs {
    /// Show everything that is known about each lease
    #[arg(long, short = 'v')]
    pub(crate) verbose: bool,
    /// Only leases of this kind of service
    #[arg(long, short = 's', value_name = "TYPE", value_parser = values::service_type)]
    pub(crate) service: Option<ServiceType>,
    /// Only the lease that this port belongs to
    #[arg(long, short = 'p', value_name = "PORT")]
    pub(crate) port: Option<Port>,
    #[command(flatten)]
    pub(crate) format: Format,
}

const CLEANUP_EXAMPLES: &str = "Examples:
  styxy cleanup              leases that hang on no process and whose port nobody uses
  styxy cleanup --force      every lease whose port nobody listens on
  styxy cleanup --port 3000  that lease alone

Leases of commands that have ended go by themselves.";

/// What was typed after `styxy cleanup`.
#[derive(Clone, Debug, Args)]
#[command(after_help = CLEANUP_EXAMPLES)]
pub(crate) struct CleanupArgs {
    /// End leases too whose process runs but does not listen
    #[arg(long, short = 'f')]
    pub(crate) force: bool,
    /// Look at the lease of this port alone
    #[arg(long, short = 'p', value_name = "PORT")]
    pub(crate) port: Option<Port>,
    #[command(flatten)]
    pub(crate) format: Format,
}
