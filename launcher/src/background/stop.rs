//! Ending a daemon, whatever version it is of and whether it answers or not.
//!
//! Invariant: it is the kernel that says which process the daemon is, and the signal goes to the process that
//! listened at the socket, never to one that was given its pid since.

use std::os::fd::AsFd as _;
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::Pid;

use crate::client::Client;
use crate::sys::process::PidFd;

/// What became of a daemon that was to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stopped {
    /// This process was the daemon and has gone: whoever starts the next one finds everything free.
    Gone(u32),
    /// There was none.
    NotRunning,
}

/// Why there is still a daemon.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StopError {
    /// It is in a container whose processes cannot be seen from here.
    #[error("there is a daemon, but not in this container; stop it where it runs")]
    Elsewhere,
    /// It was told and does not go.
    #[error("the daemon (PID: {0}) was asked to stop and still runs; `kill -KILL {0}` ends it")]
    StillThere(u32),
    /// It could not be told.
    #[error("cannot stop the daemon (PID: {pid}): {source}")]
    Refused {
        /// Its process.
        pid: u32,
        /// What the kernel says.
        source: Errno,
    },
}

/// Asks the daemon to end and waits until it has, for at most `patience`.
pub(crate) fn stop(client: &Client, patience: Duration) -> Result<Stopped, StopError> {
    // Whatever this process listens on is no daemon.
    let is_another = |pid: &u32| Pid::from_raw(pid.cast_signed()) != Pid::this();
    let Some(pid) = client.daemon_pid().filter(is_another) else {
        return if client.is_reachable() {
            Err(StopError::Elsewhere)
        } else {
            Ok(Stopped::NotRunning)
        };
    };
    let process = match PidFd::open(Pid::from_raw(pid.cast_signed())) {
        Err(Errno::ESRCH) => return Ok(Stopped::Gone(pid)),
        process => process.map_err(|source| StopError::Refused { pid, source })?,
    };
    // The handle is the daemon's if the daemon still has that pid.
    match client.daemon_pid() {
        Some(again) if again == pid => {}
        _ => return Ok(Stopped::Gone(pid)),
    }
    match terminate(&process, patience) {
        Ok(true) => Ok(Stopped::Gone(pid)),
        Ok(false) => Err(StopError::StillThere(pid)),
        Err(source) => Err(StopError::Refused { pid, source }),
    }
}

/// Whether the process has gone.
fn terminate(process: &PidFd, patience: Duration) -> nix::Result<bool> {
    match process.send(libc::SIGTERM) {
        Err(Errno::ESRCH) => return Ok(true),
        sent => sent?,
    }
    // One that is stopped would never hear of it.
    let _ = process.send(libc::SIGCONT);
    let mut gone = [PollFd::new(process.as_fd(), PollFlags::POLLIN)];
    let timeout = PollTimeout::try_from(patience).unwrap_or(PollTimeout::MAX);
    Ok(poll(&mut gone, timeout)? > 0)
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn nobody_at_the_socket_is_nobody_to_stop() {
        let dir = tempfile::tempdir().unwrap();
        let client = Client::new(dir.path().join("sock"), crate::BUILD);
        let patience = Duration::from_secs(1);
        assert_eq!(stop(&client, patience).unwrap(), Stopped::NotRunning);
        // What a daemon that was killed leaves behind.
        drop(UnixListener::bind(dir.path().join("sock")).unwrap());
        assert_eq!(stop(&client, patience).unwrap(), Stopped::NotRunning);
    }

    #[test]
    fn a_process_that_goes_is_waited_for_and_one_that_stays_is_not_for_ever() {
        use std::io::Read as _;
        use std::process::{Command, Stdio};
        let mut deaf = Command::new("sh")
            .args(["-c", "trap '' TERM; echo ready; exec sleep 1000"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut ready = [0; 6];
        deaf.stdout.take().unwrap().read_exact(&mut ready).unwrap();
        let mut plain = Command::new("sleep").arg("1000").spawn().unwrap();
        let handle = |pid: u32| PidFd::open(Pid::from_raw(pid.cast_signed())).unwrap();
        let (stays, goes) = (handle(deaf.id()), handle(plain.id()));
        assert_eq!(terminate(&stays, Duration::from_millis(10)), Ok(false));
        assert_eq!(terminate(&goes, Duration::from_mins(1)), Ok(true));
        plain.wait().unwrap();
        assert_eq!(terminate(&goes, Duration::ZERO), Ok(true));
        deaf.kill().unwrap();
        deaf.wait().unwrap();
    }
}
