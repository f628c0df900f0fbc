//! The running port authority: allocator and journal behind one lock, and the tasks that watch processes.
//!
//! A request locks, asks the allocator once, writes the journal, unlocks and only then answers, so an answer
//! is never ahead of the state. Invariant: nothing is awaited and nothing slower than a file append or a
//! probe of the kernel happens while the lock is held.

mod afterlife;
mod configuration;
mod observation;

use std::collections::{BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use styxy_protocol::api::{
    AllocateRequest, Allocation, Conflict, Holder, ListenerReport, NewRange,
};
use styxy_protocol::{Port, ServiceType};
use tokio::sync::{Notify, Semaphore, watch};
use tokio::task::{AbortHandle, spawn_blocking};
use tracing::{info, warn};

use crate::Classify;
use crate::allocator::{
    Allocator, Applicant, Grant, Hold, LeaseId, OwnerKind, Record, Refusal, Release, ReportRefusal,
};
use crate::audit::Audit;
use crate::census::{Census, Depth, Walker};
use crate::journal::{Journal, Loaded};
use crate::kernel::{self, Pidfd};
use crate::observation::Sight;
use crate::owner::{self, OwnerRefusal, Peer};
use crate::ranges::NoRange;
use crate::settings::Settings;
use crate::timers;
use crate::tree;

pub(crate) use configuration::{Configuration, NotSwitched, NotUndone};

/// The one of a runtime directory.
#[derive(Debug)]
pub(crate) struct Authority {
    core: Mutex<Core>,
    boot: String,
    sessions: PathBuf,
    /// Looks for leftovers.
    marks: Walker<Census>,
    /// Looks for users of session directories.
    maps: Walker<Census>,
    /// Looks at who has which port.
    sights: Walker<Sight>,
    /// One scan at a time: of the few threads for slow things others stay free.
    scans: Arc<Semaphore>,
    started: Duration,
    deadline_moved: Notify,
    /// daemon --number of leases--> idle timer
    lease_count_tx: watch::Sender<usize>,
    /// configuration --settings in force--> whoever acts on them
    settings_tx: watch::Sender<Arc<Settings>>,
    audit: Audit,
}

#[derive(Debug)]
struct Core {
    allocator: Allocator,
    journal: Journal,
    configuration: Configuration,
    /// The tasks that wait for the owners of leases to end.
    watches: HashMap<LeaseId, AbortHandle>,
}

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

/// How the daemon is.
#[derive(Clone, Debug)]
pub(crate) struct Health {
    /// Time since its start.
    pub(crate) uptime: Duration,
    /// Number of leases.
    pub(crate) leases: usize,
    /// Why nothing is being saved, if so.
    pub(crate) degraded: Option<String>,
    /// What is wrong with the configuration.
    pub(crate) config_problem: Option<String>,
}

impl Authority {
    /// Takes over what the journal remembers. Owners are watched once [`Self::resume`] is called.
    pub(crate) fn new(
        loaded: Loaded,
        sessions: PathBuf,
        configuration: Configuration,
        audit: Audit,
        classify: Classify,
    ) -> Arc<Self> {
        for remark in &loaded.remarks {
            warn!("{remark}");
        }
        let settings = configuration.settings();
        let seed = random_bits().map_or(0, |bits| (bits & 0xffff) as u16);
        let mut allocator = Allocator::new(settings.types.clone(), kernel::ephemeral_range(), seed);
        for record in &loaded.records {
            allocator.apply(record);
        }
        let authority = Self {
            core: Mutex::new(Core {
                allocator,
                journal: loaded.journal,
                configuration,
                watches: HashMap::new(),
            }),
            boot: kernel::boot_id(),
            sessions,
            marks: Walker::start(|| Census::take(Depth::Marks)),
            maps: Walker::start(|| Census::take(Depth::Maps)),
            sights: Walker::start(move || Sight::take(&classify)),
            scans: Arc::new(Semaphore::new(1)),
            started: kernel::boot_time(),
            deadline_moved: Notify::new(),
            lease_count_tx: watch::Sender::new(0),
            settings_tx: watch::Sender::new(Arc::new(settings)),
            audit,
        };
        let mut core = authority.lock();
        let is_alive = |owner: &crate::allocator::Owner| {
            kernel::process_identity(owner.process.pid) == Some(owner.process)
        };
        let records = core.allocator.recover(&authority.boot, &is_alive);
        authority.commit(&mut core, &records);
        let leases = core.allocator.len();
        authority.lease_count_tx.send_replace(leases);
        drop(core);
        info!(leases, "journal read");
        Arc::new(authority)
    }

    /// Chooses a port and leases it.
    pub(crate) async fn allocate(
        self: &Arc<Self>,
        request: &AllocateRequest,
        peer: Peer,
    ) -> Result<Granted, NoLease> {
        let (owner, pidfd) = owner::identify(request.pid, peer).map_err(NoLease::Owner)?;
        let id = LeaseId::from_random(random_bits().ok_or(NoLease::NoRandomness)?);
        let decided = self.decide(request, id, owner);
        match decided {
            Ok((mut grant, new_range)) => {
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
    pub(crate) fn release(self: &Arc<Self>, id: LeaseId) -> Option<Released> {
        let is_listening = listening_view();
        let mut core = self.lock();
        let port = core.allocator.lease(id)?.port;
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

    /// Every lease and what of it listens now.
    pub(crate) fn allocations(&self) -> Vec<Allocation> {
        let listening = kernel::listening().unwrap_or_default();
        let listening: BTreeSet<Port> = listening.iter().map(|socket| socket.port).collect();
        self.lock().allocator.allocations(&listening)
    }

    /// How the daemon is.
    pub(crate) fn health(&self) -> Health {
        let core = self.lock();
        Health {
            uptime: kernel::boot_time().saturating_sub(self.started),
            leases: core.allocator.len(),
            degraded: core
                .journal
                .degraded()
                .map(str::to_owned)
                .or_else(|| core.configuration.degraded()),
            config_problem: core.configuration.problem().map(ToString::to_string),
        }
    }

    /// Ends leases whose time is up; the next time at which there may be one.
    pub(crate) fn expire(self: &Arc<Self>, now: Duration) -> Option<Duration> {
        let mut core = self.lock();
        if core
            .allocator
            .next_deadline()
            .is_some_and(|deadline| deadline <= now)
        {
            for record in core.allocator.expire(now, &listening_view()) {
                match record {
                    Record::Ended(id) => self.end(&mut core, id, record),
                    renewed => self.commit(&mut core, &[renewed]),
                }
            }
        }
        core.allocator.next_deadline()
    }

    /// Resolves when the earliest deadline may have changed since the last call of [`Self::expire`].
    pub(crate) async fn deadline_moved(&self) {
        self.deadline_moved.notified().await;
    }

    /// The number of leases, as it changes.
    pub(crate) fn lease_count(&self) -> watch::Receiver<usize> {
        self.lease_count_tx.subscribe()
    }

    /// The settings in force. They are replaced as a whole when the configuration changes.
    pub(crate) fn settings(&self) -> Arc<Settings> {
        Arc::clone(&self.settings_tx.borrow())
    }

    /// The settings in force, as they change.
    #[expect(dead_code, reason = "for those who act on a change as it comes")]
    pub(crate) fn settings_changes(&self) -> watch::Receiver<Arc<Settings>> {
        self.settings_tx.subscribe()
    }

    /// Syncs the journal to disk. Takes milliseconds.
    pub(crate) fn sync(&self) {
        self.lock().journal.sync();
    }

    fn decide(
        &self,
        request: &AllocateRequest,
        id: LeaseId,
        owner: OwnerKind,
    ) -> Result<(Grant, Option<NewRange>), NoLease> {
        let mut core = self.lock();
        let applicant = Applicant {
            id,
            owner,
            boot: &self.boot,
            now: kernel::boot_time(),
            wall: kernel::wall_clock(),
            is_free: &kernel::port_is_free,
        };
        let decided = match core.allocator.allocate(request, &applicant) {
            Err(Refusal::UnknownType(_)) => {
                self.allocate_unknown(&mut core, request, &applicant)?
            }
            decided => (decided.map_err(NoLease::Refused)?, None),
        };
        self.commit(&mut core, &decided.0.records);
        Ok(decided)
    }

    /// Ends this lease when its owner does.
    fn watch(self: &Arc<Self>, id: LeaseId, pidfd: Pidfd) {
        let authority = Arc::clone(self);
        let task = tokio::spawn(async move {
            timers::process_end(&pidfd).await;
            drop(pidfd);
            authority.owner_ended(id);
            authority.bury(id).await;
        });
        self.lock().watches.insert(id, task.abort_handle());
    }

    fn owner_ended(&self, id: LeaseId) {
        let mut core = self.lock();
        core.watches.remove(&id);
        let record = core.allocator.owner_ended(id);
        self.commit(&mut core, record.as_slice());
    }

    /// Removes a lease for good. Its session directory goes when its last user does.
    fn end(self: &Arc<Self>, core: &mut Core, id: LeaseId, record: Record) {
        let owner = core.allocator.lease(id).and_then(|lease| match lease.hold {
            Hold::Owner(owner) => Some(owner),
            Hold::Detached { owner, .. } => owner,
            Hold::Heartbeat { .. } => None,
        });
        self.commit(core, &[record]);
        tokio::spawn(Arc::clone(self).sweep_session(tree::Tree { id, owner }));
    }

    fn commit(&self, core: &mut Core, records: &[Record]) {
        if records.is_empty() {
            return;
        }
        let deadline = core.allocator.next_deadline();
        for record in records {
            core.allocator.apply(record);
        }
        let was_degraded = core.journal.degraded().is_some();
        let Core {
            allocator, journal, ..
        } = core;
        journal.append(records, kernel::boot_time(), || allocator.snapshot());
        if let (Some(reason), false) = (journal.degraded(), was_degraded) {
            warn!("leases are not being saved: {reason}");
        }
        if allocator.next_deadline() != deadline {
            self.deadline_moved.notify_one();
        }
        self.lease_count_tx.send_replace(allocator.len());
    }

    /// The allocator's records are made before any of them is applied, so what a panicking request leaves
    /// behind is a state that it did not change.
    fn lock(&self) -> MutexGuard<'_, Core> {
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
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

/// Whether something listens on a port, for many ports at one point in time. Where the kernel has no list,
/// a port that cannot be bound counts.
fn listening_view() -> impl Fn(Port) -> bool {
    let listening = kernel::listening().map(|sockets| {
        let ports = sockets.iter().map(|socket| socket.port);
        ports.collect::<BTreeSet<Port>>()
    });
    move |port| match &listening {
        Ok(ports) => ports.contains(&port),
        Err(_) => !kernel::port_is_free(port),
    }
}

fn random_bits() -> Option<u128> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).ok()?;
    Some(u128::from_ne_bytes(bytes))
}
