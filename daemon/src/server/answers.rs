//! What the API says: results and refusals as the JSON of the contract.
//!
//! The sentences that the documented API is known for (`Port N allocated for T service`, `Lock ID X not
//! found`, …) are kept to the letter; clients match them.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use styxy_protocol::api::{
    AllocateRequest, AllocateResponse, Conflict, ErrorCode, ErrorContext, ErrorResponse, Holder,
};
use styxy_protocol::{Port, ServiceType};

use crate::Build;
use crate::allocator::{LeaseId, LeaseIdError, MAX_LEASES_PER_OWNER, Refusal};
use crate::authority::{Granted, NoLease};
use crate::owner::OwnerRefusal;
use crate::ranges::NoRange;

/// How often a client whose process cannot be watched has to send a heartbeat: three in the lease's time.
const HEARTBEAT_SECONDS: u32 = 20;
/// How many holders an error lists.
const MAX_LISTED: usize = 10;

/// An answer with a status of 400 or above.
#[derive(Debug)]
pub(super) struct Fault {
    status: StatusCode,
    body: Box<ErrorResponse>,
}

impl Fault {
    /// A fault with this code.
    pub(super) fn new(status: StatusCode, code: ErrorCode, error: impl Into<String>) -> Self {
        Self {
            status,
            body: Box::new(ErrorResponse {
                success: false,
                error: error.into(),
                code,
                suggestion: None,
                holder: None,
                context: None,
            }),
        }
    }

    /// A request that is not of the contract.
    pub(super) fn invalid(error: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, ErrorCode::InvalidRequest, error)
    }

    /// There is no such lease.
    pub(super) fn no_lease(status: StatusCode, id: LeaseId) -> Self {
        let error = format!("Lock ID {id} not found");
        Self::new(status, ErrorCode::LeaseNotFound, error)
    }

    /// A fault of the daemon.
    pub(super) fn internal(error: impl Into<String>) -> Self {
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            ErrorCode::Internal,
            error,
        )
    }

    pub(super) fn suggest(mut self, suggestion: impl Into<String>) -> Self {
        self.body.suggestion = Some(suggestion.into());
        self
    }

    /// What it is about, for programs.
    pub(super) fn about(mut self, context: ErrorContext) -> Self {
        self.body.context = Some(Box::new(context));
        self
    }

    pub(super) fn held_by(mut self, holder: Option<Holder>) -> Self {
        self.body.holder = holder;
        self
    }
}

impl IntoResponse for Fault {
    fn into_response(self) -> Response {
        (self.status, Json(self.body)).into_response()
    }
}

impl From<LeaseIdError> for Fault {
    fn from(error: LeaseIdError) -> Self {
        Self::invalid(error.to_string())
    }
}

impl From<NoLease> for Fault {
    fn from(no_lease: NoLease) -> Self {
        match no_lease {
            NoLease::Owner(OwnerRefusal::NotThere(pid)) => Self::invalid(format!(
                "there is no process {pid}"
            ))
            .suggest(
                "send the pid of a running process, or none for a lease that hangs on heartbeats",
            ),
            NoLease::Owner(OwnerRefusal::Foreign(pid)) => Self::new(
                StatusCode::FORBIDDEN,
                ErrorCode::Forbidden,
                format!("process {pid} belongs to another user"),
            ),
            NoLease::NoRandomness => Self::internal("the system gives no random numbers"),
            NoLease::Refused(refusal) => refusal.into(),
            NoLease::NoRange {
                service_type,
                reason,
                known,
            } => no_range(&service_type, &reason, known),
        }
    }
}

impl From<Refusal> for Fault {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            // Types that are not known get a range, or `NoLease::NoRange`.
            Refusal::UnknownType(service_type) => Self::new(
                StatusCode::BAD_REQUEST,
                ErrorCode::UnknownServiceType,
                format!("Unknown service type '{service_type}'"),
            ),
            Refusal::StrictWithoutPort => {
                Self::invalid("`strict` without `preferred_port`").suggest("name the port that has to be it")
            }
            Refusal::Taken(conflict) => Self::new(
                StatusCode::CONFLICT,
                ErrorCode::PortTaken,
                format!("port {} {}", conflict.port, describe(&conflict.holder)),
            )
            .suggest("ask for another port, or leave out `strict`")
            .held_by(Some(conflict.holder)),
            Refusal::Exhausted {
                service_type,
                range,
                holders,
            } => {
                let (first, last) = (range.start(), range.end());
                Self::new(
                    StatusCode::BAD_REQUEST,
                    ErrorCode::RangeExhausted,
                    format!("No available ports in range {first}-{last} for service type {service_type}"),
                )
                .suggest(release_one(&holders))
            }
            Refusal::Quota(pid) => Self::new(
                StatusCode::TOO_MANY_REQUESTS,
                ErrorCode::QuotaExceeded,
                format!("process {pid} has {MAX_LEASES_PER_OWNER} leases, as many as one process may have"),
            )
            .suggest("release a lease before asking for another one"),
        }
    }
}

