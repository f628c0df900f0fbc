//! What the supervisor does about what happens: pure, synchronous, without a process or a clock.
//!
//! Invariant: the child gets each signal exactly as often as it would have got it without a launcher in front. It shares the launcher's
//! process group, so what the terminal sends to the group has reached it already; what was sent to the launcher alone has not.

use std::time::{Duration, Instant};

use super::ExitReason;
use crate::sys::signal::SignalSet;

/// How often the ports are looked at again while a tree stop waits for them.
///
/// A server that closes its socket and lives on to drain connections tells nobody, so this one wait has to look.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Event {
    /// The launcher got a signal.
    Signal { signal: i32, origin: Origin },
    /// The child stopped, by this signal.
    Stopped(i32),
    /// The child runs again.
    Continued,
    /// The child is gone.
    Ended(ExitReason),
    /// Another descendant that had become a child of the launcher is gone.
    OrphanEnded,
    /// The launcher was stopped by `StopSelf` and runs again.
    Woken,
    /// The answer to `LookForHolders`.
    Holders(Holders),
    /// The deadline has passed.
    Deadline,
}

/// Who sent a signal to the launcher, as far as it matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    /// The terminal driver or another part of the kernel.
    Kernel,
    /// The child itself, for example by `kill 0`.
    Child,
    /// A process, to the launcher alone (or nobody can tell).
    Process,
    /// A process, to the whole process group: the child has its own copy.
    ProcessToGroup,
}

/// Whether descendants still hold a port of the lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Holders {
    Gone,
    Remain,
}

/// What to do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    /// Send the signal of the event on to the child.
    Forward,
    /// Wake the child.
    ContinueChild,
    /// Stop the launcher as the child was stopped, so that the shell sees a stopped job; then `Event::Woken`.
    StopSelf(i32),
    /// Send a signal to descendants of the session other than the child, and wake them.
    SignalTree { signal: i32, to: Whom },
    /// Find out whether descendants still hold a port of the lease; then `Event::Holders`.
    LookForHolders,
    /// Kill whatever descendant holds a port of the lease.
    KillHolders,
    /// The run is over.
    Leave(ExitReason),
}

/// Which descendants a tree stop signals.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Whom {
    /// All of them.
    Everyone,
    /// The ones outside the launcher's process group: the others have had it.
    OtherGroups,
    /// The ones that were born since.
    Newcomers,
}

/// What the launcher was given and that decides how it treats signals.
#[derive(Debug, Clone, Copy)]
pub(super) struct Standing {
    /// Signals that the launcher inherited as ignored (`nohup`, background jobs of `sh`).
    pub(super) ignored: SignalSet,
    /// Whether the launcher leads its session, so that a hang-up reaches it and nobody else.
    pub(super) leads_session: bool,
    /// How long a tree stop waits before it kills.
    pub(super) grace: Duration,
}

/// The state of a supervised run.
#[derive(Debug)]
pub(super) struct Policy {
    standing: Standing,
    child: Child,
    /// A `SIGCONT` that has been dealt with by what it did to the child, and whose own delivery is still to come.
    cont_answered: bool,
    /// The child was woken by us; its `Continued` says nothing about anybody else.
    cont_ours: bool,
    tree_stop: Option<TreeStop>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Child {
    Running,
    Stopped,
    Ended(ExitReason),
}

/// A terminating signal was passed on, and the tree has until the deadline to give up its ports.
#[derive(Debug, Clone, Copy)]
struct TreeStop {
    signal: i32,
    deadline: Instant,
    /// When to look at the ports next, once the child has ended.
    look: Option<Instant>,
}

impl Policy {
    pub(super) fn new(standing: Standing) -> Self {
        Self {
            standing,
            child: Child::Running,
            cont_answered: false,
            cont_ours: false,
            tree_stop: None,
        }
    }

    /// When to come back with `Event::Deadline`; nothing at rest.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let stop = self.tree_stop?;
        Some(
            stop.look
                .map_or(stop.deadline, |look| look.min(stop.deadline)),
        )
    }

    /// Takes in one event and says what to do, in order.
    pub(super) fn step(&mut self, event: Event, now: Instant) -> Vec<Action> {
        match event {
            Event::Signal { signal, origin } => self.signalled(signal, origin, now),
            Event::Stopped(signal) => self.stopped(signal),
            Event::Continued => self.continued(),
            Event::Woken => self.woken(),
            Event::Ended(reason) => self.ended(reason),
            Event::OrphanEnded => self.orphan_ended(),
            Event::Holders(holders) => self.looked(holders, now),
            Event::Deadline => self.late(now),
        }
    }

    fn signalled(&mut self, signal: i32, origin: Origin, now: Instant) -> Vec<Action> {
        if let Child::Ended(reason) = self.child {
            // Only a tree stop keeps the launcher here. Whoever asks again wants it over.
            return if origin != Origin::Child && is_terminating(signal) {
                self.give_up(reason)
            } else {
                Vec::new()
            };
        }
        match origin {
            Origin::Child => Vec::new(),
            Origin::Kernel => self.kernel_made(signal),
            Origin::Process if signal == libc::SIGCONT => self.cont(),
            Origin::Process => {
                let mut actions = vec![Action::Forward];
                actions.extend(self.stop_tree(signal, Whom::Everyone, now));
                actions
            }
            Origin::ProcessToGroup => {
                if signal == libc::SIGCONT {
                    self.cont_answered = false;
                }
                self.stop_tree(signal, Whom::OtherGroups, now)
            }
        }
    }

