//! A small blocking HTTP/1.1 client over the daemon's Unix socket, for the lease calls of `styxy run`.
//!
//! One request a connection, every wait bounded. The management commands use a full HTTP client; here its
//! start-up cost would be paid by every command that anybody runs.

use std::io::{self, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use styxy_protocol::api::{
    self, AllocateRequest, AllocateResponse, ErrorResponse, ListenerReport, ReleaseResponse,
};

/// A daemon that does not answer for this long is treated as absent.
const PATIENCE: Duration = Duration::from_secs(3);
/// No answer of the lease calls is larger.
const ANSWER_LIMIT: u64 = 1 << 20;

/// The way to a daemon. Holds no connection.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    socket: PathBuf,
}

/// Why a request has no good answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClientError {
    /// Nobody answers at the socket.
    #[error("no daemon at `{}`: {source}", socket.display())]
    Unreachable {
        /// The daemon's socket.
        socket: PathBuf,
        /// What the kernel says.
        source: io::Error,
    },
    /// The connection broke or the answer is not HTTP with JSON.
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
        Self { socket }
    }

    /// Whether somebody accepts connections at the socket.
    pub(crate) fn is_reachable(&self) -> bool {
        UnixStream::connect(&self.socket).is_ok()
    }

    /// Asks for a port.
    pub(crate) fn allocate(
        &self,
        request: &AllocateRequest,
    ) -> Result<AllocateResponse, ClientError> {
        let answer: AllocateResponse = self.call("POST", api::ALLOCATE, Some(request))?;
        if answer.protocol == api::PROTOCOL {
            Ok(answer)
        } else {
            Err(ClientError::OtherProtocol {
                theirs: answer.protocol,
            })
        }
    }

    /// Gives a lease back.
    pub(crate) fn release(&self, lease_id: &str) -> Result<ReleaseResponse, ClientError> {
        self.call("DELETE", &api::lease_path(lease_id), None::<&()>)
    }

    /// Keeps a lease alive that the daemon cannot watch.
    pub(crate) fn heartbeat(&self, lease_id: &str) -> Result<api::HeartbeatResponse, ClientError> {
        self.call("PUT", &api::heartbeat_path(lease_id), None::<&()>)
    }

    /// Tells that the tree bound a port.
    pub(crate) fn report(
        &self,
        lease_id: &str,
        report: ListenerReport,
    ) -> Result<ReleaseResponse, ClientError> {
        self.call("POST", &api::listeners_path(lease_id), Some(&report))
    }

    fn call<A: DeserializeOwned>(
        &self,
        method: &str,
        path: &str,
        body: Option<&impl Serialize>,
    ) -> Result<A, ClientError> {
        let body = body
            .map_or(Ok(Vec::new()), serde_json::to_vec)
            .map_err(|error| ClientError::Garbled(error.to_string()))?;
        let answer = exchange(&self.socket, method, path, &body).map_err(|source| {
            ClientError::Unreachable {
                socket: self.socket.clone(),
                source,
            }
        })?;
        let (status, body) = parse(&answer)
            .ok_or_else(|| ClientError::Garbled("it is not an HTTP answer".to_owned()))?;
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
}

fn exchange(socket: &Path, method: &str, path: &str, body: &[u8]) -> io::Result<Vec<u8>> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut request = format!(
        "{method} {path} HTTP/1.1\r\nHost: styxy\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    )
    .into_bytes();
    request.extend_from_slice(body);
    stream.write_all(&request)?;
    let mut answer = Vec::new();
    stream.take(ANSWER_LIMIT).read_to_end(&mut answer)?;
    Ok(answer)
}

/// Status and body of an answer whose connection is closed after it (RFC 9112, section 6.3).
fn parse(answer: &[u8]) -> Option<(u16, &[u8])> {
    let head_end = answer.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = str::from_utf8(&answer[..head_end]).ok()?;
    let status = head.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()?;
    Some((status, &answer[head_end + 4..]))
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn a_missing_daemon_is_told_with_its_socket() {
        let error = Client::new("/nonexistent/sock".into())
            .release("x")
            .unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("no daemon at `/nonexistent/sock`: "),
            "{error}"
        );
    }
}
