//! What a daemon that has just started does with what it remembers, and how it takes in what it does not.

use styxy_protocol::{Instances, Port, ServiceType};

use super::Allocator;
use super::indexes::Indexes;
use super::lease::{Hold, Lease, LeaseId, Owner, Record};

/// More than one lease of a type that may have only one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Doubles {
    /// Those that nobody uses: they end.
    pub(crate) unused: Vec<LeaseId>,
    /// How many stay beside the newest because somebody uses them.
    pub(crate) used: usize,
}

impl Allocator {
    /// What becomes of leases from before: those of another boot end, those whose owner is gone are detached, as
    /// the owner may have been killed while no daemon watched.
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

    /// Leases of single-instance types beside the newest of their type, which is the one that clients get.
    pub(crate) fn doubles(&self, is_listening: &dyn Fn(Port) -> bool) -> Doubles {
        let mut doubles = Doubles::default();
        let singles = self
            .types
            .iter()
            .filter(|it| it.instances == Instances::Single);
        for definition in singles {
            let newest = self.only_instance(definition).map(|lease| lease.id);
            let of_type = self
                .leases()
                .filter(|it| it.service_type == definition.name);
            for lease in of_type.filter(|lease| Some(lease.id) != newest) {
                let is_used =
                    matches!(lease.hold, Hold::Owner(_)) || lease.ports().any(is_listening);
                if is_used {
                    doubles.used += 1;
                } else {
                    doubles.unused.push(lease.id);
                }
            }
        }
        doubles
    }

    /// Makes everything that follows from the leases anew; how much of it was wrong.
    pub(crate) fn rebuild_indexes(&mut self) -> usize {
        let right = Indexes::of(self.leases.values());
        let wrong = self.indexes.differences(&right);
        self.indexes = right;
        wrong
    }

    /// The type that this port belongs to by its number, `dev` if there is none.
    pub(crate) fn type_of(&self, port: Port) -> ServiceType {
        let mut types = self.types.iter();
        let of_port = types.find(|definition| definition.range.contains(&port.get()));
        of_port.map_or_else(default_type, |definition| definition.name.clone())
    }

    /// Takes in a lease that was made elsewhere, without those of its ports that have a lease; `None` if that is
    /// all of them, or its id is taken. The ports are in use already: nothing is handed out.
    pub(crate) fn adopt(&self, mut lease: Lease) -> Option<Record> {
        if self.leases.contains_key(&lease.id) {
            return None;
        }
        let is_ours = |port: Port| self.lease_on(port).is_none();
        lease.spares.retain(|port| is_ours(*port));
        lease.reports.retain(|report| is_ours(report.port));
        if !is_ours(lease.port) {
            lease.port = lease.reports.first()?.port;
        }
        Some(Record::Leased(Box::new(lease)))
    }
}

/// The type of a service of which nothing is known.
pub(crate) fn default_type() -> ServiceType {
    let name = "dev".parse();
    name.expect("it is the name of a built-in type")
}
