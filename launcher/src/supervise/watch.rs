//! The thin shell round the policy: waits for what happens, hands it over as events, and does what the policy says.
//!
//! Invariant: at rest it sleeps in one `poll` without a timeout; only the first moment and a tree stop have deadlines.

use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout};
use nix::unistd::{Pid, getpgid, getpgrp, getsid};

use super::policy::{Action, Event, Holders, Origin, Policy, Standing, Whom};
use super::{ExitReason, Observer, SpawnError};
use crate::sys::code;
use crate::sys::inherited::inherited;
use crate::sys::process::{self, Change, PidFd};
use crate::sys::signal::{self, SignalFd, SignalSet, Taken};
use crate::sys::spawn::{self, ExecReport, Image};
use crate::sys::witness::Witness;

/// How long a killed process may take to be gone, and its port free, before the launcher stops waiting for it.
const KILL_TAKES: Duration = Duration::from_secs(1);

/// A child that lives so long is taken for one that stays: no server ends, and no person reads, faster.
const SETTLES: Duration = Duration::from_millis(10);

/// A running child and all that is needed to stand in front of it.
pub(super) struct Watch<'a> {
    observer: &'a mut dyn Observer,
    policy: Policy,
    child: Pid,
    signals: SignalFd,
    /// Open until the child has executed its program.
    report: Option<ExecReport>,
    witness: Option<Witness>,
    /// When the child will have been there for a moment.
    settles: Option<Instant>,
    /// What the witness has seen and the launcher has not taken yet.
    witnessed: SignalSet,
    /// The descendants that the tree stop has signalled.
    signalled: BTreeSet<Pid>,
    queue: VecDeque<Occurrence>,
}

/// An event, with the signal as it was taken if it is one.
struct Occurrence {
    event: Event,
    taken: Option<Taken>,
}

impl<'a> Watch<'a> {
    /// Forks. Fails if there are no descriptors or processes to be had; then nothing has happened yet.
    pub(super) fn start(
        image: &mut Image,
        witness: Option<&Path>,
        grace: Duration,
        observer: &'a mut dyn Observer,
    ) -> io::Result<Self> {
        let signals = SignalFd::new(SignalSet::all())?;
        // Orphans below us come to us, so that a tree stop finds them and init does not get them. Without it there is less to find.
        let _ = nix::sys::prctl::set_child_subreaper(true);
        // Before the child, which may be ready, and have told so, before the launcher runs again.
        let witness = Witness::start(witness).ok();
        let (child, report) = spawn::fork_exec(image, inherited()).inspect_err(|_| {
            // It would outlast the exec that follows.
            let _ = nix::sys::prctl::set_child_subreaper(false);
        })?;
        let standing = Standing {
            ignored: inherited().ignored,
            leads_session: getsid(None) == Ok(Pid::this()),
            grace,
        };
        Ok(Self {
            observer,
            policy: Policy::new(standing),
            child,
            signals,
            report: Some(report),
            witness,
            witnessed: SignalSet::EMPTY,
            settles: Some(now() + SETTLES),
            signalled: BTreeSet::new(),
            queue: VecDeque::new(),
        })
    }

    /// Watches until the run is over.
    pub(super) fn until_the_end(mut self) -> Result<ExitReason, SpawnError> {
        loop {
            self.wait();
            if let Some(failure) = self.gather() {
                process::reap(self.child);
                return Err(failure.into());
            }
            while let Some(occurrence) = self.queue.pop_front() {
                for action in self.policy.step(occurrence.event, now()) {
                    if let Action::Leave(reason) = action {
                        self.finish();
                        return Ok(reason);
                    }
                    self.act(action, occurrence.taken.as_ref());
                }
            }
            self.settle();
        }
    }

    /// The witness dies while the observer clears up; it is reaped with `self`.
    fn finish(&mut self) {
        // Whoever has ended is not left.
        self.reap();
        let leaves_children = match &self.witness {
            Some(witness) => {
                witness.kill();
                process::has_children_besides(witness.pid)
            }
            None => process::has_children(),
        };
        self.observer.ended(leaves_children);
    }

    /// Sleeps until a signal, the child's exec, or a deadline.
    fn wait(&self) {
        let deadlines = self.policy.deadline().into_iter().chain(self.settles);
        let timeout = match deadlines.min() {
            None => PollTimeout::NONE,
            // Rounded up, so that the deadline has passed when we wake.
            Some(deadline) => {
                millis(deadline.saturating_duration_since(now()) + Duration::from_millis(1))
            }
        };
        let mut sources = vec![PollFd::new(self.signals.as_fd(), PollFlags::POLLIN)];
        sources.extend(
            self.report
                .iter()
                .map(|report| PollFd::new(report.as_fd(), PollFlags::POLLIN)),
        );
        let ready = nix::poll::poll(&mut sources, timeout);
        debug_assert!(
            ready.is_ok(),
            "two open descriptors and no unblocked signal: {ready:?}"
        );
    }

    /// What a command that ends at once need not pay for.
    fn settle(&mut self) {
        if self.settles.is_some_and(|settles| now() >= settles) {
            self.settles = None;
            self.observer.settled();
            code::let_go();
        }
    }

    /// Queues what has happened. Returns the reason if the command could not be executed.
    fn gather(&mut self) -> Option<io::Error> {
        while let Some(taken) = self.signals.take() {
            if taken.signal == libc::SIGCHLD && taken.origin == signal::Origin::Kernel {
                continue;
            }
            // Each time: the group may have been sent another signal since.
            self.ask_witness();
            let origin = self.origin(&taken);
            let event = Event::Signal {
                signal: taken.signal,
                origin,
            };
            if taken.signal == libc::SIGCONT {
                // What it means depends on what it has done to the child.
                self.reap();
            }
            self.queue.push_back(Occurrence {
                event,
                taken: Some(taken),
            });
        }
        if let Some(failure) = self.exec_failure() {
            return Some(failure);
        }
        self.reap();
        if self.queue.is_empty() {
            self.tell(Event::Deadline);
        }
        None
    }

