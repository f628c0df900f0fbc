//! From a configuration to a serving daemon and back: directories, lock, journal, socket, in this order.
//!
//! Invariant: only the process that holds the lock touches the socket, so there are never two listeners, and
//! a stale socket or pid file means nothing. Only the one that holds the journal's lock writes the journal.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::os::unix::net::UnixListener as StdUnixListener;
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use nix::fcntl::{Flock, FlockArg};
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, listen, socket,
};
use nix::sys::stat::{Mode, fchmod};
use styxy_protocol::Port;
use tokio::net::UnixListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tracing::{info, warn};

use crate::audit::Audit;
use crate::authority::{Authority, Configuration};
use crate::journal::{Journal, Loaded};
use crate::metrics::Metrics;
use crate::place::Place;
use crate::server::{self, Context, Doors, Listener};
use crate::{BrokenConfig, Config, DaemonError, Ended, LogTarget, Paths, import, log, timers};

/// How many clients may wait for the accept loop: a hundred launchers at once, with room.
const BACKLOG: i32 = 1024;
/// How often, and how far apart, the journal's lock is tried.
const JOURNAL_ATTEMPTS: usize = 20;
const JOURNAL_PAUSE: Duration = Duration::from_millis(25);

/// Serves until `stop` resolves or the daemon has been idle for long enough.
pub(crate) async fn serve(
    config: Config,
    stop: impl Future<Output = ()>,
) -> Result<Ended, DaemonError> {
    let paths = &config.paths;
    make_runtime_dir(&paths.runtime_dir)?;
    let Some(lock) = take_lock(&paths.lock())? else {
        return Ok(Ended::LostTheRace);
    };
    let state_dir = private_dir(&paths.state_dir);
    // A log that cannot be written is no reason to leave everybody without ports.
    let _log = log::start(&config.log).or_else(|_| log::start(&LogTarget::Discard));
    if let Err(error) = state_dir {
        warn!(%error, "no state directory");
    }
    let configuration = Configuration::read(&paths.state_dir);
    if let Some(problem) = configuration.problem() {
        if config.broken_config == BrokenConfig::Refuse {
            return Err(problem.clone().into());
        }
        warn!(%problem, "the configuration is broken; what does not depend on it is in force");
    }
    // Let go before the lock of the runtime directory, so that whoever gets that one gets both.
    let (journal, journal_lock) = open_journal(paths).await;
    let metrics = Arc::new(Metrics::default());
    metrics.daemon_starts.inc();
    let authority = Authority::new(
        journal,
        paths.sessions(),
        configuration,
        Audit::open(&paths.state_dir),
        Arc::clone(&metrics),
        config.classify,
    );
    if let Some(remark) = import::take_over(&paths.state_dir, &authority) {
        warn!("{remark}");
    }
    info!(
        version = config.build.version,
        protocol = config.build.protocol,
        "serving"
    );
    let expiry = tokio::spawn(timers::expire(authority.clone()));
    let configuration = tokio::spawn(authority.clone().follow_configuration());
    let mut stop = pin!(stop);
    let mut on_ready = Some(config.on_ready);
    let mut by_name = config.tcp_port;
    let ended = loop {
        let (doors, listener_rx) = Doors::new(paths.token());
        let doors = Arc::new(doors);
        open_port(&doors, by_name.take(), &authority).await?;
        let context = Context {
            authority: Arc::clone(&authority),
            doors: Arc::clone(&doors),
            metrics: Arc::clone(&metrics),
            build: config.build,
        };
        let round = Round::begin(paths, &doors, listener_rx, server::router(context))?;
        // The first time: who waits for us may come, and what is left from before is taken up.
        if let Some(on_ready) = on_ready.take() {
            on_ready();
            authority.resume();
        }
        let ended = tokio::select! {
            () = &mut stop => Ended::Stopped,
            () = timers::idle(config.idle_exit, authority.use_count(), doors.port_changes()) => Ended::Idle,
            () = round.place.lost() => Ended::Displaced,
        };
        info!(?ended, "stopping");
        round.end(paths).await;
        // Somebody may have come just now, and a lease that was given needs a daemon that watches over it.
        if ended != Ended::Idle || authority.close_if_unused() {
            break ended;
        }
        info!("serving on");
    };
    expiry.abort();
    configuration.abort();
    authority.sync();
    drop(journal_lock);
    drop(lock);
    Ok(ended)
}

/// From an open socket to a closed one. The lock is held before, meanwhile and after.
struct Round {
    place: Place,
    server: JoinHandle<()>,
    stop_tx: watch::Sender<()>,
}

impl Round {
    fn begin(
        paths: &Paths,
        doors: &Arc<Doors>,
        listener_rx: mpsc::UnboundedReceiver<Listener>,
        router: Router,
    ) -> Result<Self, DaemonError> {
        let socket_failed = |source| DaemonError::Socket {
            path: paths.socket(),
            source,
        };
        let listener = open_socket(&paths.socket()).map_err(socket_failed)?;
        let place = Place::of(paths).map_err(socket_failed)?;
        write_pid(paths);
        let (stop_tx, stop_rx) = watch::channel(());
        let uid = nix::unistd::geteuid().as_raw();
        doors.open_socket(listener);
        let doors = Arc::clone(doors);
        let server = tokio::spawn(server::serve(listener_rx, doors, router, uid, stop_rx));
        Ok(Self {
            place,
            server,
            stop_tx,
        })
    }

