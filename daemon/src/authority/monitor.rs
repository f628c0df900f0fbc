//! What ends because time passes or because somebody cleans up: leases without a process, silent instances.
//!
//! One timer serves all of it ([`crate::timers::expire`]). The kernel's listeners are looked at regularly only while
//! there are leases that hang on no process; without them and without instances nothing ever wakes the daemon.

use std::sync::Arc;
use std::time::Duration;

use tracing::info;

use super::{Authority, Core, listening_view, own_listeners};
use crate::allocator::{LeaseId, Looks, Owner, Record, Sight};
use crate::instances::Seen;
use crate::journal::Entry;
use crate::kernel;

/// The regular looks at the listeners of leases that hang on no process.
#[derive(Debug, Default)]
pub(super) struct Monitor {
    looks: Looks,
    /// When the next one is due, as time since boot; `None` while there is no such lease.
    next: Option<Duration>,
}

impl Monitor {
    /// The client of this lease has given a sign of life.
    pub(super) fn forgive(&mut self, id: LeaseId) {
        self.looks.forgive(id);
    }
}

impl Authority {
    /// Does what is due; the next time at which something may be.
    pub(crate) fn expire(self: &Arc<Self>, now: Duration) -> Option<Duration> {
        let mut core = self.lock();
        let is_due = |deadline: Option<Duration>| deadline.is_some_and(|deadline| deadline <= now);
        if is_due(core.allocator.next_deadline()) {
            let records = core.allocator.expire(now, &listening_view());
            self.carry_out(&mut core, records);
        }
        if is_due(core.next_instance_deadline()) {
            let seen = Seen {
                at: now,
                wall: kernel::wall_clock(),
            };
            let is_alive = |process| is_running(process);
            let ttl = core.settings.instance_ttl;
            let records = core.instances.expire(seen, ttl, &is_alive);
            let entries: Vec<_> = records.into_iter().map(Entry::from).collect();
            self.write(&mut core, &entries);
        }
        if is_due(core.monitor.next) {
            core.monitor.next = None;
            self.look(&mut core, now);
        }
        let settings = core.settings.health_monitoring;
        if !settings.enabled || !core.allocator.has_unowned() {
            core.monitor.next = None;
        } else if core.monitor.next.is_none() {
            let interval = Duration::from_millis(settings.check_interval_ms.max(1));
            core.monitor.next = Some(now + interval);
        }
        let next = [
            core.monitor.next,
            core.allocator.next_deadline(),
            core.next_instance_deadline(),
        ];
        next.into_iter().flatten().min()
    }

    /// Resolves when the earliest deadline may have changed since the last call of [`Self::expire`].
    pub(crate) async fn deadline_moved(&self) {
        self.deadline_moved.notified().await;
    }

    /// Ends leases that nobody uses; how many. See [`crate::allocator::Allocator::cleanup`].
    pub(crate) fn cleanup(self: &Arc<Self>, force: bool) -> usize {
        let is_listening = listening_view();
        let mut core = self.lock();
        let sight = Sight {
            now: kernel::boot_time(),
            is_listening: &is_listening,
            is_alive: &owner_lives,
        };
        let unused = core.allocator.cleanup(force, &sight);
        for id in &unused {
            if let Some(watch) = core.watches.remove(id) {
                watch.abort();
            }
            self.end(&mut core, *id, Record::Ended(*id));
        }
        info!(count = unused.len(), force, "cleaned up");
        unused.len()
    }

    fn look(self: &Arc<Self>, core: &mut Core, now: Duration) {
        // Who cannot see misses nothing.
        let Ok(listening) = own_listeners() else {
            return;
        };
        let settings = core.settings.health_monitoring;
        let Core {
            allocator, monitor, ..
        } = &mut *core;
        let mut records =
            allocator.look(&mut monitor.looks, &listening, now, settings.max_failures);
        if !settings.cleanup_stale_allocations {
            records.retain(|record| !matches!(record, Record::Ended(_)));
        }
        self.carry_out(core, records);
    }

    fn carry_out(self: &Arc<Self>, core: &mut Core, records: Vec<Record>) {
        for record in records {
            match record {
                Record::Ended(id) => self.end(core, id, record),
                renewed => self.commit(core, &[renewed]),
            }
        }
    }
}

impl Core {
    /// Whatever [`Authority::expire`] goes by, to see whether it has changed.
    pub(super) fn next_deadline(&self) -> (Option<Duration>, Option<Duration>, bool) {
        (
            self.allocator.next_deadline(),
            self.next_instance_deadline(),
            self.allocator.has_unowned(),
        )
    }

    fn next_instance_deadline(&self) -> Option<Duration> {
        self.instances.next_deadline(self.settings.instance_ttl)
    }
}

/// Whether this very process runs.
pub(super) fn is_running(process: kernel::ProcessIdentity) -> bool {
    kernel::process_identity(process.pid) == Some(process)
}

pub(super) fn owner_lives(owner: &Owner) -> bool {
    is_running(owner.process)
}
