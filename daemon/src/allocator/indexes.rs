//! Ways to find leases that are not their ids. All of it follows from the leases alone.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use styxy_protocol::Port;

use super::lease::{Hold, Lease, LeaseId};
use crate::kernel::ProcessIdentity;

/// The ways. Invariant: every lease is in them, and nothing else.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Indexes {
    /// The lease of each port.
    pub(super) by_port: BTreeMap<Port, LeaseId>,
    /// How many leases hang on a process; none has 0.
    pub(super) by_owner: HashMap<ProcessIdentity, usize>,
    /// When leases end for want of a heartbeat, as time since boot.
    pub(super) deadlines: BTreeSet<(Duration, LeaseId)>,
    /// How many leases nothing but time and their listeners can end.
    pub(super) unowned: usize,
    /// Those of them that were listened on.
    pub(super) listened: BTreeSet<LeaseId>,
}

impl Indexes {
    /// The indexes of these leases.
    pub(super) fn of<'a>(leases: impl Iterator<Item = &'a Lease>) -> Self {
        let mut indexes = Self::default();
        for lease in leases {
            indexes.insert(lease);
        }
        indexes
    }

    /// Takes a lease in.
    pub(super) fn insert(&mut self, lease: &Lease) {
        for port in lease.ports() {
            self.by_port.insert(port, lease.id);
        }
        match lease.hold {
            Hold::Owner(owner) => *self.by_owner.entry(owner.process).or_default() += 1,
            Hold::Heartbeat { deadline, .. } => {
                self.deadlines.insert((deadline, lease.id));
            }
            Hold::Detached { .. } => {}
        }
        if lease.is_unowned() {
            self.unowned += 1;
            if lease.listened {
                self.listened.insert(lease.id);
            }
        }
    }

    /// Takes a lease out that is in this form in it.
    pub(super) fn remove(&mut self, lease: &Lease) {
        for port in lease.ports() {
            self.by_port.remove(&port);
        }
        match lease.hold {
            Hold::Owner(owner) => {
                if let Entry::Occupied(mut count) = self.by_owner.entry(owner.process) {
                    *count.get_mut() -= 1;
                    if *count.get() == 0 {
                        count.remove();
                    }
                }
            }
            Hold::Heartbeat { deadline, .. } => {
                self.deadlines.remove(&(deadline, lease.id));
            }
            Hold::Detached { .. } => {}
        }
        if lease.is_unowned() {
            self.unowned = self.unowned.saturating_sub(1);
            self.listened.remove(&lease.id);
        }
    }

    /// How many entries are in only one of the two.
    pub(super) fn differences(&self, other: &Self) -> usize {
        let ports = |a: &Self, b: &Self| {
            let differs = |(port, id): &(&Port, &LeaseId)| b.by_port.get(port) != Some(id);
            a.by_port.iter().filter(differs).count()
        };
        let owners = |a: &Self, b: &Self| {
            let differs =
                |(owner, count): &(&ProcessIdentity, &usize)| b.by_owner.get(owner) != Some(count);
            a.by_owner.iter().filter(differs).count()
        };
        let deadlines = self.deadlines.symmetric_difference(&other.deadlines);
        let listened = self.listened.symmetric_difference(&other.listened);
        ports(self, other)
            + ports(other, self)
            + owners(self, other)
            + owners(other, self)
            + deadlines.count()
            + listened.count()
            + self.unowned.abs_diff(other.unowned)
    }
}
