//! The port authority's state and every decision about it, as a pure state machine.
//!
//! A decision looks at the state, the request, the time and the kernel's view of ports, and answers with
//! [`Record`]s; [`Allocator::apply`] is the only way to change the state. The same records are the journal,
//! so a daemon that reads its journal stands exactly where the one that wrote it stood.
//! Invariant: a port is in at most one lease, as main port, spare or reported listener.

mod ending;
mod grant;
mod indexes;
mod lease;
#[cfg(test)]
mod properties;
mod recovery;
mod suggest;
#[cfg(test)]
mod tests;
mod view;

use std::collections::{BTreeMap, HashMap};
use std::ops::RangeInclusive;
use std::time::Duration;

use styxy_protocol::api::ListenerReport;
use styxy_protocol::{Instances, Port};

use crate::placement::{Placement, SPARES};
use crate::service_types::{Definition, ServiceTypes};

pub(crate) use ending::{Looks, Release, Sight};
pub(crate) use grant::{Applicant, Exhausted, Grant, OwnerKind, Refusal, holder};
use indexes::Indexes;
pub(crate) use lease::{
    Client, Hold, Identity, Lease, LeaseId, LeaseIdError, LeaseName, Owner, Record, TTL,
};

pub(crate) use recovery::{Doubles, default_type};
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
    indexes: Indexes,
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
            indexes: Indexes::default(),
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
        self.indexes
            .deadlines
            .first()
            .map(|(deadline, _)| *deadline)
    }

    /// The lease that this port belongs to.
    pub(crate) fn lease_on(&self, port: Port) -> Option<&Lease> {
        self.leases.get(self.indexes.by_port.get(&port)?)
    }

    /// The lease of this name.
    pub(crate) fn find(&self, name: LeaseName) -> Option<&Lease> {
        match name {
            LeaseName::Id(id) => self.lease(id),
            LeaseName::Port(port) => self.lease_on(port),
        }
    }

    /// The lease of a type that may have only one: the newest, should there be more.
    pub(crate) fn only_instance(&self, definition: &Definition) -> Option<&Lease> {
        if definition.instances == Instances::Multi {
            return None;
        }
        let leases = self.leases.values();
        let leases = leases.filter(|lease| lease.service_type == definition.name);
        leases.max_by_key(|lease| (lease.allocated_at, lease.id))
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
        let other = self.lease_on(report.port).map(|lease| lease.id);
        if let Some(other) = other.filter(|other| *other != id) {
            return Some(Err(ReportRefusal::Taken(other)));
        }
        if lease.reports.len() >= MAX_REPORTS {
            return Some(Err(ReportRefusal::TooMany));
        }
        let mut lease = lease.clone();
        lease.reports.push(report);
        Some(Ok(Some(Record::Leased(Box::new(lease)))))
    }

    fn put(&mut self, lease: &Lease) {
        let taken = |port: Port| {
            let other = self.indexes.by_port.get(&port);
            other.is_some_and(|id| *id != lease.id)
        };
        if lease.ports().any(taken) {
            return;
        }
        self.remove(lease.id);
        self.indexes.insert(lease);
        if let Some(last) = lease.spares.last() {
            self.next_spare = last.get().wrapping_add(1);
        }
        self.leases.insert(lease.id, lease.clone());
    }

    fn remove(&mut self, id: LeaseId) {
        if let Some(lease) = self.leases.remove(&id) {
            self.indexes.remove(&lease);
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

/// This lease, kept by something else from now on.
fn leased(lease: &Lease, hold: Hold) -> Record {
    let lease = lease.clone();
    Record::Leased(Box::new(Lease { hold, ..lease }))
}
