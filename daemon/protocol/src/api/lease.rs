//! Leases on the wire: asking for a port, renewing, reporting, releasing, listing.

use serde::{Deserialize, Serialize};

use super::PlacementRule;
use crate::{Port, ServiceType};

/// What a client asks of `POST /allocate`. Unknown fields are ignored, absent ones have defaults.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
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
    /// How long the lease lives after its last heartbeat or listener, in seconds, where it hangs on no process.
    /// Absent: a day. At most [`MAX_TTL_SECONDS`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl_seconds: Option<u64>,
    /// Answer which port it would be, change nothing.
    #[serde(default)]
    pub dry_run: bool,
}

/// The most spare ports that one request may ask for.
pub const MAX_SPARES: u8 = 8;

/// The longest time to live that a request may ask for: 30 days.
pub const MAX_TTL_SECONDS: u64 = 30 * 24 * 60 * 60;

/// A leased port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
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
    /// The type was not known and has just been given a range of ports. Its fields lie in the answer itself.
    #[serde(default, flatten, skip_serializing_if = "Option::is_none")]
    pub new_range: Option<NewRange>,
    /// In the answer to a dry run: what was asked. Its fields lie in the answer itself.
    #[serde(default, flatten, skip_serializing_if = "Option::is_none")]
    pub dry_run: Option<DryRun>,
}

/// The range that a service type has just been given.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct NewRange {
    /// Always true.
    pub auto_allocated: bool,
    /// First and last port.
    pub allocated_range: [Port; 2],
    /// How many ports those are.
    pub chunk_size: u16,
    /// Where it was put.
    pub placement: PlacementRule,
}

/// What a dry run was about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct DryRun {
    /// Always true.
    pub dry_run: bool,
    /// Kind of service.
    pub service_type: ServiceType,
    /// Name of the service, `unnamed-service` if none was given.
    pub service_name: String,
}

/// The lease that a single-instance type has already. Its fields lie in the answer itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
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
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Conflict {
    /// The port that was wanted.
    pub port: Port,
    /// Who has it.
    pub holder: Holder,
}

/// Who holds a port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
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
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ListenerReport {
    /// The port that the program asked for.
    pub requested: Port,
    /// The port that it got.
    pub port: Port,
}

/// Answer of every request that only does something.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
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
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct HeartbeatResponse {
    /// Always true.
    pub success: bool,
    /// Seconds until the lease ends without another heartbeat.
    pub expires_in: u32,
}

/// Every lease.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct AllocationsResponse {
    /// In ascending order of port.
    pub allocations: Vec<Allocation>,
}

/// One lease as others see it. On the wire the older fields come in both spellings, `service_type` and
/// `serviceType`; only the first is read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(into = "BothSpellings")]
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
    /// Wall clock time of the allocation (RFC 3339, UTC).
    pub allocated_at: String,
    /// What the client called itself (`User-Agent`).
    #[serde(rename = "userAgent", default, skip_serializing_if = "Option::is_none")]
    pub user_agent: Option<String>,
    /// Seconds until the lease ends without another heartbeat or a listener, where it hangs on no process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_in: Option<u64>,
    /// Where the lease stands.
    pub state: LeaseState,
    /// Ports that the tree has bound, as reported and still listening.
    #[serde(default)]
    pub listeners: Vec<ListenerReport>,
}

/// An [`Allocation`] as it is written.
#[derive(Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
struct BothSpellings {
    port: Port,
    lock_id: String,
    #[serde(rename = "lockId")]
    lock_id_too: String,
    service_type: ServiceType,
    #[serde(rename = "serviceType")]
    service_type_too: ServiceType,
    service_name: Option<String>,
    #[serde(rename = "serviceName")]
    service_name_too: Option<String>,
    instance_id: Option<String>,
    #[serde(rename = "instanceId")]
    instance_id_too: Option<String>,
    project_path: Option<String>,
    #[serde(rename = "projectPath")]
    project_path_too: Option<String>,
    package_dir: Option<String>,
    pid: Option<u32>,
    process_id: Option<u32>,
    command: Option<String>,
    allocated_at: String,
    #[serde(rename = "userAgent", skip_serializing_if = "Option::is_none")]
    user_agent: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_in: Option<u64>,
    state: LeaseState,
    listeners: Vec<ListenerReport>,
}

impl From<Allocation> for BothSpellings {
    fn from(lease: Allocation) -> Self {
        Self {
            port: lease.port,
            lock_id_too: lease.lock_id.clone(),
            lock_id: lease.lock_id,
            service_type_too: lease.service_type.clone(),
            service_type: lease.service_type,
            service_name_too: lease.service_name.clone(),
            service_name: lease.service_name,
            instance_id_too: lease.instance_id.clone(),
            instance_id: lease.instance_id,
            project_path_too: lease.project_path.clone(),
            project_path: lease.project_path,
            package_dir: lease.package_dir,
            pid: lease.pid,
            process_id: lease.pid,
            command: lease.command,
            allocated_at: lease.allocated_at,
            user_agent: lease.user_agent,
            expires_in: lease.expires_in,
            state: lease.state,
            listeners: lease.listeners,
        }
    }
}

/// Where a lease stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum LeaseState {
    /// Its owner lives, nothing listens on its ports yet.
    Starting,
    /// Something listens on one of its ports.
    Listening,
    /// Its owner is gone, something still listens.
    Detached,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::PROTOCOL;

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
            new_range: None,
            dry_run: None,
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

    #[test]
    fn an_allocation_is_written_in_both_spellings_and_read_back() {
        let lease = Allocation {
            port: Port::new(3000).expect("not 0"),
            lock_id: "x".to_owned(),
            service_type: "dev".parse().expect("a valid name"),
            service_name: Some("web".to_owned()),
            instance_id: None,
            project_path: Some("/p".to_owned()),
            package_dir: None,
            pid: Some(7),
            command: None,
            allocated_at: "2026-01-01T00:00:00Z".to_owned(),
            user_agent: Some("curl".to_owned()),
            expires_in: Some(60),
            state: LeaseState::Listening,
            listeners: Vec::new(),
        };
        let json = serde_json::to_value(&lease).expect("serialises");
        for (one, other) in [
            ("lock_id", "lockId"),
            ("service_type", "serviceType"),
            ("service_name", "serviceName"),
            ("instance_id", "instanceId"),
            ("project_path", "projectPath"),
            ("pid", "process_id"),
        ] {
            assert_eq!(json[one], json[other], "{one}");
        }
        assert_eq!(
            serde_json::from_value::<Allocation>(json).expect("reads back"),
            lease
        );
    }
}
