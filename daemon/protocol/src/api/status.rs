//! How the daemon is, on the wire.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

use crate::Port;

/// Whether the daemon runs, and since when.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct StatusResponse {
    /// Always `running`.
    pub status: String,
    /// Seconds since its start.
    pub uptime: f64,
    /// Number of leases.
    pub allocations: usize,
    /// Number of registered instances.
    #[serde(default)]
    pub instances: usize,
    /// What it takes of memory.
    #[serde(default)]
    pub memory: Memory,
    /// Its process.
    pub pid: u32,
    /// The protocol that it speaks.
    pub protocol: u32,
    /// Version of styxy that it was built from.
    pub version: String,
    /// The loopback port that the API is served on beside the socket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tcp_port: Option<Port>,
    /// Why its state is not being saved, or the API is not served on the port that the configuration names, if so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub degraded: Option<String>,
    /// What is wrong with the configuration, if something is: what it says is not in force then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_problem: Option<String>,
    /// What the daemon found and mended when it started, in the order of the steps.
    #[serde(default)]
    pub recovery: Vec<RecoveryStep>,
}

/// Memory in bytes. The names are those of the documented API; all but the first are 0 where they mean nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Memory {
    /// Resident set.
    pub rss: u64,
    /// Anonymous memory of the process.
    pub heap_total: u64,
    /// As `heap_total`.
    pub heap_used: u64,
    /// 0.
    pub external: u64,
    /// 0.
    pub array_buffers: u64,
}

/// One step of what the daemon does when it starts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct RecoveryStep {
    /// `validate_state`, `validate_config`, `drop_orphans`, `fix_singletons` or `rebuild_indexes`.
    pub step: String,
    /// Nothing was wrong, or it was mended.
    pub success: bool,
    /// How many things were mended.
    pub repaired: usize,
    /// One sentence for people.
    pub message: String,
}

/// Whether the daemon is well.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct HealthResponse {
    /// `healthy`, or `degraded` when something in `warnings` is wrong.
    pub status: String,
    /// Now (RFC 3339, UTC).
    pub timestamp: String,
    /// Seconds since the start of the daemon.
    pub uptime: f64,
    /// Version of styxy.
    pub version: String,
    /// Where it runs.
    pub system: HealthSystem,
    /// Its parts.
    pub services: HealthServices,
    /// Its configuration.
    pub config: HealthConfig,
    /// What is wrong.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    /// How long this answer took, in milliseconds.
    pub response_time_ms: f64,
}

/// Where the daemon runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct HealthSystem {
    /// `linux`.
    pub platform: String,
    /// Processor architecture.
    pub arch: String,
    /// Its process.
    pub pid: u32,
    /// What it takes of memory.
    pub memory: Memory,
}

/// The daemon's parts, each `healthy` or `degraded`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct HealthServices {
    /// It answers.
    pub daemon: ServiceHealth,
    /// The journal.
    pub state_manager: ServiceHealth,
    /// The kernel's list of listening sockets.
    pub port_scanner: ServiceHealth,
}

/// How one part is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ServiceHealth {
    /// `healthy` or `degraded`.
    pub status: String,
    /// Why it is degraded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// The configuration in a few words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct HealthConfig {
    /// How many service types there are.
    pub service_types: usize,
    /// Whether types that are not known get a range.
    pub auto_allocation: bool,
    /// The loopback port of the API.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tcp_port: Option<Port>,
}

/// Everything that was counted since the start of the daemon.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct MetricsResponse {
    /// By name, labels in braces: `ports_allocated_total{service_type="dev"}`.
    pub counters: BTreeMap<String, u64>,
    /// By name. Durations are in milliseconds.
    pub histograms: BTreeMap<String, Histogram>,
    /// By name.
    pub gauges: BTreeMap<String, f64>,
    /// The process.
    pub system: MetricsSystem,
}

/// A distribution.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Histogram {
    /// How many values.
    pub count: u64,
    /// Their sum.
    pub sum: f64,
    /// The smallest.
    pub min: f64,
    /// The largest.
    pub max: f64,
    /// Their mean.
    pub avg: f64,
    /// How many values lie in each range, such as `10-50`.
    pub buckets: BTreeMap<String, u64>,
}

/// The process, as far as it is measured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct MetricsSystem {
    /// Milliseconds since its start.
    pub uptime: f64,
    /// What it takes of memory.
    pub memory: Memory,
    /// Time on the processor.
    pub cpu: Cpu,
    /// Its number.
    pub pid: u32,
}

/// Time on the processor, in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Cpu {
    /// In the program.
    pub user: u64,
    /// In the kernel on its behalf.
    pub system: u64,
}

/// The newest part of the audit log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct AuditResponse {
    /// Whether it is being written.
    pub enabled: bool,
    /// The file.
    pub log_location: String,
    /// Files that are older than this are deleted.
    pub retention_days: u32,
    /// The newest entries, newest last.
    pub recent_events: Vec<AuditEvent>,
}

/// One entry, one line of the file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct AuditEvent {
    /// When (RFC 3339, UTC).
    pub timestamp: String,
    /// `AUTO_ALLOCATION`, `AUTO_ALLOCATION_UNDO`, `AUTO_ALLOCATION_ENABLED`, `AUTO_ALLOCATION_DISABLED`,
    /// `PORT_REASSIGNED` or `TOKEN_ROTATED`.
    pub action: String,
    /// What is to be said about it.
    #[serde(flatten)]
    pub details: BTreeMap<String, serde_json::Value>,
}

/// The documented API has a breaker around its port scanner; here it stands for the kernel's list of sockets.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct CircuitBreakersResponse {
    /// By name; `port_scanner` is the only one.
    pub circuit_breakers: BTreeMap<String, CircuitBreaker>,
}

/// How often something was tried and failed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct CircuitBreaker {
    /// Its name.
    pub name: String,
    /// `CLOSED`, or `OPEN` while the last attempt failed.
    pub state: String,
    /// Attempts that failed.
    pub failure_count: u64,
    /// Attempts that did not.
    pub success_count: u64,
    /// All.
    pub total_attempts: u64,
    /// The first in relation to the last, 0 to 1.
    pub failure_rate: f64,
    /// When the last one failed, in milliseconds since 1970.
    pub last_failure_time: Option<u64>,
}

/// Body of `POST /cleanup`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct CleanupRequest {
    /// End every lease that nothing listens on, even if its owner lives.
    #[serde(default)]
    pub force: bool,
}

/// Answer to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct CleanupResponse {
    /// Always true.
    pub success: bool,
    /// How many leases ended.
    pub cleaned: usize,
    /// One sentence for people.
    pub message: String,
}

/// Body of `POST /listen`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ListenRequest {
    /// The loopback port.
    pub port: Port,
}

/// Answer to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ListenResponse {
    /// Always true.
    pub success: bool,
    /// The port that the API is served on now.
    pub port: Port,
}

/// Answer of `POST /token`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct TokenResponse {
    /// Always true.
    pub success: bool,
    /// Where the new token is. The token itself is in no answer.
    pub path: String,
}