    /// The terminal's signals reach the whole foreground group. A hang-up is the exception: its `SIGHUP` and the `SIGCONT` that follows go
    /// to the session's leader alone.
    /// What else the kernel makes (alarm clocks) is meant for one process, which without a launcher would be the child.
    fn kernel_made(&mut self, signal: i32) -> Vec<Action> {
        match signal {
            libc::SIGHUP if self.standing.leads_session => vec![Action::Forward],
            libc::SIGCONT if self.standing.leads_session => self.cont(),
            libc::SIGALRM | libc::SIGVTALRM | libc::SIGPROF => vec![Action::Forward],
            _ => Vec::new(),
        }
    }

    fn cont(&mut self) -> Vec<Action> {
        match self.child {
            Child::Stopped => self.wake_child(),
            _ if std::mem::take(&mut self.cont_answered) => Vec::new(),
            _ => vec![Action::Forward],
        }
    }

    fn stop_tree(&mut self, signal: i32, to: Whom, now: Instant) -> Vec<Action> {
        if !is_terminating(signal) || self.standing.ignored.contains(signal) {
            return Vec::new();
        }
        let (mut meant, mut deadline) = (signal, now + self.standing.grace);
        if let Some(earlier) = self.tree_stop {
            // A second request buys no time, and does not take a `SIGTERM` back.
            deadline = deadline.min(earlier.deadline);
            if earlier.signal == libc::SIGTERM {
                meant = earlier.signal;
            }
        }
        self.tree_stop = Some(TreeStop {
            signal: meant,
            deadline,
            look: None,
        });
        let mut actions = vec![Action::SignalTree { signal, to }];
        if self.child == Child::Stopped {
            actions.extend(self.wake_child());
        }
        actions
    }

    fn stopped(&mut self, signal: i32) -> Vec<Action> {
        self.child = Child::Stopped;
        self.cont_answered = false;
        self.cont_ours = false;
        vec![Action::StopSelf(signal)]
    }

    fn continued(&mut self) -> Vec<Action> {
        self.child = Child::Running;
        // Somebody woke the child. If it was the group, the launcher's own copy comes next and is no news.
        self.cont_answered |= !std::mem::take(&mut self.cont_ours);
        Vec::new()
    }

    fn woken(&mut self) -> Vec<Action> {
        // The signal that woke the launcher is still to be taken.
        let actions = if self.child == Child::Stopped {
            self.wake_child()
        } else {
            Vec::new()
        };
        self.cont_answered = true;
        actions
    }

    fn wake_child(&mut self) -> Vec<Action> {
        self.child = Child::Running;
        self.cont_ours = true;
        vec![Action::ContinueChild]
    }

    fn ended(&mut self, reason: ExitReason) -> Vec<Action> {
        self.child = Child::Ended(reason);
        let Some(stop) = self.tree_stop else {
            // It ended by itself: what it leaves running is the user's.
            return vec![Action::Leave(reason)];
        };
        vec![
            Action::SignalTree {
                signal: stop.signal,
                to: Whom::Newcomers,
            },
            Action::LookForHolders,
        ]
    }

    fn orphan_ended(&self) -> Vec<Action> {
        match (self.child, self.tree_stop) {
            (Child::Ended(_), Some(_)) => vec![Action::LookForHolders],
            _ => Vec::new(),
        }
    }

    fn looked(&mut self, holders: Holders, now: Instant) -> Vec<Action> {
        let (Child::Ended(reason), Some(stop)) = (self.child, self.tree_stop.as_mut()) else {
            return Vec::new();
        };
        match holders {
            Holders::Gone => vec![Action::Leave(reason)],
            Holders::Remain if now >= stop.deadline => self.give_up(reason),
            Holders::Remain => {
                stop.look = Some(now + LOOK_AGAIN);
                Vec::new()
            }
        }
    }

    fn late(&mut self, now: Instant) -> Vec<Action> {
        let Some(stop) = self
            .tree_stop
            .filter(|_| self.deadline().is_some_and(|deadline| now >= deadline))
        else {
            return Vec::new();
        };
        if let Child::Ended(_) = self.child {
            return vec![Action::LookForHolders];
        }
        self.tree_stop = None;
        // HUP, INT and QUIT also mean "reload" and "interrupt": a child that lives on has shown that it took them so.
        if stop.signal == libc::SIGTERM {
            vec![Action::KillHolders]
        } else {
            Vec::new()
        }
    }

    fn give_up(&mut self, reason: ExitReason) -> Vec<Action> {
        self.tree_stop = None;
        vec![Action::KillHolders, Action::Leave(reason)]
    }
}

/// The signals that ask a program to end, and with which a tree stop begins when a process sent them.
fn is_terminating(signal: i32) -> bool {
    matches!(
        signal,
        libc::SIGTERM | libc::SIGHUP | libc::SIGINT | libc::SIGQUIT
    )
}

#[cfg(test)]
mod tests;
