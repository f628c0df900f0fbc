//! Asking a daemon with a full HTTP client: over its socket, or over the loopback port that `STYXY_DAEMON_PORT`
//! names. Never starts one, and asks once.
//!
//! Invariant: what a daemon of another version of the contract says is taken for nothing but its standing.

use std::cell::Cell;
use std::error::Error as _;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use reqwest::{Method, StatusCode};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use styxy_protocol::Port;
use styxy_protocol::api::{self, Build, ErrorResponse};
use tokio::runtime::Runtime;

use crate::observe::read_capped;

/// A daemon that does not answer for this long is told to be silent.
const PATIENCE: Duration = Duration::from_secs(5);
/// The largest token file that is read, in bytes.
const TOKEN_LIMIT: u64 = 4096;

/// Why there is no good answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RemoteError {
    /// Nobody listens at the socket.
    #[error("the daemon is not running; `styxy daemon start -d` starts it")]
    NotRunning,
    /// Nobody listens on the port.
    #[error(
        "no daemon listens on 127.0.0.1:{0} (`STYXY_DAEMON_PORT`); `styxy daemon start -d --port {0}` starts one"
    )]
    NobodyOn(Port),
    /// It speaks another version of the contract.
    #[error("the running daemon is of another styxy ({}, protocol {}, this one speaks {ours}); {}", daemon.version, daemon.protocol, remedy(daemon.protocol, *ours))]
    OtherProtocol {
        /// What it says about itself.
        daemon: Standing,
        /// Our protocol number.
        ours: u32,
    },
    /// Clients of the port need a token and there is none.
    #[error("`STYXY_DAEMON_PORT` is set and the token in `{}` cannot be read: {problem}", path.display())]
    NoToken {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The daemon does not know the token.
    #[error("the daemon on 127.0.0.1:{port} does not know the token in `{}`; does it belong to another `STYXY_HOME`?", path.display())]
    WrongToken {
        /// The port.
        port: Port,
        /// Where the token comes from.
        path: PathBuf,
    },
    /// The daemon refused.
    #[error("{}", .0.error)]
    Refused(Box<ErrorResponse>),
    /// It is there and says nothing.
    #[error("the daemon does not answer within {} seconds; `styxy daemon restart` starts it anew", PATIENCE.as_secs())]
    Silent,
    /// It is there and its answer is not of the contract.
    #[error(
        "the daemon's answer to {method} {path} cannot be read ({status}); is it of another version? `styxy daemon restart` starts this one"
    )]
    Garbled {
        /// What was asked.
        method: Method,
        /// Of what.
        path: String,
        /// The status of the answer.
        status: StatusCode,
    },
    /// Anything else that goes wrong on the way.
    #[error("the daemon cannot be asked: {}", crate::manage::with_causes(.0))]
    Http(#[from] reqwest::Error),
    /// No event loop could be made.
    #[error("the daemon cannot be asked: {0}")]
    Io(#[from] io::Error),
}

/// What the status of a daemon of any version says.
#[derive(Clone, Debug, Deserialize)]
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

/// The way to a daemon, over one connection.
#[derive(Debug)]
pub(crate) struct Remote {
    build: Build,
    /// The daemon speaks our protocol.
    is_understood: Cell<bool>,
    client: reqwest::Client,
    runtime: Runtime,
    base: String,
    /// The port, and the file of the token, where it is not the socket.
    tcp: Option<(Port, PathBuf)>,
}

impl Remote {
    /// A daemon at this socket.
    pub(crate) fn at_socket(socket: &Path, build: Build) -> Result<Self, RemoteError> {
        let client = client(build).unix_socket(socket).build()?;
        Self::new(build, client, "http://styxy".to_owned(), None)
    }

    /// A daemon on this port of 127.0.0.1, with the token in this file.
    pub(crate) fn at_port(port: Port, token: PathBuf, build: Build) -> Result<Self, RemoteError> {
        let headers = HeaderMap::from_iter([(AUTHORIZATION, bearer(&token)?)]);
        let client = client(build).default_headers(headers).build()?;
        Self::new(
            build,
            client,
            format!("http://127.0.0.1:{port}"),
            Some((port, token)),
        )
    }

    fn new(
        build: Build,
        client: reqwest::Client,
        base: String,
        tcp: Option<(Port, PathBuf)>,
    ) -> Result<Self, RemoteError> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        Ok(Self {
            build,
            is_understood: Cell::new(false),
            client,
            runtime,
            base,
            tcp,
        })
    }

    /// The port that is asked, where it is not the socket.
    pub(crate) fn port(&self) -> Option<Port> {
        self.tcp.as_ref().map(|(port, _)| *port)
    }

    /// The answer to `GET path`, whatever version the daemon is of.
    pub(crate) fn get_of_any<A: DeserializeOwned>(&self, path: &str) -> Result<A, RemoteError> {
        self.call_any(Method::GET, path, None::<&()>)
    }

    /// The answer to `GET path`.
    pub(crate) fn get<A: DeserializeOwned>(&self, path: &str) -> Result<A, RemoteError> {
        self.call(Method::GET, path, None::<&()>)
    }

    /// The answer to `POST path` with this body.
    pub(crate) fn post<A: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<A, RemoteError> {
        self.call(Method::POST, path, Some(body))
    }

    /// The answer to `PUT path` with this body.
    pub(crate) fn put<A: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<A, RemoteError> {
        self.call(Method::PUT, path, Some(body))
    }

    /// The answer to `DELETE path`.
    pub(crate) fn delete<A: DeserializeOwned>(&self, path: &str) -> Result<A, RemoteError> {
        self.call(Method::DELETE, path, None::<&()>)
    }

    fn call<A: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&impl Serialize>,
    ) -> Result<A, RemoteError> {
        if !self.is_understood.get() {
            let daemon: Standing = self.get_of_any(api::STATUS)?;
            let ours = self.build.protocol;
            if daemon.protocol != ours {
                return Err(RemoteError::OtherProtocol { daemon, ours });
            }
            self.is_understood.set(true);
        }
        self.call_any(method, path, body)
    }

    fn call_any<A: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&impl Serialize>,
    ) -> Result<A, RemoteError> {
        let request = self
            .client
            .request(method.clone(), format!("{}{path}", self.base));
        let request = match body {
            Some(body) => request.json(body),
            None => request,
        };
        let answer = self.runtime.block_on(async {
            let answer = request.send().await?;
            Ok((answer.status(), answer.bytes().await?))
        });
        let (status, body) = answer.map_err(|error| self.explain(error))?;
        let garbled = || RemoteError::Garbled {
            method,
            path: path.to_owned(),
            status,
        };
        if status.is_success() {
            return serde_json::from_slice(&body).map_err(|_| garbled());
        }
        match (status, &self.tcp) {
            (StatusCode::UNAUTHORIZED, Some((port, path))) => Err(RemoteError::WrongToken {
                port: *port,
                path: path.clone(),
            }),
            _ => Err(serde_json::from_slice(&body).map_or_else(
                |_| garbled(),
                |refusal| RemoteError::Refused(Box::new(refusal)),
            )),
        }
    }

    fn explain(&self, error: reqwest::Error) -> RemoteError {
        match self.port() {
            _ if error.is_timeout() => RemoteError::Silent,
            Some(port) if is_absent(&error) => RemoteError::NobodyOn(port),
            None if is_absent(&error) => RemoteError::NotRunning,
            _ => error.into(),
        }
    }
}

/// What all ways have in common. The user's proxy settings are for other hosts than this one.
fn client(build: Build) -> reqwest::ClientBuilder {
    reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .timeout(PATIENCE)
        .user_agent(format!("styxy/{}", build.version))
}

/// The header that proves to the daemon that we may read its user's files.
fn bearer(path: &Path) -> Result<HeaderValue, RemoteError> {
    let no_token = |problem: String| RemoteError::NoToken {
        path: path.to_owned(),
        problem,
    };
    let text = read_capped(path, TOKEN_LIMIT).map_err(no_token)?;
    let text = text.ok_or_else(|| no_token("there is no such file".to_owned()))?;
    let mut header = HeaderValue::from_str(&format!("Bearer {}", text.trim()))
        .map_err(|_| no_token("it is not a line of plain text".to_owned()))?;
    header.set_sensitive(true);
    Ok(header)
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
                    // It was killed while it was being asked.
                    | io::ErrorKind::ConnectionReset
            );
        }
        cause = error.source();
    }
    false
}

#[cfg(test)]
mod tests;
