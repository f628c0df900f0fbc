//! The port authority's state and every decision about it, as a pure state machine.
//!
//! A decision looks at the state, the request, the time and the kernel's view of ports, and answers with
//! [`Record`]s; [`Allocator::apply`] is the only way to change the state. The same records are the journal,
//! so a daemon that reads its journal stands exactly where the one that wrote it stood.
//! Invariant: a port is in at most one lease, as main port, spare or reported listener.

mod grant;
mod lease;
#[cfg(test)]
mod properties;
mod suggest;
#[cfg(test)]
mod tests;
mod view;

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::RangeInclusive;
use std::time::Duration;

use styxy_protocol::Port;
use styxy_protocol::api::ListenerReport;

use crate::kernel::ProcessIdentity;
use crate::placement::{Placement, SPARES};
use crate::service_types::ServiceTypes;

pub(crate) use grant::{Applicant, Grant, MAX_LEASES_PER_OWNER, OwnerKind, Refusal, holder};
pub(crate) use lease::{Hold, Identity, Lease, LeaseId, LeaseIdError, Owner, Record};
pub(crate) use suggest::Suggestions;

/// How many services' last ports are remembered; beyond that the oldest is forgotten.
const MAX_STICKY: usize = 4096;
/// How many listeners of one lease are recorded: as many as a shared port table can hold.
const MAX_REPORTS: usize = 64;

/// Every lease and every sticky port.
#[derive(Debug)]
pub(crate) struct Allocator {
    placement: Placement,
    types: ServiceTypes,
    leases: BTreeMap<LeaseId, Lease>,
    by_port: BTreeMap<Port, LeaseId>,
    /// How many leases hang on a process; none has 0.
    by_owner: HashMap<ProcessIdentity, usize>,
    deadlines: BTreeSet<(Duration, LeaseId)>,
    sticky: HashMap<Identity, Sticky>,
    sticky_clock: u64,
    next_spare: u16,
}

#[derive(Clone, Copy, Debug)]
struct Sticky {
    port: Port,
    /// Position in the order in which entries were made; the lowest is the oldest.
    made: u64,
}

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

/// Why a listener was not recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReportRefusal {
    /// The port belongs to this other lease.
    Taken(LeaseId),
    /// The lease has as many as it may have.
    TooMany,
}

impl Allocator {
    /// No leases, with these service types, on a machine with this ephemeral range. `seed` decides where the search for spare ports
    /// begins, so that two daemons on one machine do not run after the same ones.
    pub(crate) fn new(types: ServiceTypes, ephemeral: RangeInclusive<u16>, seed: u16) -> Self {
        Self {
            placement: Placement::new(ephemeral),
            types,
            leases: BTreeMap::new(),
            by_port: BTreeMap::new(),
            by_owner: HashMap::new(),
            deadlines: BTreeSet::new(),
            sticky: HashMap::new(),
            sticky_clock: 0,
            next_spare: SPARES.start() + seed % (SPARES.end() - SPARES.start() + 1),
        }
    }

    /// The service types in force.
    pub(crate) fn types(&self) -> &ServiceTypes {
        &self.types
    }

    /// Puts these types in force. Leases of types that are no more go on.
    pub(crate) fn set_types(&mut self, types: ServiceTypes) {
        self.types = types;
    }

    /// The ports that the kernel gives to outgoing connections.
    pub(crate) fn ephemeral(&self) -> &RangeInclusive<u16> {
        self.placement.ephemeral()
    }

    /// Makes what was decided true. Records that contradict the state (which only a damaged journal holds)
    /// change nothing.
    pub(crate) fn apply(&mut self, record: &Record) {
        match record {
            Record::Leased(lease) => self.put(lease),
            Record::Ended(id) => self.remove(*id),
            Record::Sticky { identity, port } => self.remember(identity, *port),
        }
    }

