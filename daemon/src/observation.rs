//! Who has which port, as the kernel and `/proc` tell it at one moment, and how that is said.
//!
//! Nothing here is remembered and nothing is looked at before somebody asks. Invariant: whatever a [`Sight`] says of
//! a socket was true when the look began and when it ended; what could not be seen is left out, never guessed.

mod look;
mod wire;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use styxy_protocol::{Port, ServiceType};

use crate::allocator::LeaseId;
use crate::kernel::Socket;

pub(crate) use wire::{Moment, count, observation, system_usage, unseen};

/// Every port that somebody has to himself, and the processes behind them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sight {
    /// By port.
    pub(crate) ports: BTreeMap<Port, PortUse>,
    /// By pid: those that the ports name.
    pub(crate) processes: BTreeMap<u32, Process>,
    /// Names of the users who made the sockets, by number, where they have one.
    pub(crate) users: BTreeMap<u32, String>,
}

/// Who has one port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PortUse {
    /// What is done with it.
    pub(crate) state: PortState,
    /// Its sockets in that state, at least one, IPv4 first, each address once.
    pub(crate) sockets: Vec<Socket>,
    /// The processes that have them, without those that have them from a parent which has them too; oldest first.
    /// Only processes of our own user can be looked into.
    pub(crate) pids: Vec<u32>,
}

/// What is done with a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PortState {
    /// Somebody listens.
    Listening,
    /// Nobody listens, but a socket is bound to it.
    Bound,
}

/// A process that has a port.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Process {
    /// When it started, as time since boot.
    pub(crate) started: Duration,
    /// Name of its program.
    pub(crate) name: String,
    /// Its command line, at most 4 kB of it.
    pub(crate) command: Option<String>,
    /// Its working directory.
    pub(crate) directory: Option<PathBuf>,
    /// The nearest directory with a `.git` at or above it.
    pub(crate) worktree: Option<PathBuf>,
    /// What kind of service it is, if its command line says so.
    pub(crate) service_type: Option<ServiceType>,
    /// The leases whose mark is in its environment.
    pub(crate) marks: BTreeSet<LeaseId>,
}

impl Sight {
    /// The ports that somebody listens on, ascending.
    pub(crate) fn listening(&self) -> impl Iterator<Item = (Port, &PortUse)> {
        let ports = self.ports.iter().map(|(port, it)| (*port, it));
        ports.filter(|(_, it)| it.state == PortState::Listening)
    }

    /// Who listens on this port.
    pub(crate) fn listener(&self, port: Port) -> Option<&PortUse> {
        let found = self.ports.get(&port);
        found.filter(|it| it.state == PortState::Listening)
    }

    /// The process that a port is known by.
    pub(crate) fn process(&self, port: &PortUse) -> Option<(u32, &Process)> {
        let pid = *port.pids.first()?;
        Some((pid, self.processes.get(&pid)?))
    }
}
