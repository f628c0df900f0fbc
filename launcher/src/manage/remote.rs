//! Asking a running daemon, over its socket, with a full HTTP client. Never starts one.

use std::error::Error as _;
use std::io;
use std::path::Path;
use std::time::Duration;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use styxy_protocol::api::{self, Build};

/// A daemon that does not answer for this long is told to be silent.
const PATIENCE: Duration = Duration::from_secs(5);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RemoteError {
    /// Nobody listens at the socket.
    #[error("the daemon is not running; `styxy daemon start -d` starts it")]
    NotRunning,
    /// It is there and does not answer as it should.
    #[error("the daemon does not answer: {0}")]
    Http(#[from] reqwest::Error),
    /// It speaks another version of the contract.
    #[error("the running daemon is of another styxy ({}, protocol {}, this one speaks {ours}); {}", daemon.version, daemon.protocol, remedy(daemon.protocol, *ours))]
    OtherProtocol {
        /// What it says about itself.
        daemon: Standing,
        /// Our protocol number.
        ours: u32,
    },
    /// No event loop could be made.
    #[error("cannot ask the daemon: {0}")]
    Io(#[from] io::Error),
}

/// What the status of a daemon of any version says.
#[derive(Debug, Deserialize)]
pub(crate) struct Standing {
    /// Its process.
    pub(crate) pid: u32,
    /// The protocol that it speaks.
    pub(crate) protocol: u32,
    /// Version of its styxy.
    pub(crate) version: String,
}

/// What to do about a daemon of another version.
pub(crate) fn remedy(theirs: u32, ours: u32) -> &'static str {
    if theirs < ours {
        "`styxy daemon restart` replaces it, and the leases stay"
    } else {
        "update this one"
    }
}

/// The answer to `GET path` of the daemon at this socket, if it is one of `build`'s protocol.
pub(crate) fn get<A: DeserializeOwned>(
    socket: &Path,
    build: Build,
    path: &str,
) -> Result<A, RemoteError> {
    let remote = Remote::new(socket)?;
    let daemon: Standing = remote.get(api::STATUS)?;
    if daemon.protocol == build.protocol {
        remote.get(path)
    } else {
        let ours = build.protocol;
        Err(RemoteError::OtherProtocol { daemon, ours })
    }
}

/// The answer to `GET path` of the daemon at this socket, whatever version it is of.
pub(crate) fn get_of_any<A: DeserializeOwned>(socket: &Path, path: &str) -> Result<A, RemoteError> {
    Remote::new(socket)?.get(path)
}

/// The way to a daemon, over one connection.
struct Remote {
    client: reqwest::Client,
    runtime: tokio::runtime::Runtime,
}

impl Remote {
    fn new(socket: &Path) -> Result<Self, RemoteError> {
        let client = reqwest::Client::builder()
            .unix_socket(socket)
            .timeout(PATIENCE)
            .build()?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        Ok(Self { client, runtime })
    }

    fn get<A: DeserializeOwned>(&self, path: &str) -> Result<A, RemoteError> {
        let answer = self.runtime.block_on(async {
            self.client
                .get(format!("http://styxy{path}"))
                .send()
                .await?
                .error_for_status()?
                .json()
                .await
        });
        answer.map_err(|error: reqwest::Error| {
            if is_absent(&error) {
                RemoteError::NotRunning
            } else {
                error.into()
            }
        })
    }
}

/// Whether nobody listens, as opposed to nobody having room for another client.
fn is_absent(error: &reqwest::Error) -> bool {
    let mut cause = error.source();
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<io::Error>() {
            return matches!(
                error.kind(),
                io::ErrorKind::NotFound
                    | io::ErrorKind::NotADirectory
                    | io::ErrorKind::ConnectionRefused
            );
        }
        cause = error.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use styxy_protocol::api::StatusResponse;

    use super::*;

    #[test]
    fn nobody_at_the_socket_is_no_running_daemon() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("sock");
        let ask = || get::<StatusResponse>(&socket, crate::BUILD, api::STATUS).unwrap_err();
        assert!(matches!(ask(), RemoteError::NotRunning));
        // What a daemon that was killed leaves behind.
        drop(UnixListener::bind(&socket).unwrap());
        assert!(matches!(ask(), RemoteError::NotRunning));
    }
}
