//! The API on a socket and on a loopback port: accept loops that survive every client, and HTTP on each connection.
//!
//! Invariant: a client of another user gets an answer without a single byte of it having been read, no client can
//! hold a connection open for longer than [`PATIENCE`] without a complete request, and clients at one door take
//! nothing from those at the other.

mod answers;
mod checks;
mod crowd;
mod doors;
mod routes;

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::response::{IntoResponse as _, Response};
use hyper::body::{Body as _, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use nix::sys::resource::{Resource, getrlimit};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tower::ServiceExt as _;
use tracing::{debug, warn};

use crate::kernel;
use crate::owner::Peer;
use crate::timers;
use answers::Fault;
use crowd::{Crowd, Place};

pub(crate) use doors::{DoorError, Doors, Listener};
pub(crate) use routes::{Context, router};

/// How long a client may take to send a request, and an idle connection stays open.
const PATIENCE: Duration = Duration::from_secs(10);
/// How many connections there are at most at a door; more wait in its backlog.
const MAX_CONNECTIONS: u32 = 256;
/// And never fewer than this many.
const MIN_CONNECTIONS: u32 = 8;
/// Bytes that a request's head may have.
const MAX_HEAD: usize = 16 * 1024;
/// Bytes that a request's body may have.
const MAX_BODY: usize = 16 * 1024;
/// How long the accept loop waits when there are no descriptors left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long nothing more is said about that.
const REMINDER: Duration = Duration::from_mins(1);
/// How long requests that are being answered may take when the daemon stops.
const FAREWELL: Duration = Duration::from_secs(1);

/// Serves `router` to clients of this user, at every door that is opened, until `stop` changes; then lets running
/// requests finish.
pub(crate) async fn serve(
    mut listeners: mpsc::UnboundedReceiver<Listener>,
    doors: Arc<Doors>,
    router: Router,
    uid: u32,
    mut stop: watch::Receiver<()>,
) {
    let mut served = JoinSet::new();
    loop {
        let listener = tokio::select! {
            listener = listeners.recv() => listener,
            _ = stop.changed() => break,
        };
        // `doors` holds the sender.
        let Some(listener) = listener else { break };
        let guard = Guard {
            doors: Arc::clone(&doors),
            router: router.clone(),
            uid,
            stop: stop.clone(),
        };
        served.spawn(serve_door(listener, guard));
    }
    while served.join_next().await.is_some() {}
}

/// What every connection needs.
#[derive(Clone)]
struct Guard {
    doors: Arc<Doors>,
    router: Router,
    uid: u32,
    stop: watch::Receiver<()>,
}

/// A connection that has just been accepted.
enum Accepted {
    Socket(UnixStream),
    Port(TcpStream, styxy_protocol::Port),
}

/// Who is at the other end, as far as the door tells.
#[derive(Clone, Copy)]
enum Client {
    /// At the socket, where the kernel vouches for its clients.
    Known(Peer),
    /// At this port.
    AtPort(styxy_protocol::Port),
}

async fn serve_door(listener: Listener, mut guard: Guard) {
    let crowd = Crowd::new(connection_limit());
    let mut quiet_until = Duration::ZERO;
    loop {
        let accepted = tokio::select! {
            accepted = accept(&listener) => accepted,
            _ = guard.stop.changed() => break,
        };
        match accepted {
            Ok(stream) => {
                let slot = tokio::select! {
                    slot = crowd.room() => slot,
                    _ = guard.stop.changed() => break,
                };
                tokio::spawn(serve_client(stream, crowd.admit(slot), guard.clone()));
            }
            Err(error) => {
                let now = kernel::boot_time();
                if now >= quiet_until {
                    warn!(%error, "cannot accept");
                    quiet_until = now + REMINDER;
                }
                // Most likely there are no descriptors left, and a client that is idle has one.
                let pause = if crowd.make_room() {
                    Duration::from_millis(1)
                } else {
                    ACCEPT_PAUSE
                };
                timers::pause(pause).await;
            }
        }
    }
    drop(listener);
    crowd.empty(FAREWELL).await;
}

async fn accept(listener: &Listener) -> io::Result<Accepted> {
    match listener {
        Listener::Socket(socket) => Ok(Accepted::Socket(socket.accept().await?.0)),
        Listener::Port(socket, port) => Ok(Accepted::Port(socket.accept().await?.0, *port)),
    }
}

/// A share of the descriptors that we may have, so that idle clients at both doors leave enough for watching
/// owners, probing ports and writing the journal.
fn connection_limit() -> u32 {
    let descriptors = getrlimit(Resource::RLIMIT_NOFILE).map_or(0, |(soft, _)| soft);
    u32::try_from(descriptors / 5)
        .unwrap_or(MAX_CONNECTIONS)
        .clamp(MIN_CONNECTIONS, MAX_CONNECTIONS)
}

async fn serve_client(accepted: Accepted, place: Place, guard: Guard) {
    match accepted {
        Accepted::Port(stream, port) => {
            stream.set_nodelay(true).ok();
            serve_connection(stream, Client::AtPort(port), place, guard).await;
        }
        Accepted::Socket(mut stream) => match peer_of(&stream) {
            Ok((uid, pid)) if uid == guard.uid => {
                let client = Client::Known(Peer::Socket { uid, pid });
                serve_connection(stream, client, place, guard).await;
            }
            Ok((uid, _)) => {
                warn!(uid, "refused a client of another user");
                stream.write_all(&answers::forbidden()).await.ok();
            }
            Err(error) => debug!(%error, "no credentials of a client"),
        },
    }
}

async fn serve_connection(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    client: Client,
    place: Place,
    guard: Guard,
) {
    let Guard {
        doors,
        router,
        uid,
        mut stop,
    } = guard;
    let activity = place.activity();
    let service = service_fn(|request: hyper::Request<Incoming>| {
        let (router, doors, activity) = (router.clone(), Arc::clone(&doors), place.activity());
        async move {
            activity.begins();
            let answer = answer(request, client, uid, &doors, router).await;
            activity.ends();
            Ok::<_, Infallible>(answer)
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(PATIENCE)
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = activity.has_to_leave() => return,
        _ = stop.changed() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        debug!(%error, "a connection broke");
    }
}

/// Checks the request, before anything looks at its path, and has it answered.
async fn answer(
    mut request: hyper::Request<Incoming>,
    client: Client,
    uid: u32,
    doors: &Doors,
    router: Router,
) -> Response {
    match check(&request, client, uid, doors) {
        Ok(peer) => {
            request.extensions_mut().insert(peer);
            match router.oneshot(request).await {
                Ok(response) => response,
            }
        }
        Err(fault) => fault.into_response(),
    }
}

fn check(
    request: &hyper::Request<Incoming>,
    client: Client,
    uid: u32,
    doors: &Doors,
) -> Result<Peer, Fault> {
    let head = checks::Head {
        method: request.method(),
        uri: request.uri(),
        headers: request.headers(),
        has_body: !request.body().is_end_stream(),
    };
    let peer = match client {
        Client::Known(peer) => peer,
        Client::AtPort(port) => {
            checks::comes_from_a_program(&head, port)?;
            let has_token = checks::shows_the_token(&head, |text| doors.knows(text))?;
            Peer::Port { uid, has_token }
        }
    };
    checks::is_spoken_here(&head, matches!(client, Client::Known(_)))?;
    Ok(peer)
}

/// User and process at the other end. No process: our pid namespace has no number for it.
fn peer_of(stream: &UnixStream) -> io::Result<(u32, Option<u32>)> {
    let credentials = stream.peer_cred()?;
    let pid = credentials.pid().and_then(|pid| u32::try_from(pid).ok());
    Ok((credentials.uid(), pid.filter(|&pid| pid != 0)))
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use tokio::io::AsyncReadExt as _;
    use tokio::net::UnixListener;

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
        let (doors, listener_rx) = Doors::new(dir.path().join("auth.token"));
        doors.open_socket(listener);
        let router = routes::guarded(router);
        let server = tokio::spawn(serve(listener_rx, Arc::new(doors), router, uid, stop_rx));
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
