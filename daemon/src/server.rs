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
use nix::sys::resource::{Resource, getrlimit};
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
/// And never fewer than this many.
const MIN_CONNECTIONS: u32 = 8;
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
    let connections = connection_limit();
    let slots = Arc::new(Semaphore::new(connections as usize));
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
    let every_slot = slots.acquire_many(connections);
    tokio::time::timeout(FAREWELL, every_slot)
        .await
        .map(drop)
        .ok();
}

/// A quarter of the descriptors that we may have, so that idle clients leave enough for watching owners,
/// probing ports and writing the journal.
fn connection_limit() -> u32 {
    let descriptors = getrlimit(Resource::RLIMIT_NOFILE).map_or(0, |(soft, _)| soft);
    u32::try_from(descriptors / 4)
        .unwrap_or(MAX_CONNECTIONS)
        .clamp(MIN_CONNECTIONS, MAX_CONNECTIONS)
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

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use tokio::io::AsyncReadExt as _;

    use super::*;

    async fn panics() {
        panic!("on purpose");
    }

    /// What a client reads that sends `request` to a server of user `uid`.
    async fn answer(uid: u32, request: &[u8]) -> String {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sock");
        let router = Router::new().route("/panic", get(panics));
        let (stop_tx, stop_rx) = watch::channel(());
        let listener = UnixListener::bind(&path).unwrap();
        let server = tokio::spawn(serve(listener, routes::guarded(router), uid, stop_rx));
        let mut client = UnixStream::connect(&path).await.unwrap();
        client.write_all(request).await.unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        stop_tx.send_replace(());
        server.await.unwrap();
        answer
    }

    #[tokio::test]
    async fn a_client_of_another_user_gets_403_before_it_has_sent_anything() {
        let uid = nix::unistd::geteuid().as_raw() + 1;
        let answer = answer(uid, b"").await;
        assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
        assert!(answer.ends_with(r#""code":"forbidden"}"#), "{answer}");
    }

    #[tokio::test]
    async fn a_panic_ends_its_own_request_alone() {
        let uid = nix::unistd::geteuid().as_raw();
        let request = "GET /panic HTTP/1.1\r\n\r\nGET /panic HTTP/1.1\r\nconnection: close\r\n\r\n";
        let answer = answer(uid, request.as_bytes()).await;
        let faults = answer.matches("HTTP/1.1 500 ").count();
        assert_eq!(faults, 2, "{answer}");
        assert_eq!(
            answer.matches(r#""code":"internal""#).count(),
            2,
            "{answer}"
        );
    }
}
