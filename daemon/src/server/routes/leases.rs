//! Leases: acquire, release, renew, report a listener, list.

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{Extension, Path, State};
use axum::http::StatusCode;
use axum::routing::{delete, get, post, put};
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::Value;
use styxy_protocol::api::{
    self, AllocateRequest, AllocateResponse, AllocationsResponse, ErrorCode, HeartbeatResponse,
    ListenerReport, MAX_SPARES, ReleaseResponse,
};
use tracing::info;

use super::{Context, HungUp, parse};
use crate::allocator::{LeaseId, ReportRefusal};
use crate::authority::Released;
use crate::owner::Peer;
use crate::server::answers::{self, Fault};

/// Characters that a text of a request may have; longer ones are refused, a longer command is cut.
const MAX_NAME: usize = 200;
const MAX_PATH: usize = 4096;
const MAX_COMMAND: usize = 1000;

pub(super) fn routes() -> Router<Context> {
    Router::new()
        .route(api::ALLOCATE, post(allocate))
        .route("/allocate/{lock_id}", delete(release))
        .route("/allocate/{lock_id}/heartbeat", put(heartbeat))
        .route("/allocate/{lock_id}/listeners", post(listeners))
        .route(api::ALLOCATIONS, get(allocations))
}

async fn allocate(
    State(context): State<Context>,
    Extension(peer): Extension<Peer>,
    Extension(hung_up): Extension<HungUp>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<AllocateResponse>, Fault> {
    if body.as_ref().is_ok_and(|body| names_no_type(body)) {
        return Err(answers::no_service_type());
    }
    let mut request: AllocateRequest = parse(body)?;
    check(&mut request)?;
    hung_up.check().await?;
    let granted = context.authority.allocate(&request, peer).await?;
    if let Some(conflict) = &granted.grant.conflict {
        info!(holder = ?answers::conflict_line(conflict), "conflict");
    }
    Ok(Json(answers::allocated(&request, granted, context.build)))
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

fn done(port: styxy_protocol::Port, message: String) -> Json<ReleaseResponse> {
    Json(ReleaseResponse {
        success: true,
        port,
        message,
    })
}

/// Whether this is a request, but for no kind of service.
fn names_no_type(body: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Named {
        #[serde(default)]
        service_type: Value,
    }
    serde_json::from_slice::<Named>(body)
        .is_ok_and(|it| it.service_type.is_null() || it.service_type == "")
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
