//! Errors on the wire.

use serde::{Deserialize, Serialize};

use super::Holder;
use crate::{Port, ServiceType};

/// Any answer with a status of 400 and above.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
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
    /// What the error is about, for programs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context: Option<Box<ErrorContext>>,
}

/// What an error is about. Only what belongs to the error is there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ErrorContext {
    /// What to do about it, one sentence each.
    #[serde(default)]
    pub suggestions: Vec<String>,
    /// `VALIDATION`, `CONFIGURATION` or `RESOURCE`.
    pub category: String,
    /// `low`, `medium` or `high`.
    pub severity: String,
    /// The value that is no port, as it came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provided_port: Option<String>,
    /// The value that is no service type, as it came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provided_service_type: Option<String>,
    /// The service types that there are.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub valid_service_types: Vec<ServiceType>,
    /// The type whose range is used up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_type: Option<ServiceType>,
    /// Its range, as `first-last`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port_range: Option<String>,
    /// The leased ports of the range.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allocated_ports: Vec<Port>,
}

/// What went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    /// The request is not of the contract.
    InvalidRequest,
    /// No such service type, and auto-allocation is off or failed.
    UnknownServiceType,
    /// Only one port would do and somebody else has it.
    PortTaken,
    /// Every port of the type's range is taken.
    RangeExhausted,
    /// The owner has as many leases as it may have.
    QuotaExceeded,
    /// No such lease.
    LeaseNotFound,
    /// No such instance.
    InstanceNotFound,
    /// The configuration does not allow it.
    Configuration,
    /// No such path or method.
    NotFound,
    /// No token, or a wrong one.
    Unauthorized,
    /// The peer is not the daemon's user, or the request comes from a web page.
    Forbidden,
    /// A fault of the daemon.
    Internal,
}
