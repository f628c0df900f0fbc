//! Asking a running daemon, over its socket, with a full HTTP client. Never starts one.

use std::io;
use std::path::Path;
use std::time::Duration;

use serde::de::DeserializeOwned;

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
    /// No event loop could be made.
    #[error("cannot ask the daemon: {0}")]
    Io(#[from] io::Error),
}

/// The answer to `GET path` of the daemon at this socket.
pub(crate) fn get<A: DeserializeOwned>(socket: &Path, path: &str) -> Result<A, RemoteError> {
    let client = reqwest::Client::builder()
        .unix_socket(socket)
        .timeout(PATIENCE)
        .build()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let answer = runtime.block_on(async {
        client
            .get(format!("http://styxy{path}"))
            .send()
            .await?
            .error_for_status()?
            .json()
            .await
    });
    answer.map_err(|error: reqwest::Error| {
        if error.is_connect() {
            RemoteError::NotRunning
        } else {
            error.into()
        }
    })
}
