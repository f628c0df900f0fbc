//! The ways in: the Unix socket, and the loopback port while there is one.
//!
//! Invariant: there is at most one port, it is bound on 127.0.0.1 alone, and it is open only with a token that
//! nobody else can have.

use std::io;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use styxy_protocol::Port;
use styxy_protocol::api::Holder;
use tokio::net::{TcpListener, TcpSocket, UnixListener};
use tokio::sync::{mpsc, watch};
use tokio::task::spawn_blocking;
use tracing::{info, warn};

use crate::authority::Authority;
use crate::kernel;
use crate::token::{Token, TokenError};
use crate::tree;

/// How many clients may wait at the port, as at the socket.
const BACKLOG: u32 = 1024;

/// Something that accepts connections.
#[derive(Debug)]
pub(crate) enum Listener {
    /// The Unix socket.
    Socket(UnixListener),
    /// This port of 127.0.0.1.
    Port(TcpListener, Port),
}

/// Why the API is not served on a port.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DoorError {
    /// Somebody has it.
    #[error("port {port} {}", super::answers::describe(holder))]
    Taken {
        /// The port.
        port: Port,
        /// Who.
        holder: Holder,
    },
    /// It is served on another one.
    #[error("the API is served on port {0} already")]
    Elsewhere(Port),
    /// The kernel refuses.
    #[error("cannot listen on 127.0.0.1:{port}: {source}")]
    Bind {
        /// The port.
        port: Port,
        /// Why.
        source: io::Error,
    },
    /// There is no token.
    #[error(transparent)]
    Token(#[from] TokenError),
}

/// Opens the port, and knows its token.
#[derive(Debug)]
pub(crate) struct Doors {
    token_path: PathBuf,
    token: Mutex<Option<Token>>,
    problem: Mutex<Option<String>>,
    /// `doors --the open port--> idle timer`
    port_tx: watch::Sender<Option<Port>>,
    /// `doors --what to serve--> server`
    listener_tx: mpsc::UnboundedSender<Listener>,
}

impl Doors {
    /// No door is open yet. Those that are opened come out of the receiver.
    pub(crate) fn new(token_path: PathBuf) -> (Self, mpsc::UnboundedReceiver<Listener>) {
        let (listener_tx, listener_rx) = mpsc::unbounded_channel();
        let doors = Self {
            token_path,
            token: Mutex::new(None),
            problem: Mutex::new(None),
            port_tx: watch::Sender::new(None),
            listener_tx,
        };
        (doors, listener_rx)
    }

    /// Serves the API on this socket.
    pub(crate) fn open_socket(&self, socket: UnixListener) {
        // The receiver is gone only when the daemon is ending.
        self.listener_tx.send(Listener::Socket(socket)).ok();
    }

    /// Serves the API on this port too. Nothing happens if it is served there already.
    pub(crate) async fn open_port(
        &self,
        port: Port,
        authority: &Authority,
    ) -> Result<(), DoorError> {
        match self.port() {
            Some(open) if open == port => return Ok(()),
            Some(open) => return Err(DoorError::Elsewhere(open)),
            None => {}
        }
        if let Some(holder) = authority.leaseholder(port) {
            return Err(DoorError::Taken { port, holder });
        }
        let listener = match bind(port) {
            Ok(listener) => listener,
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                let holder = holder(port).await;
                return Err(DoorError::Taken { port, holder });
            }
            Err(source) => return Err(DoorError::Bind { port, source }),
        };
        *lock(&self.token) = Some(Token::load(&self.token_path)?);
        *lock(&self.problem) = None;
        self.listener_tx.send(Listener::Port(listener, port)).ok();
        self.port_tx.send_replace(Some(port));
        info!(%port, "serving on 127.0.0.1");
        Ok(())
    }

    /// Does without the port that the configuration names, and remembers why.
    pub(crate) fn leave_closed(&self, error: &DoorError) {
        warn!(%error, "the API is served on the socket alone");
        *lock(&self.problem) = Some(format!("the API is served on the socket alone: {error}"));
    }

    /// Why the port that the configuration names is not served, if so.
    pub(crate) fn problem(&self) -> Option<String> {
        lock(&self.problem).clone()
    }

    /// The open port.
    pub(crate) fn port(&self) -> Option<Port> {
        *self.port_tx.borrow()
    }

    /// The open port, as it changes.
    pub(crate) fn port_changes(&self) -> watch::Receiver<Option<Port>> {
        self.port_tx.subscribe()
    }

    /// Where the token is.
    pub(crate) fn token_path(&self) -> &Path {
        &self.token_path
    }

    /// Makes a new token; from now on the old one is void.
    pub(crate) fn rotate_token(&self) -> Result<(), TokenError> {
        let mut token = lock(&self.token);
        *token = Some(Token::rotate(&self.token_path)?);
        drop(token);
        info!("the token was changed");
        Ok(())
    }

    /// Whether this is the token. No text is, while no port was ever opened.
    pub(super) fn knows(&self, text: &[u8]) -> bool {
        lock(&self.token)
            .as_ref()
            .is_some_and(|token| token.is(text))
    }
}

fn bind(port: Port) -> io::Result<TcpListener> {
    // `localhost` may mean ::1 to a client, so a holder there counts as much as one on 127.0.0.1.
    if !kernel::probe(port)? {
        return Err(io::ErrorKind::AddrInUse.into());
    }
    let socket = TcpSocket::new_v4()?;
    // Connections of an earlier daemon that linger do not count.
    socket.set_reuseaddr(true)?;
    socket.bind((Ipv4Addr::LOCALHOST, port.get()).into())?;
    socket.listen(BACKLOG)
}

/// Who has this port that nobody leases.
async fn holder(port: Port) -> Holder {
    let found = spawn_blocking(move || tree::foreign_holder(port)).await;
    let (pid, command) = found.ok().flatten().unzip();
    Holder::Process {
        pid,
        command: command.flatten(),
    }
}

fn lock<T>(value: &Mutex<T>) -> MutexGuard<'_, T> {
    value.lock().unwrap_or_else(PoisonError::into_inner)
}
