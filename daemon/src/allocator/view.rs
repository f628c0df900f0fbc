//! Leases as clients see them: the table of leases joined with what the kernel says right now.

use std::collections::BTreeSet;

use styxy_protocol::Port;
use styxy_protocol::api::{Allocation, LeaseState, ListenerReport};

use super::Allocator;
use super::lease::{Hold, Lease};
use crate::kernel::rfc3339;
use crate::placement::Reserved;

impl Allocator {
    /// Every lease, in ascending order of port, given the ports that something listens on.
    pub(crate) fn allocations(&self, listening: &BTreeSet<Port>) -> Vec<Allocation> {
        let mut allocations: Vec<_> = self
            .leases()
            .map(|lease| allocation(lease, listening))
            .collect();
        allocations.sort_by_key(|allocation| allocation.port);
        allocations
    }

    /// The lease that this port belongs to, given the ports that something listens on.
    pub(crate) fn allocation_at(
        &self,
        port: Port,
        listening: &BTreeSet<Port>,
    ) -> Option<Allocation> {
        self.lease_at(port)
            .map(|lease| allocation(lease, listening))
    }

    /// The lease that this port belongs to, as main port, spare or reported listener.
    pub(crate) fn lease_at(&self, port: Port) -> Option<&Lease> {
        self.lease(*self.by_port.get(&port)?)
    }

    /// The ports from `first` to `last` that belong to a lease, ascending.
    pub(crate) fn leased_ports(&self, first: Port, last: Port) -> impl Iterator<Item = Port> {
        let ports = self.by_port.keys().copied();
        ports.filter(move |port| (first..=last).contains(port))
    }

    /// Why this port is not handed out, if so.
    pub(crate) fn reserved(&self, port: Port) -> Option<Reserved> {
        self.placement.reserved(port)
    }
}

fn allocation(lease: &Lease, listening: &BTreeSet<Port>) -> Allocation {
    let listeners: Vec<_> = listeners(lease, listening).collect();
    let state = match lease.hold {
        Hold::Detached { .. } => LeaseState::Detached,
        _ if listeners.is_empty() => LeaseState::Starting,
        _ => LeaseState::Listening,
    };
    Allocation {
        port: lease.port,
        lock_id: lease.id.to_string(),
        service_type: lease.service_type.clone(),
        service_name: lease.service_name.clone(),
        instance_id: lease.instance_id.clone(),
        project_path: lease.project_path.clone(),
        package_dir: lease.package_dir.clone(),
        pid: lease.hold.pid(),
        command: lease.command.clone(),
        allocated_at: rfc3339(lease.allocated_at),
        user_agent: None,
        expires_in: None,
        state,
        listeners,
    }
}

/// What listens on the lease's ports: under the port that the program asked for where that was reported.
fn listeners(lease: &Lease, listening: &BTreeSet<Port>) -> impl Iterator<Item = ListenerReport> {
    lease
        .ports()
        .filter(|port| listening.contains(port))
        .map(|port| {
            let reported = lease.reports.iter().find(|report| report.port == port);
            reported.copied().unwrap_or(ListenerReport {
                requested: port,
                port,
            })
        })
}
