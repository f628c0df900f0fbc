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

use serde::de::{DeserializeOwned, IgnoredAny};
use serde::{Deserialize, Serialize};
use styxy_protocol::Port;
use styxy_protocol::api::{
    self, AllocateRequest, AllocateResponse, Build, ErrorResponse, ListenRequest, ListenResponse,
    ListenerReport, ReleaseResponse,
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
    /// Which styxy asks.
    build: Build,
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
    /// The daemon is an older styxy's, which this one may replace.
    #[error(
        "the running daemon is of an older styxy (protocol {theirs}, this one speaks {ours}); `styxy daemon restart` replaces it"
    )]
    Older {
        /// The daemon's protocol number.
        theirs: u32,
        /// Ours.
        ours: u32,
        /// The lease that it gave before it was known to be older.
        lease: Option<String>,
    },
    /// The daemon is a newer styxy's, which is not ours to replace.
    #[error(
        "the running daemon is of a newer styxy (protocol {theirs}, this one speaks {ours}); update this one"
    )]
    Newer {
        /// The daemon's protocol number.
        theirs: u32,
        /// Ours.
        ours: u32,
    },
    /// The daemon refused.
    #[error("{}", .0.error)]
    Refused(Box<ErrorResponse>),
}

/// What the answer to a request for a port has whatever version the daemon is of. Read before anything else.
#[derive(Deserialize)]
struct Greeting {
    protocol: u32,
    lock_id: Option<String>,
    existing: Option<IgnoredAny>,
}

impl Greeting {
    /// The lease, if there is one and it is ours.
    fn lease(self) -> Option<String> {
        let is_somebody_elses = self.existing.is_some();
        self.lock_id
            .filter(|id| !id.is_empty() && !is_somebody_elses)
    }
}

/// What is read of the status of a daemon of any version.
#[derive(Deserialize)]
struct Standing {
    protocol: u32,
}

/// What is read of a lease in the list of a daemon of any version.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Listed {
    /// Its identifier.
    pub(crate) lock_id: String,
    /// Worktree of the service.
    pub(crate) project_path: Option<String>,
    /// Name of the service.
    pub(crate) service_name: Option<String>,
    /// Where it stands, as `LeaseState`.
    pub(crate) state: String,
    /// One for each of its ports that something listens on.
    pub(crate) listeners: Vec<IgnoredAny>,
}

#[derive(Deserialize)]
struct List {
    allocations: Vec<Listed>,
}

/// Status and body of an answer.
type Answer = (u16, Vec<u8>);

impl Client {
    /// A client, of this styxy, of the daemon at this socket. Connects only when asked something.
    pub(crate) fn new(socket: PathBuf, build: Build) -> Self {
        Self {
            socket,
            build,
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
        let answer = self.exchange("POST", api::ALLOCATE, Some(request), PATIENCE)?;
        if let Ok(greeting) = serde_json::from_slice::<Greeting>(&answer.1) {
            if greeting.protocol == self.build.protocol {
                return read_answer(&answer);
            }
            return Err(self.other_protocol(greeting.protocol, greeting.lease()));
        }
        // A daemon of another version may refuse what this one would not, and in words that cannot be read.
        match (read_answer(&answer), self.protocol()) {
            (Err(_), Ok(theirs)) if theirs != self.build.protocol => {
                Err(self.other_protocol(theirs, None))
            }
            (answer, _) => answer,
        }
    }

    /// The protocol number of the daemon.
    pub(crate) fn protocol(&self) -> Result<u32, ClientError> {
        let answer = self.exchange("GET", api::STATUS, None::<&()>, BRIEF_PATIENCE)?;
        Ok(read_answer::<Standing>(&answer)?.protocol)
    }

    /// Whether the daemon is an older one than belongs to this styxy.
    pub(crate) fn is_older(&self, theirs: u32) -> bool {
        theirs < self.build.protocol
    }

    fn other_protocol(&self, theirs: u32, lease: Option<String>) -> ClientError {
        let ours = self.build.protocol;
        if self.is_older(theirs) {
            return ClientError::Older {
                theirs,
                ours,
                lease,
            };
        }
        if let Some(id) = lease {
            // Should it fail, the lease ends with this run.
            drop(self.release(&id).and_then(Asked::answer));
        }
        ClientError::Newer { theirs, ours }
    }

    /// What the daemon's list says about a lease; `None` when it has ended.
    pub(crate) fn listed(&self, lease_id: &str) -> Result<Option<Listed>, ClientError> {
        let list: List = self.call("GET", api::ALLOCATIONS, None::<&()>, BRIEF_PATIENCE)?;
        let mut leases = list.allocations.into_iter();
        Ok(leases.find(|lease| lease.lock_id == lease_id))
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

    /// Makes the daemon serve on this loopback port too.
    pub(crate) fn listen(&self, port: Port) -> Result<ListenResponse, ClientError> {
        let request = ListenRequest { port };
        self.call("POST", api::LISTEN, Some(&request), PATIENCE)
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

    fn exchange(
        &self,
        method: &str,
        path: &str,
        body: Option<&impl Serialize>,
        patience: Duration,
    ) -> Result<Answer, ClientError> {
        self.ask::<IgnoredAny>(method, path, body, patience)?.raw()
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

impl<A> Asked<A> {
    /// Waits for the answer, as long as the request has patience.
    pub(crate) fn answer(self) -> Result<A, ClientError>
    where
        A: DeserializeOwned,
    {
        read_answer(&self.raw()?)
    }

    fn raw(self) -> Result<Answer, ClientError> {
        let answer = self.client.heard(self.exchange.answer())?;
        let (status, body) = parse(&answer)
            .ok_or_else(|| ClientError::Garbled("it is not an HTTP answer".to_owned()))?;
        Ok((status, body.to_owned()))
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

fn read_answer<A: DeserializeOwned>((status, body): &Answer) -> Result<A, ClientError> {
    let garbled =
        |error: serde_json::Error| ClientError::Garbled(format!("status {status}: {error}"));
    if (200..300).contains(status) {
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
mod tests;
