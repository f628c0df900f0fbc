//! What the authority's lock protects: the states, and the journal that they are written to.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::AbortHandle;

use super::configuration::Configuration;
use super::monitor::Monitor;
use crate::allocator::{Allocator, LeaseId};
use crate::instances::Instances;
use crate::journal::{Entry, Journal};
use crate::kernel;
use crate::settings::Settings;

/// Everything that the lock is for.
#[derive(Debug)]
pub(super) struct Core {
    /// Leases and sticky ports.
    pub(super) allocator: Allocator,
    /// Who has told that they are there.
    pub(super) instances: Instances,
    /// Where both are written down.
    pub(super) journal: Journal,
    /// The configuration and its files.
    pub(super) configuration: Configuration,
    /// What of it is in force.
    pub(super) settings: Arc<Settings>,
    /// The tasks that wait for the owners of leases to end.
    pub(super) watches: HashMap<LeaseId, AbortHandle>,
    /// Looks at leases without a process.
    pub(super) monitor: Monitor,
    /// Nothing is given any more: nobody would watch over it.
    pub(super) is_closed: bool,
}

impl Core {
    /// What keeps the daemon.
    pub(super) fn uses(&self) -> usize {
        self.allocator.len() + self.instances.len()
    }

    /// Makes one change true.
    pub(super) fn apply(&mut self, entry: &Entry) {
        match entry {
            Entry::Lease(record) => self.allocator.apply(record),
            Entry::Instance(record) => self.instances.apply(record),
        }
    }

    /// Makes changes true and writes them down.
    pub(super) fn write(&mut self, entries: &[Entry]) {
        for entry in entries {
            self.apply(entry);
        }
        let Self {
            allocator,
            instances,
            journal,
            ..
        } = self;
        journal.append(entries, kernel::boot_time(), || {
            snapshot(allocator, instances)
        });
    }

    /// As [`Self::write`] without a change: what was read stays readable, wherever it was read from.
    pub(super) fn settle(&mut self) {
        let Self {
            allocator,
            instances,
            journal,
            ..
        } = self;
        journal.settle(kernel::boot_time(), || snapshot(allocator, instances));
    }

    /// Whatever [`super::Authority::expire`] goes by, to see whether it has changed.
    pub(super) fn next_deadline(&self) -> (Option<Duration>, Option<Duration>, bool) {
        (
            self.allocator.next_deadline(),
            self.next_instance_deadline(),
            self.allocator.has_unowned(),
        )
    }

    /// When an instance may have been silent for too long.
    pub(super) fn next_instance_deadline(&self) -> Option<Duration> {
        self.instances.next_deadline(self.settings.instance_ttl)
    }
}

/// Everything that the journal has to hold.
fn snapshot(allocator: &Allocator, instances: &Instances) -> Vec<Entry> {
    let leases = allocator.snapshot().into_iter().map(Entry::from);
    leases
        .chain(instances.snapshot().map(Entry::from))
        .collect()
}
