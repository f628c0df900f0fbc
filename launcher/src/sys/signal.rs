//! Signals: sets, dispositions, sending, and taking them as data.
//!
//! Invariant: signals are plain numbers here, because nix's `Signal` ends at 31 and a supervisor also passes real-time signals on.
//! Masks are the kernel's own 64 bits: glibc's calls drop signals 32 and 33 from every mask, and a child would notice.
#![expect(
    unsafe_code,
    reason = "signal calls that nix does not offer for real-time signals"
)]

use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::ptr;

use nix::errno::Errno;
use nix::unistd::Pid;

/// The highest signal number of Linux.
pub(crate) const LAST: i32 = 64;

/// glibc keeps 32 and 33 for itself (thread cancellation, set*id in all threads); blocking them breaks threads.
const GLIBC_OWN: [i32; 2] = [32, 33];

/// A set of signals, as the kernel stores it: signal n is bit n - 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct SignalSet(u64);

impl SignalSet {
    pub(crate) const EMPTY: Self = Self(0);

    /// Every signal a program may block; the kernel itself leaves `SIGKILL` and `SIGSTOP` out.
    pub(crate) fn all() -> Self {
        GLIBC_OWN.into_iter().fold(Self(u64::MAX), Self::without)
    }

    #[must_use]
    pub(crate) const fn with(self, signal: i32) -> Self {
        Self(self.0 | Self::bit(signal))
    }

    #[must_use]
    pub(crate) const fn without(self, signal: i32) -> Self {
        Self(self.0 & !Self::bit(signal))
    }

    pub(crate) const fn contains(self, signal: i32) -> bool {
        self.0 & Self::bit(signal) != 0
    }

    pub(crate) const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    #[must_use]
    pub(crate) const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    const fn bit(signal: i32) -> u64 {
        assert!(signal >= 1 && signal <= LAST, "a signal number");
        1 << (signal - 1)
    }
}

/// A disposition that survives an exec. Handlers do not: the kernel puts them back to the default.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Disposition {
    Default,
    Ignore,
}

/// Who made a signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    /// The kernel: terminal driver, alarm clock, broken pipe.
    Kernel,
    /// A process, with `kill` and its kin.
    Process(Pid),
}

/// A signal that was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Taken {
    pub(crate) signal: i32,
    pub(crate) origin: Origin,
    /// The value that came with it, if it was sent by `sigqueue`.
    pub(crate) value: Option<u64>,
}

/// Replaces the calling thread's mask and returns the old one.
pub(crate) fn set_mask(mask: SignalSet) -> SignalSet {
    let mut old = SignalSet::EMPTY;
    // SAFETY: both pointers are to live 8-byte sets, which is the size passed; `SIG_SETMASK` cannot fail with valid pointers.
    unsafe {
        libc::syscall(
            libc::SYS_rt_sigprocmask,
            libc::SIG_SETMASK,
            &raw const mask.0,
            &raw mut old.0,
            size_of::<u64>(),
        );
    }
    old
}

/// Blocks every signal in the calling thread and returns the mask before.
pub(crate) fn block_all() -> SignalSet {
    set_mask(SignalSet::all())
}

/// The mask of the calling thread.
pub(crate) fn mask() -> SignalSet {
    let mut now = SignalSet::EMPTY;
    // SAFETY: a null new set asks only; the old set points to the 8 bytes that the size names.
    unsafe {
        libc::syscall(
            libc::SYS_rt_sigprocmask,
            libc::SIG_SETMASK,
            ptr::null::<u64>(),
            &raw mut now.0,
            size_of::<u64>(),
        );
    }
    now
}

/// Sets a disposition. Signals that have none to set (`SIGKILL`, glibc's own) are left as they are.
pub(crate) fn set_disposition(signal: i32, disposition: Disposition) {
    let handler = match disposition {
        Disposition::Default => libc::SIG_DFL,
        Disposition::Ignore => libc::SIG_IGN,
    };
    // SAFETY: neither of the two handlers is code, so nothing can run at a bad moment; a bad number only returns an error.
    unsafe {
        libc::signal(signal, handler);
    }
}

/// Whether a signal is ignored at the moment.
pub(crate) fn is_ignored(signal: i32) -> bool {
    let mut action = MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: a null new action asks only; the old one points to a whole `sigaction`.
    let answer = unsafe { libc::sigaction(signal, ptr::null(), action.as_mut_ptr()) };
    // SAFETY: all zero bytes are a valid `sigaction`, and the call replaced them at most by another.
    let action = unsafe { action.assume_init() };
    answer == 0 && action.sa_sigaction == libc::SIG_IGN
}

