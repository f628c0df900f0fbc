//! What only the daemon's user at this machine may do, over the Unix socket: opening the loopback port and changing
//! its token.

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{Extension, State};
use axum::http::StatusCode;
use axum::routing::post;
use axum::{Json, Router};
use serde_json::json;
use styxy_protocol::api::{self, ErrorCode, ListenRequest, ListenResponse, TokenResponse};

use super::{Context, parse};
use crate::owner::Peer;
use crate::server::answers::Fault;

pub(super) fn routes() -> Router<Context> {
    Router::new()
        .route(api::LISTEN, post(listen))
        .route(api::TOKEN, post(token))
}

async fn listen(
    State(context): State<Context>,
    Extension(peer): Extension<Peer>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<ListenResponse>, Fault> {
    has_to_be_local(peer)?;
    let ListenRequest { port } = parse(body)?;
    context.doors.open_port(port, &context.authority).await?;
    Ok(Json(ListenResponse {
        success: true,
        port,
    }))
}

async fn token(
    State(context): State<Context>,
    Extension(peer): Extension<Peer>,
) -> Result<Json<TokenResponse>, Fault> {
    has_to_be_local(peer)?;
    context
        .doors
        .rotate_token()
        .map_err(|error| Fault::internal(error.to_string()))?;
    let path = context.doors.token_path().display().to_string();
    let details = json!({ "path": path });
    context.authority.audit().record("TOKEN_ROTATED", details);
    Ok(Json(TokenResponse {
        success: true,
        path,
    }))
}

/// Whoever has the token shall not be able to keep it from others, or to move the door.
fn has_to_be_local(peer: Peer) -> Result<(), Fault> {
    match peer {
        Peer::Socket { .. } => Ok(()),
        Peer::Port { .. } => {
            let error = "this can be asked for over the Unix socket alone";
            Err(
                Fault::new(StatusCode::FORBIDDEN, ErrorCode::Forbidden, error)
                    .suggest("use the command `styxy`, or the daemon's socket"),
            )
        }
    }
}
