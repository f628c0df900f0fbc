//! What the kernel says about ports, on the wire.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

use super::Allocation;
use crate::{Port, ServiceType};

/// Answer of `GET /check/{port}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct CheckResponse {
    /// The port.
    pub port: Port,
    /// Nobody has a lease of it and the daemon can bind it, on every address of both families: below 1024 only a daemon
    /// with the privilege can. Whether it is ever handed out is another matter: see `reserved`.
    pub available: bool,
    /// Its lease.
    pub allocated_to: Option<Allocation>,
    /// Who listens on it, or has bound it.
    pub system_usage: Option<SystemUsage>,
    /// Why it is not handed out by itself (ephemeral range, refused by browsers) or never (privileged), `available` or
    /// not. Absent where it is leased.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reserved: Option<String>,
}

/// A socket that has a port to itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct SystemUsage {
    /// The port.
    pub port: Port,
    /// `tcp` or `tcp6`.
    pub protocol: String,
    /// `LISTEN`; `BOUND` where the port cannot be bound and nobody listens.
    pub state: String,
    /// Address and port it is bound to, as `127.0.0.1:3000` or `[::1]:3000`; `*:3000` where the kernel does not tell.
    /// Of several addresses the first, IPv4 before IPv6.
    pub local_address: String,
    /// Who has it, as far as may be seen.
    pub process: Option<PortProcess>,
    /// Name of the user who made the socket, or the number where it has none: known of other users' sockets too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// How it was found: `sock_diag`, or `bind` where the kernel does not tell.
    pub tool: String,
}

/// The process behind a socket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct PortProcess {
    /// Name of its program, at most 15 bytes (`/proc/PID/comm`).
    pub name: String,
    /// Its pid.
    pub pid: u32,
    /// Name of its user, or the number where it has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
}

/// Answer of `GET /scan`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ScanResponse {
    /// As `start-end`.
    pub scan_range: String,
    /// Ports of the range that are leased or in use, ascending.
    pub ports_in_use: Vec<ScannedPort>,
}

/// A port that is leased or in use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ScannedPort {
    /// The port.
    pub port: Port,
    /// Its lease.
    pub allocated_to: Option<Allocation>,
    /// Who listens on it.
    pub system_usage: Option<SystemUsage>,
}

/// Answer of `GET /observe/{port}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ObserveResponse {
    /// The port.
    pub port: Port,
    /// Whether anybody listens on it.
    pub bound: bool,
    /// Who.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observation: Option<Observation>,
    /// If nobody: a sentence for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// Who listens on a port, and what that is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Observation {
    /// The port.
    pub port: Port,
    /// Its process, if it may be seen: other users' processes may not. Of a server that has forked, the first.
    pub pid: Option<u32>,
    /// Name of its program.
    pub process: Option<String>,
    /// Its command line, at most 4 kB of it.
    pub command: Option<String>,
    /// Kind of service: that of the lease, else as its command line says, else `unknown`.
    pub service_type: String,
    /// The instance whose lease it is.
    pub instance_id: Option<String>,
    /// Addresses it is listened on, as `127.0.0.1:3000` or `[::1]:3000`, IPv4 first.
    pub addresses: Vec<String>,
    /// Working directory of the process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub directory: Option<String>,
    /// Root of the worktree that the directory lies in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worktree: Option<String>,
    /// Numeric id of the user who made the socket.
    pub uid: u32,
    /// Id of the lease that the port belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lock_id: Option<String>,
    /// Processes that listen on the same port of their own accord: on other addresses, or sharing it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub others: Vec<PortProcess>,
    /// When this was seen: now, in milliseconds since 1970.
    pub timestamp: u64,
    /// How long the process has been running, in milliseconds; 0 if it may not be seen.
    pub duration_ms: u64,
}

/// Answer of `GET /observe/all`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ObservationsResponse {
    /// How many ports are listened on.
    pub total: usize,
    /// Who listens, in ascending order of port.
    pub observations: Vec<Observation>,
    /// The same, counted.
    pub stats: ObservationStats,
}

/// Answer of `GET /observation-stats`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ObservationStatsResponse {
    /// The counts.
    pub stats: ObservationStats,
    /// Now, in milliseconds since 1970.
    pub timestamp: u64,
}

/// Listening ports, counted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ObservationStats {
    /// All.
    pub total_ports: usize,
    /// By kind of service.
    pub by_service_type: BTreeMap<String, usize>,
    /// By instance.
    pub by_instance: BTreeMap<String, usize>,
    /// How many instances are registered.
    pub active_instances: usize,
}

/// Answer of `GET /suggest/{type}`: what the allocator would give, one after the other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct SuggestResponse {
    /// Kind of service; a type that is not known counts as `dev`.
    pub service_type: ServiceType,
    /// Free ports, best first.
    pub suggestions: Vec<Port>,
    /// How many; absent if none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<usize>,
    /// One sentence for people.
    pub message: String,
}
