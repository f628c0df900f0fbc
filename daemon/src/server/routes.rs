//! One handler an endpoint: read, ask the authority, answer.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{DefaultBodyLimit, Extension, Path, Request, State};
use axum::http::StatusCode;
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post, put};
use axum::{Json, Router};
use serde::de::DeserializeOwned;
use styxy_protocol::api::{
    self, AllocateRequest, AllocateResponse, AllocationsResponse, ErrorCode, HeartbeatResponse,
    ListenerReport, MAX_SPARES, PROTOCOL, ReleaseResponse, StatusResponse,
};
use tracing::{error, info};

use super::answers::{self, Fault};
use super::{MAX_BODY, PATIENCE};
use crate::allocator::{LeaseId, ReportRefusal};
use crate::authority::{Authority, Released};
use crate::owner::Peer;

/// Characters that a text of a request may have; longer ones are refused, a longer command is cut.
const MAX_NAME: usize = 200;
const MAX_PATH: usize = 4096;
const MAX_COMMAND: usize = 1000;

/// What every handler gets.
#[derive(Clone, Debug)]
pub(crate) struct Context {
    /// The state.
    pub(crate) authority: Arc<Authority>,
    /// Version of styxy.
    pub(crate) version: &'static str,
}

/// Every endpoint.
pub(crate) fn router(context: Context) -> Router {
    guarded(
        Router::new()
            .route(api::ALLOCATE, post(allocate))
            .route("/allocate/{lock_id}", axum::routing::delete(release))
            .route("/allocate/{lock_id}/heartbeat", put(heartbeat))
            .route("/allocate/{lock_id}/listeners", post(listeners))
            .route(api::ALLOCATIONS, get(allocations))
            .route(api::STATUS, get(status))
            .with_state(context),
    )
}

/// Limits, and JSON for what no handler answers.
pub(super) fn guarded(router: Router) -> Router {
    router
        .fallback(async || Fault::new(StatusCode::NOT_FOUND, ErrorCode::NotFound, "no such path"))
        .method_not_allowed_fallback(async || {
            let status = StatusCode::METHOD_NOT_ALLOWED;
            Fault::new(status, ErrorCode::NotFound, "no such method for this path")
        })
        .layer(from_fn(guard))
        .layer(DefaultBodyLimit::max(MAX_BODY))
}

/// Runs a request in a task of its own: a panic ends that request alone, and a client that hangs up in the
/// middle does not end a request that has already changed something.
async fn guard(request: Request, next: Next) -> Response {
    let answer = tokio::spawn(tokio::time::timeout(PATIENCE, next.run(request)));
    match answer.await {
        Ok(Ok(response)) => response,
        Ok(Err(_elapsed)) => {
            let status = StatusCode::REQUEST_TIMEOUT;
            let error = format!("no complete request within {} s", PATIENCE.as_secs());
            Fault::new(status, ErrorCode::InvalidRequest, error).into_response()
        }
        Err(panic) => {
            error!(%panic, "a request panicked");
            Fault::internal("the daemon has a bug; its log says more").into_response()
        }
    }
}

async fn allocate(
    State(context): State<Context>,
    Extension(peer): Extension<Peer>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<AllocateResponse>, Fault> {
    let mut request: AllocateRequest = parse(body)?;
    check(&mut request)?;
    let granted = context.authority.allocate(&request, peer).await?;
    if let Some(conflict) = &granted.grant.conflict {
        info!(holder = ?answers::conflict_line(conflict), "conflict");
    }
    Ok(Json(answers::allocated(&request, granted)))
}

async fn release(
    State(context): State<Context>,
    Path(id): Path<String>,
) -> Result<Json<ReleaseResponse>, Fault> {
    let id: LeaseId = id.parse()?;
    let released = context.authority.release(id);
    // The documented API says 400 here, not 404.
    let (port, message) =
        match released.ok_or_else(|| Fault::no_lease(StatusCode::BAD_REQUEST, id))? {
            Released::Now(port) => (port, format!("Port {port} released")),
            Released::Later(port) => (
                port,
                format!("Port {port} is released as soon as nothing listens on it"),
            ),
        };
    Ok(done(port, message))
}

async fn heartbeat(
    State(context): State<Context>,
    Path(id): Path<String>,
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
    Path(id): Path<String>,
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

async fn status(State(context): State<Context>) -> Json<StatusResponse> {
    let health = context.authority.health();
    Json(StatusResponse {
        status: "running".to_owned(),
        uptime: health.uptime.as_secs_f64(),
        allocations: health.leases,
        pid: std::process::id(),
        protocol: PROTOCOL,
        version: context.version.to_owned(),
        degraded: health.degraded,
    })
}

fn done(port: styxy_protocol::Port, message: String) -> Json<ReleaseResponse> {
    Json(ReleaseResponse {
        success: true,
        port,
        message,
    })
}

fn parse<T: DeserializeOwned>(body: Result<Bytes, BytesRejection>) -> Result<T, Fault> {
    let body = body.map_err(|rejection| {
        let error = rejection.body_text();
        Fault::new(rejection.status(), ErrorCode::InvalidRequest, error)
    })?;
    serde_json::from_slice(&body)
        .map_err(|error| Fault::invalid(format!("the body is not what was expected: {error}")))
}

/// Bounds what will be kept and shown; an empty text is none.
fn check(request: &mut AllocateRequest) -> Result<(), Fault> {
    if request.spare_ports > MAX_SPARES {
        return Err(Fault::invalid(format!(
            "`spare_ports` is {}, more than {MAX_SPARES}",
            request.spare_ports
        )));
    }
    for (field, text, max) in [
        ("service_name", &mut request.service_name, MAX_NAME),
        ("instance_id", &mut request.instance_id, MAX_NAME),
        ("project_path", &mut request.project_path, MAX_PATH),
        ("package_dir", &mut request.package_dir, MAX_PATH),
    ] {
        text.take_if(|text| text.is_empty());
        let Some(text) = text else { continue };
        if text.chars().count() > max || text.chars().any(char::is_control) {
            let error =
                format!("`{field}` is longer than {max} characters or has control characters");
            return Err(Fault::invalid(error));
        }
    }
    if let Some(command) = &mut request.command {
        *command = command.chars().take(MAX_COMMAND).collect();
    }
    Ok(())
}
