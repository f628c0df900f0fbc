//! The look itself: two lists of sockets, one walk of `/proc` for all of them, then the processes that it found.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::{Path, PathBuf};

use nix::unistd::{Uid, User};
use styxy_protocol::Port;

use super::{PortState, PortUse, Process, Sight};
use crate::Classify;
use crate::census;
use crate::kernel::{self, Socket, Stat};

/// Bytes of a command line that are looked at: enough for a long class path.
const MAX_ARGUMENTS: u64 = 32 * 1024;
/// Bytes of a command line that are told.
const MAX_COMMAND: usize = 4096;
/// Directories above a working directory that are looked into.
const MAX_DEPTH: usize = 64;

impl Sight {
    /// Looks. Takes milliseconds, or as long as a file system takes to answer; belongs on a blocking thread.
    pub(crate) fn take(classify: &Classify) -> Self {
        let (listening, bound) = sockets();
        let all = listening.iter().chain(&bound);
        let inodes: Vec<u32> = all.map(|socket| socket.inode).collect();
        if inodes.is_empty() {
            return Self::default();
        }
        let mut holders: HashMap<u32, Vec<u32>> = HashMap::new();
        for (pid, inode) in kernel::holders(&inodes, None) {
            holders.entry(inode).or_default().push(pid);
        }
        let mut sight = Self::of_sockets(listening, bound);
        for port in sight.ports.values_mut() {
            let held = port.sockets.iter();
            let pids = held.filter_map(|socket| holders.get(&socket.inode));
            port.pids = eldest(&pids.flatten().copied().collect());
        }
        let pids: BTreeSet<u32> = sight
            .ports
            .values()
            .flat_map(|it| it.pids.clone())
            .collect();
        sight.processes = pids
            .into_iter()
            .filter_map(|pid| Some((pid, look_at(pid, classify)?)))
            .collect();
        sight.drop_what_has_gone();
        sight.name_users();
        sight
    }

    /// What the sockets alone say.
    pub(crate) fn of_sockets(listening: Vec<Socket>, bound: Vec<Socket>) -> Self {
        let mut ports: BTreeMap<Port, PortUse> = BTreeMap::new();
        let listening = listening.into_iter().map(|it| (PortState::Listening, it));
        let bound = bound.into_iter().map(|it| (PortState::Bound, it));
        for (state, socket) in listening.chain(bound) {
            let port = ports.entry(socket.port).or_insert_with(|| PortUse {
                state,
                sockets: Vec::new(),
                pids: Vec::new(),
            });
            // Beside a listener, who is bound only does not matter.
            if port.state == state {
                port.sockets.push(socket);
            }
        }
        for port in ports.values_mut() {
            port.sockets
                .sort_by_key(|socket| (socket.address, socket.inode));
        }
        Self {
            ports,
            ..Self::default()
        }
    }

    /// Sockets that were closed and processes that ended while we looked.
    fn drop_what_has_gone(&mut self) {
        let (listening, bound) = sockets();
        let inodes = |sockets: &[Socket]| -> HashSet<u32> {
            sockets.iter().map(|socket| socket.inode).collect()
        };
        let (listening, bound) = (inodes(&listening), inodes(&bound));
        let processes = &self.processes;
        self.ports.retain(|_, port| {
            let there = match port.state {
                PortState::Listening => &listening,
                PortState::Bound => &bound,
            };
            port.sockets.retain(|socket| there.contains(&socket.inode));
            port.pids.retain(|pid| processes.contains_key(pid));
            !port.sockets.is_empty()
        });
    }

    fn name_users(&mut self) {
        let sockets = self.ports.values().flat_map(|port| &port.sockets);
        let uids: BTreeSet<u32> = sockets.map(|socket| socket.uid).collect();
        let name = |uid| {
            User::from_uid(Uid::from_raw(uid))
                .ok()?
                .map(|user| user.name)
        };
        self.users = uids
            .into_iter()
            .filter_map(|uid| Some((uid, name(uid)?)))
            .collect();
    }
}

fn sockets() -> (Vec<Socket>, Vec<Socket>) {
    let listening = kernel::listening().unwrap_or_default();
    (listening, kernel::bound().unwrap_or_default())
}

/// Those of the processes that have a socket whose parent does not have it too, oldest first. A server that has forked
/// is known by the one that forked.
fn eldest(pids: &BTreeSet<u32>) -> Vec<u32> {
    let stats = pids.iter().filter_map(|&pid| Stat::of(pid));
    let mut eldest: Vec<Stat> = stats
        .filter(|stat| stat.alive && !pids.contains(&stat.parent))
        .collect();
    eldest.sort_by_key(|stat| (stat.identity.start_time, stat.identity.pid));
    eldest.into_iter().map(|stat| stat.identity.pid).collect()
}

fn look_at(pid: u32, classify: &Classify) -> Option<Process> {
    let stat = Stat::of(pid).filter(|stat| stat.alive)?;
    let arguments = kernel::arguments(pid, MAX_ARGUMENTS).unwrap_or_default();
    let directory = kernel::directory(pid);
    let reachable = directory
        .as_deref()
        .filter(|directory| kernel::is_directory_of(directory, pid));
    Some(Process {
        started: kernel::from_ticks(stat.identity.start_time),
        name: kernel::name(pid)?,
        command: (!arguments.is_empty()).then(|| joined(&arguments)),
        worktree: reachable.and_then(worktree),
        service_type: classify(&arguments, reachable),
        marks: census::marks(pid),
        directory,
    })
}

fn joined(arguments: &[String]) -> String {
    let mut command = arguments.join(" ");
    command.truncate(command.floor_char_boundary(MAX_COMMAND));
    command
}

/// The nearest directory with a `.git`, which a linked worktree has as a file. What is in it does not matter.
fn worktree(directory: &Path) -> Option<PathBuf> {
    let mut above = directory.ancestors().take(MAX_DEPTH);
    above
        .find(|ancestor| ancestor.join(".git").symlink_metadata().is_ok())
        .map(Path::to_owned)
}

#[cfg(test)]
mod tests;
