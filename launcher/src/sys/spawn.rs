//! Fork and exec: the child gets back exactly what the launcher was given, then becomes the command.
//!
//! Invariant: between fork and exec the child only makes system calls on memory that was laid out before the fork.
#![expect(
    unsafe_code,
    reason = "fork, execve and descriptor calls in the forked child"
)]

use std::ffi::{CString, OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::ptr;

use nix::unistd::{ForkResult, Pid, getppid};

use super::inherited::Inherited;
use super::signal::{self, Disposition, SignalSet};

/// Where `execvp` looks when there is no `PATH` (confstr(3), `_CS_PATH`).
const DEFAULT_PATH: &[u8] = b"/bin:/usr/bin";

/// What runs a script that names no interpreter, as `execvp` has it (`_PATH_BSHELL`).
const SHELL: &std::ffi::CStr = c"/bin/sh";

/// A command, laid out for execve so that nothing is left to allocate after the fork.
pub(crate) struct Image {
    /// The files to try, in the order of `PATH`.
    files: Vec<CString>,
    /// Whether the files come from a search, so that one that is missing is no error yet.
    searched: bool,
    argv: StringTable,
    env: StringTable,
    /// `/bin/sh`, a place for the file, and the arguments.
    shell_argv: StringTable,
}

impl Image {
    /// Fails with `EINVAL` for text that holds a NUL byte, and with `ENOENT` if there is no program name.
    pub(crate) fn new(argv: &[OsString], env: &[(OsString, OsString)]) -> io::Result<Self> {
        let name = argv.first().filter(|name| !name.is_empty());
        let name = name.ok_or_else(|| io::Error::from_raw_os_error(libc::ENOENT))?;
        let path = env
            .iter()
            .find(|(key, _)| key == "PATH")
            .map(|(_, value)| value.as_os_str());
        let searched = !name.as_bytes().contains(&b'/');
        let argv = strings(argv.iter().map(|argument| argument.as_bytes().to_vec()))?;
        let env = strings(
            env.iter()
                .map(|(key, value)| [key.as_bytes(), b"=", value.as_bytes()].concat()),
        )?;
        let shell_argv = [SHELL.to_owned(), CString::default()]
            .into_iter()
            .chain(argv.iter().skip(1).cloned());
        Ok(Self {
            files: strings(candidates(name, path).into_iter())?,
            searched,
            shell_argv: StringTable::new(shell_argv.collect()),
            argv: StringTable::new(argv),
            env: StringTable::new(env),
        })
    }

    /// Becomes the command. Returns the errno of the failure, chosen as `execvp` chooses it: a file that may not be executed
    /// counts only if no later one on `PATH` can be.
    fn exec(&mut self) -> i32 {
        let mut failure = None;
        for file in &self.files {
            let mut errno = execve(file.as_ptr(), &self.argv, &self.env);
            if errno == libc::ENOEXEC {
                self.shell_argv.pointers[1] = file.as_ptr();
                errno = execve(SHELL.as_ptr(), &self.shell_argv, &self.env);
            }
            match errno {
                libc::EACCES => failure = Some(errno),
                // Not here: the next entry of PATH may have it.
                libc::ENOENT | libc::ENOTDIR | libc::ESTALE | libc::ENODEV | libc::ETIMEDOUT
                    if self.searched => {}
                other => return other,
            }
        }
        failure.unwrap_or(libc::ENOENT)
    }
}

/// Starts the command in a child. All signals must be blocked and the caller must be the main thread, because
/// `PR_SET_PDEATHSIG` fires when the forking *thread* ends.
pub(crate) fn fork_exec(image: &mut Image, given: &Inherited) -> io::Result<(Pid, ExecReport)> {
    let (read, write) = pipe()?;
    let launcher = Pid::this();
    // SAFETY: the child only makes async-signal-safe calls on memory that is laid out already, and ends in exec or `_exit`.
    match unsafe { nix::unistd::fork() }? {
        ForkResult::Parent { child } => Ok((child, ExecReport { pipe: read })),
        ForkResult::Child => {
            die_with_parent(launcher);
            restore(given);
            report_and_exit(write.as_raw_fd(), image.exec())
        }
    }
}

/// Becomes the command in this very process. Returns the errno of the failure.
pub(crate) fn exec(image: &mut Image, given: &Inherited) -> io::Error {
    restore(given);
    io::Error::from_raw_os_error(image.exec())
}

/// The reading end of the pipe on which the child says why it could not exec; closed by a successful exec.
#[derive(Debug)]
pub(crate) struct ExecReport {
    pipe: OwnedFd,
}

impl ExecReport {
    /// The errno of the failed exec, or nothing if it worked (or the child died before it came that far). Call it when the pipe is readable.
    pub(crate) fn read(self) -> Option<io::Error> {
        let mut errno = [0; size_of::<i32>()];
        let got = nix::unistd::read(&self.pipe, &mut errno);
        (got == Ok(errno.len())).then(|| io::Error::from_raw_os_error(i32::from_ne_bytes(errno)))
    }
}

impl AsFd for ExecReport {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pipe.as_fd()
    }
}

/// A close-on-exec pipe with both ends above the standard descriptors.
fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let (read, write) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC)?;
    Ok((above_standard(read)?, above_standard(write)?))
}

