//! A witness: a tiny process in the launcher's process group that tells which signals were sent to the whole group.
//!
//! A signal does not say whether it was sent to one process or to a group. If it was the group, the child has its own copy, and sending the
//! launcher's on would make two, which many servers take for "quit at once". The witness blocks every signal and sleeps; asked, it
//! answers with what has become pending for it. The kernel signals the members of a group from the newest to the oldest, so
//! the witness always has its copy before the launcher has. (Except for `kill -1`, which goes from oldest to newest.)
//!
//! Whoever signals "all processes called styxy" (`pkill`, `killall`, `pidof`) must not find the witness, or the launcher would believe
//! that the group was meant and keep the signal from the child. So it is a program of its own, `witness/program.rs`, which also
//! keeps it small: a process that is forked from the launcher shares its memory only until either of them writes.
//!
//! Invariant: it holds one descriptor, its end of a socket pair, and ends with the launcher.
#![expect(unsafe_code, reason = "clone, and the calls of the cloned process")]

use std::ffi::{CStr, CString, c_int, c_void};
use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::ptr;

use nix::poll::{PollFd, PollFlags, PollTimeout};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use nix::unistd::{Pid, getppid};

use super::process;
use super::signal::{self, SignalSet};
use super::spawn::above_standard;

/// The witness's program; empty where the build script makes none.
pub(crate) static PROGRAM: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/witness"));

/// What `ps` shows for the witness, and the name of its program in memory.
const NAME: &CStr = c"signal-witness";

/// How long the launcher waits for an answer before it goes on without a witness. It takes microseconds unless the machine is drowning.
const PATIENCE_MS: u16 = 1000;

/// Bytes of stack until the program is executed, which has its own.
const STACK: usize = 16 << 10;

/// The launcher's handle on its witness; killed on drop.
#[derive(Debug)]
pub(crate) struct Witness {
    pub(crate) pid: Pid,
    socket: OwnedFd,
    is_reaped: bool,
}

impl Witness {
    /// Starts a witness: the program as it was put to `installed`, or, where it lies nowhere or must not be executed, from memory.
    ///
    /// All signals must be blocked. The witness is a child of the calling process and is reaped as one.
    pub(crate) fn start(installed: Option<&Path>) -> io::Result<Self> {
        if PROGRAM.is_empty() {
            return Err(io::ErrorKind::Unsupported.into());
        }
        let installed = installed.and_then(|path| CString::new(path.as_os_str().as_bytes()).ok());
        if let Some(Ok(witness)) = installed.map(|path| Self::execute(&path)) {
            return Ok(witness);
        }
        let program = in_memory()?;
        Self::execute(&path_of(&program)?)
    }

    fn execute(program: &CStr) -> io::Result<Self> {
        let (ours, its) = socketpair(
            AddressFamily::Unix,
            SockType::SeqPacket,
            None,
            SockFlag::SOCK_CLOEXEC,
        )?;
        let (ours, its) = (above_standard(ours)?, above_standard(its)?);
        Ok(Self {
            pid: clone(program, its.as_raw_fd())?,
            socket: ours,
            is_reaped: false,
        })
    }

    /// Ends the witness, which stays to be reaped.
    pub(crate) fn kill(&self) {
        // An error means that it is gone already.
        let _ = signal::send(self.pid, libc::SIGKILL);
    }

    /// To be called when the witness has been reported as ended, so that its number may be somebody else's.
    pub(crate) fn bury(mut self) {
        self.is_reaped = true;
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
        if !self.is_reaped {
            self.kill();
            process::reap(self.pid);
        }
    }
}

