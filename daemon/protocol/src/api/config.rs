//! The configuration in force, on the wire.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

use crate::{Instances, Port, ServiceType};

/// Answer of `GET /config`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ConfigResponse {
    /// By name.
    pub service_types: BTreeMap<ServiceType, ServiceTypeConfig>,
    /// What the ranges follow.
    pub compliance: Compliance,
    /// The files that were read, in ascending order of precedence; those that do not exist are left out.
    #[serde(default)]
    pub files: Vec<String>,
    /// What is wrong with them, if something is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// Auto-allocation, limits and monitoring.
    pub settings: ConfigSettings,
}

/// One service type.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ServiceTypeConfig {
    /// Tried first.
    pub preferred_ports: Vec<Port>,
    /// First and last port.
    pub range: [Port; 2],
    /// As `range`.
    pub port_range: [Port; 2],
    /// What it is, for people.
    pub description: String,
    /// Tools that are of this type.
    #[serde(default)]
    pub examples: Vec<String>,
    /// How many there may be at once.
    pub instance_behavior: Instances,
    /// Where it comes from.
    pub source: TypeSource,
    /// Its range was made by auto-allocation.
    #[serde(default)]
    pub auto_allocated: bool,
    /// When (RFC 3339, UTC).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auto_allocated_at: Option<String>,
}

/// Where a service type comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum TypeSource {
    /// styxy knows it by itself.
    Builtin,
    /// `config.toml`.
    ConfigToml,
    /// `config.json`.
    ConfigJson,
    /// Auto-allocation, recorded in `config.json`.
    AutoAllocated,
}

/// What the ranges follow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Compliance {
    /// Name of the policy.
    pub source: String,
    /// Its version.
    pub version: String,
}

/// The rest of the configuration, in the units of the configuration files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ConfigSettings {
    /// Ranges for types that are not known.
    pub auto_allocation: AutoAllocation,
    /// Exceptions from it, by pattern, in the order in which they are tried.
    pub auto_allocation_rules: Vec<AutoAllocationRule>,
    /// Seconds without a heartbeat after which an instance is forgotten.
    pub instance_ttl: u64,
    /// Watching leases that hang on no process.
    pub health_monitoring: HealthMonitoring,
    /// The loopback port to serve the API on; absent: the Unix socket alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listen_port: Option<Port>,
    /// How many leases one process may have.
    pub leases_per_owner: usize,
}

/// How types that are not known get a range.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct AutoAllocation {
    /// Whether they do.
    pub enabled: bool,
    /// Ports of a range, 1 to 1000.
    pub default_chunk_size: u16,
    /// Where ranges are put.
    pub placement: PlacementRule,
    /// No range begins below this port.
    pub min_port: Port,
    /// No range ends above this port.
    pub max_port: Port,
    /// Whether `gap_size` ports stay free between ranges.
    pub preserve_gaps: bool,
    /// How many, 0 to 1000.
    pub gap_size: u16,
}

/// An exception for types whose name matches.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct AutoAllocationRule {
    /// A name in which `*` stands for any text.
    pub pattern: String,
    /// Ports of a range.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chunk_size: Option<u16>,
    /// Where the range is put.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub placement: Option<PlacementRule>,
    /// The first range begins here if there is room.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preferred_range_start: Option<Port>,
}

/// Where a new range is put.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum PlacementRule {
    /// Behind the highest range.
    After,
    /// Before the lowest range.
    Before,
    /// In the first gap with room, else behind the highest type of the same family, else behind the highest range.
    Smart,
}

impl fmt::Display for PlacementRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::After => "after",
            Self::Before => "before",
            Self::Smart => "smart",
        })
    }
}

/// How leases that hang on no process are watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct HealthMonitoring {
    /// Whether they are.
    pub enabled: bool,
    /// Milliseconds between two looks.
    pub check_interval_ms: u64,
    /// A lease whose listener has gone ends after this many looks without one.
    pub max_failures: u32,
    /// Whether it ends at all, or is only counted.
    pub cleanup_stale_allocations: bool,
}

/// Answer of `GET /auto-allocation`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct AutoAllocationResponse {
    /// The rules in force.
    #[serde(flatten)]
    pub settings: AutoAllocation,
    /// Exceptions.
    pub rules: Vec<AutoAllocationRule>,
    /// The ranges that were made, in ascending order.
    pub ranges: Vec<AutoAllocatedRange>,
}

/// A range that was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct AutoAllocatedRange {
    /// For this type.
    pub service_type: ServiceType,
    /// First and last port.
    pub range: [Port; 2],
    /// When (RFC 3339, UTC), if that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auto_allocated_at: Option<String>,
    /// How many leases the type has now.
    pub active_allocations: usize,
}

/// Body of `PUT /auto-allocation`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct AutoAllocationRequest {
    /// Whether types that are not known get a range.
    pub enabled: bool,
}

/// Answer of `DELETE /auto-allocation/{type}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct UndoResponse {
    /// Always true.
    pub success: bool,
    /// The range that is free again.
    pub range: [Port; 2],
    /// One sentence for people.
    pub message: String,
}
