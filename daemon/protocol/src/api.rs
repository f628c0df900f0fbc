//! HTTP JSON between clients and the daemon: paths, requests, answers.
//!
//! Field names on the wire are those of the documented API (`lock_id`, `service_type`, …); inside styxy
//! the same thing is called a lease. A client sends [`PROTOCOL`] in no request; the daemon puts it into
//! [`AllocateResponse`] and [`StatusResponse`]. What a client of another number does is in [`PROTOCOL`].

mod config;
mod error;
mod instance;
mod lease;
mod observation;
mod status;

pub use config::*;
pub use error::*;
pub use instance::*;
pub use lease::*;
pub use observation::*;
pub use status::*;

/// Number of this version of the contract. Raised when an old client could misread a new daemon.
///
/// A client that is newer than the daemon ends it and starts its own, which goes on with the leases; one that is
/// older leaves the daemon alone. Builds of one number understand each other, whatever their versions.
///
/// Three things keep their form for ever, so that programs of two numbers can part in peace: `pid`, `protocol` and
/// `version` of [`StatusResponse`], `protocol` and `lock_id` of [`AllocateResponse`], and what a launcher says about
/// its lease while it runs ([`lease_path`], [`heartbeat_path`], [`listeners_path`]).
pub const PROTOCOL: u32 = 2;

/// Which styxy a program is. A value rather than constants, so that a test can have an older and a newer one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Build {
    /// Version of styxy, for display.
    pub version: &'static str,
    /// [`PROTOCOL`] of the shipped programs.
    pub protocol: u32,
}

/// `POST`: lease a port. Body [`AllocateRequest`], answer [`AllocateResponse`] or [`ErrorResponse`].
pub const ALLOCATE: &str = "/allocate";
/// `GET`: every lease, as [`AllocationsResponse`].
pub const ALLOCATIONS: &str = "/allocations";
/// `GET`: whether the daemon runs, as [`StatusResponse`]. Open to clients without a token.
pub const STATUS: &str = "/status";
/// `GET`: whether the daemon is well, as [`HealthResponse`].
pub const HEALTH: &str = "/health";
/// `GET`: what was counted, as [`MetricsResponse`], or as text for Prometheus.
pub const METRICS: &str = "/metrics";
/// `GET`: the newest entries of the audit log, as [`AuditResponse`].
pub const AUDIT: &str = "/audit";
/// `GET`: [`CircuitBreakersResponse`].
pub const CIRCUIT_BREAKERS: &str = "/circuit-breakers";
/// `GET`: the configuration in force, as [`ConfigResponse`].
pub const CONFIG: &str = "/config";
/// `GET`: [`AutoAllocationResponse`]; `PUT`: turn it on or off, body [`AutoAllocationRequest`], same answer.
pub const AUTO_ALLOCATION: &str = "/auto-allocation";
/// `GET`: [`ScanResponse`]. Query `start`, `end`.
pub const SCAN: &str = "/scan";
/// `GET`: every listening socket, as [`ObservationsResponse`].
pub const OBSERVE_ALL: &str = "/observe/all";
/// `GET`: [`ObservationStatsResponse`].
pub const OBSERVATION_STATS: &str = "/observation-stats";
/// `POST`: body [`RegisterRequest`], answer [`RegisterResponse`].
pub const REGISTER: &str = "/instance/register";
/// `GET`: [`InstancesResponse`].
pub const INSTANCES: &str = "/instance/list";
/// `POST`: as [`REGISTER`], but the instance may be known by a pid alone. Body [`RegisterProcessRequest`].
pub const REGISTER_PROCESS: &str = "/register-instance";
/// `POST`: end leases that nobody uses. Body [`CleanupRequest`] or none, answer [`CleanupResponse`].
pub const CLEANUP: &str = "/cleanup";
/// `POST`, over the Unix socket alone: serve the API on this loopback port too. Body [`ListenRequest`],
/// answer [`ListenResponse`].
pub const LISTEN: &str = "/listen";
/// `POST`, over the Unix socket alone: make a new token; the old one is void. Answer [`TokenResponse`].
pub const TOKEN: &str = "/token";
/// `GET`: this API as an `OpenAPI` document.
pub const OPENAPI: &str = "/openapi.json";

/// `DELETE`: release this lease, named by its id or its port. Answer [`ReleaseResponse`].
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

/// `GET`: whether a port is free, and who has it, as [`CheckResponse`].
pub fn check_path(port: crate::Port) -> String {
    format!("/check/{port}")
}

/// `GET`: who listens on a port, as [`ObserveResponse`].
pub fn observe_path(port: crate::Port) -> String {
    format!("/observe/{port}")
}

/// `GET`: ports that a service of this type would get, as [`SuggestResponse`]. Query `count`.
pub fn suggest_path(service_type: &str) -> String {
    format!("/suggest/{service_type}")
}

/// `PUT`: keep an instance alive. Answer [`InstanceHeartbeatResponse`].
pub fn instance_heartbeat_path(instance_id: &str) -> String {
    format!("/instance/{instance_id}/heartbeat")
}

/// `DELETE`: take back the range that this type was given by auto-allocation. Answer [`UndoResponse`].
pub fn auto_allocation_path(service_type: &str) -> String {
    format!("{AUTO_ALLOCATION}/{service_type}")
}
