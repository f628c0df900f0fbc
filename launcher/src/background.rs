//! Starting the daemon when nobody answers.
//!
//! Many launchers may find no daemon at once: one of them, chosen by a lock on a file that is never deleted,
//! starts it, the others wait for the socket. The daemon's own lock decides in the end, so a lost race here
//! costs a process and nothing else. A start that failed is not tried again for a while by anybody, so that a
//! broken installation costs each command a file look-up and not a process.

use std::fs::{self, File, OpenOptions};
use std::io::{self, PipeReader, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::fcntl::{Flock, FlockArg};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::client::Client;
use crate::context::Context;
use crate::env_names;
use crate::places::Places;

/// How long a launcher waits for a daemon, in all.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long after a failed start nobody tries again.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_secs(20);
/// A daemon that nobody asked for by name goes away after this many seconds without a lease.
const IDLE_EXIT_SECONDS: u64 = 30 * 60;
/// What the daemon needs from the environment. Nothing else of one project's shell gets into it.
const DAEMON_ENV: &[&str] = &[
    env_names::HOME,
    env_names::HOME_DIR,
    env_names::RUNTIME_DIR,
    env_names::TEMP_DIR,
    "PATH",
    "LANG",
];

/// Why there is still no daemon.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    /// It ended before it answered; what it said.
    #[error("the daemon could not be started: {0}")]
    Failed(String),
    /// Somebody tried a moment ago and it failed; what it said then.
    #[error("the daemon could not be started a moment ago: {0}")]
    FailedBefore(String),
    /// It neither answers nor ends.
    #[error("the daemon did not answer within {} seconds", PATIENCE.as_secs())]
    Silent,
    /// The lock or the process could not be made.
    #[error("the daemon could not be started: {0}")]
    Io(#[from] io::Error),
}

/// What starts a daemon, and so how long it stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StartedBy {
    /// A command that needs one.
    Run,
    /// The user, by name.
    User,
}

/// Returns when a daemon answers at the socket of these places.
pub(crate) fn start(context: &Context, places: &Places, by: StartedBy) -> Result<(), StartError> {
    let client = Client::new(places.socket());
    let failure = places.runtime.join("start.failed");
    if by == StartedBy::Run
        && let Some(reason) = recent(&failure)
    {
        return Err(StartError::FailedBefore(reason));
    }
    let deadline = now() + PATIENCE;
    let mut pause = Duration::from_millis(1);
    loop {
        if client.is_reachable() {
            return Ok(());
        }
        if let Some(_lock) = try_lock(&places.runtime.join("start.lock"))? {
            if client.is_reachable() {
                return Ok(());
            }
            spawn_and_wait(context, by, deadline).inspect_err(|error| remember(&failure, error))?;
            // It answers, or it lost the race to a daemon that is just starting or just ending.
        }
        if now() >= deadline {
            // Others need not wait for nothing as well.
            remember(&failure, &StartError::Silent);
            return Err(StartError::Silent);
        }
        nap(pause);
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}

/// The start lock, unless another launcher has it.
fn try_lock(path: &Path) -> io::Result<Option<Flock<File>>> {
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(path)?;
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => Ok(Some(lock)),
        Err((_, nix::errno::Errno::EWOULDBLOCK)) => Ok(None),
        Err((_, errno)) => Err(errno.into()),
    }
}

/// The started process puts itself into the background and closes its stderr when it answers; text that came
/// before that is why it does not.
fn spawn_and_wait(context: &Context, by: StartedBy, deadline: Instant) -> Result<(), StartError> {
    let (reader, writer) = io::pipe()?;
    let mut command = Command::new("/proc/self/exe");
    command
        .args(["daemon", "start", "--background"])
        .env_clear();
    if by == StartedBy::Run {
        command.args(["--idle-exit", &IDLE_EXIT_SECONDS.to_string()]);
    }
    command.envs(
        DAEMON_ENV
            .iter()
            .filter_map(|name| context.var(name).map(|value| (name, value))),
    );
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(writer)
        .current_dir("/")
        .spawn()?;
    // Our copy of the pipe's writing end goes with the command.
    drop(command);
    let said = read_until_closed(reader, deadline)?;
    // The process that we started ends as soon as the daemon is on its own.
    child.wait()?;
    if said.is_empty() {
        Ok(())
    } else {
        Err(StartError::Failed(said))
    }
}

/// What is written into the pipe until its last writer closes it.
fn read_until_closed(mut reader: PipeReader, deadline: Instant) -> Result<String, StartError> {
    let mut said = Vec::new();
    let mut buffer = [0; 1024];
    loop {
        let left = deadline.saturating_duration_since(now());
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        let mut polled = [PollFd::new(
            std::os::fd::AsFd::as_fd(&reader),
            PollFlags::POLLIN,
        )];
        match poll(&mut polled, timeout) {
            Ok(0) => return Err(StartError::Silent),
            Ok(_) => {}
            Err(nix::errno::Errno::EINTR) => continue,
            Err(errno) => return Err(io::Error::from(errno).into()),
        }
        match reader.read(&mut buffer)? {
            0 => break,
            read if said.len() < 4096 => said.extend_from_slice(&buffer[..read]),
            _ => {}
        }
    }
    let said = String::from_utf8_lossy(&said);
    Ok(said
        .trim()
        .trim_start_matches("styxy: ")
        .replace('\n', "; "))
}

fn remember(path: &PathBuf, error: &StartError) {
    // Only a help for those who come next: without it they try for themselves.
    drop(fs::write(path, error.to_string()));
}

fn recent(path: &Path) -> Option<String> {
    let age = fs::metadata(path).ok()?.modified().ok()?.elapsed().ok()?;
    (age < PAUSE_AFTER_FAILURE).then(|| fs::read_to_string(path).unwrap_or_default())
}

#[expect(
    clippy::disallowed_methods,
    reason = "a shell that waits for another process needs a clock"
)]
fn now() -> Instant {
    Instant::now()
}

#[expect(
    clippy::disallowed_methods,
    reason = "another launcher starts the daemon; the kernel has no event for `somebody listens on that path now`"
)]
fn nap(pause: Duration) {
    std::thread::sleep(pause);
}
