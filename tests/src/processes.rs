//! Processes as the kernel tells them apart: by pid and start time, so that a reused pid is somebody else.
//!
//! A zombie counts as gone: it runs nothing and holds nothing, and who reaps it is the business of its parent.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::{Deadline, eventually};

/// One process, for as long as it lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ProcessId {
    /// Its pid.
    pub pid: i32,
    /// Field 22 of proc(5) stat: clock ticks from boot to its start.
    start_time: u64,
}

/// What `/proc/PID/stat` says that is of interest here.
struct Stat {
    state: char,
    parent: i32,
    start_time: u64,
}

impl ProcessId {
    /// The living process with this pid.
    pub fn of(pid: i32) -> Option<Self> {
        let stat = Stat::of(pid)?;
        stat.lives().then_some(Self {
            pid,
            start_time: stat.start_time,
        })
    }

    /// Whether it still runs.
    pub fn lives(&self) -> bool {
        Self::of(self.pid) == Some(*self)
    }

    /// Whether it has one thread, and that one waits for something.
    pub fn is_at_rest(&self) -> bool {
        let threads = std::fs::read_dir(format!("/proc/{}/task", self.pid));
        let is_alone = threads.is_ok_and(|threads| threads.count() == 1);
        is_alone && Stat::of(self.pid).is_some_and(|stat| stat.state == 'S')
    }

    /// Its command line, with spaces between the arguments.
    pub fn command_line(&self) -> String {
        let line = std::fs::read(format!("/proc/{}/cmdline", self.pid)).unwrap_or_default();
        String::from_utf8_lossy(&line)
            .replace('\0', " ")
            .trim_end()
            .to_owned()
    }

    /// Sends a signal to it, unless it is gone.
    pub fn signal(&self, signal: Signal) {
        if self.lives() {
            let _ = kill(Pid::from_raw(self.pid), signal);
        }
    }
}

impl Stat {
    fn of(pid: i32) -> Option<Self> {
        let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name, field 2, is in parentheses and may hold anything, so fields count from the last one.
        let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
        Some(Self {
            state: fields.first()?.chars().next()?,
            parent: fields.get(1)?.parse().ok()?,
            start_time: fields.get(19)?.parse().ok()?,
        })
    }

    fn lives(&self) -> bool {
        !matches!(self.state, 'Z' | 'X')
    }
}

/// A set of processes.
#[derive(Clone, Default, PartialEq, Eq)]
#[must_use]
pub struct Processes(BTreeSet<ProcessId>);

impl Processes {
    /// Every living process of the machine that `belongs`.
    pub(crate) fn of_machine(belongs: impl Fn(i32) -> bool) -> Self {
        let pids = std::fs::read_dir("/proc")
            .into_iter()
            .flatten()
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
        Self(
            pids.filter(|pid| belongs(*pid))
                .filter_map(ProcessId::of)
                .collect(),
        )
    }

    /// The process with this pid and all its descendants.
    pub fn tree(root: i32) -> Self {
        let everybody: Vec<(i32, i32)> = Self::of_machine(|_| true)
            .0
            .iter()
            .filter_map(|process| Some((process.pid, Stat::of(process.pid)?.parent)))
            .collect();
        let mut pids = vec![root];
        let mut next = 0;
        while let Some(&parent) = pids.get(next) {
            pids.extend(
                everybody
                    .iter()
                    .filter(|(_, of)| *of == parent)
                    .map(|(pid, _)| *pid),
            );
            next += 1;
        }
        Self(pids.into_iter().filter_map(ProcessId::of).collect())
    }

    /// Those of them for which `keep` is true.
    pub fn filter(&self, keep: impl Fn(&ProcessId) -> bool) -> Self {
        Self(
            self.iter()
                .copied()
                .filter(|process| keep(process))
                .collect(),
        )
    }

    /// How many there are, dead or alive.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// One after the other, by pid.
    pub fn iter(&self) -> impl Iterator<Item = &ProcessId> {
        self.0.iter()
    }

    /// Waits until the last one is gone; the time that it took.
    ///
    /// # Panics
    /// When some still live at the deadline, with their command lines.
    pub fn wait_gone(&self, deadline: Deadline) -> Duration {
        let gone = eventually(deadline, || {
            (!self.iter().any(ProcessId::lives)).then(|| deadline.elapsed())
        });
        gone.unwrap_or_else(|| {
            let left = self.filter(ProcessId::lives);
            panic!("still alive: {left:?}")
        })
    }
}

impl fmt::Debug for Processes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines = self
            .iter()
            .map(|p| format!("{} {}", p.pid, p.command_line()));
        f.debug_list().entries(lines).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    #[test]
    fn a_tree_is_the_process_and_all_below_it_and_is_gone_when_all_are() {
        let mut shell = Command::new("sh")
            .args(["-c", "sleep 1000 & sleep 1000 & wait"])
            .stdin(Stdio::null())
            .spawn()
            .expect("sh");
        let pid = shell.id().cast_signed();
        let tree = eventually(Deadline::short(), || {
            Some(Processes::tree(pid)).filter(|tree| tree.len() == 3)
        })
        .expect("three processes");
        for process in tree.iter() {
            process.signal(Signal::SIGKILL);
        }
        shell.wait().expect("wait");
        tree.wait_gone(Deadline::short());
        assert!(Processes::tree(pid).is_empty());
    }
}
