//! The processes of one run, as they can be found when its launcher is gone.
//!
//! Every process of a run carries the id of its lease in its environment. Names and ports alone prove
//! nothing. Invariant: only processes in the session that the run was started in are ever signalled, and only if
//! they carry the id or, without it, leave no other explanation ([`Tree::nameless_leftovers`]); what made a session
//! of its own is a deliberate daemon. All functions walk `/proc`.

use std::collections::BTreeSet;

use styxy_protocol::Port;

use crate::allocator::{LeaseId, Owner};
use crate::census::{Census, marks};
use crate::kernel::{self, Pidfd, Stat};

/// No tree of processes is deeper than this.
const MAX_DEPTH: usize = 64;

/// How often a listening socket is looked at that no process seems to have. (Of another user's process nobody may know.)
const LOOKS_AT_A_SOCKET: usize = 4;

/// What is known about a run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tree {
    /// Its lease.
    pub(crate) id: LeaseId,
    /// Its launcher, if it had one that was watched.
    pub(crate) owner: Option<Owner>,
}

impl Tree {
    /// What the run has left behind in its owner's session.
    pub(crate) fn leftovers(&self, census: &Census) -> Vec<Pidfd> {
        processes_among(census.marked(self.id), |stat| self.is_in_session(stat))
    }

    /// What has dropped the run's id together with the rest of its environment (`env -i`) and is still beyond doubt
    /// of the run: it listens on one of these ports of the lease, in the owner's session and process group, younger
    /// than the owner, and it has lost its parents, as the owner's descendants do when the owner is killed. Only
    /// true of what is found at the first look after that: later somebody else may have taken the port.
    pub(crate) fn nameless_leftovers(&self, ports: &BTreeSet<Port>) -> Vec<Pidfd> {
        let Some(group) = self.owner.and_then(|owner| owner.group) else {
            return Vec::new();
        };
        let belongs = |stat: &Stat| {
            stat.group == group && self.is_in_session(stat) && self.is_orphaned(*stat)
        };
        let suspects = kernel::every_pid().into_iter();
        let suspects = suspects.filter(|&pid| Stat::of(pid).is_some_and(|stat| belongs(&stat)));
        let holders = holders_of(ports, Some(&suspects.collect::<Vec<_>>()));
        processes_among(holders.unwrap_or_default(), belongs)
    }

    /// The processes of the run that listen on one of these ports, in whatever session. A process that has
    /// dropped its environment counts if it is in the owner's session and younger than the owner.
    ///
    /// A server that makes a daemon of itself hands its socket from process to process, and a walk may come too late for
    /// one and too early for the next. So a socket that listens and has nobody is looked at again.
    pub(crate) fn listeners(&self, ports: &BTreeSet<Port>) -> Vec<Pidfd> {
        let belongs =
            |stat: &Stat| self.is_in_session(stat) || marks(stat.identity.pid).contains(&self.id);
        let is_alive = |&pid: &u32| Stat::of(pid).is_some_and(|stat| stat.alive);
        for _ in 0..LOOKS_AT_A_SOCKET {
            let Some(holders) = holders_of(ports, None) else {
                break;
            };
            let found = processes_among(holders.iter().copied(), belongs);
            if !found.is_empty() || holders.iter().any(is_alive) {
                return found;
            }
        }
        Vec::new()
    }

    /// Every process that was started with the run's id or has one of its files mapped.
    pub(crate) fn users(&self, census: &Census) -> Vec<Pidfd> {
        processes_among(census.users(self.id), |stat| self.is_young_enough(stat))
    }

    /// Whether the first of its ancestors that cannot be of the run is none that could have started it: process 1 or
    /// one of another session, which only get what has lost its parents. A shell or script of the same session
    /// that is older than the owner has started it itself.
    fn is_orphaned(&self, mut stat: Stat) -> bool {
        // Parents are older than their children, save for reused pids, hence a bound.
        for _ in 0..MAX_DEPTH {
            let Some(parent) = Stat::of(stat.parent) else {
                return stat.parent <= 1;
            };
            if parent.identity.pid == 1 || Some(parent.session) != self.session() {
                return true;
            }
            if !self.is_in_session(&parent) {
                return false;
            }
            stat = parent;
        }
        false
    }

    fn session(&self) -> Option<u32> {
        self.owner.map(|owner| owner.session)
    }

    fn is_in_session(&self, stat: &Stat) -> bool {
        self.session() == Some(stat.session) && self.is_young_enough(stat)
    }

    /// Nothing of a run is older than its launcher.
    fn is_young_enough(&self, stat: &Stat) -> bool {
        let oldest = self.owner.map(|owner| owner.process.start_time);
        oldest.is_none_or(|oldest| stat.identity.start_time >= oldest)
    }
}

/// Which processes, `among` these or of all, have a listening socket on one of these ports open. `None`: there is
/// no such socket.
fn holders_of(ports: &BTreeSet<Port>, among: Option<&[u32]>) -> Option<BTreeSet<u32>> {
    let sockets = kernel::listening().unwrap_or_default();
    let sockets = sockets.iter().filter(|socket| ports.contains(&socket.port));
    let inodes: Vec<u32> = sockets.map(|socket| socket.inode).collect();
    if inodes.is_empty() {
        return None;
    }
    let holders = kernel::holders(&inodes, among);
    Some(holders.into_iter().map(|(pid, _)| pid).collect())
}

/// Who has a port that no lease has: a listening process and its command line.
pub(crate) fn foreign_holder(port: Port) -> Option<(u32, Option<String>)> {
    let sockets = kernel::listening_on(port).ok()?;
    let inodes: Vec<u32> = sockets.iter().map(|socket| socket.inode).collect();
    if inodes.is_empty() {
        return None;
    }
    let pid = kernel::holders(&inodes, None)
        .into_iter()
        .map(|(pid, _)| pid)
        .min()?;
    Some((pid, kernel::command_line(pid)))
}

/// Those of these processes that live and belong. The handle is opened first and the process looked at
/// then, so a pid that changes hands in between is noticed.
fn processes_among(
    pids: impl IntoIterator<Item = u32>,
    belongs: impl Fn(&Stat) -> bool,
) -> Vec<Pidfd> {
    let own = std::process::id();
    let looks_right = |pid: u32| Stat::of(pid).is_some_and(|stat| stat.alive && belongs(&stat));
    pids.into_iter()
        .filter(|&pid| pid != own && pid != 1 && looks_right(pid))
        .filter_map(|pid| {
            let pidfd = Pidfd::open(pid).ok()?;
            (looks_right(pid) && !pidfd.has_ended()).then_some(pidfd)
        })
        .collect()
}