    /// Lets running requests finish.
    async fn end(self, paths: &Paths) {
        if self.place.is_ours() {
            fs::remove_file(paths.pid()).ok();
        }
        // Clients that come from now on start a daemon of their own; it waits for the lock to be free.
        self.place.remove_socket();
        self.stop_tx.send_replace(());
        self.server.await.ok();
    }
}

/// Opens the loopback port. One that was asked for by name has to be it; without one that the settings name, the
/// daemon serves the socket all the same.
async fn open_port(
    doors: &Doors,
    by_name: Option<Port>,
    authority: &Authority,
) -> Result<(), DaemonError> {
    let Some(port) = by_name.or(authority.settings().listen_port) else {
        return Ok(());
    };
    match doors.open_port(port, authority).await {
        Err(error) if by_name.is_some() => Err(DaemonError::Port(error.to_string())),
        Err(error) => {
            doors.leave_closed(&error);
            Ok(())
        }
        Ok(()) => Ok(()),
    }
}

/// The journal, if no other daemon of this home has it, and the right to write it. A daemon that has been displaced
/// may just be leaving it.
async fn open_journal(paths: &Paths) -> (Loaded, Option<Flock<fs::File>>) {
    let (path, lock_path) = (paths.journal(), paths.journal_lock());
    for _ in 0..JOURNAL_ATTEMPTS {
        match take_lock(&lock_path) {
            Ok(Some(lock)) => return (Journal::open(&path), Some(lock)),
            Ok(None) => timers::pause(JOURNAL_PAUSE).await,
            // No directory, or a file system without locks: the journal says what it cannot do itself.
            Err(_) => return (Journal::open(&path), None),
        }
    }
    let reason = format!("`{}` is in use by another daemon", path.display());
    (Journal::none(&path, reason), None)
}

fn make_runtime_dir(path: &Path) -> Result<(), DaemonError> {
    let failed = |source| DaemonError::RuntimeDir {
        path: path.to_owned(),
        source,
    };
    private_dir(path).map_err(failed)?;
    let metadata = fs::symlink_metadata(path).map_err(failed)?;
    let unsafe_because = |reason| DaemonError::UnsafeRuntimeDir {
        path: path.to_owned(),
        reason,
    };
    if !metadata.is_dir() {
        return Err(unsafe_because("is not a directory"));
    }
    if metadata.uid() != nix::unistd::geteuid().as_raw() {
        return Err(unsafe_because("belongs to another user"));
    }
    if metadata.mode() & 0o022 != 0 {
        return Err(unsafe_because("can be written by others"));
    }
    Ok(())
}

fn private_dir(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// The lock of this runtime directory; `None` if another process has it. It is let go by closing, so a
/// daemon that is killed leaves no stale lock.
fn take_lock(path: &Path) -> Result<Option<Flock<fs::File>>, DaemonError> {
    let failed = |source| DaemonError::Lock {
        path: path.to_owned(),
        source,
    };
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW)
        .open(path)
        .map_err(failed)?;
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => Ok(Some(lock)),
        Err((_, nix::errno::Errno::EWOULDBLOCK)) => Ok(None),
        Err((_, errno)) => Err(failed(errno.into())),
    }
}

/// A listening socket with mode 0600 from its first moment: the mode that a Unix socket gets at bind is
/// that of its descriptor, so no change of the process's umask is needed (`unix_bind` in the kernel).
fn open_socket(path: &Path) -> io::Result<UnixListener> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let fd: OwnedFd = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    fchmod(&fd, Mode::S_IRUSR | Mode::S_IWUSR)?;
    bind(fd.as_raw_fd(), &UnixAddr::new(path)?)?;
    listen(&fd, Backlog::new(BACKLOG)?)?;
    UnixListener::from_std(StdUnixListener::from(fd))
}

fn write_pid(paths: &Paths) {
    let path = paths.pid();
    fs::remove_file(&path).ok();
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&path)
        .and_then(|mut file| {
            use std::io::Write as _;
            writeln!(file, "{}", std::process::id())
        });
    if let Err(error) = written {
        warn!(%error, "cannot write the pid file");
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn a_port_has_to_be_it_only_when_it_was_asked_for_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths {
            runtime_dir: dir.path().to_owned(),
            state_dir: dir.path().to_owned(),
        };
        let held = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = Port::new(held.local_addr().unwrap().port()).unwrap();
        let toml = format!("[daemon]\nlisten_port = {port}\n");
        fs::write(dir.path().join("config.toml"), toml).unwrap();
        let authority = Authority::new(
            Journal::open(&paths.journal()),
            paths.sessions(),
            Configuration::read(dir.path()),
            Audit::open(dir.path()),
            Arc::default(),
            Box::new(|_, _| None),
        );
        let (doors, _listener_rx) = Doors::new(paths.token());

        let by_name = open_port(&doors, Some(port), &authority).await;
        let Err(DaemonError::Port(reason)) = by_name else {
            panic!("{by_name:?}");
        };
        assert!(reason.contains("is in use by"), "{reason}");
        assert_eq!(doors.problem(), None);

        open_port(&doors, None, &authority).await.unwrap();
        let problem = doors.problem().unwrap();
        assert!(problem.contains(&reason), "{problem}");
        assert_eq!(doors.port(), None);

        drop(held);
        open_port(&doors, None, &authority).await.unwrap();
        assert_eq!((doors.port(), doors.problem()), (Some(port), None));
    }
}
