//! Starting the daemon when nobody answers.
//!
//! Many launchers may find no daemon at once: one of them, chosen by a lock on a file that is never deleted,
//! starts it, the others wait for the socket. The daemon's own lock decides in the end, so a lost race here
//! costs a process and nothing else. A start that failed is not tried again for a while by anybody, so that a
//! broken installation costs each command a file look-up and not a process. A daemon of an older styxy is ended
//! under the same lock; the one that is started then goes on with its leases.

pub(crate) mod stop;

use std::fs::{self, File, OpenOptions};
use std::io::{self, PipeReader, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

use nix::fcntl::{Flock, FlockArg};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use styxy_protocol::Port;

use crate::client::Client;
use crate::context::Context;
use crate::env_names;
use crate::places::Places;

/// How long a launcher waits for a daemon, in all.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long after a failed start nobody tries again.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_secs(20);
/// Between two looks at what another launcher is doing.
const FIRST_PAUSE: Duration = Duration::from_millis(1);
const LONGEST_PAUSE: Duration = Duration::from_millis(50);
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
    /// The daemon of an older styxy could not be ended to make room for it.
    #[error("the daemon of an older styxy could not be replaced: {0}")]
    Stop(#[from] stop::StopError),
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
    User {
        /// It goes away after so many seconds without a lease.
        idle_exit: Option<u64>,
        /// It serves the API on this port too.
        port: Option<Port>,
    },
}

/// Returns when a daemon answers at the socket of these places.
pub(crate) fn start(context: &Context, places: &Places, by: StartedBy) -> Result<(), StartError> {
    let client = Client::new(places.socket(), context.build);
    let failure = failure_file(places);
    let has_just_failed = || match by {
        StartedBy::Run => has_just_failed(&failure),
        StartedBy::User { .. } => Ok(()),
    };
    has_just_failed()?;
    let deadline = now() + PATIENCE;
    let mut pause = FIRST_PAUSE;
    loop {
        if client.is_reachable() {
            return Ok(());
        }
        if let Some(_lock) = try_lock(&lock_file(places))? {
            if client.is_reachable() {
                return Ok(());
            }
            // Whoever had the lock before us may have found out that it cannot be done.
            has_just_failed()?;
            match spawn_and_wait(context, by, deadline) {
                // It answers, or it lost the race to a daemon that is just starting or just ending.
                Ok(()) => drop(fs::remove_file(&failure)),
                Err(error) => {
                    // A port that cannot be had says nothing about a daemon without one.
                    if !matches!(by, StartedBy::User { port: Some(_), .. }) {
                        remember(&failure, &error);
                    }
                    return Err(error);
                }
            }
        }
        if now() >= deadline {
            // Others need not wait for nothing as well.
            remember(&failure, &StartError::Silent);
            return Err(StartError::Silent);
        }
        nap(&mut pause);
    }
}

/// Returns when the daemon at the socket of these places, if there still is one, is not an older styxy's. Of many that
/// find an older one one ends it.
pub(crate) fn end_older(context: &Context, places: &Places) -> Result<(), StartError> {
    let client = Client::new(places.socket(), context.build);
    let failure = failure_file(places);
    // An old daemon is better than none.
    has_just_failed(&failure)?;
    let deadline = now() + PATIENCE;
    let mut pause = FIRST_PAUSE;
    loop {
        if let Some(_lock) = try_lock(&lock_file(places))? {
            let is_older = client
                .protocol()
                .is_ok_and(|theirs| client.is_older(theirs));
            if !is_older {
                return Ok(());
            }
            let stopped = stop::stop(&client, deadline.saturating_duration_since(now()));
            return stopped.map(drop).map_err(|error| {
                let error = error.into();
                remember(&failure, &error);
                error
            });
        }
        if now() >= deadline {
            return Err(StartError::Silent);
        }
        nap(&mut pause);
    }
}

/// The file whose lock gives the right to start and to end daemons. Never deleted.
fn lock_file(places: &Places) -> PathBuf {
    places.runtime.join("start.lock")
}

/// Why the last start failed.
fn failure_file(places: &Places) -> PathBuf {
    places.runtime.join("start.failed")
}

fn has_just_failed(failure: &Path) -> Result<(), StartError> {
    recent_failure(failure, SystemTime::now())
        .map_or(Ok(()), |reason| Err(StartError::FailedBefore(reason)))
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
        .arg0("styxy")
        .args(["daemon", "start", "--background"])
        .env_clear();
    let (idle_exit, port) = match by {
        StartedBy::Run => (Some(IDLE_EXIT_SECONDS), None),
        StartedBy::User { idle_exit, port } => (idle_exit, port),
    };
    if let Some(seconds) = idle_exit {
        command.args(["--idle-exit", &seconds.to_string()]);
    }
    if let Some(port) = port {
        command.args(["--port", &port.to_string()]);
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

/// For those who come next. What cannot be written is no loss: they try for themselves.
fn remember(path: &Path, error: &StartError) {
    let reason = match error {
        StartError::Failed(reason) | StartError::FailedBefore(reason) => reason.clone(),
        StartError::Stop(_) | StartError::Silent | StartError::Io(_) => error.to_string(),
    };
    drop(fs::write(path, reason));
}

/// Why a start failed, if that is not long before `now`. A time to come, seen by a clock that was set back, is no
/// recent one: it would last.
fn recent_failure(path: &Path, now: SystemTime) -> Option<String> {
    let failed = fs::metadata(path).ok()?.modified().ok()?;
    let age = now.duration_since(failed).ok()?;
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
fn nap(pause: &mut Duration) {
    std::thread::sleep(*pause);
    *pause = (*pause * 2).min(LONGEST_PAUSE);
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Write as _;
    use std::os::unix::net::UnixListener;

    use super::*;

    fn world() -> (tempfile::TempDir, Context, Places) {
        let temp = tempfile::tempdir().unwrap();
        let places = Places {
            home: temp.path().to_owned(),
            runtime: temp.path().to_owned(),
        };
        let context = Context {
            build: crate::BUILD,
            env: Vec::new(),
            cwd: None,
            pid: 1,
            uid: 0,
            is_watched: false,
        };
        (temp, context, places)
    }

    fn read(said: &[u8], deadline: Instant) -> Result<String, StartError> {
        let (reader, mut writer) = io::pipe().unwrap();
        writer.write_all(said).unwrap();
        drop(writer);
        read_until_closed(reader, deadline)
    }

    #[test]
    fn a_daemon_that_answers_is_not_started() {
        let (_temp, context, places) = world();
        let _listener = UnixListener::bind(places.socket()).unwrap();
        start(&context, &places, StartedBy::Run).unwrap();
        assert!(!places.runtime.join("start.lock").exists());
    }

    #[test]
    fn a_start_that_has_just_failed_is_not_tried_again() {
        let (_temp, context, places) = world();
        let failure = places.runtime.join("start.failed");
        remember(&failure, &StartError::Failed("no room".to_owned()));
        let error = start(&context, &places, StartedBy::Run).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the daemon could not be started a moment ago: no room"
        );
        assert!(!places.runtime.join("start.lock").exists());
    }

    #[test]
    fn a_failure_is_recent_for_twenty_seconds_whatever_the_clock_does() {
        let (_temp, _context, places) = world();
        let failure = places.runtime.join("start.failed");
        let now = SystemTime::now();
        assert_eq!(recent_failure(&failure, now), None);
        for (failed, expected) in [
            (now, Some("why")),
            (now - Duration::from_secs(19), Some("why")),
            (now - Duration::from_secs(20), None),
            (now + Duration::from_secs(1), None),
            (now + Duration::from_hours(24), None),
        ] {
            fs::write(&failure, "why").unwrap();
            File::options()
                .write(true)
                .open(&failure)
                .unwrap()
                .set_modified(failed)
                .unwrap();
            assert_eq!(recent_failure(&failure, now).as_deref(), expected);
        }
    }

    #[test]
    fn what_is_remembered_is_the_reason_alone() {
        let (_temp, _context, places) = world();
        let failure = places.runtime.join("start.failed");
        for (error, text) in [
            (StartError::Failed("no room".to_owned()), "no room"),
            (
                StartError::Silent,
                "the daemon did not answer within 5 seconds",
            ),
        ] {
            remember(&failure, &error);
            assert_eq!(fs::read_to_string(&failure).unwrap(), text);
        }
        // Nowhere to write to is no error.
        remember(Path::new("/nonexistent/start.failed"), &StartError::Silent);
    }

    #[test]
    fn one_process_has_the_start_lock() {
        let (_temp, _context, places) = world();
        let path = places.runtime.join("start.lock");
        let held = try_lock(&path).unwrap().unwrap();
        assert!(try_lock(&path).unwrap().is_none());
        drop(held);
        assert!(try_lock(&path).unwrap().is_some());
    }

    #[test]
    fn what_a_daemon_said_before_it_ended_fits_on_a_line() {
        let in_time = now() + PATIENCE;
        assert_eq!(read(b"", in_time).unwrap(), "");
        assert_eq!(
            read(b"styxy: cannot listen\non that\n", in_time).unwrap(),
            "cannot listen; on that"
        );
        assert!(read(&vec![b'x'; 60_000], in_time).unwrap().len() < 8192);
    }

    #[test]
    fn a_daemon_that_neither_answers_nor_ends_is_silent() {
        let (reader, _writer) = io::pipe().unwrap();
        let error = read_until_closed(reader, now()).unwrap_err();
        assert!(matches!(error, StartError::Silent), "{error:?}");
    }
}
