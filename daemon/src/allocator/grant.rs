//! The decision about a request for a port.

use std::ops::RangeInclusive;
use std::time::Duration;

use styxy_protocol::api::{AllocateRequest, Conflict, ExistingLease, Holder};
use styxy_protocol::{Instances, Port, ServiceType};

use super::Allocator;
use super::lease::{Hold, Identity, Lease, LeaseId, Owner, Record, TTL, UNWATCHED_TTL};
use crate::placement::{Wishes, candidates, spares_from};
use crate::service_types::Definition;

/// How many leases one process may have: far more than any tool needs, far fewer than a range has room for.
pub(crate) const MAX_LEASES_PER_OWNER: usize = 64;

/// Who asks, and what the decision needs from outside.
pub(crate) struct Applicant<'a> {
    /// The name that the lease will have.
    pub(crate) id: LeaseId,
    /// What the lease will hang on.
    pub(crate) owner: OwnerKind,
    /// The running boot.
    pub(crate) boot: &'a str,
    /// Time since boot.
    pub(crate) now: Duration,
    /// Wall clock, seconds since 1970.
    pub(crate) wall: u64,
    /// Whether the kernel would let somebody bind this port.
    pub(crate) is_free: &'a dyn Fn(Port) -> bool,
}

/// What a lease can hang on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OwnerKind {
    /// A process that is being watched.
    Watched(Owner),
    /// A process that cannot be watched, as its client numbers it.
    Unwatched(u32),
    /// No process.
    Nobody,
}

/// A port that is given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Grant {
    /// The port.
    pub(crate) port: Port,
    /// The lease; `None` for a dry run.
    pub(crate) id: Option<LeaseId>,
    /// Further ports.
    pub(crate) spares: Vec<Port>,
    /// The wanted port that it is not. The holder is a process without name where no lease has the port.
    pub(crate) conflict: Option<Conflict>,
    /// It is the lease that a single-instance type has already.
    pub(crate) existing: Option<ExistingLease>,
    /// What changes: nothing for a dry run or an existing lease.
    pub(crate) records: Vec<Record>,
}

/// Why no port is given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// There is no such type.
    UnknownType(ServiceType),
    /// Only the asked-for port would do, but none was asked for.
    StrictWithoutPort,
    /// Only this port would do.
    Taken(Conflict),
    /// Nothing is left of the type's range. Names the leases in it.
    Exhausted {
        /// Name of the type.
        service_type: ServiceType,
        /// Its range.
        range: RangeInclusive<u16>,
        /// Who has ports of the range, ascending.
        holders: Vec<(Port, Holder)>,
    },
    /// The owner has as many leases as it may have.
    Quota(u32),
}

impl Allocator {
    /// Chooses a port for this request.
    pub(crate) fn allocate(
        &self,
        request: &AllocateRequest,
        applicant: &Applicant<'_>,
    ) -> Result<Grant, Refusal> {
        let definition = self
            .types
            .get(&request.service_type)
            .ok_or_else(|| Refusal::UnknownType(request.service_type.clone()))?;
        self.allocate_as(definition, request, applicant)
    }

    /// Chooses a port for this request, as if its type were this one.
    pub(crate) fn allocate_as(
        &self,
        definition: &Definition,
        request: &AllocateRequest,
        applicant: &Applicant<'_>,
    ) -> Result<Grant, Refusal> {
        if let Some(lease) = self.only_instance(definition) {
            return Ok(existing(lease));
        }
        self.check_quota(applicant)?;
        let is_free = |port: Port| !self.by_port.contains_key(&port) && (applicant.is_free)(port);
        let identity = Identity::of(request);
        let port = self.choose(request, definition, identity.as_ref(), &is_free)?;
        let conflict = self.conflict(request, identity.as_ref(), port);
        let spares = self.spares(request.spare_ports, port, &is_free);
        let mut grant = Grant {
            port,
            id: None,
            spares,
            conflict,
            existing: None,
            records: Vec::new(),
        };
        if !request.dry_run {
            let lease = lease(request, applicant, port, grant.spares.clone());
            grant.id = Some(lease.id);
            grant.records.extend(self.stick(identity, port));
            grant.records.push(Record::Leased(Box::new(lease)));
        }
        Ok(grant)
    }

    /// The lease of a type that may have only one.
    fn only_instance(&self, definition: &Definition) -> Option<&Lease> {
        if definition.instances == Instances::Multi {
            return None;
        }
        let mut leases = self.leases.values();
        leases.find(|lease| lease.service_type == definition.name)
    }

    fn check_quota(&self, applicant: &Applicant<'_>) -> Result<(), Refusal> {
        let OwnerKind::Watched(owner) = applicant.owner else {
            return Ok(());
        };
        if self.by_owner.get(&owner.process).copied().unwrap_or(0) < MAX_LEASES_PER_OWNER {
            Ok(())
        } else {
            Err(Refusal::Quota(owner.process.pid))
        }
    }

