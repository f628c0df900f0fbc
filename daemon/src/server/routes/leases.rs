//! Leases: acquire, release, renew, report a listener, list, clean up.

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{Extension, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::routing::{delete, get, post, put};
use axum::{Json, Router};
use serde_json::Value;
use styxy_protocol::Port;
use styxy_protocol::api::{
    self, AllocateRequest, AllocateResponse, AllocationsResponse, CleanupRequest, CleanupResponse,
    ErrorCode, ErrorContext, HeartbeatResponse, ListenerReport, MAX_SPARES, MAX_TTL_SECONDS,
    ReleaseResponse,
};
use tracing::info;

use super::{Context, HungUp, Segment, parse, parse_or_default};
use crate::allocator::{LeaseId, LeaseName, ReportRefusal};
use crate::authority::{Granted, Released};
use crate::instances::InstanceId;
use crate::kernel;
use crate::owner::Peer;
use crate::server::answers::{self, Fault};

/// Characters that a text of a request may have; longer ones are refused, a longer command or agent is cut.
const MAX_NAME: usize = 100;
const MAX_PATH: usize = 4096;
const MAX_COMMAND: usize = 1000;
const MAX_AGENT: usize = 200;

pub(super) fn routes() -> Router<Context> {
    Router::new()
        .route(api::ALLOCATE, post(allocate))
        .route("/allocate/{lock_id}", delete(release))
        .route("/allocate/{lock_id}/heartbeat", put(heartbeat))
        .route("/allocate/{lock_id}/listeners", post(listeners))
        .route(api::ALLOCATIONS, get(allocations))
        .route(api::CLEANUP, post(cleanup))
}

async fn allocate(
    State(context): State<Context>,
    Extension(peer): Extension<Peer>,
    Extension(hung_up): Extension<HungUp>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<AllocateResponse>, Fault> {
    let start = kernel::boot_time();
    let granted = async {
        let request = read(parse(body)?)?;
        hung_up.check().await?;
        let agent = user_agent(&headers);
        let granted = context.authority.allocate(&request, peer, agent).await?;
        Ok::<_, Fault>((request, granted))
    };
    let granted: Result<(AllocateRequest, Granted), Fault> = granted.await;
    let duration = kernel::boot_time().saturating_sub(start);
    context.metrics.allocation_duration.observe(duration);
    if granted.is_err() {
        context.metrics.allocation_errors.inc();
    }
    let (request, granted) = granted?;
    if let Some(conflict) = &granted.grant.conflict {
        info!(holder = ?answers::conflict_line(conflict), "conflict");
    }
    Ok(Json(answers::allocated(&request, granted, context.build)))
}

async fn release(
    State(context): State<Context>,
    Segment(id): Segment,
) -> Result<Json<ReleaseResponse>, Fault> {
    let name: LeaseName = id.parse()?;
    let released = context.authority.release(name);
    // The documented API says 400 here, not 404.
    let (port, message) = match released.ok_or_else(|| no_lease(name))? {
        Released::Now(port) => (port, format!("Port {port} released")),
        Released::Later(port) => (
            port,
            format!("Port {port} is released as soon as nothing listens on it"),
        ),
    };
    Ok(done(port, message))
}

fn no_lease(name: LeaseName) -> Fault {
    let status = StatusCode::BAD_REQUEST;
    match name {
        LeaseName::Id(id) => Fault::no_lease(status, id),
        LeaseName::Port(port) => {
            let error = format!("no lease has port {port}");
            Fault::new(status, ErrorCode::LeaseNotFound, error)
        }
    }
}

async fn heartbeat(
    State(context): State<Context>,
    Segment(id): Segment,
) -> Result<Json<HeartbeatResponse>, Fault> {
    let id: LeaseId = id.parse()?;
    let ttl = context.authority.renew(id);
    let ttl = ttl.ok_or_else(|| Fault::no_lease(StatusCode::NOT_FOUND, id))?;
    Ok(Json(HeartbeatResponse {
        success: true,
        expires_in: u32::try_from(ttl.as_secs()).unwrap_or(u32::MAX),
    }))
}

async fn listeners(
    State(context): State<Context>,
    Segment(id): Segment,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<ReleaseResponse>, Fault> {
    let id: LeaseId = id.parse()?;
    let report: ListenerReport = parse(body)?;
    let reported = context.authority.report(id, report);
    match reported.ok_or_else(|| Fault::no_lease(StatusCode::NOT_FOUND, id))? {
        Ok(port) => Ok(done(port, format!("Port {} recorded", report.port))),
        Err((ReportRefusal::Taken(_), holder)) => {
            let error = format!("port {} belongs to another lease", report.port);
            Err(Fault::new(StatusCode::CONFLICT, ErrorCode::PortTaken, error).held_by(holder))
        }
        Err((ReportRefusal::TooMany, _)) => {
            let status = StatusCode::TOO_MANY_REQUESTS;
            let error = "the lease has as many listeners as can be recorded";
            Err(Fault::new(status, ErrorCode::QuotaExceeded, error))
        }
    }
}

async fn allocations(State(context): State<Context>) -> Json<AllocationsResponse> {
    Json(AllocationsResponse {
        allocations: context.authority.allocations(),
    })
}

async fn cleanup(
    State(context): State<Context>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<CleanupResponse>, Fault> {
    let request: CleanupRequest = parse_or_default(body)?;
    let cleaned = context.authority.cleanup(request.force);
    Ok(Json(CleanupResponse {
        success: true,
        cleaned,
        message: if request.force {
            "Force cleanup completed".to_owned()
        } else {
            format!("Cleaned up {cleaned} stale allocations")
        },
    }))
}

fn done(port: Port, message: String) -> Json<ReleaseResponse> {
    Json(ReleaseResponse {
        success: true,
        port,
        message,
    })
}

/// Reads a request as lenient as the documented API is: a port may be a text, an empty text is none.
fn read(mut body: Value) -> Result<AllocateRequest, Fault> {
    if body.is_object()
        && matches!(body["service_type"].as_str(), None | Some(""))
        && !body["service_type"].is_number()
    {
        return Err(answers::no_service_type());
    }
    for field in ["preferred_port", "default_port"] {
        if let Some(value) = body.get_mut(field) {
            *value = serde_json::json!(port(field, value)?);
        }
    }
    let request = serde_json::from_value(body);
    let mut request: AllocateRequest = request
        .map_err(|error| Fault::invalid(format!("the body is not what was expected: {error}")))?;
    check(&mut request)?;
    Ok(request)
}

/// The port that a field names, if it names one.
fn port(field: &str, value: &Value) -> Result<Option<Port>, Fault> {
    let number = match value {
        Value::Null => return Ok(None),
        Value::Number(number) => number.to_string(),
        Value::String(text) => text.clone(),
        _ => String::new(),
    };
    number.parse().map(Some).map_err(|_| {
        let mut provided: String = value.to_string().chars().take(MAX_NAME).collect();
        if let Value::String(text) = value {
            provided = text.chars().take(MAX_NAME).collect();
        }
        Fault::invalid(format!(
            "Invalid port number: {}; `{field}` is a number from 1 to 65535",
            provided.escape_debug()
        ))
        .suggest("use a port from 1024 to 65535, or leave the field out")
        .about(ErrorContext {
            category: "VALIDATION".to_owned(),
            severity: "low".to_owned(),
            provided_port: Some(provided),
            ..ErrorContext::default()
        })
    })
}

/// Bounds what will be kept and shown.
fn check(request: &mut AllocateRequest) -> Result<(), Fault> {
    if request.spare_ports > MAX_SPARES {
        return Err(Fault::invalid(format!(
            "`spare_ports` is {}, more than {MAX_SPARES}",
            request.spare_ports
        )));
    }
    if let Some(seconds) = request.ttl_seconds
        && !(1..=MAX_TTL_SECONDS).contains(&seconds)
    {
        return Err(Fault::invalid(format!(
            "`ttl_seconds` is {seconds}, not 1 to {MAX_TTL_SECONDS}"
        )));
    }
    let texts = [
        &mut request.service_name,
        &mut request.instance_id,
        &mut request.project_path,
        &mut request.package_dir,
    ];
    for text in texts {
        text.take_if(|text| text.is_empty());
    }
    if let Some(name) = request
        .service_name
        .as_deref()
        .filter(|name| !is_name(name))
    {
        let shown: String = name.chars().take(MAX_NAME).collect();
        let error = format!(
            "`service_name` is `{}`, not 1 to {MAX_NAME} letters, digits and any of -_.:@/+",
            shown.escape_debug()
        );
        return Err(Fault::invalid(error));
    }
    if let Some(name) = &request.instance_id {
        name.parse::<InstanceId>()?;
    }
    for (field, path) in [
        ("project_path", &request.project_path),
        ("package_dir", &request.package_dir),
    ] {
        check_path(field, path.as_deref())?;
    }
    if let Some(command) = &mut request.command {
        *command = command.chars().take(MAX_COMMAND).collect();
    }
    Ok(())
}

fn is_name(text: &str) -> bool {
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:@/+".contains(&byte);
    text.len() <= MAX_NAME && text.bytes().all(is_part)
}

/// Refuses what is no path.
pub(super) fn check_path(field: &str, path: Option<&str>) -> Result<(), Fault> {
    let is_odd = |path: &str| path.chars().count() > MAX_PATH || path.contains('\0');
    if path.is_some_and(is_odd) {
        let error = format!("`{field}` is longer than {MAX_PATH} characters or has a NUL in it");
        return Err(Fault::invalid(error));
    }
    Ok(())
}

/// What the client calls itself.
fn user_agent(headers: &HeaderMap) -> Option<String> {
    let agent = String::from_utf8_lossy(headers.get(header::USER_AGENT)?.as_bytes());
    Some(agent.chars().take(MAX_AGENT).collect())
}
