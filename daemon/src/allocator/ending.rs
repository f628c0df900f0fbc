//! How leases end: on their client's word, with their owner or their listener, in time, or when somebody cleans up.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use styxy_protocol::Port;

use super::lease::{Hold, Lease, LeaseId, Owner, Record, TTL};
use super::{Allocator, leased};

/// What became of a request to end a lease.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum Release {
    /// Nothing listens on its ports: it ends now.
    Ends(Record),
    /// Something still listens: it stays until that has gone.
    Detaches(Record),
    /// It was detached already.
    IsDetached,
}

/// What was seen at the looks at leases that hang on no process: how often in a row nothing listened any more.
#[derive(Debug, Default)]
pub(crate) struct Looks {
    failures: BTreeMap<LeaseId, u32>,
}

impl Looks {
    /// The client has given a sign of life: what was missed is forgotten.
    pub(crate) fn forgive(&mut self, id: LeaseId) {
        self.failures.remove(&id);
    }

    /// Whether nothing is remembered.
    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.failures.is_empty()
    }
}

/// What is seen of the machine when leases are ended that nobody uses.
pub(crate) struct Sight<'a> {
    /// Time since boot.
    pub(crate) now: Duration,
    /// Whether something listens on a port.
    pub(crate) is_listening: &'a dyn Fn(Port) -> bool,
    /// Whether the owner of a lease lives.
    pub(crate) is_alive: &'a dyn Fn(&Owner) -> bool,
}

impl Allocator {
    /// What happens when somebody asks to end this lease. `None` if there is none.
    pub(crate) fn release(
        &self,
        id: LeaseId,
        is_listening: &dyn Fn(Port) -> bool,
    ) -> Option<Release> {
        let lease = self.leases.get(&id)?;
        let hold = match &lease.hold {
            Hold::Detached { .. } => return Some(Release::IsDetached),
            Hold::Owner(owner) => Hold::Detached {
                owner: Some(*owner),
                was_killed: false,
            },
            Hold::Heartbeat { .. } => Hold::Detached {
                owner: None,
                was_killed: false,
            },
        };
        if lease.ports().any(is_listening) {
            return Some(Release::Detaches(leased(lease, hold)));
        }
        Some(Release::Ends(Record::Ended(id)))
    }

    /// What happens when the owner of this lease has ended without releasing it. `None` if the lease is not
    /// (or no longer) held by a process.
    pub(crate) fn owner_ended(&self, id: LeaseId) -> Option<Record> {
        let lease = self.leases.get(&id)?;
        let Hold::Owner(owner) = lease.hold else {
            return None;
        };
        let hold = Hold::Detached {
            owner: Some(owner),
            was_killed: true,
        };
        Some(leased(lease, hold))
    }

    /// What happens when nothing of a detached lease's tree listens any more.
    pub(crate) fn tree_ended(&self, id: LeaseId) -> Option<Record> {
        let lease = self.leases.get(&id)?;
        matches!(lease.hold, Hold::Detached { .. }).then_some(Record::Ended(id))
    }

    /// Renews a lease that hangs on heartbeats. `Some` is its time to live, with the change if there is one;
    /// `None` if there is no such lease or nobody left to renew it.
    pub(crate) fn renew(&self, id: LeaseId, now: Duration) -> Option<(Duration, Option<Record>)> {
        let lease = self.leases.get(&id)?;
        match lease.hold {
            Hold::Owner(_) => Some((TTL, None)),
            Hold::Heartbeat { pid, ttl, .. } => {
                let deadline = now + ttl;
                Some((
                    ttl,
                    Some(leased(lease, Hold::Heartbeat { pid, ttl, deadline })),
                ))
            }
            Hold::Detached { .. } => None,
        }
    }

    /// What becomes of the leases whose time is up: those that something listens on go on, the rest end.
    pub(crate) fn expire(&self, now: Duration, is_listening: &dyn Fn(Port) -> bool) -> Vec<Record> {
        let due = self
            .indexes
            .deadlines
            .iter()
            .take_while(|(deadline, _)| *deadline <= now);
        let due = due.filter_map(|(_, id)| self.leases.get(id));
        due.map(|lease| match lease.hold {
            Hold::Heartbeat { pid, ttl, .. } if lease.ports().any(is_listening) => {
                let deadline = now + ttl;
                leased(lease, Hold::Heartbeat { pid, ttl, deadline })
            }
            _ => Record::Ended(lease.id),
        })
        .collect()
    }

    /// Whether there are leases that nothing but time and their listeners can end.
    pub(crate) fn has_unowned(&self) -> bool {
        self.indexes.unowned > 0
    }

    /// What a look at the listening ports of our own user means for the leases that hang on no process: a first
    /// listener is remembered, and when there was one and `max_failures` looks in a row find none, the lease ends.
    pub(crate) fn look(
        &self,
        looks: &mut Looks,
        listening: &BTreeSet<Port>,
        now: Duration,
        max_failures: u32,
    ) -> Vec<Record> {
        let mut seen = BTreeMap::new();
        for port in listening {
            let lease = self.lease_on(*port).filter(|lease| lease.is_unowned());
            seen.extend(lease.map(|lease| (lease.id, lease)));
        }
        let missed = self
            .indexes
            .listened
            .iter()
            .filter(|id| !seen.contains_key(id));
        let failures = missed.map(|id| {
            (
                *id,
                looks
                    .failures
                    .get(id)
                    .map_or(1, |before| before.saturating_add(1)),
            )
        });
        looks.failures = failures.collect();
        let ended = looks.failures.iter();
        let ended = ended.filter(|(_, failures)| **failures >= max_failures.max(1));
        let ended = ended.map(|(id, _)| Record::Ended(*id));
        let seen = seen.values().filter_map(|lease| sighted(lease, now));
        seen.chain(ended).collect()
    }

    /// Leases that nobody uses: those whose time is up, those whose owner is gone and those without an owner whose
    /// listener has come and gone, if nothing listens on their ports. With `force`, every lease that nothing
    /// listens on.
    pub(crate) fn cleanup(&self, force: bool, sight: &Sight<'_>) -> Vec<LeaseId> {
        let is_unused = |lease: &&Lease| {
            let is_stale = match &lease.hold {
                Hold::Owner(owner) => !(sight.is_alive)(owner),
                Hold::Heartbeat { deadline, .. } => lease.listened || *deadline <= sight.now,
                Hold::Detached { .. } => true,
            };
            (force || is_stale) && !lease.ports().any(sight.is_listening)
        };
        self.leases()
            .filter(is_unused)
            .map(|lease| lease.id)
            .collect()
    }
}

/// A lease without a process that something listens on, where that is news: it was not known, or half of the time
/// that it has after its last sign of life is over.
fn sighted(lease: &Lease, now: Duration) -> Option<Record> {
    let Hold::Heartbeat { pid, ttl, deadline } = lease.hold else {
        return None;
    };
    if lease.listened && deadline > now + ttl / 2 {
        return None;
    }
    let deadline = now + ttl;
    Some(Record::Leased(Box::new(Lease {
        listened: true,
        hold: Hold::Heartbeat { pid, ttl, deadline },
        ..lease.clone()
    })))
}