    fn choose(
        &self,
        request: &AllocateRequest,
        definition: &Definition,
        identity: Option<&Identity>,
        is_free: &dyn Fn(Port) -> bool,
    ) -> Result<Port, Refusal> {
        let asked = request.preferred_port;
        if let Some(port) =
            asked.filter(|&port| self.placement.may_be_asked_for(port) && is_free(port))
        {
            return Ok(port);
        }
        if request.strict {
            let port = asked.ok_or(Refusal::StrictWithoutPort)?;
            return Err(Refusal::Taken(self.conflict_about(port, Wanted::ByName)));
        }
        let wishes = Wishes {
            asked: request.preferred_port,
            last: self.last_port(identity),
            default: request.default_port,
        };
        self.placement
            .first_free(&candidates(wishes, definition, &self.types), is_free)
            .ok_or_else(|| self.exhausted(definition))
    }

    fn last_port(&self, identity: Option<&Identity>) -> Option<Port> {
        self.sticky.get(identity?).map(|sticky| sticky.port)
    }

    /// The port that the user or the tool would have had, if `given` is another one. A service that gets the
    /// port of last time instead of its tool's default has what it expects.
    fn conflict(
        &self,
        request: &AllocateRequest,
        identity: Option<&Identity>,
        given: Port,
    ) -> Option<Conflict> {
        let (port, wanted) = match request.preferred_port {
            Some(asked) => (asked, Wanted::ByName),
            None if self.last_port(identity) == Some(given) => return None,
            None => (request.default_port?, Wanted::ByTheTool),
        };
        (port != given).then(|| self.conflict_about(port, wanted))
    }

    /// Who has this port, or what else stands against it.
    fn conflict_about(&self, port: Port, wanted: Wanted) -> Conflict {
        let lease = self.by_port.get(&port).and_then(|id| self.leases.get(id));
        let reserved = self.placement.reserved(port);
        let reserved = reserved
            .filter(|_| wanted == Wanted::ByTheTool || !self.placement.may_be_asked_for(port));
        let holder = match (lease, reserved) {
            (Some(lease), _) => holder(lease),
            (None, Some(reserved)) => Holder::Reserved {
                reason: reserved.to_string(),
            },
            (None, None) => Holder::Process {
                pid: None,
                command: None,
            },
        };
        Conflict { port, holder }
    }

    /// As many spare ports as can be had, at most as many as asked for.
    fn spares(&self, count: u8, main: Port, is_free: &dyn Fn(Port) -> bool) -> Vec<Port> {
        let mut spares = Vec::new();
        let mut start = self.next_spare;
        while spares.len() < usize::from(count) {
            let usable = |port: Port| port != main && !spares.contains(&port) && is_free(port);
            let Some(port) = self.placement.first_free(&spares_from(start), usable) else {
                break;
            };
            start = port.get() + 1;
            spares.push(port);
        }
        spares
    }

    fn exhausted(&self, definition: &Definition) -> Refusal {
        let ports = definition.range.clone().filter_map(Port::new);
        let holders = ports
            .filter_map(|port| Some((port, self.leases.get(self.by_port.get(&port)?)?)))
            .map(|(port, lease)| (port, holder(lease)))
            .collect();
        Refusal::Exhausted {
            service_type: definition.name.clone(),
            range: definition.range.clone(),
            holders,
        }
    }

    /// Remembers the port for next time, unless the service runs already on the one that is remembered:
    /// a second copy of a service does not take the first one's place.
    fn stick(&self, identity: Option<Identity>, port: Port) -> Option<Record> {
        let identity = identity?;
        let last = self.last_port(Some(&identity));
        let runs_there = last
            .and_then(|last| self.leases.get(self.by_port.get(&last)?))
            .is_some_and(|lease| lease.identity().as_ref() == Some(&identity));
        (last != Some(port) && !runs_there).then_some(Record::Sticky { identity, port })
    }
}

/// Who wants a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wanted {
    /// The user or the command, by its number.
    ByName,
    /// The tool, because nobody said anything.
    ByTheTool,
}

fn existing(lease: &Lease) -> Grant {
    Grant {
        port: lease.port,
        id: Some(lease.id),
        spares: Vec::new(),
        conflict: None,
        existing: Some(ExistingLease {
            existing: true,
            lock_id: lease.id.to_string(),
            instance_id: lease.instance_id.clone(),
            pid: lease.hold.pid(),
            allocated_at: lease.allocated_at * 1000,
        }),
        records: Vec::new(),
    }
}

fn lease(
    request: &AllocateRequest,
    applicant: &Applicant<'_>,
    port: Port,
    spares: Vec<Port>,
) -> Lease {
    let heartbeat = |pid, ttl| Hold::Heartbeat {
        pid,
        ttl,
        deadline: applicant.now + ttl,
    };
    Lease {
        id: applicant.id,
        port,
        spares,
        reports: Vec::new(),
        hold: match applicant.owner {
            OwnerKind::Watched(owner) => Hold::Owner(owner),
            OwnerKind::Unwatched(pid) => heartbeat(Some(pid), UNWATCHED_TTL),
            OwnerKind::Nobody => heartbeat(None, TTL),
        },
        boot: applicant.boot.to_owned(),
        allocated_at: applicant.wall,
        service_type: request.service_type.clone(),
        service_name: request.service_name.clone(),
        instance_id: request.instance_id.clone(),
        project_path: request.project_path.clone(),
        package_dir: request.package_dir.clone(),
        command: request.command.clone(),
    }
}

/// A lease as the holder of a port.
pub(crate) fn holder(lease: &Lease) -> Holder {
    Holder::Lease {
        project_path: lease.project_path.clone(),
        service_name: lease.service_name.clone(),
        pid: lease.hold.pid(),
    }
}