    /// Reads the child's report when there is one.
    fn exec_failure(&mut self) -> Option<io::Error> {
        let report = self.report.take()?;
        let mut source = [PollFd::new(report.as_fd(), PollFlags::POLLIN)];
        if nix::poll::poll(&mut source, PollTimeout::ZERO) == Ok(0) {
            self.report = Some(report);
            return None;
        }
        report.read()
    }

    fn reap(&mut self) {
        while let Some((pid, change)) = process::next_change() {
            if let Some(witness) = self.witness.as_ref().filter(|witness| witness.pid == pid) {
                match change {
                    Change::Stopped(_) => witness.wake(),
                    Change::Continued => {}
                    Change::Exited(_) | Change::Killed(_) => {
                        if let Some(witness) = self.witness.take() {
                            witness.bury();
                        }
                    }
                }
                continue;
            }
            let event = match change {
                Change::Exited(_) | Change::Killed(_) if pid != self.child => Event::OrphanEnded,
                _ if pid != self.child => continue,
                Change::Exited(code) => Event::Ended(ExitReason::Code(code)),
                Change::Killed(signal) => Event::Ended(ExitReason::Signal(signal)),
                Change::Stopped(signal) => Event::Stopped(signal),
                Change::Continued => Event::Continued,
            };
            self.tell(event);
        }
    }

    fn origin(&mut self, taken: &Taken) -> Origin {
        let group = self.witnessed.contains(taken.signal);
        self.witnessed = self.witnessed.without(taken.signal);
        match taken.origin {
            signal::Origin::Kernel => Origin::Kernel,
            signal::Origin::Process(sender) if sender == self.child => Origin::Child,
            signal::Origin::Process(_) if group => Origin::ProcessToGroup,
            signal::Origin::Process(_) => Origin::Process,
        }
    }

    /// Without an answer the run goes on without a witness: a signal too many is better than one too few.
    fn ask_witness(&mut self) {
        match self.witness.as_ref().map(Witness::ask) {
            Some(Ok(seen)) => self.witnessed = self.witnessed.union(seen),
            Some(Err(_)) => self.witness = None,
            None => {}
        }
    }

    fn act(&mut self, action: Action, taken: Option<&Taken>) {
        match action {
            // All errors here mean that the process is gone, which its own event tells.
            Action::Forward => {
                let _ = taken.map(|taken| signal::forward(self.child, taken));
            }
            Action::ContinueChild => {
                let _ = signal::send(self.child, libc::SIGCONT);
            }
            Action::StopSelf(signal) => self.stop_self(signal),
            Action::SignalTree { signal, to } => self.signal_tree(signal, to),
            Action::LookForHolders => {
                let holders = if self.holders().is_empty() {
                    Holders::Gone
                } else {
                    Holders::Remain
                };
                self.tell(Event::Holders(holders));
            }
            Action::KillHolders => self.kill_holders(),
            Action::Leave(_) => {}
        }
    }

    fn stop_self(&mut self, signal: i32) {
        process::stop_with(self.child, signal);
        // The SIGCONT has deleted our own copies of stop signals; the witness may still have its.
        self.ask_witness();
        for stop in [libc::SIGTSTP, libc::SIGTTIN, libc::SIGTTOU] {
            self.witnessed = self.witnessed.without(stop);
        }
        self.reap();
        self.tell(Event::Woken);
    }

    fn signal_tree(&mut self, signal: i32, to: Whom) {
        if to != Whom::Newcomers {
            self.signalled.clear();
        }
        let group = getpgrp();
        for process in self.descendants() {
            let new = self.signalled.insert(process.pid);
            let meant = new && (to != Whom::OtherGroups || getpgid(Some(process.pid)) != Ok(group));
            if meant && process.pid != self.child {
                let _ = process.send(signal);
                if process.is_stopped() {
                    let _ = process.send(libc::SIGCONT);
                }
            }
        }
    }

    fn kill_holders(&mut self) {
        let mut waiting = self.holders();
        for process in &waiting {
            let _ = process.send(libc::SIGKILL);
        }
        let until = now() + KILL_TAKES;
        while let Some(last) = waiting.pop() {
            let mut gone = [PollFd::new(last.as_fd(), PollFlags::POLLIN)];
            let _ = nix::poll::poll(&mut gone, millis(until.saturating_duration_since(now())));
        }
    }

    /// The descendants (the child included) that hold a port of the lease.
    fn holders(&self) -> Vec<PidFd> {
        let mut descendants = self.descendants();
        let pids: Vec<Pid> = descendants.iter().map(|process| process.pid).collect();
        let holders = self.observer.port_holders(&pids);
        descendants.retain(|process| holders.contains(&process.pid));
        descendants
    }

    fn descendants(&self) -> Vec<PidFd> {
        let mut descendants = process::session_descendants();
        if let Some(witness) = &self.witness {
            descendants.retain(|process| process.pid != witness.pid);
        }
        descendants
    }

    fn tell(&mut self, event: Event) {
        self.queue.push_back(Occurrence { event, taken: None });
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the supervisor's one look at the clock; the policy gets it as an argument"
)]
fn now() -> Instant {
    Instant::now()
}

fn millis(duration: Duration) -> PollTimeout {
    PollTimeout::try_from(duration).unwrap_or(PollTimeout::MAX)
}
