//! A handle to one process that cannot come to mean another one (`pidfd_open(2)`, Linux 5.3).

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;

/// A process, by descriptor. Readable as soon as the process has ended. Closed on exec.
#[derive(Debug)]
pub struct Pidfd(OwnedFd);

impl Pidfd {
    /// Opens the process that has this pid now.
    ///
    /// # Errors
    /// `ESRCH` if there is none, `EINVAL` for pid 0, `ENOSYS` or `EPERM` where the kernel or a sandbox has no pidfds.
    #[expect(unsafe_code, reason = "neither std nor nix wraps pidfd_open")]
    pub fn open(pid: u32) -> io::Result<Self> {
        let pid =
            libc::pid_t::try_from(pid).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))?;
        // SAFETY: the call takes two integers and touches no memory of ours.
        let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
        let fd = RawFd::try_from(fd).map_err(|_| io::Error::from_raw_os_error(libc::EBADF))?;
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel has just given us this descriptor, so nobody else owns it.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// Whether the process has ended (a zombie has).
    pub fn has_ended(&self) -> bool {
        let mut fds = [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)];
        poll(&mut fds, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
    }

    /// Sends a signal to this very process.
    ///
    /// # Errors
    /// `ESRCH` if it has ended, `EPERM` if it is not ours.
    #[expect(unsafe_code, reason = "neither std nor nix wraps pidfd_send_signal")]
    pub fn send_signal(&self, signal: Signal) -> io::Result<()> {
        let no_info = std::ptr::null::<libc::siginfo_t>();
        // SAFETY: the descriptor is open as we own it, and a null siginfo is documented as "as kill(2) does".
        let result = unsafe {
            libc::syscall(
                libc::SYS_pidfd_send_signal,
                self.0.as_raw_fd(),
                signal as libc::c_int,
                no_info,
                0,
            )
        };
        if result == 0 {
            Ok(())
        } else {
            Err(io::Error::last_os_error())
        }
    }
}

impl AsFd for Pidfd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for Pidfd {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn a_process_ends_by_the_signal_that_is_sent_to_it() {
        let mut child = Command::new("cat")
            .stdin(Stdio::piped())
            .spawn()
            .expect("cat starts");
        let pidfd = Pidfd::open(child.id()).expect("our child is there");
        assert!(!pidfd.has_ended());
        pidfd.send_signal(Signal::SIGKILL).expect("it is ours");
        child.wait().expect("it ends");
        assert!(pidfd.has_ended());
        assert_eq!(
            pidfd
                .send_signal(Signal::SIGKILL)
                .unwrap_err()
                .raw_os_error(),
            Some(libc::ESRCH)
        );
    }

    #[test]
    fn pids_that_cannot_be_are_errors() {
        for pid in [0, u32::MAX, 0x7fff_ffff] {
            assert!(Pidfd::open(pid).is_err(), "{pid}");
        }
    }
}
