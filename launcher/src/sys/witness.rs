//! A witness: a tiny process in the launcher's process group that tells which signals were sent to the whole group.
//!
//! A signal does not say whether it was sent to one process or to a group. If it was the group, the child has its own copy, and sending the
//! launcher's on would make two, which many servers take for "quit at once". The witness blocks every signal and sleeps; asked, it
//! answers with what has become pending for it. The kernel signals the members of a group from the newest to the oldest, so
//! the witness always has its copy before the launcher has. (Except for `kill -1`, which goes from oldest to newest.)
//!
//! Whoever signals "all processes called styxy" (`pkill`, `killall`) must not find the witness, or the launcher would believe
//! that the group was meant and keep the signal from the child. So it has a name, and a command line, of its own.
//!
//! Invariant: it holds one descriptor, its end of a socket pair, and ends with the launcher.
#![expect(unsafe_code, reason = "fork and the calls of the forked process")]

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::ptr;

use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use nix::sys::stat::Mode;
use nix::unistd::{ForkResult, Pid};

use super::process;
use super::signal::{self, SignalSet};
use super::spawn::above_standard;

/// How long the launcher waits for an answer before it goes on without a witness. It takes microseconds unless the machine is drowning.
const PATIENCE_MS: u16 = 1000;

/// The launcher's handle on its witness; killed on drop.
#[derive(Debug)]
pub(crate) struct Witness {
    pub(crate) pid: Pid,
    socket: OwnedFd,
}

impl Witness {
    /// Forks the witness. All signals must be blocked. It is a child of the calling process and is reaped as one.
    pub(crate) fn fork() -> io::Result<Self> {
        let (ours, its) = socketpair(
            AddressFamily::Unix,
            SockType::SeqPacket,
            None,
            SockFlag::SOCK_CLOEXEC,
        )?;
        let (ours, its) = (above_standard(ours)?, above_standard(its)?);
        // SAFETY: the child only makes system calls, allocates nothing and ends in `_exit`.
        match unsafe { nix::unistd::fork() }? {
            ForkResult::Parent { child } => Ok(Self {
                pid: child,
                socket: ours,
            }),
            ForkResult::Child => bear_witness(its.as_raw_fd()),
        }
    }

    /// The signals sent to the group since the last question. Fails if there is no answer.
    pub(crate) fn ask(&self) -> io::Result<SignalSet> {
        // The whole group may have been stopped, and the launcher alone woken. A SIGCONT deletes pending stop signals, so not always.
        let woken = process::was_stopped(self.pid);
        if woken {
            self.wake();
        }
        nix::unistd::write(&self.socket, &[0])?;
        let mut ready = [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)];
        if nix::poll::poll(&mut ready, PollTimeout::from(PATIENCE_MS))? == 0 {
            return Err(io::ErrorKind::TimedOut.into());
        }
        let mut answer = [0; size_of::<u64>()];
        let got = nix::unistd::read(&self.socket, &mut answer)?;
        if got == answer.len() {
            let seen = SignalSet::from_bits(u64::from_ne_bytes(answer));
            Ok(if woken {
                seen.without(libc::SIGCONT)
            } else {
                seen
            })
        } else {
            Err(io::ErrorKind::UnexpectedEof.into())
        }
    }

    /// To be called when the witness is reported as stopped.
    pub(crate) fn wake(&self) {
        // An error means that it is gone, which shows when it is asked.
        let _ = signal::send(self.pid, libc::SIGCONT);
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        // An error means that it is gone already.
        let _ = signal::send(self.pid, libc::SIGKILL);
        process::reap(self.pid);
    }
}

/// The witness's whole life.
fn bear_witness(socket: RawFd) -> ! {
    let _ = nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL);
    close_all_but(socket);
    look_like_nobody();
    loop {
        let mut question = 0_u8;
        // SAFETY: one writable byte, and a descriptor that stays open for the life of the process.
        let got = unsafe { libc::read(socket, (&raw mut question).cast(), 1) };
        if got != 1 {
            // SAFETY: ends the forked process without running the launcher's exit handlers.
            unsafe { libc::_exit(0) }
        }
        let seen = signal::take_pending(SignalSet::all()).bits().to_ne_bytes();
        // SAFETY: the buffer is live and its length is passed. A launcher that is gone shows at the next read.
        unsafe {
            libc::send(socket, seen.as_ptr().cast(), seen.len(), libc::MSG_NOSIGNAL);
        }
    }
}

/// Whatever the launcher has open (the user's pipes above all) must not stay open because of a witness.
fn close_all_but(kept: RawFd) {
    let kept = kept.cast_unsigned();
    for (first, last) in [(0, kept - 1), (kept + 1, u32::MAX)] {
        // SAFETY: closes numbers in a process that uses no descriptor but `kept`.
        unsafe {
            libc::syscall(libc::SYS_close_range, first, last, 0);
        }
    }
}

/// What `ps` shows for the witness.
const NAME: &CStr = c"signal-witness";

/// Takes away what the witness has from the launcher and could be found by: name, command line, and the link to the executable, which
/// only root may follow then.
fn look_like_nobody() {
    let _ = nix::sys::prctl::set_name(NAME);
    if let Some((start, length)) = command_line() {
        let text = ptr::with_exposed_provenance_mut::<u8>(start);
        // SAFETY: the kernel put our arguments there, on the stack, and nobody in this process reads them any more.
        unsafe { ptr::write_bytes(text, 0, length) };
        let shown = NAME.to_bytes().len().min(length.saturating_sub(1));
        // SAFETY: the same memory, and not more of it than there is.
        unsafe { ptr::copy_nonoverlapping(NAME.as_ptr().cast(), text, shown) };
    }
    let _ = nix::sys::prctl::set_dumpable(false);
}

/// Where the arguments of this process lie and how long they are: fields 48 and 49 of `/proc/self/stat`, see `proc_pid_stat(5)`.
fn command_line() -> Option<(usize, usize)> {
    let mut buffer = [0; 1024];
    let file = nix::fcntl::open(
        c"/proc/self/stat",
        OFlag::O_RDONLY | OFlag::O_CLOEXEC,
        Mode::empty(),
    )
    .ok()?;
    let length = nix::unistd::read(&file, &mut buffer).ok()?;
    let stat = std::str::from_utf8(buffer.get(..length)?).ok()?;
    // The name in parentheses may hold any text; field 3 follows the last parenthesis.
    let mut fields = stat.rsplit(") ").next()?.split(' ').skip(48 - 3);
    let first: usize = fields.next()?.parse().ok()?;
    let end: usize = fields.next()?.parse().ok()?;
    (first != 0).then(|| Some((first, end.checked_sub(first)?)))?
}
