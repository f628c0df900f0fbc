//! Running commands in tests: output read with a deadline, processes ended by pid.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout};
use nix::unistd::Pid;

/// How long anything may take before the test fails; only a hang takes so long.
const PATIENCE: Duration = Duration::from_mins(1);

/// The signal that a probe ends on. Signals are taken by number, the lowest first, so both are higher than any under test.
pub(super) const END: i32 = 63;
/// The signal that tests use as a fence.
pub(super) const FENCE: i32 = 64;

/// How a command ended, as its parent sees it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Outcome {
    pub(super) code: Option<i32>,
    pub(super) signal: Option<i32>,
    pub(super) stdout: String,
    pub(super) stderr: String,
}

/// Runs a command to its end.
pub(super) fn outcome(mut command: Command, stdin: &[u8]) -> Outcome {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the front can be started");
    let mut pipe = child.stdin.take().expect("a pipe");
    std::thread::scope(|scope| {
        // A command that does not read its stdin closes it at some point of the writing.
        scope.spawn(move || drop(pipe.write_all(stdin)));
        let output = child.wait_with_output().expect("it can be waited for");
        Outcome {
            code: output.status.code(),
            signal: output.status.signal(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    })
}

/// A running command whose stdout the test reads. Killed with its process group when the test is done with it.
#[derive(Debug)]
pub(super) struct Running {
    child: Child,
    output: Lines,
}

impl Running {
    /// Starts it in a process group of its own.
    pub(super) fn start(mut command: Command) -> Self {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .process_group(0)
            .spawn()
            .expect("the front can be started");
        let output = Lines::new(child.stdout.take().expect("a pipe").into());
        Self { child, output }
    }

    pub(super) fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).expect("a pid"))
    }

    pub(super) fn line(&mut self) -> String {
        self.output.line()
    }

    /// The lines up to and without this one.
    pub(super) fn lines_before(&mut self, last: &str) -> Vec<String> {
        std::iter::from_fn(|| Some(self.line()).filter(|line| line != last)).collect()
    }

    pub(super) fn ready(&mut self) -> Ready {
        Ready::parse(&self.line())
    }

    pub(super) fn signal(&self, signal: i32) {
        send(self.pid(), signal);
    }

    pub(super) fn signal_group(&self, signal: i32) {
        send(Pid::from_raw(-self.pid().as_raw()), signal);
    }

    /// Waits for its end: code and signal.
    pub(super) fn end(&mut self) -> (Option<i32>, Option<i32>) {
        let status = wait_with_deadline(&mut self.child);
        (status.code(), status.signal())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // The number stays taken as long as the leader is not reaped or somebody is in its group; an error is an empty group.
        let group = Pid::from_raw(-self.pid().as_raw());
        let _ = nix::sys::signal::kill(group, nix::sys::signal::Signal::SIGKILL);
        drop(self.child.wait());
    }
}

/// The first line of a probe.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ready {
    pub(super) pid: Pid,
    pub(super) parent: Pid,
}

impl Ready {
    pub(super) fn parse(line: &str) -> Self {
        let mut words = line.split_ascii_whitespace();
        assert_eq!(
            words.next(),
            Some("ready"),
            "the probe's first line is {line:?}"
        );
        let mut pid = || {
            Pid::from_raw(
                words
                    .next()
                    .and_then(|word| word.parse().ok())
                    .expect("a pid"),
            )
        };
        Self {
            pid: pid(),
            parent: pid(),
        }
    }

    /// The process that the user sees as the command: the wrapper if there is one.
    pub(super) fn job(self, front: &super::Front) -> Pid {
        if front.wraps() { self.parent } else { self.pid }
    }
}

/// Lines from a descriptor, each waited for with a deadline.
#[derive(Debug)]
pub(super) struct Lines {
    source: File,
    buffer: Vec<u8>,
}

impl Lines {
    pub(super) fn new(source: OwnedFd) -> Self {
        Self {
            source: File::from(source),
            buffer: Vec::new(),
        }
    }

    pub(super) fn line(&mut self) -> String {
        let line = self.until("\n");
        line.trim_end_matches(['\r', '\n']).to_owned()
    }

    /// Everything up to and with this text.
    pub(super) fn until(&mut self, text: &str) -> String {
        let deadline = now() + PATIENCE;
        loop {
            if let Some(at) = find(&self.buffer, text.as_bytes()) {
                let rest = self.buffer.split_off(at + text.len());
                let taken = std::mem::replace(&mut self.buffer, rest);
                return String::from_utf8_lossy(&taken).into_owned();
            }
            let mut source = [PollFd::new(self.source.as_fd(), PollFlags::POLLIN)];
            let left = PollTimeout::try_from(deadline.saturating_duration_since(now()))
                .expect("a minute fits");
            let so_far = String::from_utf8_lossy(&self.buffer);
            assert_ne!(
                nix::poll::poll(&mut source, left),
                Ok(0),
                "no {text:?} came, only {so_far:?}"
            );
            let mut chunk = [0; 4096];
            let got = self.source.read(&mut chunk).unwrap_or(0);
            assert_ne!(got, 0, "the output ended before {text:?}: {so_far:?}");
            self.buffer.extend_from_slice(&chunk[..got]);
        }
    }
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack
        .windows(needle.len())
        .position(|window| window == needle)
}

/// Sends a signal; real-time ones too, which nix does not know.
pub(super) fn send(pid: Pid, signal: i32) {
    let status = Command::new("/bin/kill")
        .arg(format!("-{signal}"))
        .arg("--")
        .arg(pid.to_string())
        .status();
    assert!(
        status.is_ok_and(|status| status.success()),
        "signal {signal} to {pid}"
    );
}

/// Polls across processes, which nothing announces, until there is an answer.
pub(super) fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = now() + PATIENCE;
    loop {
        if let Some(answer) = look() {
            return answer;
        }
        assert!(now() < deadline, "waited in vain for {what}");
        nix::poll::poll(&mut [], 5_u8).expect("no descriptors, only a pause between two looks");
    }
}

/// Waits until a file has this line, and returns all its lines before.
pub(super) fn log_before(log: &Path, last: &str) -> Vec<String> {
    eventually(last, || {
        let text = std::fs::read_to_string(log).ok()?;
        let lines: Vec<String> = text.lines().map(str::to_owned).collect();
        let end = lines.iter().position(|line| line == last)?;
        Some(lines[..end].to_vec())
    })
}

/// The state letter of a process in `/proc/PID/stat`, or nothing if it is gone.
pub(super) fn state(pid: Pid) -> Option<char> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit(") ").next()?.chars().next()
}

/// The children of a process's main thread.
pub(super) fn children(parent: Pid) -> Vec<Pid> {
    let list = std::fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).unwrap();
    list.split_ascii_whitespace()
        .map(|pid| Pid::from_raw(pid.parse().unwrap()))
        .collect()
}

/// Waits until a process is gone or a zombie that nobody reaps.
pub(super) fn gone(pid: Pid) {
    eventually(&format!("the end of {pid}"), || {
        matches!(state(pid), None | Some('Z')).then_some(())
    });
}

pub(super) fn wait_with_deadline(child: &mut Child) -> ExitStatus {
    eventually("the end of the command", || {
        child.try_wait().expect("it can be waited for")
    })
}

#[expect(
    clippy::disallowed_methods,
    reason = "deadlines of waits on other processes"
)]
fn now() -> Instant {
    Instant::now()
}
