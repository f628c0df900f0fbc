//! A program that was started in a sandbox, its output line by line, and how it ended.
//!
//! Its pid is never signalled after it was reaped: reaping and signalling exclude each other by a lock.

use std::fmt;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ExitStatus};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use nix::sys::signal::{Signal, kill, killpg};
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::Pid;

use crate::terminal::Keyboard;
use crate::{Deadline, Processes};

/// Where a line was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
    /// A terminal, which does not tell the two apart.
    Terminal,
}

/// A program that runs, or ran.
pub struct Running {
    pid: i32,
    shown: String,
    shared: Arc<Shared>,
    keyboard: Option<Keyboard>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    lines: Vec<(Source, String)>,
    open_outputs: usize,
    status: Option<ExitStatus>,
}

/// How a program ended and all that it wrote.
#[derive(Debug)]
pub struct Ended {
    /// Its status as its parent saw it.
    pub status: ExitStatus,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

#[expect(
    clippy::return_self_not_must_use,
    reason = "`success` and `exited` are assertions; what they return is there for further ones"
)]
impl Ended {
    /// The exit code, or 128 + the number of the signal that it died by, as a shell shows it.
    pub fn code(&self) -> i32 {
        let signal = self.status.signal().map(|signal| 128 + signal);
        signal.or(self.status.code()).unwrap_or(-1)
    }

    /// Itself, if the exit code is 0.
    ///
    /// # Panics
    /// If not, with all that the program wrote.
    #[track_caller]
    pub fn success(self) -> Self {
        self.exited(0)
    }

    /// Itself, if it exited with this code and was not killed by a signal.
    ///
    /// # Panics
    /// If not, with all that the program wrote.
    #[track_caller]
    pub fn exited(self, code: i32) -> Self {
        assert_eq!(self.status.code(), Some(code), "{self:#?}");
        self
    }

    /// Lines of standard error that come from styxy itself.
    pub fn notices(&self) -> Vec<&str> {
        self.stderr.lines().filter(|line| is_notice(line)).collect()
    }
}

fn is_notice(line: &str) -> bool {
    line.starts_with("styxy: ") || line.contains("STYXY:")
}

impl Running {
    /// Takes over a child whose outputs are `outputs`; `keyboard` is the other end of its terminal.
    pub(crate) fn new(
        child: Child,
        shown: String,
        outputs: Vec<(Source, Box<dyn Read + Send>)>,
        keyboard: Option<Keyboard>,
    ) -> Self {
        let shared = Arc::new(Shared::default());
        shared.lock().open_outputs = outputs.len();
        for (source, output) in outputs {
            let shared = Arc::clone(&shared);
            std::thread::spawn(move || shared.collect(source, output));
        }
        let pid = child.id().cast_signed();
        let reaper = Arc::clone(&shared);
        std::thread::spawn(move || reaper.reap(child));
        Self {
            pid,
            shown,
            shared,
            keyboard,
        }
    }

    /// Its pid, which is also its process group unless it changed that.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// It and all its descendants.
    pub fn tree(&self) -> Processes {
        Processes::tree(self.pid)
    }

    /// Sends it a signal, unless it has ended.
    pub fn signal(&self, signal: Signal) {
        let state = self.shared.lock();
        if state.status.is_none() {
            let _ = kill(Pid::from_raw(self.pid), signal);
        }
    }

    /// Sends a signal to its whole process group, as a terminal's driver does, unless it has ended.
    pub fn signal_group(&self, signal: Signal) {
        let state = self.shared.lock();
        if state.status.is_none() {
            let _ = killpg(Pid::from_raw(self.pid), signal);
        }
    }

    /// Types at its terminal, where `"\x03"` is ^C, or writes into its stdin.
    ///
    /// # Panics
    /// If it has neither.
    pub fn type_keys(&mut self, keys: &str) {
        let keyboard = self.keyboard.as_mut().expect("a terminal or a pipe");
        keyboard.type_keys(keys).expect("type");
    }

