//! HTTP JSON between clients and the daemon: paths, requests, answers.
//!
//! Field names on the wire are those of the documented API (`lock_id`, `service_type`, …); inside styxy
//! the same thing is called a lease. A client sends [`PROTOCOL`] in no request; the daemon puts it into
//! [`AllocateResponse`] and [`StatusResponse`], and a client that finds another number leaves the daemon alone.

use serde::{Deserialize, Serialize};

use crate::{Port, ServiceType};

/// Number of this version of the contract. Raised when an old client could misread a new daemon.
pub const PROTOCOL: u32 = 1;

/// `POST`: lease a port. Body [`AllocateRequest`], answer [`AllocateResponse`] or [`ErrorResponse`].
pub const ALLOCATE: &str = "/allocate";
/// `GET`: every lease, as [`AllocationsResponse`].
pub const ALLOCATIONS: &str = "/allocations";
/// `GET`: whether the daemon is well, as [`StatusResponse`].
pub const STATUS: &str = "/status";

/// `DELETE`: release this lease. Answer [`ReleaseResponse`].
pub fn lease_path(lock_id: &str) -> String {
    format!("{ALLOCATE}/{lock_id}")
}

/// `PUT`: keep a lease that hangs on no process alive. Answer [`HeartbeatResponse`].
pub fn heartbeat_path(lock_id: &str) -> String {
    format!("{ALLOCATE}/{lock_id}/heartbeat")
}

/// `POST`: a process of the lease's tree bound a port. Body [`ListenerReport`], answer [`ReleaseResponse`].
pub fn listeners_path(lock_id: &str) -> String {
    format!("{ALLOCATE}/{lock_id}/listeners")
}

/// What a client asks of `POST /allocate`. Unknown fields are ignored, absent ones have defaults.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AllocateRequest {
    /// Kind of service.
    pub service_type: ServiceType,
    /// Name of the service within its package; part of its identity for sticky ports.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_name: Option<String>,
    /// Label of the client, for display.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance_id: Option<String>,
    /// Worktree that the service belongs to, absolute; part of its identity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project_path: Option<String>,
    /// Directory of the package inside the worktree, absolute; part of its identity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub package_dir: Option<String>,
    /// The port that the user or the command asked for; tried first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preferred_port: Option<Port>,
    /// The tool's own default port; tried after the port that the service had last time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_port: Option<Port>,
    /// Only `preferred_port` will do; if it is taken the answer is an error that names the holder.
    #[serde(default)]
    pub strict: bool,
    /// How many more ports the tree may need (at most [`MAX_SPARES`]).
    #[serde(default)]
    pub spare_ports: u8,
    /// The process that the lease hangs on, of the client's user. Absent: the lease hangs on heartbeats.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    /// The command that is run, for display.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
    /// Answer which port it would be, change nothing.
    #[serde(default)]
    pub dry_run: bool,
}

/// The most spare ports that one request may ask for.
pub const MAX_SPARES: u8 = 8;

/// A leased port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AllocateResponse {
    /// Always true.
    pub success: bool,
    /// The leased port.
    pub port: Port,
    /// Identifier of the lease; empty in the answer to a dry run.
    #[serde(default)]
    pub lock_id: String,
    /// One sentence for people.
    pub message: String,
    /// [`PROTOCOL`] of the daemon.
    pub protocol: u32,
    /// Further ports that belong to the lease, for listeners that nobody foresaw.
    #[serde(default)]
    pub spare_ports: Vec<Port>,
    /// The wanted port that could not be had (the asked-for one, else the tool's default), and who holds it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conflict: Option<Conflict>,
    /// The daemon cannot watch the owner: send a heartbeat this often or lose the lease.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heartbeat_seconds: Option<u32>,
    /// There may be only one service of this type and it is there already: its lease, not a new one.
    /// The lease belongs to somebody else, so the client neither renews nor releases it.
    #[serde(default, flatten, skip_serializing_if = "Option::is_none")]
    pub existing: Option<ExistingLease>,
}

/// The lease that a single-instance type has already. Its fields lie in the answer itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExistingLease {
    /// Always true.
    pub existing: bool,
    /// Identifier of the lease, as `lock_id`.
    #[serde(rename = "lockId")]
    pub lock_id: String,
    /// Label of the client that has it.
    #[serde(
        rename = "existingInstanceId",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub instance_id: Option<String>,
    /// Process that it hangs on.
    #[serde(
        rename = "existingPid",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub pid: Option<u32>,
    /// Wall clock time of its allocation, milliseconds since 1970.
    #[serde(rename = "allocatedAt")]
    pub allocated_at: u64,
}

/// A wanted port and its holder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Conflict {
    /// The port that was wanted.
    pub port: Port,
    /// Who has it.
    pub holder: Holder,
}

