//! A small blocking HTTP/1.1 client over the daemon's Unix socket, for the lease calls of `styxy run`.
//!
//! One request a connection. The management commands use a full HTTP client; here its start-up cost would be
//! paid by every command that anybody runs. Invariant: every wait is bounded, a daemon that is stopped is
//! noticed at once, and one that has kept this run waiting once is hardly waited for again until it answers.

mod connection;

use std::io;
use std::marker::PhantomData;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use styxy_protocol::api::{
    self, AllocateRequest, AllocateResponse, ErrorResponse, ListenerReport, ReleaseResponse,
};

use connection::{Exchange, Failure};

/// How long the answer to a request for a port may take. The daemon answers in well under a millisecond; this is
/// for a hundred launchers at once on a slow machine.
const PATIENCE: Duration = Duration::from_secs(3);
/// How long the answer to anything else may take: the daemon reads what it was told even if nobody waits.
const BRIEF_PATIENCE: Duration = Duration::from_secs(1);
/// How long an answer may take when the last request of this run was not answered in time.
const LITTLE_PATIENCE: Duration = Duration::from_millis(20);

/// The way to a daemon. Holds no connection. Clones share what they know about it.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    socket: PathBuf,
    /// The last request got no answer in time.
    is_silent: Arc<AtomicBool>,
}

/// Why a request has no good answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClientError {
    /// Nobody listens at the socket, or whoever did went away instead of answering.
    #[error("no daemon at `{}`: {source}", socket.display())]
    Absent {
        /// The daemon's socket.
        socket: PathBuf,
        /// What the kernel says.
        source: io::Error,
    },
    /// The socket cannot be used.
    #[error("the daemon at `{}` cannot be asked: {source}", socket.display())]
    Io {
        /// The daemon's socket.
        socket: PathBuf,
        /// What the kernel says.
        source: io::Error,
    },
    /// The daemon accepts connections and does not answer.
    #[error("the daemon does not answer; `styxy daemon stop` ends it")]
    Silent,
    /// The daemon cannot answer, because somebody has stopped it.
    #[error("the daemon is stopped; `kill -CONT {pid}` lets it go on")]
    Stopped {
        /// Its process.
        pid: u32,
    },
    /// The answer is not HTTP with JSON.
    #[error("the daemon's answer cannot be read: {0}")]
    Garbled(String),
    /// The daemon speaks another version of the contract.
    #[error("the running daemon speaks protocol {theirs}, this styxy speaks {ours}; `styxy daemon stop` ends it", ours = api::PROTOCOL)]
    OtherProtocol {
        /// The daemon's protocol number.
        theirs: u32,
    },
    /// The daemon refused.
    #[error("{}", .0.error)]
    Refused(Box<ErrorResponse>),
}

impl Client {
    /// A client of the daemon at this socket. Connects only when asked something.
    pub(crate) fn new(socket: PathBuf) -> Self {
        Self {
            socket,
            is_silent: Arc::default(),
        }
    }

    /// Whether somebody accepts connections at the socket.
    pub(crate) fn is_reachable(&self) -> bool {
        match connection::open(&self.socket, BRIEF_PATIENCE) {
            // So many wait for it that there is no room for another one.
            Ok(_) | Err(Failure::Silent) => true,
            Err(_) => false,
        }
    }

    /// The process that listens at the socket, as far as the kernel tells.
    pub(crate) fn daemon_pid(&self) -> Option<u32> {
        let stream = connection::open(&self.socket, BRIEF_PATIENCE).ok()?;
        connection::peer(&stream)
    }

    /// Asks for a port.
    pub(crate) fn allocate(
        &self,
        request: &AllocateRequest,
    ) -> Result<AllocateResponse, ClientError> {
        let answer: AllocateResponse = self.call("POST", api::ALLOCATE, Some(request), PATIENCE)?;
        if answer.protocol == api::PROTOCOL {
            Ok(answer)
        } else {
            Err(ClientError::OtherProtocol {
                theirs: answer.protocol,
            })
        }
    }

    /// Gives a lease back. Until the answer is read there is time for other things.
    pub(crate) fn release(&self, lease_id: &str) -> Result<Asked<ReleaseResponse>, ClientError> {
        let path = api::lease_path(lease_id);
        self.ask("DELETE", &path, None::<&()>, BRIEF_PATIENCE)
    }