    /// Presses ^C at its terminal, or sends what ^C sends to its process group, and waits for its exit.
    ///
    /// Python raises `KeyboardInterrupt` wherever it happens to be; in a finaliser it prints `Exception ignored` and
    /// goes on. Only then is ^C pressed again, as a person would.
    ///
    /// # Panics
    /// When the deadline passes before it has exited.
    #[track_caller]
    pub fn control_c(&mut self, deadline: Deadline) -> ExitStatus {
        for pressed in 1.. {
            match &mut self.keyboard {
                Some(Keyboard::Terminal { .. }) => self.type_keys("\x03"),
                _ => self.signal_group(Signal::SIGINT),
            }
            let status = self.wait(deadline, |state| {
                let swallowed = state
                    .lines
                    .iter()
                    .filter(|(_, line)| line.starts_with("Exception ignored in"))
                    .count();
                let again = (swallowed >= pressed).then_some(None);
                state.status.map(Some).or(again)
            });
            match status {
                Some(Some(status)) => return status,
                Some(None) => {}
                None => break,
            }
        }
        panic!("^C did not end it: {self:?}")
    }

    /// Closes its terminal, as closing the window does: the kernel sends a SIGHUP.
    pub fn hang_up(&mut self) {
        drop(self.keyboard.take());
    }

    /// The first line, of what has been written or will be, that contains `needle`.
    ///
    /// # Panics
    /// When the outputs end or the deadline passes without it.
    #[track_caller]
    pub fn line_with(&self, needle: &str, deadline: Deadline) -> String {
        let found = self.wait(deadline, |state| {
            let line = state.lines.iter().find(|(_, line)| line.contains(needle));
            match line {
                Some((_, line)) => Some(Some(line.clone())),
                None if state.open_outputs == 0 => Some(None),
                None => None,
            }
        });
        match found.flatten() {
            Some(line) => line,
            None => panic!("no line with {needle:?} from {self:?}"),
        }
    }

    /// All that it has written so far.
    pub fn so_far(&self) -> String {
        self.shared.lock().text(|_| true)
    }

    /// Its end, once it has ended and all its outputs are closed, which descendants may keep open.
    ///
    /// # Panics
    /// When the deadline passes before.
    #[must_use = "how it ended is for the test to judge"]
    #[track_caller]
    pub fn end(&self, deadline: Deadline) -> Ended {
        let ended = self.wait(deadline, |state| {
            let status = state.status.filter(|_| state.open_outputs == 0)?;
            Some(state.ended(status))
        });
        ended.unwrap_or_else(|| panic!("did not end: {self:?}"))
    }

    /// Its exit status, once it has ended; descendants may still run.
    ///
    /// # Panics
    /// When the deadline passes before.
    #[track_caller]
    pub fn exit_status(&self, deadline: Deadline) -> ExitStatus {
        let status = self.wait(deadline, |state| state.status);
        status.unwrap_or_else(|| panic!("did not exit: {self:?}"))
    }

    fn wait<T>(&self, deadline: Deadline, answer: impl Fn(&State) -> Option<T>) -> Option<T> {
        let mut state = self.shared.lock();
        loop {
            if let Some(answer) = answer(&state) {
                return Some(answer);
            }
            let left = deadline.left();
            if left.is_zero() {
                return None;
            }
            let woken = self.shared.changed.wait_timeout(state, left);
            state = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl fmt::Debug for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.shared.lock();
        writeln!(f, "`{}` (pid {}, {:?})", self.shown, self.pid, state.status)?;
        for (source, line) in &state.lines {
            writeln!(f, "  {source:?}: {line}")?;
        }
        Ok(())
    }
}

impl State {
    fn text(&self, wanted: impl Fn(Source) -> bool) -> String {
        let lines = self.lines.iter().filter(|(source, _)| wanted(*source));
        lines.flat_map(|(_, line)| [line.as_str(), "\n"]).collect()
    }

    fn ended(&self, status: ExitStatus) -> Ended {
        Ended {
            status,
            stdout: self.text(|source| source != Source::Stderr),
            stderr: self.text(|source| source == Source::Stderr),
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.lock());
        self.changed.notify_all();
    }

    fn collect(&self, source: Source, output: Box<dyn Read + Send>) {
        let mut output = BufReader::new(output);
        let mut line = Vec::new();
        // A terminal whose last user has gone reads as an error, which ends it like an end of file.
        while let Ok(length) = output.read_until(b'\n', &mut line)
            && length > 0
        {
            let text = String::from_utf8_lossy(&line);
            let text = text.trim_end_matches(['\r', '\n']).to_owned();
            self.change(|state| state.lines.push((source, text)));
            line.clear();
        }
        self.change(|state| state.open_outputs -= 1);
    }

    fn reap(&self, mut child: Child) {
        let pid = Pid::from_raw(child.id().cast_signed());
        let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT;
        while waitid(Id::Pid(pid), flags) == Err(nix::errno::Errno::EINTR) {}
        self.change(|state| state.status = child.wait().ok());
    }
}
