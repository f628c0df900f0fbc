//! Instances (agents, sessions, editors) on the wire: clients that tell that they are there.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Free text about an instance. Bounded by the size of a request.
pub type Metadata = BTreeMap<String, serde_json::Value>;

/// Body of `POST /instance/register`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct RegisterRequest {
    /// Its name: 1 to 100 letters, digits, `-` and `_`.
    pub instance_id: String,
    /// Where it works.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub working_directory: Option<String>,
    /// What else there is to say.
    #[serde(default)]
    pub metadata: Metadata,
}

/// Body of `POST /register-instance`: one of the first two is needed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct RegisterProcessRequest {
    /// Its name; absent: `ldpreload-<pid>`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance_id: Option<String>,
    /// Its process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    /// A port that it has bound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<crate::Port>,
    /// Kind of service behind the port; a type that is not known counts as `dev`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_type: Option<String>,
    /// Where it works.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project_path: Option<String>,
    /// What else there is to say.
    #[serde(default)]
    pub metadata: Metadata,
}

/// Answer to both.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct RegisterResponse {
    /// Always true.
    pub success: bool,
    /// Its name.
    pub instance_id: String,
    /// One sentence for people.
    pub message: String,
}

/// Answer to the heartbeat of an instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct InstanceHeartbeatResponse {
    /// Always true.
    pub success: bool,
    /// Its name.
    pub instance_id: String,
    /// Now (RFC 3339, UTC).
    pub last_heartbeat: String,
}

/// Every instance.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct InstancesResponse {
    /// In ascending order of name.
    pub instances: Vec<Instance>,
}

/// One instance.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Instance {
    /// Its name.
    pub instance_id: String,
    /// Where it works.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub working_directory: Option<String>,
    /// Its process, where it named one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    /// When it registered (RFC 3339, UTC).
    pub registered_at: String,
    /// Its last sign of life (RFC 3339, UTC).
    pub last_heartbeat: String,
    /// The ids of the leases that carry its name.
    pub active_allocations: Vec<String>,
    /// What else it said.
    #[serde(default)]
    pub metadata: Metadata,
}
