//! One handler an endpoint: read, ask the authority, answer. A file for each group of endpoints.

mod config;
mod leases;
mod observation;
mod status;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{DefaultBodyLimit, Request};
use axum::http::StatusCode;
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse as _, Response};
use serde::de::DeserializeOwned;
use styxy_protocol::api::ErrorCode;
use tracing::error;

use super::answers::Fault;
use super::{MAX_BODY, PATIENCE};
use crate::Build;
use crate::authority::Authority;

/// What every handler gets.
#[derive(Clone, Debug)]
pub(crate) struct Context {
    /// The state.
    pub(crate) authority: Arc<Authority>,
    /// Which styxy this is.
    pub(crate) build: Build,
}

/// Every endpoint.
pub(crate) fn router(context: Context) -> Router {
    guarded(
        Router::new()
            .merge(config::routes())
            .merge(leases::routes())
            .merge(observation::routes())
            .merge(status::routes())
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

/// Whether the client of a request has gone, as far as has been noticed.
#[derive(Clone, Debug, Default)]
struct HungUp(Arc<AtomicBool>);

impl HungUp {
    /// Looks once more before something is done that only a client that waits can use: one that gave up while the
    /// daemon was stopped has made do with less, and would have a lease that it does not know of.
    async fn check(&self) -> Result<(), Fault> {
        // The connection's turn: its end may have been read together with the request.
        tokio::task::yield_now().await;
        if self.0.load(Ordering::Relaxed) {
            return Err(Fault::invalid("the client has hung up"));
        }
        Ok(())
    }
}

/// Tells that nobody waits for the answer any more, when it is dropped.
struct Line(HungUp);

impl Drop for Line {
    fn drop(&mut self) {
        self.0.0.store(true, Ordering::Relaxed);
    }
}

/// Runs a request in a task of its own: a panic ends that request alone, and a client that hangs up in the
/// middle does not end a request that has already changed something.
async fn guard(mut request: Request, next: Next) -> Response {
    let hung_up = HungUp::default();
    request.extensions_mut().insert(hung_up.clone());
    let _line = Line(hung_up);
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

fn parse<T: DeserializeOwned>(body: Result<Bytes, BytesRejection>) -> Result<T, Fault> {
    let body = body.map_err(|rejection| {
        let error = rejection.body_text();
        Fault::new(rejection.status(), ErrorCode::InvalidRequest, error)
    })?;
    serde_json::from_slice(&body)
        .map_err(|error| Fault::invalid(format!("the body is not what was expected: {error}")))
}
