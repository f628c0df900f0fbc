//! Turning a freshly started process into a background one.

#![expect(unsafe_code, reason = "system calls that have no safe wrapper")]

use std::fs::OpenOptions;
use std::io;

use nix::unistd::{ForkResult, dup2_stderr, fork, setsid};

use super::signal::{self, SignalSet};

/// What became of the caller.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Detached {
    /// This is the background process: own session, no terminal, no inherited descriptors above 2, no signal blocked.
    Background,
    /// This is the process that was started; it has nothing left to do.
    Starter,
}

/// Forks, and leaves session, terminal and inherited descriptors behind in the new process.
///
/// Descriptors above 2 are closed because whoever started us may wait for the end of a pipe that it never
/// meant to give to a daemon. To be called first thing, while there is one thread and nothing is open.
pub(crate) fn detach() -> io::Result<Detached> {
    // SAFETY: the caller is `main` before it has made a thread, so the child may go on as if nothing had happened.
    let forked = unsafe { fork() }?;
    if let ForkResult::Parent { .. } = forked {
        return Ok(Detached::Starter);
    }
    setsid()?;
    // Whoever started us may have blocked the signal that is to end us one day.
    signal::set_mask(SignalSet::EMPTY);
    // SAFETY: close_range takes three integers; nothing in this process has opened a descriptor above 2 yet.
    unsafe { libc::syscall(libc::SYS_close_range, 3_u32, u32::MAX, 0_u32) };
    Ok(Detached::Background)
}

/// Puts the null device in place of stderr, which tells whoever reads it that nothing more will come.
pub(crate) fn silence_stderr() -> io::Result<()> {
    let null = OpenOptions::new().write(true).open("/dev/null")?;
    dup2_stderr(null)?;
    Ok(())
}
