//! One connection to a Unix socket: a request out, everything until its end in, within a time.
//!
//! Invariant: no call blocks for longer than the patience that it is given.

use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, UnixAddr, connect, getsockopt, setsockopt, socket, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike as _};
use nix::unistd::Pid;

use crate::sys::process::PidFd;

/// After so long without an answer, and again and again, look whether whoever should answer can do so at all.
const FIRST_LOOK: Duration = Duration::from_millis(10);
const NEXT_LOOK: Duration = Duration::from_millis(100);
/// No answer is larger, in bytes: the list of ten thousand leases fits.
const ANSWER_LIMIT: usize = 16 << 20;

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum Failure {
    /// Nobody listens, or whoever did ended before the first byte of an answer.
    Absent(io::Error),
    /// The peer is there and its time is up.
    Silent,
    /// The peer is this process, and it is stopped.
    Stopped(u32),
    /// Anything else.
    Io(io::Error),
}

/// A connection on which a request has been sent.
#[derive(Debug)]
pub(super) struct Exchange {
    stream: UnixStream,
    deadline: Instant,
}

/// Sends the request, whose answer there is this much patience for.
pub(super) fn send(path: &Path, request: &[u8], patience: Duration) -> Result<Exchange, Failure> {
    let deadline = now() + patience;
    let mut stream = open(path, patience)?;
    stream.write_all(request).map_err(Failure::from)?;
    Ok(Exchange { stream, deadline })
}

impl Exchange {
    /// The answer: what its head promises, or everything until the peer closes.
    pub(super) fn answer(mut self) -> Result<Vec<u8>, Failure> {
        let mut answer = Vec::new();
        let mut look = FIRST_LOOK;
        let mut buffer = [0; 4096];
        loop {
            if !is_readable(&self.stream, self.deadline, look)? {
                look = NEXT_LOOK;
                continue;
            }
            match self.stream.read(&mut buffer) {
                Ok(0) if answer.is_empty() => {
                    return Err(Failure::Absent(io::ErrorKind::UnexpectedEof.into()));
                }
                Ok(0) => return Ok(answer),
                Ok(read) => {
                    answer.extend_from_slice(&buffer[..read]);
                    // The peer closes the connection too, but may have other things to do first.
                    if is_whole(&answer) {
                        return Ok(answer);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
            if answer.len() > ANSWER_LIMIT {
                return Err(Failure::Io(io::ErrorKind::FileTooLarge.into()));
            }
        }
    }
}

/// Whether an answer has as much of a body as its head promises.
fn is_whole(answer: &[u8]) -> bool {
    let Some(head_end) = answer.windows(4).position(|window| window == b"\r\n\r\n") else {
        return false;
    };
    let head = String::from_utf8_lossy(&answer[..head_end]);
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        let value = name
            .eq_ignore_ascii_case("content-length")
            .then_some(value)?;
        value.trim().parse::<usize>().ok()
    });
    length.is_some_and(|length| answer.len() - head_end - 4 >= length)
}

/// A connection to the socket at `path`. `patience` is also that of every write on it.
pub(super) fn open(path: &Path, patience: Duration) -> Result<UnixStream, Failure> {
    let open = || -> nix::Result<UnixStream> {
        let fd = socket(
            AddressFamily::Unix,
            SockType::Stream,
            SockFlag::SOCK_CLOEXEC,
            None,
        )?;
        // Set before connecting, which waits as well when too many are waiting already (unix(7)).
        let millis = i64::try_from(patience.as_millis()).unwrap_or(i64::MAX);
        setsockopt(&fd, sockopt::SendTimeout, &TimeVal::milliseconds(millis))?;
        connect(fd.as_raw_fd(), &UnixAddr::new(path)?)?;
        Ok(UnixStream::from(fd))
    };
    open().map_err(|errno| io::Error::from(errno).into())
}

/// The process at the other end, as this process counts pids; `None` where it is in another pid namespace.
pub(super) fn peer(stream: &UnixStream) -> Option<u32> {
    let credentials = getsockopt(stream, sockopt::PeerCredentials).ok()?;
    u32::try_from(credentials.pid()).ok().filter(|&pid| pid > 0)
}

/// Whether there is something to read before `look` has passed. The deadline and a stopped peer are failures.
fn is_readable(stream: &UnixStream, deadline: Instant, look: Duration) -> Result<bool, Failure> {
    let left = deadline.saturating_duration_since(now());
    let timeout = PollTimeout::try_from(look.min(left)).unwrap_or(PollTimeout::ZERO);
    let mut polled = [PollFd::new(stream.as_fd(), PollFlags::POLLIN)];
    match poll(&mut polled, timeout) {
        Ok(0) => {}
        Ok(_) => return Ok(true),
        Err(Errno::EINTR) => return Ok(false),
        Err(errno) => return Err(Failure::Io(errno.into())),
    }
    match peer(stream) {
        Some(pid) if is_stopped(pid) => Err(Failure::Stopped(pid)),
        _ if left.is_zero() => Err(Failure::Silent),
        _ => Ok(false),
    }
}

fn is_stopped(pid: u32) -> bool {
    PidFd::open(Pid::from_raw(pid.cast_signed())).is_ok_and(|process| process.is_stopped())
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            // The last one: a time-out of SO_SNDTIMEO.
            io::ErrorKind::WouldBlock => Self::Silent,
            io::ErrorKind::NotFound
            | io::ErrorKind::NotADirectory
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::BrokenPipe => Self::Absent(error),
            _ => Self::Io(error),
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "a shell that waits for another process needs a clock"
)]
fn now() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_whole_when_the_promised_body_is_there() {
        for (answer, whole) in [
            ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", true),
            ("HTTP/1.1 200 OK\r\ncontent-length:0\r\n\r\n", true),
            ("HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\n{}", false),
            ("HTTP/1.1 200 OK\r\ncontent-length: 3\r\n", false),
            ("HTTP/1.1 200 OK\r\n\r\n{}", false),
            ("", false),
        ] {
            assert_eq!(is_whole(answer.as_bytes()), whole, "{answer:?}");
        }
    }
}