    /// Keeps a lease alive that the daemon cannot watch.
    pub(crate) fn heartbeat(&self, lease_id: &str) -> Result<api::HeartbeatResponse, ClientError> {
        let path = api::heartbeat_path(lease_id);
        self.call("PUT", &path, None::<&()>, BRIEF_PATIENCE)
    }

    /// Tells that the tree bound a port.
    pub(crate) fn report(
        &self,
        lease_id: &str,
        report: ListenerReport,
    ) -> Result<ReleaseResponse, ClientError> {
        let path = api::listeners_path(lease_id);
        self.call("POST", &path, Some(&report), BRIEF_PATIENCE)
    }

    fn call<A: DeserializeOwned>(
        &self,
        method: &str,
        path: &str,
        body: Option<&impl Serialize>,
        patience: Duration,
    ) -> Result<A, ClientError> {
        self.ask(method, path, body, patience)?.answer()
    }

    fn ask<A>(
        &self,
        method: &str,
        path: &str,
        body: Option<&impl Serialize>,
        patience: Duration,
    ) -> Result<Asked<A>, ClientError> {
        let body = body
            .map_or(Ok(Vec::new()), serde_json::to_vec)
            .map_err(|error| ClientError::Garbled(error.to_string()))?;
        let patience = if self.is_silent.load(Ordering::Relaxed) {
            LITTLE_PATIENCE
        } else {
            patience
        };
        let sent = connection::send(&self.socket, &request(method, path, &body), patience);
        Ok(Asked {
            exchange: self.heard(sent)?,
            client: self.clone(),
            answer: PhantomData,
        })
    }

    /// Remembers whether the daemon keeps this run waiting.
    fn heard<T>(&self, result: Result<T, Failure>) -> Result<T, ClientError> {
        let is_silent = matches!(result, Err(Failure::Silent | Failure::Stopped(_)));
        self.is_silent.store(is_silent, Ordering::Relaxed);
        result.map_err(|failure| self.explain(failure))
    }

    fn explain(&self, failure: Failure) -> ClientError {
        let socket = self.socket.clone();
        match failure {
            Failure::Absent(source) => ClientError::Absent { socket, source },
            Failure::Io(source) => ClientError::Io { socket, source },
            Failure::Silent => ClientError::Silent,
            Failure::Stopped(pid) => ClientError::Stopped { pid },
        }
    }
}

/// A request that has been sent.
#[derive(Debug)]
#[must_use = "the daemon may refuse"]
pub(crate) struct Asked<A> {
    exchange: Exchange,
    client: Client,
    answer: PhantomData<A>,
}

impl<A: DeserializeOwned> Asked<A> {
    /// Waits for the answer, as long as the request has patience.
    pub(crate) fn answer(self) -> Result<A, ClientError> {
        read_answer(&self.client.heard(self.exchange.answer())?)
    }
}

