//! The supervisor: runs the child so that nobody can tell it from the bare command.
//!
//! Invariant: from before the fork until the child is gone every signal of the launcher is blocked and taken in one place,
//! so there is no moment in which a signal has no owner.

use std::ffi::OsString;
use std::io;
use std::process::ExitCode;
use std::time::Duration;

pub use nix::unistd::Pid;

/// What to run.
#[derive(Debug, Clone, Copy)]
pub struct Job<'a> {
    /// The program and its arguments; not empty.
    pub argv: &'a [OsString],
    /// The complete environment of the child; nothing is inherited besides it.
    pub env: &'a [(OsString, OsString)],
    /// How long descendants may keep a lease's port after a terminating signal before they are killed.
    pub grace: Duration,
}

/// Why the command could not be started.
#[derive(Debug, thiserror::Error)]
pub enum SpawnError {
    /// There is no such program; a shell answers 127.
    #[error("command not found")]
    NotFound,
    /// The program is there and cannot be executed; a shell answers 126.
    #[error("cannot be executed: {0}")]
    NotExecutable(#[source] io::Error),
}

/// How the child ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum ExitReason {
    /// It exited with this code.
    Code(u8),
    /// It was ended by this signal.
    Signal(i32),
}

/// What the supervisor tells and asks its caller while the child runs.
pub trait Observer {
    /// The child exists (it may not have executed its program yet). Called once, on the main thread, with all signals blocked, so that
    /// threads started here never take a signal.
    fn spawned(&mut self, child: Pid);
    /// Which of these processes still hold a port of the lease.
    fn port_holders(&self, among: &[Pid]) -> Vec<Pid>;
}

/// Runs the job and returns when it has ended.
pub fn run(_job: &Job<'_>, _observer: &mut dyn Observer) -> Result<ExitReason, SpawnError> {
    Err(SpawnError::NotFound)
}

/// Replaces this process by the command. Returns only if that failed.
pub fn exec(_argv: &[OsString], _env: &[(OsString, OsString)]) -> SpawnError {
    SpawnError::NotFound
}

impl SpawnError {
    /// The exit code that a shell uses for this error.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::NotFound => 127,
            Self::NotExecutable(_) => 126,
        }
    }
}

impl ExitReason {
    /// Ends the launcher the way the child ended: with its code, or by its signal. Returns only if there is a code to return from `main`.
    pub fn leave(self) -> ExitCode {
        match self {
            Self::Code(code) => ExitCode::from(code),
            Self::Signal(signal) => ExitCode::from(u8::try_from(128 + signal).unwrap_or(u8::MAX)),
        }
    }
}
