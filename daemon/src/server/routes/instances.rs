//! Instances: register, give a sign of life, list.

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{Extension, State};
use axum::http::StatusCode;
use axum::routing::{get, post, put};
use axum::{Json, Router};
use styxy_protocol::ServiceType;
use styxy_protocol::api::{
    self, ErrorCode, InstanceHeartbeatResponse, InstancesResponse, RegisterProcessRequest,
    RegisterRequest, RegisterResponse,
};

use super::leases::check_path;
use super::{Context, Segment, parse};
use crate::allocator::default_type;
use crate::authority::Registration;
use crate::instances::{InstanceId, InstanceIdError, RegisterRefusal};
use crate::kernel;
use crate::owner::Peer;
use crate::server::answers::Fault;

pub(super) fn routes() -> Router<Context> {
    Router::new()
        .route(api::REGISTER, post(register))
        .route(api::REGISTER_PROCESS, post(register_process))
        .route(api::INSTANCES, get(list))
        .route("/instance/{instance_id}/heartbeat", put(heartbeat))
}

async fn register(
    State(context): State<Context>,
    Extension(peer): Extension<Peer>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<RegisterResponse>, Fault> {
    let body: serde_json::Value = parse(body)?;
    if body
        .get("instance_id")
        .is_none_or(|id| id.is_null() || id.as_str() == Some(""))
    {
        return Err(Fault::invalid("instance_id is required"));
    }
    let request: RegisterRequest = serde_json::from_value(body)
        .map_err(|error| Fault::invalid(format!("the body is not what was expected: {error}")))?;
    let registration = Registration {
        id: request.instance_id.parse()?,
        working_directory: request.working_directory,
        metadata: request.metadata,
        pid: None,
        port: None,
    };
    registered(&context, registration, "working_directory", peer).await
}

async fn register_process(
    State(context): State<Context>,
    Extension(peer): Extension<Peer>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<RegisterResponse>, Fault> {
    let request: RegisterProcessRequest = parse(body)?;
    let id = request.instance_id.filter(|id| !id.is_empty());
    let id = id.or_else(|| request.pid.map(|pid| format!("ldpreload-{pid}")));
    let id = id.ok_or_else(|| {
        Fault::invalid("instance_id is required (or provide pid to be known by that)")
    })?;
    let known_type = |name: String| {
        let name: ServiceType = name.parse().ok()?;
        context.authority.has_type(&name).then_some(name)
    };
    let service_type = request.service_type.and_then(known_type);
    let registration = Registration {
        id: id.parse()?,
        working_directory: request.project_path,
        metadata: request.metadata,
        pid: request.pid,
        port: request
            .port
            .map(|port| (port, service_type.unwrap_or_else(default_type))),
    };
    registered(&context, registration, "project_path", peer).await
}

async fn registered(
    context: &Context,
    registration: Registration,
    directory: &str,
    peer: Peer,
) -> Result<Json<RegisterResponse>, Fault> {
    check_path(directory, registration.working_directory.as_deref())?;
    let instance_id = registration.id.to_string();
    context.authority.register(registration, peer).await?;
    Ok(Json(RegisterResponse {
        success: true,
        message: format!("Instance {instance_id} registered"),
        instance_id,
    }))
}

async fn heartbeat(
    State(context): State<Context>,
    Segment(id): Segment,
) -> Result<Json<InstanceHeartbeatResponse>, Fault> {
    // A name that cannot be is not there either.
    let id: Option<InstanceId> = id.parse().ok();
    let seen = id
        .as_ref()
        .and_then(|id| Some((id, context.authority.hear_of(id)?)));
    let (id, seen) = seen.ok_or_else(|| {
        let (status, code) = (StatusCode::NOT_FOUND, ErrorCode::InstanceNotFound);
        Fault::new(status, code, "Instance not found").suggest("register it")
    })?;
    Ok(Json(InstanceHeartbeatResponse {
        success: true,
        instance_id: id.to_string(),
        last_heartbeat: kernel::rfc3339(seen.wall),
    }))
}

async fn list(State(context): State<Context>) -> Json<InstancesResponse> {
    Json(InstancesResponse {
        instances: context.authority.instances(),
    })
}

impl From<InstanceIdError> for Fault {
    fn from(error: InstanceIdError) -> Self {
        Self::invalid(error.to_string())
    }
}

impl From<RegisterRefusal> for Fault {
    fn from(refusal: RegisterRefusal) -> Self {
        match refusal {
            RegisterRefusal::Full => Self::new(
                StatusCode::TOO_MANY_REQUESTS,
                ErrorCode::QuotaExceeded,
                refusal.to_string(),
            )
            .suggest("instances are forgotten when they send no heartbeat"),
            RegisterRefusal::LongMetadata(_) | RegisterRefusal::DeepMetadata => {
                Self::invalid(refusal.to_string())
            }
        }
    }
}