/// Moves a descriptor out of 0-2, where the child would take it for its own.
pub(crate) fn above_standard(fd: OwnedFd) -> io::Result<OwnedFd> {
    if fd.as_raw_fd() > libc::STDERR_FILENO {
        return Ok(fd);
    }
    let moved = nix::fcntl::fcntl(
        &fd,
        nix::fcntl::FcntlArg::F_DUPFD_CLOEXEC(libc::STDERR_FILENO + 1),
    )?;
    // SAFETY: the kernel has just made this descriptor for us and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(moved) })
}

/// Asks for `SIGTERM` when the launcher is gone, even if it went before we could ask.
fn die_with_parent(launcher: Pid) {
    let armed = nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGTERM);
    if armed.is_ok() && getppid() != launcher {
        // Blocked until the mask is restored, so the command meets it as it would have met the real one.
        let _ = signal::send(Pid::this(), libc::SIGTERM);
    }
}

/// Gives back what the runtime and the supervisor changed: dispositions, closed standard descriptors, and the mask last.
fn restore(given: &Inherited) {
    for number in 1..=signal::LAST {
        let disposition = if given.ignored.contains(number) {
            Disposition::Ignore
        } else {
            Disposition::Default
        };
        signal::set_disposition(number, disposition);
    }
    for (fd, _) in (0..).zip(given.closed).filter(|(_, closed)| *closed) {
        close(fd);
    }
    signal::set_mask(given.blocked);
}

fn close(fd: RawFd) {
    // SAFETY: a standard descriptor that only the runtime's start has opened; nothing of ours owns it.
    unsafe {
        libc::close(fd);
    }
}

fn report_and_exit(pipe: RawFd, errno: i32) -> ! {
    let bytes = errno.to_ne_bytes();
    // Past this point a TERM would be told as the command's death, though the command never ran.
    signal::set_mask(SignalSet::all());
    // SAFETY: the buffer is live and its length is passed; the parent holds the other end.
    unsafe {
        libc::write(pipe, bytes.as_ptr().cast(), bytes.len());
    }
    // SAFETY: ends the forked child without running the launcher's exit handlers.
    unsafe { libc::_exit(127) }
}

/// One execve; returns only if it failed, with the errno.
fn execve(file: *const libc::c_char, argv: &StringTable, env: &StringTable) -> i32 {
    // SAFETY: the file and both tables are NUL-terminated strings and null-terminated arrays that outlive the call.
    unsafe {
        libc::execve(file, argv.pointers.as_ptr(), env.pointers.as_ptr());
    }
    io::Error::last_os_error()
        .raw_os_error()
        .unwrap_or(libc::ENOEXEC)
}

/// Strings with the null-terminated array of pointers to them that execve wants.
struct StringTable {
    pointers: Vec<*const libc::c_char>,
    /// Owns what the pointers name; a `CString`'s text stays where it is when the vector moves.
    _strings: Vec<CString>,
}

impl StringTable {
    fn new(strings: Vec<CString>) -> Self {
        let pointers = strings
            .iter()
            .map(|text| text.as_ptr())
            .chain([ptr::null()])
            .collect();
        Self {
            pointers,
            _strings: strings,
        }
    }
}

fn strings(texts: impl Iterator<Item = Vec<u8>>) -> io::Result<Vec<CString>> {
    texts
        .map(|text| CString::new(text).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL)))
        .collect()
}

/// The files that a name may mean. A name with a slash is a file; any other is looked for along `PATH`, where an empty entry is
/// the working directory.
fn candidates(name: &OsStr, path: Option<&OsStr>) -> Vec<Vec<u8>> {
    let name = name.as_bytes();
    if name.contains(&b'/') {
        return vec![name.to_vec()];
    }
    let path = path.map_or(DEFAULT_PATH, OsStr::as_bytes);
    path.split(|&byte| byte == b':')
        .map(|dir| match dir {
            b"" => name.to_vec(),
            dir => [dir, b"/", name].concat(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(name: &str, path: Option<&str>) -> Vec<String> {
        let files = candidates(OsStr::new(name), path.map(OsStr::new));
        files
            .into_iter()
            .map(|file| String::from_utf8(file).unwrap())
            .collect()
    }

    #[test]
    fn names_are_looked_for_as_execvp_does() {
        assert_eq!(found("./x", Some("/a:/b")), ["./x"]);
        assert_eq!(found("x", Some("/a:/b")), ["/a/x", "/b/x"]);
        assert_eq!(
            found("x", Some("/a::")),
            ["/a/x", "x", "x"],
            "an empty entry is the working directory"
        );
        assert_eq!(found("x", None), ["/bin/x", "/usr/bin/x"]);
    }

    #[test]
    fn a_nul_byte_is_an_error_and_not_a_shorter_argument() {
        let error = Image::new(&["a\0b".into()], &[]).err();
        assert_eq!(
            error.and_then(|error| error.raw_os_error()),
            Some(libc::EINVAL)
        );
    }

    #[test]
    fn no_name_is_no_program() {
        for argv in [vec![], vec![OsString::new()]] {
            let error = Image::new(&argv, &[]).err();
            assert_eq!(
                error.and_then(|error| error.raw_os_error()),
                Some(libc::ENOENT)
            );
        }
    }
}