/// The program in a file that lies nowhere, open for reading only: what is open for writing cannot be executed.
fn in_memory() -> io::Result<OwnedFd> {
    let create = |flags| {
        // SAFETY: the name is a string that outlives the call.
        let fd = unsafe { libc::memfd_create(NAME.as_ptr(), flags) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel has just made this descriptor for us and nobody else knows it.
        Ok(unsafe { OwnedFd::from_raw_fd(fd) })
    };
    // Kernels before 6.3 do not know the second flag, and do not need it.
    let file = create(libc::MFD_CLOEXEC | libc::MFD_EXEC).or_else(|_| create(libc::MFD_CLOEXEC))?;
    let mut file = File::from(above_standard(file)?);
    file.write_all(PROGRAM)?;
    let path = path_of(&file)?;
    above_standard(File::open(path.to_string_lossy().as_ref())?.into())
}

fn path_of(file: &impl AsRawFd) -> io::Result<CString> {
    Ok(CString::new(format!("/proc/self/fd/{}", file.as_raw_fd()))?)
}

/// What the new process needs to know; it writes the error number if it cannot execute the program.
struct Start {
    program: *const libc::c_char,
    socket: RawFd,
    launcher: Pid,
    error: c_int,
}

/// Starts the program as `vfork` and exec would: the new process borrows the launcher's memory, and the launcher sleeps, until
/// it has a memory of its own. Nothing has to be copied for it, neither now nor when the launcher writes to its memory.
///
/// Not for the command itself: it lets signals through before it is executed, and a stop would hold the launcher as well.
fn clone(program: &CStr, socket: RawFd) -> io::Result<Pid> {
    let mut start = Start {
        program: program.as_ptr(),
        socket,
        launcher: Pid::this(),
        error: 0,
    };
    let mut stack = Box::<[u8]>::new_uninit_slice(STACK);
    let top = stack.as_mut_ptr_range().end;
    let top = top.wrapping_byte_sub(top.addr() % 16);
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
    let argument = (&raw mut start).cast::<c_void>();
    // SAFETY: stack and argument live until the call returns, which is when the new process uses neither any more; it
    // makes system calls only, and no signal can run a handler in it.
    let pid = unsafe { libc::clone(become_witness, top.cast(), flags, argument) };
    if pid < 0 {
        return Err(io::Error::last_os_error());
    }
    let pid = Pid::from_raw(pid);
    // SAFETY: a live integer that the other process may have written.
    match unsafe { ptr::read_volatile(&raw const start.error) } {
        0 => Ok(pid),
        error => {
            process::reap(pid);
            Err(io::Error::from_raw_os_error(error))
        }
    }
}

extern "C" fn become_witness(start: *mut c_void) -> c_int {
    let start = start.cast::<Start>();
    // SAFETY: `clone` was given a whole `Start`, and whoever owns it sleeps.
    let start = unsafe { &mut *start };
    let _ = nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL);
    if getppid() == start.launcher {
        let arguments = [NAME.as_ptr(), ptr::null()];
        let variables = [ptr::null()];
        // SAFETY: takes two numbers; this process has a table of descriptors of its own.
        unsafe { libc::dup2(start.socket, 0) };
        // SAFETY: null-terminated strings and arrays, alive until the program has a memory of its own.
        unsafe { libc::execve(start.program, arguments.as_ptr(), variables.as_ptr()) };
    }
    start.error = io::Error::last_os_error()
        .raw_os_error()
        .unwrap_or(libc::ENOEXEC);
    127
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn it_tells_what_it_was_sent_wherever_its_program_lies() {
        if PROGRAM.is_empty() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let (whole, torn) = (dir.path().join("whole"), dir.path().join("torn"));
        for (path, content) in [(&whole, PROGRAM), (&torn, &PROGRAM[..100])] {
            fs::write(path, content).unwrap();
            fs::set_permissions(path, Permissions::from_mode(0o700)).unwrap();
        }
        signal::block_all();
        for installed in [
            None,
            Some(&*whole),
            Some(&torn),
            Some(Path::new("/nowhere")),
        ] {
            let witness = Witness::start(installed).unwrap();
            assert_eq!(witness.ask().unwrap(), SignalSet::EMPTY);
            for signal in [libc::SIGTERM, libc::SIGTERM, signal::LAST] {
                signal::send(witness.pid, signal).unwrap();
            }
            let both = SignalSet::EMPTY.with(libc::SIGTERM).with(signal::LAST);
            assert_eq!(witness.ask().unwrap(), both, "{installed:?}");
            assert_eq!(witness.ask().unwrap(), SignalSet::EMPTY);
            let open = fs::read_dir(format!("/proc/{}/fd", witness.pid)).unwrap();
            assert_eq!(open.count(), 1, "only its end of the socket pair");
        }
    }
}
