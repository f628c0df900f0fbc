//! The port authority: one background process a user that leases ports.
//!
//! Its state is a pure state machine (`allocator`); everything around it observes the machine it runs on
//! (`kernel`), remembers (`journal`) or talks (`server`). Invariant: a port is in at most one live lease,
//! and every change is in the journal before the client that asked for it gets its answer.

mod allocator;
mod audit;
mod authority;
pub mod browser_ports;
mod census;
pub mod config;
mod journal;
pub mod kernel;
mod log;
mod observation;
mod owner;
mod place;
pub mod placement;
pub mod ranges;
mod server;
pub mod service_types;
pub mod settings;
mod startup;
mod timers;
mod tree;

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use styxy_protocol::api::Build;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use styxy_protocol::ServiceType;
use tokio::signal::unix::{SignalKind, signal};

/// Threads for walks of `/proc`; they exist only while there is something to walk for.
const BLOCKING_THREADS: usize = 2;
const BLOCKING_KEEP_ALIVE: Duration = Duration::from_secs(1);

/// A launcher that could not reach the daemon leaves a file of this name in its session directory: it has ended
/// of its own accord, and what is left of its tree is left on purpose.
pub const RELEASED_MARK: &str = "released";

/// The variable that every process of a run has in its environment; its value is the id of the lease.
pub const LEASE_VARIABLE: &str = "STYXY_LEASE";

/// Where the daemon keeps its files. The caller has chosen and created neither of them.
#[derive(Clone, Debug)]
pub struct Paths {
    /// Holds `sock`, `lock`, `pid` and the session directories under `s/`. Created 0700 if missing.
    pub runtime_dir: PathBuf,
    /// Holds `journal`. Created 0700 if missing; where that fails the daemon serves from memory.
    pub state_dir: PathBuf,
}

impl Paths {
    /// The Unix socket that the API is served on.
    pub fn socket(&self) -> PathBuf {
        self.runtime_dir.join("sock")
    }

    /// The file whose lock makes a process the daemon. Never deleted.
    pub fn lock(&self) -> PathBuf {
        self.runtime_dir.join("lock")
    }

    /// The pid of the daemon, for people. Nothing depends on it.
    pub fn pid(&self) -> PathBuf {
        self.runtime_dir.join("pid")
    }

    /// The session directories, one a lease, named by its id.
    pub fn sessions(&self) -> PathBuf {
        self.runtime_dir.join("s")
    }

    /// What the daemon remembers across restarts.
    pub fn journal(&self) -> PathBuf {
        self.state_dir.join("journal")
    }

    /// The file whose lock gives the right to write the journal: one home may have daemons in several runtime
    /// directories, as its user may come with different environments. Never deleted.
    pub fn journal_lock(&self) -> PathBuf {
        self.state_dir.join("journal.lock")
    }
}

/// Where the daemon's log goes.
#[derive(Clone, Debug)]
pub enum LogTarget {
    /// Nowhere.
    Discard,
    /// To stderr, for a daemon in the foreground.
    Stderr,
    /// To this file (0600) and, when it has 5 MB, to a second one with `.1` behind its name.
    File(PathBuf),
}

/// Tells what kind of service a process is, given its arguments and its working directory; `None` where they do not
/// say. May read files. The arguments are whatever the process has made of them.
pub type Classify = Box<dyn Fn(&[String], Option<&Path>) -> Option<ServiceType> + Send + Sync>;
/// What a daemon does that finds its configuration files broken when it starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BrokenConfig {
    /// It does not start, for who starts it by name sees why.
    Refuse,
    /// It serves with everything that does not depend on what is wrong: nobody loses his ports for a typing error.
    ServeTheRest,
}

/// What a daemon needs to know before it starts.
pub struct Config {
    /// Where its files are.
    pub paths: Paths,
    /// Which styxy it is, as it tells its clients.
    pub build: Build,
    /// Exit after this long without a lease; `None` is never.
    pub idle_exit: Option<Duration>,
    /// What to do with configuration files that are broken.
    pub broken_config: BrokenConfig,
    /// Where to log.
    pub log: LogTarget,
    /// Tells the kind of service from a running process: the daemon itself knows no tool by name.
    pub classify: Classify,
    /// Called once, when the socket accepts connections.
    pub on_ready: Box<dyn FnOnce() + Send>,
}

/// Why [`run`] returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Ended {
    /// It was told to stop.
    Stopped,
    /// Another daemon serves this runtime directory.
    LostTheRace,
    /// Nobody had a lease for [`Config::idle_exit`].
    Idle,
    /// Its socket or its lock were deleted or replaced. The leases are in the journal for the next daemon.
    Displaced,
}

/// Why the daemon could not start.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// The runtime directory cannot be made or opened.
    #[error("cannot use runtime directory `{}`", path.display())]
    RuntimeDir {
        /// The directory.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Other users could put files into the runtime directory.
    #[error("runtime directory `{}` {reason}; make it a directory of your own with mode 0700", path.display())]
    UnsafeRuntimeDir {
        /// The directory.
        path: PathBuf,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The lock file cannot be opened or locked.
    #[error("cannot lock `{}`", path.display())]
    Lock {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The socket cannot be made.
    #[error("cannot listen on `{}`", path.display())]
    Socket {
        /// The socket.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The configuration is broken, and [`BrokenConfig::Refuse`] says not to start then.
    #[error("the configuration is broken")]
    Config(#[from] config::ConfigError),
    /// The event loop or its signal handlers cannot be set up.
    #[error("cannot start the event loop")]
    EventLoop(#[source] io::Error),
}

/// Serves until SIGTERM, SIGINT or idleness. Blocks; runs its own event loop on the calling thread.
///
/// Takes the lock first; a process that does not get it returns [`Ended::LostTheRace`] at once.
///
/// # Errors
/// See [`DaemonError`]; all of them happen before the first request is served.
pub fn run(config: Config) -> Result<Ended, DaemonError> {
    allow_descriptors();
    block_on(async {
        let mut terminate = signal(SignalKind::terminate()).map_err(DaemonError::EventLoop)?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(DaemonError::EventLoop)?;
        let stop = async {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        };
        startup::serve(config, stop).await
    })
}

/// As [`run`], but serves until `stop` resolves and leaves the process's signals alone.
///
/// # Errors
/// As [`run`].
pub fn run_until(config: Config, stop: impl Future<Output = ()>) -> Result<Ended, DaemonError> {
    block_on(startup::serve(config, stop))
}

/// Takes as many descriptors as may be had: each lease and each leftover is watched through one, and the soft limit
/// is made for programs that use `select(2)`.
fn allow_descriptors() {
    if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE) {
        // Without it some leases hang on heartbeats.
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard).ok();
    }
}

fn block_on(
    daemon: impl Future<Output = Result<Ended, DaemonError>>,
) -> Result<Ended, DaemonError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(BLOCKING_THREADS)
        .thread_keep_alive(BLOCKING_KEEP_ALIVE)
        .build()
        .map_err(DaemonError::EventLoop)?;
    let ended = runtime.block_on(daemon);
    // Walks of `/proc` that are still under way serve nobody any more.
    runtime.shutdown_background();
    ended
}