    /// The records that lead from nothing to this state.
    pub(crate) fn snapshot(&self) -> Vec<Record> {
        let mut sticky: Vec<_> = self.sticky.iter().collect();
        sticky.sort_by_key(|(_, sticky)| sticky.made);
        let sticky = sticky.into_iter().map(|(identity, sticky)| Record::Sticky {
            identity: identity.clone(),
            port: sticky.port,
        });
        sticky
            .chain(
                self.leases
                    .values()
                    .cloned()
                    .map(Box::new)
                    .map(Record::Leased),
            )
            .collect()
    }

    /// The lease with this id.
    pub(crate) fn lease(&self, id: LeaseId) -> Option<&Lease> {
        self.leases.get(&id)
    }

    /// Every lease.
    pub(crate) fn leases(&self) -> impl Iterator<Item = &Lease> {
        self.leases.values()
    }

    /// How many leases there are.
    pub(crate) fn len(&self) -> usize {
        self.leases.len()
    }

    /// The earliest time since boot at which a lease ends for want of a heartbeat.
    pub(crate) fn next_deadline(&self) -> Option<Duration> {
        self.deadlines.first().map(|(deadline, _)| *deadline)
    }

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
            Hold::Owner(_) => Some((lease::TTL, None)),
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

    /// Records that the tree of this lease has bound a port. `None` if there is no such lease,
    /// an empty change if that was known.
    pub(crate) fn report(
        &self,
        id: LeaseId,
        report: ListenerReport,
    ) -> Option<Result<Option<Record>, ReportRefusal>> {
        let lease = self.leases.get(&id)?;
        if lease.reports.contains(&report) {
            return Some(Ok(None));
        }
        if let Some(other) = self.by_port.get(&report.port).filter(|other| **other != id) {
            return Some(Err(ReportRefusal::Taken(*other)));
        }
        if lease.reports.len() >= MAX_REPORTS {
            return Some(Err(ReportRefusal::TooMany));
        }
        let mut lease = lease.clone();
        lease.reports.push(report);
        Some(Ok(Some(Record::Leased(Box::new(lease)))))
    }

    /// What a daemon that has just read its journal does with leases from before: those of another boot end,
    /// those whose owner is gone are detached, as the owner may have been killed while no daemon watched.
    pub(crate) fn recover(&self, boot: &str, is_alive: &dyn Fn(&Owner) -> bool) -> Vec<Record> {
        let leases = self.leases.values();
        leases
            .filter_map(|lease| match lease.hold {
                _ if lease.boot != boot => Some(Record::Ended(lease.id)),
                Hold::Owner(owner) if !is_alive(&owner) => self.owner_ended(lease.id),
                _ => None,
            })
            .collect()
    }

    fn put(&mut self, lease: &Lease) {
        let taken = |port: Port| self.by_port.get(&port).is_some_and(|id| *id != lease.id);
        if lease.ports().any(taken) {
            return;
        }
        self.remove(lease.id);
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
        if let Some(last) = lease.spares.last() {
            self.next_spare = last.get().wrapping_add(1);
        }
        self.leases.insert(lease.id, lease.clone());
    }

    fn remove(&mut self, id: LeaseId) {
        let Some(lease) = self.leases.remove(&id) else {
            return;
        };
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
                self.deadlines.remove(&(deadline, id));
            }
            Hold::Detached { .. } => {}
        }
    }

    fn remember(&mut self, identity: &Identity, port: Port) {
        self.sticky_clock += 1;
        let sticky = Sticky {
            port,
            made: self.sticky_clock,
        };
        self.sticky.insert(identity.clone(), sticky);
        if self.sticky.len() > MAX_STICKY {
            let oldest = self.sticky.iter().min_by_key(|(_, sticky)| sticky.made);
            if let Some(oldest) = oldest.map(|(identity, _)| identity.clone()) {
                self.sticky.remove(&oldest);
            }
        }
    }
}

fn leased(lease: &Lease, hold: Hold) -> Record {
    let lease = lease.clone();
    Record::Leased(Box::new(Lease { hold, ..lease }))
}