/// There is no such type, and it gets no range.
fn no_range(service_type: &ServiceType, reason: &NoRange, known: Vec<ServiceType>) -> Fault {
    let names: Vec<_> = known.iter().map(ServiceType::as_str).collect();
    let known_ones = format!("use one of the known types: {}", names.join(", "));
    let (why, remedy) = match reason {
        NoRange::Disabled => (
            format!("Unknown service type '{service_type}' and {reason}"),
            "turn auto-allocation on with `styxy config auto-allocation enable`",
        ),
        NoRange::BelowMinPort { .. } => (
            format!("Auto-allocation failed for '{service_type}': {reason}"),
            "lower `auto_allocation.min_port`, or choose another `auto_allocation.placement`",
        ),
        NoRange::NoRoom { .. } => (
            format!("Auto-allocation failed for '{service_type}': {reason}"),
            "give unused ranges back with `styxy config auto-allocation undo TYPE`, or change \
             `min_port`, `max_port`, `default_chunk_size` or `gap_size` of `auto_allocation`",
        ),
    };
    Fault::new(
        StatusCode::BAD_REQUEST,
        ErrorCode::UnknownServiceType,
        format!("Unknown service type '{service_type}': {why}"),
    )
    .suggest(format!("{remedy}; or {known_ones}"))
    .about(ErrorContext {
        suggestions: vec![remedy.to_owned(), known_ones],
        category: "CONFIGURATION".to_owned(),
        severity: "medium".to_owned(),
        provided_service_type: Some(service_type.to_string()),
        valid_service_types: known,
        ..ErrorContext::default()
    })
}

/// A request that does not say what kind of service it is for.
pub(super) fn no_service_type() -> Fault {
    Fault::invalid("Service type name is required")
        .suggest("send a `service_type`, such as `dev` or `api`")
}

/// The answer to a request that got a port.
pub(super) fn allocated(
    request: &AllocateRequest,
    granted: Granted,
    build: Build,
) -> AllocateResponse {
    let grant = granted.grant;
    let (port, service_type) = (grant.port, &request.service_type);
    let message = if grant.existing.is_some() {
        format!("Service '{service_type}' only allows single instance")
    } else if request.dry_run {
        format!("Port {port} would be allocated for {service_type} service")
    } else {
        format!("Port {port} allocated for {service_type} service")
    };
    let owns = grant.existing.is_none() && !request.dry_run;
    AllocateResponse {
        success: true,
        port,
        lock_id: grant.id.map(|id| id.to_string()).unwrap_or_default(),
        message,
        protocol: build.protocol,
        spare_ports: grant.spares,
        conflict: grant.conflict,
        heartbeat_seconds: (owns && granted.needs_heartbeats).then_some(HEARTBEAT_SECONDS),
        existing: grant.existing,
        new_range: granted.new_range,
        dry_run: None,
    }
}

/// What a client of another user gets: a whole HTTP answer, as nothing of its request is looked at.
pub(super) fn forbidden() -> Vec<u8> {
    let body = r#"{"success":false,"error":"this daemon serves another user","code":"forbidden"}"#;
    let length = body.len();
    format!(
        "HTTP/1.1 403 Forbidden\r\ncontent-type: application/json\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
    )
    .into_bytes()
}

/// The rest of a sentence that begins with a port.
fn describe(holder: &Holder) -> String {
    match holder {
        Holder::Lease { .. } => format!("is leased to {}", name(holder)),
        Holder::Process { .. } => format!("is in use by {}", name(holder)),
        Holder::Reserved { reason } => format!("is not handed out: {reason}"),
    }
}

fn name(holder: &Holder) -> String {
    let (what, pid) = match holder {
        Holder::Lease {
            project_path,
            service_name,
            pid,
        } => {
            let service = service_name.as_deref().unwrap_or("a service");
            let project = project_path.as_deref();
            let of = project
                .map(|project| format!(" of `{project}`"))
                .unwrap_or_default();
            (format!("`{service}`{of}"), *pid)
        }
        Holder::Process { pid, command } => {
            let command = command.as_ref().map(|command| format!("`{command}`"));
            (
                command.unwrap_or_else(|| "another process".to_owned()),
                *pid,
            )
        }
        Holder::Reserved { reason } => (reason.clone(), None),
    };
    match pid {
        Some(pid) => format!("{what} (pid {pid})"),
        None => what,
    }
}

fn release_one(holders: &[(Port, Holder)]) -> String {
    if holders.is_empty() {
        return "end one of the processes that use these ports".to_owned();
    }
    let listed = holders.iter().take(MAX_LISTED);
    let listed: Vec<_> = listed
        .map(|(port, holder)| format!("{port} {}", name(holder)))
        .collect();
    let more = holders.len().saturating_sub(MAX_LISTED);
    let more = if more > 0 {
        format!(" and {more} more")
    } else {
        String::new()
    };
    format!(
        "end one of the services that have these ports: {}{more}",
        listed.join(", ")
    )
}

/// Who has the wanted port, for the log.
pub(super) fn conflict_line(conflict: &Conflict) -> String {
    format!("port {} {}", conflict.port, describe(&conflict.holder))
}
