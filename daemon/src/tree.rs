//! The processes of one run, as they can be found when its launcher is gone.
//!
//! Every process of a run carries the id of its lease in its environment. Names and ports alone prove
//! nothing. Invariant: only processes that carry the id *and* are in the session that the run was started
//! in are ever signalled; what made a session of its own is a deliberate daemon. All functions walk `/proc`.

use std::collections::BTreeSet;

use styxy_protocol::Port;

use crate::allocator::{LeaseId, Owner};
use crate::kernel::{self, Pidfd, Stat};

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
    pub(crate) fn leftovers(&self) -> Vec<Pidfd> {
        let id = self.id.to_string();
        processes(|stat| self.is_in_session(stat) && kernel::has_in_environ(stat.identity.pid, &id))
    }

    /// The processes of the run that listen on one of these ports, in whatever session. A process that has
    /// dropped its environment counts if it is in the owner's session and younger than the owner.
    pub(crate) fn listeners(&self, ports: &BTreeSet<Port>) -> Vec<Pidfd> {
        let sockets = kernel::listening().unwrap_or_default();
        let sockets = sockets.iter().filter(|socket| ports.contains(&socket.port));
        let inodes: Vec<u32> = sockets.map(|socket| socket.inode).collect();
        if inodes.is_empty() {
            return Vec::new();
        }
        let holders = kernel::holders(&inodes, None);
        let holders: BTreeSet<u32> = holders.into_iter().map(|(pid, _)| pid).collect();
        let id = self.id.to_string();
        processes_among(holders, |stat| {
            self.is_in_session(stat) || kernel::has_in_environ(stat.identity.pid, &id)
        })
    }

    /// Every process that was started with the run's id or has one of its files mapped.
    pub(crate) fn users(&self) -> Vec<Pidfd> {
        let id = self.id.to_string();
        processes(|stat| {
            let pid = stat.identity.pid;
            self.is_young_enough(stat)
                && (kernel::has_in_environ(pid, &id) || kernel::has_in_maps(pid, &id))
        })
    }

    fn is_in_session(&self, stat: &Stat) -> bool {
        let session = self.owner.map(|owner| owner.session);
        session == Some(stat.session) && self.is_young_enough(stat)
    }

    /// Nothing of a run is older than its launcher.
    fn is_young_enough(&self, stat: &Stat) -> bool {
        let oldest = self.owner.map(|owner| owner.process.start_time);
        oldest.is_none_or(|oldest| stat.identity.start_time >= oldest)
    }
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

fn processes(belongs: impl Fn(&Stat) -> bool) -> Vec<Pidfd> {
    processes_among(kernel::every_pid(), belongs)
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
