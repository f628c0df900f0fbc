//! How the daemon is.

use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};
use styxy_protocol::api::{self, Memory, StatusResponse};

use super::Context;

pub(super) fn routes() -> Router<Context> {
    Router::new().route(api::STATUS, get(status))
}

async fn status(State(context): State<Context>) -> Json<StatusResponse> {
    let health = context.authority.health();
    Json(StatusResponse {
        status: "running".to_owned(),
        uptime: health.uptime.as_secs_f64(),
        allocations: health.leases,
        instances: 0,
        memory: Memory::default(),
        pid: std::process::id(),
        protocol: context.build.protocol,
        version: context.build.version.to_owned(),
        tcp_port: None,
        degraded: health.degraded,
        config_problem: health.config_problem,
        recovery: Vec::new(),
    })
}
