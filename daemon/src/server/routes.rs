//! One handler an endpoint: read, ask the authority, answer. A file for each group of endpoints.

mod config;
mod control;
mod instances;
mod leases;
mod metrics;
mod observation;
mod status;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{DefaultBodyLimit, FromRequestParts, Path, Request};
use axum::http::request::Parts;
use axum::http::{Method, StatusCode, Uri};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse as _, Response};
use serde::de::DeserializeOwned;
use styxy_protocol::api::{self, ErrorCode};
use tracing::error;

use super::answers::Fault;
use super::{Doors, MAX_BODY, PATIENCE};
use crate::Build;
use crate::authority::Authority;
use crate::metrics::Metrics;

/// What every handler gets.
#[derive(Clone, Debug)]
pub(crate) struct Context {
    /// The state.
    pub(crate) authority: Arc<Authority>,
    /// Which styxy this is.
    pub(crate) build: Build,
    /// The ways in.
    pub(crate) doors: Arc<Doors>,
    /// What is counted.
    pub(crate) metrics: Arc<Metrics>,
}

/// Every endpoint.
pub(crate) fn router(context: Context) -> Router {
    guarded(
        Router::new()
            .merge(config::routes())
            .merge(instances::routes())
            .merge(leases::routes())
            .merge(observation::routes())
            .merge(control::routes())
            .merge(metrics::routes())
            .merge(status::routes())
            .with_state(context),
    )
}

/// Limits, and JSON for what no handler answers.
pub(super) fn guarded(router: Router) -> Router {
    router
        .fallback(async |uri: Uri| {
            let error = format!("no such path: {}", uri.path());
            Fault::new(StatusCode::NOT_FOUND, ErrorCode::NotFound, error)
                .suggest(format!("`GET {}` lists what there is", api::OPENAPI))
        })
        .method_not_allowed_fallback(async |method: Method, uri: Uri| {
            let status = StatusCode::METHOD_NOT_ALLOWED;
            let error = format!("no such method for this path: {method} {}", uri.path());
            Fault::new(status, ErrorCode::NotFound, error)
                .suggest("the header `Allow` of this answer lists those that there are")
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

/// The variable part of a path. One that is no text is answered in JSON as everything else.
struct Segment(String);

impl<S: Send + Sync> FromRequestParts<S> for Segment {
    type Rejection = Fault;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Fault> {
        let segment = Path::from_request_parts(parts, state).await;
        let Path(text) = segment.map_err(|rejection| {
            let (path, reason) = (parts.uri.path(), rejection.body_text());
            let error = format!("the path {path} cannot be read: {reason}");
            Fault::new(rejection.status(), ErrorCode::InvalidRequest, error)
                .suggest("percent-encode the bytes of a text in UTF-8")
        })?;
        Ok(Self(text))
    }
}

/// As [`parse`]; no body is an empty object.
fn parse_or_default<T: DeserializeOwned + Default>(
    body: Result<Bytes, BytesRejection>,
) -> Result<T, Fault> {
    match body {
        Ok(body) if body.trim_ascii().is_empty() => Ok(T::default()),
        body => parse(body),
    }
}

fn parse<T: DeserializeOwned>(body: Result<Bytes, BytesRejection>) -> Result<T, Fault> {
    let body = body.map_err(|rejection| {
        if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE {
            let error = format!("the body has more than {MAX_BODY} bytes");
            Fault::new(rejection.status(), ErrorCode::InvalidRequest, error)
                .suggest("send less: texts about a service are short")
        } else {
            let error = rejection.body_text();
            Fault::new(rejection.status(), ErrorCode::InvalidRequest, error)
        }
    })?;
    serde_json::from_slice(&body).map_err(|error| {
        Fault::invalid(format!("the body is not what was expected: {error}"))
            .suggest(format!("`GET {}` says what each request has", api::OPENAPI))
    })
}
