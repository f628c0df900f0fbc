//! The running port authority: allocator and journal behind one lock, and the tasks that watch processes.
//!
//! A request locks, asks the allocator once, writes the journal, unlocks and only then answers, so an answer
//! is never ahead of the state. Invariant: nothing is awaited while the lock is held, and nothing
//! slower happens than a file append, a probe of the kernel or, when the configuration is changed, writing a small file.

mod afterlife;
mod configuration;
mod core;
mod instances;
mod leases;
mod monitor;
mod observation;
mod recovery;

use std::collections::BTreeSet;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use styxy_protocol::Port;
use styxy_protocol::api::{Allocation, RecoveryStep};
use tokio::sync::{Notify, Semaphore, watch};
use tracing::{info, warn};

use self::core::Core;
use crate::Classify;
use crate::allocator::{Allocator, Hold, LeaseId, Record};
use crate::audit::Audit;
use crate::census::{Census, Depth, Walker};
use crate::journal::{Entry, Loaded};
use crate::kernel::{self, Pidfd};
use crate::metrics::Metrics;
use crate::observation::Sight;
use crate::settings::Settings;
use crate::timers;
use crate::tree;

pub(crate) use configuration::{Configuration, NotSwitched, NotUndone};
pub(crate) use instances::Registration;
pub(crate) use leases::{Granted, NoLease, Released};

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
    audit: Audit,
    metrics: Arc<Metrics>,
    /// daemon --number of leases and instances--> idle timer
    use_count_tx: watch::Sender<usize>,
    /// What was found and mended at the start.
    recovery: Vec<RecoveryStep>,
}

/// How the daemon is.
#[derive(Clone, Debug)]
pub(crate) struct Health {
    /// Time since its start.
    pub(crate) uptime: Duration,
    /// Number of leases.
    pub(crate) leases: usize,
    /// Number of instances.
    pub(crate) instances: usize,
    /// What was found and mended at the start.
    pub(crate) recovery: Vec<RecoveryStep>,
    /// Why nothing is being saved, if so.
    pub(crate) degraded: Option<String>,
    /// What is wrong with the configuration.
    pub(crate) config_problem: Option<String>,
    /// Number of service types.
    pub(crate) service_types: usize,
}

impl Authority {
    /// Takes over what the journal remembers and mends what is wrong with it. Owners are watched once
    /// [`Self::resume`] is called.
    pub(crate) fn new(
        loaded: Loaded,
        sessions: PathBuf,
        configuration: Configuration,
        audit: Audit,
        metrics: Arc<Metrics>,
        classify: Classify,
    ) -> Arc<Self> {
        metrics.state_loads.inc();
        let boot = kernel::boot_id();
        let seed = random_bits().map_or(0, |bits| (bits & 0xffff) as u16);
        let types = configuration.settings().types;
        metrics.know(&types);
        let allocator = Allocator::new(types, kernel::ephemeral_range(), seed);
        let (core, recovery) = Core::recover(loaded, allocator, configuration, &boot);
        let uses = core.uses();
        info!(leases = core.allocator.len(), "journal read");
        Arc::new(Self {
            core: Mutex::new(core),
            boot,
            sessions,
            marks: Walker::start(|| Census::take(Depth::Marks)),
            maps: Walker::start(|| Census::take(Depth::Maps)),
            sights: Walker::start(move || Sight::take(&classify)),
            scans: Arc::new(Semaphore::new(1)),
            started: kernel::boot_time(),
            deadline_moved: Notify::new(),
            audit,
            metrics,
            use_count_tx: watch::Sender::new(uses),
            recovery,
        })
    }

    /// Every lease and what of it listens now.
    pub(crate) fn allocations(&self) -> Vec<Allocation> {
        let listening = own_listeners().unwrap_or_default();
        let core = self.lock();
        core.allocator.allocations(&listening, kernel::boot_time())
    }

    /// How the daemon is.
    pub(crate) fn health(&self) -> Health {
        let core = self.lock();
        Health {
            uptime: kernel::boot_time().saturating_sub(self.started),
            leases: core.allocator.len(),
            instances: core.instances.len(),
            recovery: self.recovery.clone(),
            degraded: core
                .journal
                .degraded()
                .map(str::to_owned)
                .or_else(|| core.configuration.degraded()),
            config_problem: core.configuration.problem().map(ToString::to_string),
            service_types: core.allocator.types().iter().count(),
        }
    }

    /// The number of leases and instances, as it changes.
    pub(crate) fn use_count(&self) -> watch::Receiver<usize> {
        self.use_count_tx.subscribe()
    }

    /// Gives nothing any more, unless there are leases or instances; whether that is so.
    pub(crate) fn close_if_unused(&self) -> bool {
        let mut core = self.lock();
        core.is_closed = core.uses() == 0;
        core.is_closed
    }

    /// The settings in force. They are replaced as a whole when the configuration changes.
    pub(crate) fn settings(&self) -> Arc<Settings> {
        Arc::clone(&self.lock().settings)
    }

    /// Syncs the journal to disk. Takes milliseconds.
    pub(crate) fn sync(&self) {
        self.lock().journal.sync();
    }

    /// Asks the kernel about a port on somebody's behalf, and counts that.
    fn probe(&self, port: Port) -> io::Result<bool> {
        let start = kernel::boot_time();
        let answer = kernel::probe(port);
        let duration = kernel::boot_time().saturating_sub(start);
        self.metrics.port_check_duration.observe(duration);
        if let Ok(is_free) = answer {
            self.metrics.port_checked(is_free);
        }
        answer
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
        let entries = records.iter().cloned().map(Entry::from);
        self.write(core, &entries.collect::<Vec<_>>());
    }

    /// Makes true and writes down what was decided, and wakes whom it concerns.
    fn write(&self, core: &mut Core, entries: &[Entry]) {
        if entries.is_empty() {
            return;
        }
        let deadline = core.next_deadline();
        let was_degraded = core.journal.degraded().is_some();
        core.write(entries);
        let ended = entries
            .iter()
            .filter(|entry| matches!(entry, Entry::Lease(Record::Ended(_))));
        self.metrics.released.inc_by(ended.count() as u64);
        match core.journal.degraded() {
            None => self.metrics.state_saves.inc(),
            Some(_) => self.metrics.state_save_errors.inc(),
        };
        if let (Some(reason), false) = (core.journal.degraded(), was_degraded) {
            warn!("leases are not being saved: {reason}");
        }
        if core.next_deadline() != deadline {
            self.deadline_moved.notify_one();
        }
        self.use_count_tx.send_replace(core.uses());
    }

    /// The allocator's records are made before any of them is applied, so what a panicking request leaves
    /// behind is a state that it did not change.
    fn lock(&self) -> MutexGuard<'_, Core> {
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
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

/// The ports that processes of our own user listen on. A port that another user's process listens on is not what
/// the lease was made for.
fn own_listeners() -> io::Result<BTreeSet<Port>> {
    let uid = nix::unistd::geteuid().as_raw();
    let sockets = kernel::listening()?;
    let own = sockets.iter().filter(|socket| socket.uid == uid);
    Ok(own.map(|socket| socket.port).collect())
}

fn new_id() -> Result<LeaseId, NoLease> {
    let bits = random_bits().ok_or(NoLease::NoRandomness)?;
    Ok(LeaseId::from_random(bits))
}

fn random_bits() -> Option<u128> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).ok()?;
    Some(u128::from_ne_bytes(bytes))
}
