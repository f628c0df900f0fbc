//! What ends because time passes or because somebody cleans up: leases without a process, silent instances.
//!
//! One timer serves all of it ([`crate::timers::expire`]). The kernel's listeners are looked at regularly only while
//! there are leases that hang on no process; without them and without instances nothing ever wakes the daemon.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use tracing::info;

use super::{Authority, Core, listening_view, own_listeners};
use crate::allocator::{Hold, LeaseId, Looks, Owner, Record, Sight};
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
        let owners: Vec<Owner> = {
            let core = self.lock();
            let holds = core.allocator.leases().map(|lease| lease.hold);
            holds
                .filter_map(|hold| match hold {
                    Hold::Owner(owner) => Some(owner),
                    Hold::Heartbeat { .. } | Hold::Detached { .. } => None,
                })
                .collect()
        };
        // Many looks at `/proc`, and who is dead stays dead: no reason to keep others from the lock.
        let dead = owners.iter().filter(|owner| !owner_lives(owner));
        let dead: HashSet<_> = dead.map(|owner| owner.process).collect();
        let mut core = self.lock();
        let sight = Sight {
            now: kernel::boot_time(),
            is_listening: &is_listening,
            is_alive: &|owner| !dead.contains(&owner.process),
        };
        let unused = core.allocator.cleanup(force, &sight);
        for id in &unused {
            if let Some(watch) = core.watches.remove(id) {
                watch.abort();
            }
            self.end(&mut core, *id, Record::Ended(*id));
        }
        self.metrics.stale_cleaned.inc_by(unused.len() as u64);
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
                Record::Ended(id) => {
                    self.metrics.stale_cleaned.inc();
                    self.end(core, id, record);
                }
                renewed => self.commit(core, &[renewed]),
            }
        }
    }
}

/// Whether this very process runs.
pub(super) fn is_running(process: kernel::ProcessIdentity) -> bool {
    kernel::process_identity(process.pid) == Some(process)
}

pub(super) fn owner_lives(owner: &Owner) -> bool {
    is_running(owner.process)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use styxy_protocol::Port;
    use styxy_protocol::api::ListenerReport;

    use super::*;
    use crate::audit::Audit;
    use crate::authority::{Configuration, Registration};
    use crate::journal::Journal;
    use crate::owner::Peer;
    use crate::settings::Settings;
    use crate::timers;

    fn us() -> Peer {
        Peer::Socket {
            uid: nix::unistd::geteuid().as_raw(),
            pid: Some(std::process::id()),
        }
    }

    /// An authority whose looks and instances are fast, and its timer.
    fn authority(dir: &tempfile::TempDir) -> Arc<Authority> {
        let mut settings = Settings {
            instance_ttl: Duration::from_millis(20),
            ..Settings::default()
        };
        settings.health_monitoring.check_interval_ms = 5;
        settings.health_monitoring.max_failures = 2;
        let loaded = Journal::open(&dir.path().join("journal"));
        let authority = Authority::new(
            loaded,
            dir.path().join("s"),
            Configuration::unwritten(dir.path(), settings),
            Audit::open(dir.path()),
            Arc::default(),
            Box::new(|_, _| None),
        );
        tokio::spawn(timers::expire(authority.clone()));
        authority
    }

    async fn eventually(what: &str, holds: impl Fn() -> bool) {
        let wait = async {
            while !holds() {
                timers::pause(Duration::from_millis(2)).await;
            }
        };
        let waited = tokio::time::timeout(Duration::from_secs(20), wait).await;
        assert!(waited.is_ok(), "not in time: {what}");
    }

    #[tokio::test]
    async fn the_listener_of_a_lease_without_a_process_is_looked_for_and_then_nothing_is() {
        let dir = tempfile::tempdir().unwrap();
        let authority = authority(&dir);
        assert_eq!(authority.expire(kernel::boot_time()), None);
        let request = serde_json::from_str(r#"{"service_type":"dev"}"#).unwrap();
        let granted = authority.allocate(&request, us(), None).await.unwrap();
        let id = granted.grant.id.unwrap();
        let held = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = Port::new(held.local_addr().unwrap().port()).unwrap();
        let report = ListenerReport {
            requested: port,
            port,
        };
        authority.report(id, report).unwrap().unwrap();
        let was_seen = || {
            let core = authority.lock();
            core.allocator.lease(id).is_some_and(|lease| lease.listened)
        };
        eventually("its listener is seen", was_seen).await;
        drop(held);
        let has_ended = || authority.lock().allocator.lease(id).is_none();
        eventually("it ends", has_ended).await;
        assert_eq!(
            authority.expire(kernel::boot_time()),
            None,
            "nothing to wake up for"
        );
    }

    #[tokio::test]
    async fn a_silent_instance_is_forgotten_and_one_whose_process_runs_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let authority = authority(&dir);
        for (name, pid) in [("silent", None), ("process", us().pid())] {
            let registration = Registration {
                id: name.parse().unwrap(),
                working_directory: None,
                metadata: std::collections::BTreeMap::new(),
                pid,
                port: None,
            };
            authority.register(registration, us()).await.unwrap();
        }
        let names = || -> Vec<String> {
            let instances = authority.instances();
            instances.into_iter().map(|it| it.instance_id).collect()
        };
        eventually("the silent one is forgotten", || names() == ["process"]).await;
        let deadline = authority.expire(kernel::boot_time());
        let after = deadline.expect("the other one is looked at again");
        authority.expire(after);
        assert_eq!(names(), ["process"]);
    }
}