/// Sends a signal to one process.
pub(crate) fn send(pid: Pid, signal: i32) -> nix::Result<()> {
    // SAFETY: `kill` takes two numbers and touches no memory of ours.
    Errno::result(unsafe { libc::kill(pid.as_raw(), signal) }).map(drop)
}

/// Sends a signal on as it came: with its value, if it had one.
pub(crate) fn forward(pid: Pid, taken: &Taken) -> nix::Result<()> {
    let Some(value) = taken.value else {
        return send(pid, taken.signal);
    };
    let value = libc::sigval {
        sival_ptr: ptr::without_provenance_mut(usize::try_from(value).unwrap_or(0)),
    };
    // SAFETY: the value is opaque bits for the receiver; nobody here follows it as a pointer.
    Errno::result(unsafe { libc::sigqueue(pid.as_raw(), taken.signal, value) }).map(drop)
}

/// Takes all pending signals of the set, without acting on them.
pub(crate) fn take_pending(set: SignalSet) -> SignalSet {
    let mut taken = SignalSet::EMPTY;
    loop {
        let now = libc::timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        // SAFETY: set and time point to live values of the sizes the call expects; the siginfo may be null.
        let signal = unsafe {
            libc::syscall(
                libc::SYS_rt_sigtimedwait,
                &raw const set.0,
                ptr::null_mut::<libc::siginfo_t>(),
                &raw const now,
                size_of::<u64>(),
            )
        };
        match i32::try_from(signal) {
            Ok(signal) if (1..=LAST).contains(&signal) => taken = taken.with(signal),
            _ => return taken,
        }
    }
}

/// A descriptor from which blocked signals are read.
#[derive(Debug)]
pub(crate) struct SignalFd(OwnedFd);

impl SignalFd {
    /// A non-blocking, close-on-exec descriptor for every signal of the set. The set must be blocked in all threads.
    pub(crate) fn new(set: SignalSet) -> nix::Result<Self> {
        // SAFETY: -1 asks for a new descriptor; the set points to the 8 bytes that the size names. The raw call takes the kernel's set.
        let fd = unsafe {
            libc::syscall(
                libc::SYS_signalfd4,
                -1,
                &raw const set.0,
                size_of::<u64>(),
                libc::SFD_CLOEXEC | libc::SFD_NONBLOCK,
            )
        };
        let fd = i32::try_from(Errno::result(fd)?).map_err(|_| Errno::EBADF)?;
        // SAFETY: the kernel has just made this descriptor for us and nobody else knows it.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// The next pending signal, if there is one.
    pub(crate) fn take(&self) -> Option<Taken> {
        let mut info = MaybeUninit::<libc::signalfd_siginfo>::zeroed();
        let size = size_of::<libc::signalfd_siginfo>();
        // SAFETY: the buffer is writable for the size that is passed.
        let got = unsafe { libc::read(self.0.as_raw_fd(), info.as_mut_ptr().cast(), size) };
        if usize::try_from(got) != Ok(size) {
            return None;
        }
        // SAFETY: it was zeroed and then filled by the kernel; every bit pattern is valid for its integers.
        let info = unsafe { info.assume_init() };
        Some(taken(&info))
    }
}

impl std::os::fd::AsFd for SignalFd {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// `si_code` tells who made it: positive is the kernel, the rest is a process (sigaction(2)).
fn taken(info: &libc::signalfd_siginfo) -> Taken {
    let origin = if info.ssi_code > 0 {
        Origin::Kernel
    } else {
        Origin::Process(Pid::from_raw(info.ssi_pid.cast_signed()))
    };
    Taken {
        signal: info.ssi_signo.cast_signed(),
        origin,
        value: (info.ssi_code == libc::SI_QUEUE).then_some(info.ssi_ptr),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_holds_exactly_the_signals_put_in() {
        let set = SignalSet::EMPTY.with(libc::SIGHUP).with(LAST);
        let inside: Vec<i32> = (1..=LAST).filter(|&signal| set.contains(signal)).collect();
        assert_eq!(inside, [libc::SIGHUP, LAST]);
        assert_eq!(set.without(LAST), SignalSet::EMPTY.with(libc::SIGHUP));
    }

    #[test]
    fn all_leaves_glibcs_own_signals_alone() {
        let outside: Vec<i32> = (1..=LAST)
            .filter(|&signal| !SignalSet::all().contains(signal))
            .collect();
        assert_eq!(outside, GLIBC_OWN);
    }
}
