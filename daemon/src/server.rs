//! The API on a socket: an accept loop that survives every client, and HTTP on each connection.
//!
//! Invariant: a client of another user gets an answer without a single byte of it having been read, and no
//! client can hold a connection open for longer than [`PATIENCE`] without a complete request.

mod answers;
mod routes;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::AsyncWriteExt as _;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, watch};
use tower::ServiceExt as _;
use tracing::{debug, warn};

use crate::owner::Peer;
use crate::timers;

pub(crate) use routes::{Context, router};

/// How long a client may take to send a request, and an idle connection stays open.
const PATIENCE: Duration = Duration::from_secs(10);
/// How many connections there are at most; more wait in the socket's backlog.
const MAX_CONNECTIONS: u32 = 256;
/// Bytes that a request's head may have.
const MAX_HEAD: usize = 16 * 1024;
/// Bytes that a request's body may have.
const MAX_BODY: usize = 16 * 1024;
/// How long the accept loop waits when there are no descriptors left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long requests that are being answered may take when the daemon stops.
const FAREWELL: Duration = Duration::from_secs(1);

/// Serves `router` to clients of this user until `stop` changes, then lets running requests finish.
pub(crate) async fn serve(
    listener: UnixListener,
    router: Router,
    uid: u32,
    mut stop: watch::Receiver<()>,
) {
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS as usize));
    loop {
        // The semaphore is never closed.
        let slot = Arc::clone(&slots).acquire_owned().await;
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stop.changed() => break,
        };
        match accepted {
            Ok((stream, _)) => {
                let (router, stop) = (router.clone(), stop.clone());
                tokio::spawn(async move {
                    serve_connection(stream, router, uid, stop).await;
                    drop(slot);
                });
            }
            Err(error) => {
                warn!(%error, "cannot accept");
                timers::pause(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    let every_slot = slots.acquire_many(MAX_CONNECTIONS);
    tokio::time::timeout(FAREWELL, every_slot)
        .await
        .map(drop)
        .ok();
}

async fn serve_connection(
    mut stream: UnixStream,
    router: Router,
    uid: u32,
    mut stop: watch::Receiver<()>,
) {
    let peer = match peer_of(&stream) {
        Ok(peer) if peer.uid == uid => peer,
        Ok(peer) => {
            warn!(peer.uid, "refused a client of another user");
            stream.write_all(&answers::forbidden()).await.ok();
            return;
        }
        Err(error) => {
            debug!(%error, "no credentials of a client");
            return;
        }
    };
    let service = service_fn(move |mut request: hyper::Request<hyper::body::Incoming>| {
        request.extensions_mut().insert(peer);
        router.clone().oneshot(request)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(PATIENCE)
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        _ = stop.changed() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        debug!(%error, "a connection broke");
    }
}

fn peer_of(stream: &UnixStream) -> io::Result<Peer> {
    let credentials = stream.peer_cred()?;
    // Pid 0 is a process that our pid namespace has no number for.
    let pid = credentials.pid().and_then(|pid| u32::try_from(pid).ok());
    Ok(Peer {
        uid: credentials.uid(),
        pid: pid.filter(|&pid| pid != 0),
    })
}
