//! Processes: waiting for children, the tree below us, and handles that do not go stale.
//!
//! Invariant: a process that is not our child is signalled through its pidfd only, so that a pid that was given to somebody else is never hit.
#![expect(
    unsafe_code,
    reason = "wait statuses with real-time signals, pidfd calls"
)]

use std::collections::BTreeSet;
use std::fs;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::wait::WaitPidFlag;
use nix::unistd::{Pid, getsid};

use super::signal::{self, Disposition, SignalSet};

/// How a child changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    Exited(u8),
    Killed(i32),
    Stopped(i32),
    Continued,
}

/// The next change among all our children, if there is one; an ended child is reaped by it.
///
/// Not nix's `waitpid`, which reaps a child that died of a real-time signal and then answers with an error.
pub(crate) fn next_change() -> Option<(Pid, Change)> {
    let mut status = 0;
    let flags = libc::WNOHANG | libc::WUNTRACED | libc::WCONTINUED;
    // SAFETY: the status points to a live integer.
    let pid = unsafe { libc::waitpid(-1, &raw mut status, flags) };
    (pid > 0).then(|| (Pid::from_raw(pid), change(status)))
}

/// Waits for the end of a child that is about to exit.
pub(crate) fn reap(child: Pid) {
    let _ = nix::sys::wait::waitpid(child, None);
}

/// Whether there are children; those that have ended are reaped. Orphans of the run are our children, since we are their subreaper.
pub(crate) fn has_children() -> bool {
    while next_change().is_some() {}
    nix::sys::wait::waitpid(None, Some(WaitPidFlag::WNOHANG)) != Err(Errno::ECHILD)
}

/// Whether there are children other than this one, which is not reaped. The others that have ended must have been.
pub(crate) fn has_children_besides(one: Pid) -> bool {
    let children = children_of(Pid::this());
    // Without the one the kernel does not tell of children at all (it has no `CONFIG_PROC_CHILDREN`).
    !children.contains(&one) || children.len() > 1
}

fn change(status: i32) -> Change {
    if libc::WIFEXITED(status) {
        // The kernel keeps eight bits of an exit status.
        Change::Exited(u8::try_from(libc::WEXITSTATUS(status)).unwrap_or(u8::MAX))
    } else if libc::WIFSTOPPED(status) {
        Change::Stopped(libc::WSTOPSIG(status))
    } else if libc::WIFCONTINUED(status) {
        Change::Continued
    } else {
        Change::Killed(libc::WTERMSIG(status))
    }
}

/// Whether a child that was reported as stopped has been continued or has ended since. Reports nothing away.
pub(crate) fn has_moved_on(child: Pid) -> bool {
    has_report(child, libc::WCONTINUED | libc::WEXITED | libc::WNOWAIT)
}

/// Whether a child has been stopped, and that was not reported yet.
pub(crate) fn was_stopped(child: Pid) -> bool {
    has_report(child, libc::WSTOPPED)
}

fn has_report(child: Pid, of: i32) -> bool {
    let mut info = std::mem::MaybeUninit::<libc::siginfo_t>::zeroed();
    let id = child.as_raw().cast_unsigned();
    // SAFETY: the siginfo is writable and whole.
    let answer = unsafe { libc::waitid(libc::P_PID, id, info.as_mut_ptr(), of | libc::WNOHANG) };
    // SAFETY: it was zeroed, and all its bit patterns are valid.
    let info = unsafe { info.assume_init() };
    // SAFETY: the pid is set for every report of `waitid`, and zero without one.
    let reported = unsafe { info.si_pid() };
    answer == 0 && reported != 0
}

/// Stops this process as its child was stopped, and returns when it runs again. All signals must be blocked.
///
/// A stop that comes after its `SIGCONT` would last for ever: nobody sends a second one. So the stop signal is made pending first (a
/// `SIGCONT` from now on deletes it), then the child is looked at, and only if it is still stopped the signal is let through.
pub(crate) fn stop_with(child: Pid, signal: i32) {
    let me = Pid::this();
    if signal == libc::SIGSTOP {
        // Cannot be held back.
        if !has_moved_on(child) {
            let _ = signal::send(me, signal);
        }
        return;
    }
    let ignored = signal::is_ignored(signal);
    signal::set_disposition(signal, Disposition::Default);
    let _ = signal::send(me, signal);
    if has_moved_on(child) {
        signal::take_pending(SignalSet::EMPTY.with(signal));
    } else {
        let blocked = signal::set_mask(SignalSet::all().without(signal));
        signal::set_mask(blocked);
    }
    if ignored {
        signal::set_disposition(signal, Disposition::Ignore);
    }
}

/// Ends this process by a signal, without a core dump of its own. Returns if the signal does not end processes.
pub(crate) fn die_of(signal: i32) {
    // Either would do for a core file; a core_pattern that is a pipe heeds only the second.
    let _ = nix::sys::resource::setrlimit(nix::sys::resource::Resource::RLIMIT_CORE, 0, 0);
    let _ = nix::sys::prctl::set_dumpable(false);
    signal::set_disposition(signal, Disposition::Default);
    let blocked = signal::mask();
    let _ = signal::send(Pid::this(), signal);
    signal::set_mask(blocked.without(signal));
}

