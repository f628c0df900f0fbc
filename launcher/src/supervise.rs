//! The supervisor: runs the child so that nobody can tell it from the bare command.
//!
//! The child stays in the launcher's process group, so that the terminal and the shell treat the two as one. `policy` decides, `watch`
//! does, `crate::sys` makes the system calls.
//!
//! Invariant: from before the fork until the child is gone every signal of the launcher is blocked and taken in one place,
//! so there is no moment in which a signal has no owner.

mod policy;
mod watch;

use std::ffi::OsString;
use std::io;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

pub(crate) use nix::unistd::Pid;

use crate::exit_codes;
use crate::sys::inherited::inherited;
use crate::sys::process;
use crate::sys::signal;
use crate::sys::spawn::{self, Image};

/// What to run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Job<'a> {
    /// The program and its arguments; not empty.
    pub(crate) argv: &'a [OsString],
    /// The complete environment of the child; nothing is inherited besides it. Its `PATH` is where the program is looked for.
    pub(crate) env: &'a [(OsString, OsString)],
    /// Where the witness's program lies, if it lies anywhere.
    pub(crate) witness: Option<&'a Path>,
    /// How long descendants may keep a lease's port after a terminating signal before they are killed.
    pub(crate) grace: Duration,
}

/// What the supervisor tells and asks its caller while the child runs.
pub(crate) trait Observer {
    /// The child has been there for a moment, so it is worth watching. Called once at most, on the main thread, with all signals
    /// blocked, so that threads started here never take a signal.
    fn settled(&mut self);

    /// The child has ended, and nothing is waited for any more. Other descendants may live on.
    fn ended(&mut self, leaves_children: bool);

    /// Which of these processes still hold a port of the lease. Asked only after a terminating signal.
    fn port_holders(&self, among: &[Pid]) -> Vec<Pid>;
}

/// Why the command could not be started.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SpawnError {
    /// There is no such program; a shell answers 127.
    #[error("command not found")]
    NotFound,
    /// The program is there and cannot be executed; a shell answers 126. The source is what `execve` said.
    #[error("command cannot be executed")]
    NotExecutable(#[source] io::Error),
}

/// How the child ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub(crate) enum ExitReason {
    /// It exited with this code.
    Code(u8),
    /// It was ended by this signal.
    Signal(i32),
}

/// Runs the job and returns when the child has ended and, after a terminating signal, its descendants have given up the lease's ports.
///
/// Must be called on the main thread and before there are other threads: the child is to get a `SIGTERM` when the forking *thread* ends,
/// and a thread that does not block signals would take them. All signals stay blocked when it returns, so that
/// the launcher can clean up; [`ExitReason::leave`] copes with that. Every child of the process is reaped meanwhile.
///
/// Where a supervisor cannot be set up (no descriptors, no processes left) the launcher becomes the command, which then runs unsupervised.
pub(crate) fn run(job: &Job<'_>, observer: &mut dyn Observer) -> Result<ExitReason, SpawnError> {
    let mut image = Image::new(job.argv, job.env).map_err(SpawnError::from)?;
    signal::block_all();
    // An inherited "ignore" would reap the child before anybody learns how it ended. The child itself gets it back.
    signal::set_disposition(libc::SIGCHLD, signal::Disposition::Default);
    match watch::Watch::start(&mut image, job.witness, job.grace, observer) {
        Ok(watch) => watch.until_the_end(),
        Err(_) => Err(spawn::exec(&mut image, inherited()).into()),
    }
}

/// Becomes the command, with everything given back that the Rust runtime has changed. Returns only if that failed.
pub(crate) fn exec(argv: &[OsString], env: &[(OsString, OsString)]) -> SpawnError {
    match Image::new(argv, env) {
        Ok(mut image) => spawn::exec(&mut image, inherited()).into(),
        Err(error) => error.into(),
    }
}

impl SpawnError {
    /// The exit code that a shell uses for this error: 127 or 126.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::NotFound => exit_codes::NOT_FOUND,
            Self::NotExecutable(_) => exit_codes::NOT_EXECUTABLE,
        }
    }
}

impl From<io::Error> for SpawnError {
    fn from(error: io::Error) -> Self {
        match error.raw_os_error() {
            Some(libc::ENOENT) => Self::NotFound,
            _ => Self::NotExecutable(error),
        }
    }
}

impl ExitReason {
    /// Ends the launcher the way the child ended. Death by a signal does not return: a shell loop stops on ^C only if it sees one.
    /// An exit code is handed back for `main` to return.
    pub(crate) fn leave(self) -> ExitCode {
        match self {
            Self::Code(code) => ExitCode::from(code),
            Self::Signal(signal) => {
                process::die_of(signal);
                ExitCode::from(u8::try_from(128 + signal).unwrap_or(u8::MAX))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spawn_errors_have_the_exit_codes_of_the_shell() {
        let code = |errno| SpawnError::from(io::Error::from_raw_os_error(errno)).exit_code();
        assert_eq!(code(libc::ENOENT), 127);
        assert_eq!(code(libc::EACCES), 126);
        assert_eq!(code(libc::E2BIG), 126);
        assert_eq!(code(libc::ENOTDIR), 126);
    }
}