/// Who holds a port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Holder {
    /// Another lease.
    Lease {
        /// Worktree of its service.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        project_path: Option<String>,
        /// Name of its service.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        service_name: Option<String>,
        /// Process that the lease hangs on.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pid: Option<u32>,
    },
    /// A process that styxy did not start, as far as it could be seen.
    Process {
        /// Its pid, if it could be found.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pid: Option<u32>,
        /// Its command line, if it could be read.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        command: Option<String>,
    },
    /// Not a port that styxy hands out (ephemeral range, refused by browsers, privileged).
    Reserved {
        /// Why not.
        reason: String,
    },
}

/// A port that a process of the lease's tree has bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListenerReport {
    /// The port that the program asked for.
    pub requested: Port,
    /// The port that it got.
    pub port: Port,
}

/// Answer of every request that only does something.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReleaseResponse {
    /// Always true.
    pub success: bool,
    /// The lease's main port.
    pub port: Port,
    /// One sentence for people.
    pub message: String,
}

/// Answer to a heartbeat.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeartbeatResponse {
    /// Always true.
    pub success: bool,
    /// Seconds until the lease ends without another heartbeat.
    pub expires_in: u32,
}

/// Every lease.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AllocationsResponse {
    /// In ascending order of port.
    pub allocations: Vec<Allocation>,
}

/// One lease as others see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Allocation {
    /// Its port.
    pub port: Port,
    /// Its identifier.
    pub lock_id: String,
    /// Kind of service.
    pub service_type: ServiceType,
    /// Name of the service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_name: Option<String>,
    /// Label of the client.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance_id: Option<String>,
    /// Worktree.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project_path: Option<String>,
    /// Package directory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub package_dir: Option<String>,
    /// Process that the lease hangs on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    /// The command that is run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
    /// Wall clock time of the allocation, seconds since 1970.
    pub allocated_at: u64,
    /// Where the lease stands.
    pub state: LeaseState,
    /// Ports that the tree has bound, as reported and still listening.
    #[serde(default)]
    pub listeners: Vec<ListenerReport>,
}

/// Where a lease stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LeaseState {
    /// Its owner lives, nothing listens on its ports yet.
    Starting,
    /// Something listens on one of its ports.
    Listening,
    /// Its owner is gone, something still listens.
    Detached,
}

/// Whether the daemon is well.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StatusResponse {
    /// Always `running`.
    pub status: String,
    /// Seconds since its start.
    pub uptime: f64,
    /// Number of leases.
    pub allocations: usize,
    /// Its process.
    pub pid: u32,
    /// [`PROTOCOL`] of the daemon.
    pub protocol: u32,
    /// Version of styxy that it was built from.
    pub version: String,
    /// Why its state is not being saved, if so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub degraded: Option<String>,
}

/// Any answer with a status of 400 and above.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorResponse {
    /// Always false.
    pub success: bool,
    /// What happened, for people.
    pub error: String,
    /// What happened, for programs.
    pub code: ErrorCode,
    /// What to do about it, if there is something.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suggestion: Option<String>,
    /// With [`ErrorCode::PortTaken`]: who has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub holder: Option<Holder>,
}

/// What went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    /// The request is not of the contract.
    InvalidRequest,
    /// No such service type.
    UnknownServiceType,
    /// Only one port would do and somebody else has it.
    PortTaken,
    /// Every port of the type's range is taken.
    RangeExhausted,
    /// The owner has as many leases as it may have.
    QuotaExceeded,
    /// No such lease.
    LeaseNotFound,
    /// No such path or method.
    NotFound,
    /// The peer is not the daemon's user.
    Forbidden,
    /// A fault of the daemon.
    Internal,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(existing: Option<ExistingLease>) -> AllocateResponse {
        AllocateResponse {
            success: true,
            port: Port::new(11430).expect("not 0"),
            lock_id: "x".to_owned(),
            message: String::new(),
            protocol: PROTOCOL,
            spare_ports: Vec::new(),
            conflict: None,
            heartbeat_seconds: None,
            existing,
        }
    }

    #[test]
    fn an_existing_lease_lies_in_the_answer_itself() {
        let existing = answer(Some(ExistingLease {
            existing: true,
            lock_id: "x".to_owned(),
            instance_id: None,
            pid: Some(7),
            allocated_at: 1000,
        }));
        let json = serde_json::to_value(&existing).expect("serialises");
        assert_eq!(json["existing"], true);
        assert_eq!(json["lockId"], "x");
        assert_eq!(json["existingPid"], 7);
        assert_eq!(json["allocatedAt"], 1000);
        assert_eq!(
            serde_json::from_value::<AllocateResponse>(json).expect("reads back"),
            existing
        );
    }

    #[test]
    fn without_one_there_is_no_trace_of_it() {
        let json = serde_json::to_value(answer(None)).expect("serialises");
        assert_eq!(json.get("existing"), None);
        assert_eq!(
            serde_json::from_value::<AllocateResponse>(json).expect("reads back"),
            answer(None)
        );
    }
}