/// A handle on a process that stays with it, whatever becomes of its pid.
#[derive(Debug)]
pub(crate) struct PidFd {
    pub(crate) pid: Pid,
    fd: OwnedFd,
}

impl PidFd {
    /// Opens a (close-on-exec) handle; fails if the process is gone.
    pub(crate) fn open(pid: Pid) -> nix::Result<Self> {
        // SAFETY: the call takes two numbers.
        let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid.as_raw(), 0) };
        let fd = i32::try_from(Errno::result(fd)?).map_err(|_| Errno::EBADF)?;
        // SAFETY: the kernel has just made this descriptor for us and nobody else knows it.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(Self { pid, fd })
    }

    /// Sends a signal. Fails if the process is gone or belongs to somebody else.
    pub(crate) fn send(&self, signal: i32) -> nix::Result<()> {
        let no_info = std::ptr::null::<libc::siginfo_t>();
        // SAFETY: a null siginfo stands for the one that `kill` would make.
        let answer = unsafe {
            libc::syscall(
                libc::SYS_pidfd_send_signal,
                self.fd.as_raw_fd(),
                signal,
                no_info,
                0,
            )
        };
        Errno::result(answer).map(drop)
    }

    /// Whether it is stopped right now.
    pub(crate) fn is_stopped(&self) -> bool {
        fs::read_to_string(format!("/proc/{}/stat", self.pid)).is_ok_and(|stat| {
            // The name in parentheses may hold any text; the state follows the last parenthesis.
            stat.rsplit(") ")
                .next()
                .is_some_and(|rest| rest.starts_with('T'))
        })
    }
}

impl AsFd for PidFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// The descendants of this process that are in its session, parents before their children.
///
/// A process with a session of its own is a deliberate daemon: neither it nor anything below it is listed.
pub(crate) fn session_descendants() -> Vec<PidFd> {
    let ours = getsid(None);
    let mut seen = BTreeSet::new();
    let mut found = Vec::new();
    let mut parents = vec![Pid::this()];
    while let Some(parent) = parents.pop() {
        for pid in children_of(parent) {
            if !seen.insert(pid) {
                continue;
            }
            // The handle first: a session read afterwards belongs to the process in the handle, or to none.
            let Ok(handle) = PidFd::open(pid) else {
                continue;
            };
            if getsid(Some(pid)) == ours {
                parents.push(pid);
                found.push(handle);
            }
        }
    }
    found
}

/// Whether this process was started by that one, directly or through others that still live.
pub(crate) fn is_ancestor(pid: Pid) -> bool {
    let mut below = Pid::parent();
    // Where two ancestors are replaced while we look, the numbers could go round.
    for _ in 0..1000 {
        if below == pid {
            return true;
        }
        match parent_of(below) {
            Some(parent) if parent.as_raw() > 0 => below = parent,
            _ => return false,
        }
    }
    false
}

fn parent_of(pid: Pid) -> Option<Pid> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // After the last parenthesis: the state, then the parent.
    let parent = stat.rsplit(") ").next()?.split(' ').nth(1)?;
    parent.parse().ok().map(Pid::from_raw)
}

/// The children of all threads of a process; none if it is gone.
fn children_of(parent: Pid) -> Vec<Pid> {
    let Ok(threads) = fs::read_dir(format!("/proc/{parent}/task")) else {
        return Vec::new();
    };
    threads
        .filter_map(Result::ok)
        .filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok())
        .flat_map(|list| {
            list.split_ascii_whitespace()
                .filter_map(|pid| pid.parse().ok())
                .collect::<Vec<i32>>()
        })
        .map(Pid::from_raw)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ancestors_are_told_from_others() {
        assert!(is_ancestor(Pid::parent()));
        assert!(!is_ancestor(Pid::this()));
        let mut child = std::process::Command::new("sleep")
            .arg("1000")
            .spawn()
            .unwrap();
        assert!(!is_ancestor(Pid::from_raw(child.id().cast_signed())));
        assert_eq!(
            parent_of(Pid::from_raw(child.id().cast_signed())),
            Some(Pid::this())
        );
        child.kill().unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn a_child_that_is_left_is_seen() {
        use std::process::{Command, Stdio};
        let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
        let pid = Pid::from_raw(child.id().cast_signed());
        assert!(children_of(Pid::this()).contains(&pid));
        drop(child.stdin.take());
        drop(child.wait());
    }

    #[test]
    fn wait_statuses_are_read_whole() {
        assert_eq!(change(0), Change::Exited(0));
        assert_eq!(change(255 << 8), Change::Exited(255));
        assert_eq!(
            change(libc::SIGSEGV | 0x80),
            Change::Killed(libc::SIGSEGV),
            "with a core dump"
        );
        assert_eq!(
            change(libc::SIGRTMAX()),
            Change::Killed(libc::SIGRTMAX()),
            "real-time"
        );
        assert_eq!(
            change(0x7f | (libc::SIGTSTP << 8)),
            Change::Stopped(libc::SIGTSTP)
        );
        assert_eq!(change(0xffff), Change::Continued);
    }
}
