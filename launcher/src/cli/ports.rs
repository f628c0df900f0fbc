//! `styxy check`, `whose`, `scan` and `suggest`.

use clap::Args;
use styxy_protocol::{Port, ServiceType};

use super::{Format, values};

const CHECK_EXAMPLES: &str = "Examples:
  styxy check 3000
  styxy check 3000 --json | jq .available";

/// What was typed after `styxy check`.
#[derive(Clone, Debug, Args)]
#[command(after_help = CHECK_EXAMPLES)]
pub(crate) struct CheckArgs {
    /// The port
    #[arg(value_name = "PORT")]
    pub(crate) port: Port,
    #[command(flatten)]
    pub(crate) format: Format,
}

const WHOSE_EXAMPLES: &str = "Examples:
  styxy whose 3000
  kill $(styxy whose 3000 --json | jq .observation.pid)";

/// What was typed after `styxy whose`.
#[derive(Clone, Debug, Args)]
#[command(after_help = WHOSE_EXAMPLES)]
pub(crate) struct WhoseArgs {
    /// The port
    #[arg(value_name = "PORT")]
    pub(crate) port: Port,
    #[command(flatten)]
    pub(crate) format: Format,
}

const SCAN_EXAMPLES: &str = "Examples:
  styxy scan                  ports 3000 to 9999
  styxy scan -s 8000 -e 8099  the range of `api`";

/// What was typed after `styxy scan`.
#[derive(Clone, Debug, Args)]
#[command(after_help = SCAN_EXAMPLES)]
pub(crate) struct ScanArgs {
    /// First port
    #[arg(long, short = 's', value_name = "PORT", default_value = "3000")]
    pub(crate) start: Port,
    /// Last port [default: 9999, or the first one if that is higher]
    #[arg(long, short = 'e', value_name = "PORT")]
    pub(crate) end: Option<Port>,
    #[command(flatten)]
    pub(crate) format: Format,
}

const SUGGEST_EXAMPLES: &str = "Examples:
  styxy suggest dev       five free ports, best first, one a line
  styxy suggest api -c 1  the port that `styxy allocate api` would give

Nothing is leased: two who ask get the same answer. `styxy allocate` leases.";

/// What was typed after `styxy suggest`.
#[derive(Clone, Debug, Args)]
#[command(after_help = SUGGEST_EXAMPLES)]
pub(crate) struct SuggestArgs {
    /// Kind of service, such as `dev`, `api` or `storybook`
    #[arg(value_name = "TYPE", value_parser = values::service_type)]
    pub(crate) service: ServiceType,
    /// How many ports (1 to 100)
    #[arg(long, short = 'c', value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=100))]
    pub(crate) count: u16,
    #[command(flatten)]
    pub(crate) format: Format,
}
