//! What the configuration decides, in the daemon's own terms. Pure; the defaults are those of a home without
//! configuration files.

use std::time::Duration;

use styxy_protocol::Port;
use styxy_protocol::api::{AutoAllocation, AutoAllocationRule, HealthMonitoring, PlacementRule};

use crate::service_types::ServiceTypes;

/// The configuration in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The service types.
    pub types: ServiceTypes,
    /// Ranges for types that are not known.
    pub auto_allocation: AutoAllocation,
    /// Exceptions from it, in the order in which they are tried.
    pub rules: Vec<AutoAllocationRule>,
    /// How long an instance is remembered after its last heartbeat.
    pub instance_ttl: Duration,
    /// Watching leases that hang on no process.
    pub health_monitoring: HealthMonitoring,
    /// The loopback port that the API is served on beside the socket.
    pub listen_port: Option<Port>,
    /// How many leases one process may have: far more than any tool needs, far fewer than a range has room for.
    pub leases_per_owner: usize,
}

impl Default for Settings {
    fn default() -> Self {
        let rule = |pattern: &str, chunk_size| AutoAllocationRule {
            pattern: pattern.to_owned(),
            chunk_size: Some(chunk_size),
            placement: None,
            preferred_range_start: None,
        };
        Self {
            types: ServiceTypes::builtin(),
            auto_allocation: AutoAllocation {
                enabled: true,
                default_chunk_size: 10,
                placement: PlacementRule::After,
                min_port: const { Port::new(10_000).unwrap() },
                max_port: const { Port::new(49_151).unwrap() },
                preserve_gaps: true,
                gap_size: 10,
            },
            rules: vec![rule("monitoring-*", 20), rule("database-*", 5)],
            instance_ttl: Duration::from_mins(5),
            health_monitoring: HealthMonitoring {
                enabled: true,
                check_interval_ms: 30_000,
                max_failures: 3,
                cleanup_stale_allocations: true,
            },
            listen_port: None,
            leases_per_owner: 64,
        }
    }
}
