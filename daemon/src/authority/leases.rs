//! A lease from its client's side: asked for, given back, kept alive, and told what it has bound.

use std::sync::Arc;
use std::time::Duration;

use styxy_protocol::api::{AllocateRequest, Conflict, Holder, ListenerReport, NewRange};
use styxy_protocol::{Port, ServiceType};
use tokio::task::spawn_blocking;
use tracing::info;

use super::{Authority, listening_view, new_id};
use crate::allocator::{
    Applicant, Grant, LeaseId, LeaseName, OwnerKind, Refusal, Release, ReportRefusal,
};
use crate::kernel;
use crate::owner::{self, OwnerRefusal, Peer};
use crate::ranges::NoRange;
use crate::tree;

/// Why there is no lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NoLease {
    /// The named process cannot have one.
    Owner(OwnerRefusal),
    /// There is no port for it.
    Refused(Refusal),
    /// There is no such type, and it gets no range.
    NoRange {
        /// Name of the type.
        service_type: ServiceType,
        /// Why it gets none.
        reason: NoRange,
        /// The types that there are.
        known: Vec<ServiceType>,
    },
    /// The system gives no randomness for a name.
    NoRandomness,
    /// The daemon is about to end.
    Closed,
}

/// A lease, and whether its client has to send heartbeats.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Granted {
    /// What was given.
    pub(crate) grant: Grant,
    /// The owner exists but cannot be watched.
    pub(crate) needs_heartbeats: bool,
    /// The range that the type was given for this request.
    pub(crate) new_range: Option<NewRange>,
}

/// What became of a released lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum Released {
    /// It has ended.
    Now(Port),
    /// It ends when nothing listens any more.
    Later(Port),
}

impl Authority {
    /// Chooses a port and leases it.
    pub(crate) async fn allocate(
        self: &Arc<Self>,
        request: &AllocateRequest,
        peer: Peer,
        user_agent: Option<String>,
    ) -> Result<Granted, NoLease> {
        let (owner, pidfd) = owner::identify(request.pid, peer).map_err(NoLease::Owner)?;
        let id = new_id()?;
        let client = owner::client(request.instance_id.as_deref(), owner, peer);
        let decided = self.decide(
            request,
            &Applicant {
                id,
                owner,
                client,
                user_agent,
                max_leases: self.settings().leases_per_owner,
                boot: &self.boot,
                now: kernel::boot_time(),
                wall: kernel::wall_clock(),
                is_free: &|port| self.is_free(port, &request.service_type),
            },
        );
        match decided {
            Ok((mut grant, new_range)) => {
                if grant.id == Some(id) {
                    self.metrics.allocated(&request.service_type);
                }
                if let (Some(pidfd), true) = (pidfd, grant.id == Some(id)) {
                    self.watch(id, pidfd);
                }
                if let Some(conflict) = &mut grant.conflict {
                    name_holder(conflict).await;
                }
                info!(%id, port = %grant.port, existing = grant.existing.is_some(), "allocated");
                Ok(Granted {
                    needs_heartbeats: matches!(owner, OwnerKind::Unwatched(_)),
                    grant,
                    new_range,
                })
            }
            Err(NoLease::Refused(Refusal::Taken(mut conflict))) => {
                name_holder(&mut conflict).await;
                Err(NoLease::Refused(Refusal::Taken(conflict)))
            }
            Err(refusal) => Err(refusal),
        }
    }

    /// Ends a lease on its client's word. `None` if there is none.
    pub(crate) fn release(self: &Arc<Self>, name: LeaseName) -> Option<Released> {
        let is_listening = listening_view();
        let mut core = self.lock();
        let lease = core.allocator.find(name)?;
        let (id, port) = (lease.id, lease.port);
        let release = core.allocator.release(id, &is_listening)?;
        if let Some(watch) = core.watches.remove(&id) {
            watch.abort();
        }
        let released = match release {
            Release::Ends(record) => {
                self.end(&mut core, id, record);
                Released::Now(port)
            }
            Release::Detaches(record) => {
                self.commit(&mut core, &[record]);
                tokio::spawn(Arc::clone(self).bury(id));
                Released::Later(port)
            }
            Release::IsDetached => Released::Later(port),
        };
        drop(core);
        info!(%id, ?released, "released");
        Some(released)
    }

    /// Renews a lease; its time to live from now. `None` if there is none that could be renewed.
    pub(crate) fn renew(&self, id: LeaseId) -> Option<Duration> {
        let mut core = self.lock();
        let (ttl, record) = core.allocator.renew(id, kernel::boot_time())?;
        self.commit(&mut core, record.as_slice());
        core.monitor.forgive(id);
        Some(ttl)
    }

    /// Records a listener of a lease's tree; the lease's main port. `None` if there is no such lease.
    pub(crate) fn report(
        &self,
        id: LeaseId,
        report: ListenerReport,
    ) -> Option<Result<Port, (ReportRefusal, Option<Holder>)>> {
        let mut core = self.lock();
        let port = core.allocator.lease(id)?.port;
        match core.allocator.report(id, report)? {
            Ok(record) => {
                self.commit(&mut core, record.as_slice());
                Some(Ok(port))
            }
            Err(refusal) => {
                let ReportRefusal::Taken(other) = refusal else {
                    return Some(Err((refusal, None)));
                };
                let holder = core.allocator.lease(other).map(crate::allocator::holder);
                Some(Err((refusal, holder)))
            }
        }
    }

    /// Whose lease this port belongs to.
    pub(crate) fn leaseholder(&self, port: Port) -> Option<Holder> {
        let core = self.lock();
        let mut leases = core.allocator.leases();
        let lease = leases.find(|lease| lease.ports().any(|it| it == port))?;
        Some(crate::allocator::holder(lease))
    }

    fn decide(
        &self,
        request: &AllocateRequest,
        applicant: &Applicant<'_>,
    ) -> Result<(Grant, Option<NewRange>), NoLease> {
        let mut core = self.lock();
        if core.is_closed {
            return Err(NoLease::Closed);
        }
        let decided = match core.allocator.allocate(request, applicant) {
            Err(Refusal::UnknownType(_)) => self.allocate_unknown(&mut core, request, applicant)?,
            decided => (decided.map_err(NoLease::Refused)?, None),
        };
        self.commit(&mut core, &decided.0.records);
        Ok(decided)
    }

    /// Asks the kernel about a port that no lease has.
    fn is_free(&self, port: Port, service_type: &ServiceType) -> bool {
        let is_free = self.probe(port).unwrap_or(false);
        if !is_free {
            self.metrics.conflict(service_type);
        }
        is_free
    }
}

/// Adds pid and command of a foreign process to a conflict with it.
async fn name_holder(conflict: &mut Conflict) {
    let port = conflict.port;
    if let Holder::Process { pid, command } = &mut conflict.holder {
        let found = spawn_blocking(move || tree::foreign_holder(port)).await;
        if let Ok(Some((found_pid, found_command))) = found {
            *pid = Some(found_pid);
            *command = found_command;
        }
    }
}