fn request(method: &str, path: &str, body: &[u8]) -> Vec<u8> {
    let mut request = format!(
        "{method} {path} HTTP/1.1\r\nHost: styxy\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    )
    .into_bytes();
    request.extend_from_slice(body);
    request
}

fn read_answer<A: DeserializeOwned>(answer: &[u8]) -> Result<A, ClientError> {
    let (status, body) =
        parse(answer).ok_or_else(|| ClientError::Garbled("it is not an HTTP answer".to_owned()))?;
    let garbled =
        |error: serde_json::Error| ClientError::Garbled(format!("status {status}: {error}"));
    if (200..300).contains(&status) {
        serde_json::from_slice(body).map_err(garbled)
    } else {
        Err(ClientError::Refused(Box::new(
            serde_json::from_slice(body).map_err(garbled)?,
        )))
    }
}

/// Status and body of an answer that has nothing behind its body.
fn parse(answer: &[u8]) -> Option<(u16, &[u8])> {
    let head_end = answer.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = str::from_utf8(&answer[..head_end]).ok()?;
    let status = head.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()?;
    Some((status, &answer[head_end + 4..]))
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::os::unix::net::UnixListener;
    use std::thread::{self, JoinHandle};

    use tempfile::TempDir;

    use super::*;

    /// What a daemon says to the next client; `None`: it hangs up without a word.
    type Script = Vec<Option<&'static str>>;

    /// Somebody who listens where a daemon should be; ends after its last answer.
    fn daemon(script: Script) -> (TempDir, Client, JoinHandle<Vec<String>>) {
        let dir = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(dir.path().join("sock")).unwrap();
        let client = Client::new(dir.path().join("sock"));
        let served = thread::spawn(move || {
            let serve = |answer: Option<&'static str>| {
                let (mut stream, _) = listener.accept().unwrap();
                let mut head = [0; 4096];
                let read = stream.read(&mut head).unwrap();
                stream.write_all(answer.unwrap_or("").as_bytes()).unwrap();
                String::from_utf8_lossy(&head[..read]).into_owned()
            };
            script.into_iter().map(serve).collect()
        });
        (dir, client, served)
    }

    fn released(client: &Client) -> Result<ReleaseResponse, ClientError> {
        client.release("x")?.answer()
    }

    const RELEASED: &str =
        "HTTP/1.1 200 OK\r\n\r\n{\"success\":true,\"port\":3000,\"message\":\"done\"}";
    const REFUSED: &str = "HTTP/1.1 400 Bad Request\r\n\r\n{\"success\":false,\"error\":\"no such lease\",\"code\":\"lease_not_found\"}";

    #[test]
    fn an_answer_is_a_status_and_a_body() {
        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}";
        assert_eq!(parse(answer), Some((200, b"{}".as_slice())));
        for broken in [
            b"".as_slice(),
            b"HTTP/1.1 200 OK\r\n",
            b"SSH-2.0-x\r\n\r\n",
            b"HTTP/1.1 2\r\n\r\n",
        ] {
            assert_eq!(parse(broken), None, "{}", String::from_utf8_lossy(broken));
        }
    }

    #[test]
    fn a_request_is_one_http_message() {
        let (_dir, client, served) = daemon(vec![Some(RELEASED)]);
        assert_eq!(
            client.release("x-1").unwrap().answer().unwrap().port.get(),
            3000
        );
        let request = &served.join().unwrap()[0];
        assert!(
            request.starts_with("DELETE /allocate/x-1 HTTP/1.1\r\n"),
            "{request}"
        );
        assert!(request.ends_with("Content-Length: 0\r\n\r\n"), "{request}");
    }

    #[test]
    fn a_refusal_is_told_in_the_daemons_words() {
        let (_dir, client, _served) = daemon(vec![Some(REFUSED)]);
        let error = released(&client).unwrap_err();
        assert_eq!(error.to_string(), "no such lease");
    }

    #[test]
    fn a_missing_daemon_is_told_with_its_socket() {
        let client = Client::new("/nonexistent/sock".into());
        assert!(!client.is_reachable());
        let error = released(&client).unwrap_err();
        assert!(matches!(error, ClientError::Absent { .. }), "{error:?}");
        assert!(
            error
                .to_string()
                .starts_with("no daemon at `/nonexistent/sock`: "),
            "{error}"
        );
    }

    #[test]
    fn a_daemon_that_ends_instead_of_answering_is_an_absent_one() {
        let (_dir, client, _served) = daemon(vec![None]);
        let error = released(&client).unwrap_err();
        assert!(matches!(error, ClientError::Absent { .. }), "{error:?}");
    }

    #[test]
    fn an_answer_that_breaks_off_is_garbled() {
        let (_dir, client, _served) = daemon(vec![Some("HTTP/1.1 200 OK\r\n\r\n{\"succ")]);
        let error = released(&client).unwrap_err();
        assert!(matches!(error, ClientError::Garbled(_)), "{error:?}");
    }

    #[test]
    fn a_daemon_that_has_been_silent_is_believed_again_when_it_answers() {
        let dir = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(dir.path().join("sock")).unwrap();
        let client = Client::new(dir.path().join("sock"));
        client.is_silent.store(true, Ordering::Relaxed);
        // Nobody accepts: the connection waits in the backlog, and the client hardly at all.
        let error = released(&client.clone()).unwrap_err();
        assert!(matches!(error, ClientError::Silent), "{error:?}");
        assert!(client.is_silent.load(Ordering::Relaxed));
        assert!(client.is_reachable());
        drop(listener);
        let error = released(&client).unwrap_err();
        assert!(matches!(error, ClientError::Absent { .. }), "{error:?}");
        assert!(!client.is_silent.load(Ordering::Relaxed));
    }

    #[test]
    fn the_process_behind_a_socket_is_known() {
        let dir = tempfile::tempdir().unwrap();
        let _listener = UnixListener::bind(dir.path().join("sock")).unwrap();
        let client = Client::new(dir.path().join("sock"));
        assert_eq!(client.daemon_pid(), Some(std::process::id()));
    }
}
