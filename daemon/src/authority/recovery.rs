//! What a daemon does with what it finds when it starts: five steps before it serves, and taking in what the
//! journal does not know once it does.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use std::sync::Arc;

use styxy_protocol::Port;
use styxy_protocol::api::RecoveryStep;
use tokio::task::spawn_blocking;
use tracing::{info, warn};

use super::instances::command_of;
use super::monitor::{Monitor, owner_lives};
use super::{Authority, Configuration, Core, listening_view, new_id, own_listeners};
use crate::allocator::{Allocator, Client, Doubles, Hold, Lease, LeaseId, Record, TTL};
use crate::census::Census;
use crate::import::Import;
use crate::instances::Instances;
use crate::journal::{Entry, Loaded};
use crate::kernel;
use crate::observation;

impl Core {
    /// Stands where the daemon stood that wrote the journal, and mends what is wrong with that.
    pub(super) fn recover(
        loaded: Loaded,
        allocator: Allocator,
        configuration: Configuration,
        boot: &str,
    ) -> (Self, Vec<RecoveryStep>) {
        for remark in &loaded.remarks {
            warn!("{remark}");
        }
        let mut core = Self {
            allocator,
            instances: Instances::default(),
            journal: loaded.journal,
            settings: Arc::new(configuration.settings()),
            configuration,
            watches: HashMap::new(),
            monitor: Monitor::default(),
            is_closed: false,
        };
        for entry in &loaded.records {
            core.apply(entry);
        }
        let state = validate_state(&loaded.remarks, loaded.dropped, core.journal.degraded());
        let problem = core.configuration.problem().map(ToString::to_string);
        let config = validate_config(problem.as_deref());
        // Before the rest, which relies on them.
        let indexes = rebuild_indexes(core.allocator.rebuild_indexes());
        let orphans = core.drop_orphans(boot);
        let singletons = core.fix_singletons();
        core.settle();
        (core, vec![state, config, orphans, singletons, indexes])
    }

    fn drop_orphans(&mut self, boot: &str) -> RecoveryStep {
        let leases = self.allocator.recover(boot, &owner_lives);
        let ended = leases
            .iter()
            .filter(|it| matches!(it, Record::Ended(_)))
            .count();
        let detached = leases.len() - ended;
        let instances = self.instances.recover(boot);
        let gone = instances.len();
        let entries = leases.into_iter().map(Entry::from);
        let entries: Vec<_> = entries
            .chain(instances.into_iter().map(Entry::from))
            .collect();
        self.write(&entries);
        let message = if entries.is_empty() {
            "every lease and instance is of this boot and its owner lives".to_owned()
        } else {
            format!(
                "{ended} leases and {gone} instances of an earlier boot ended, {detached} leases without their owner are watched until nothing listens"
            )
        };
        step("drop_orphans", true, entries.len(), message)
    }

    fn fix_singletons(&mut self) -> RecoveryStep {
        let Doubles { unused, used } = self.allocator.doubles(&listening_view());
        let ended = unused.iter().map(|id| Entry::from(Record::Ended(*id)));
        self.write(&ended.collect::<Vec<_>>());
        let message = match (unused.len(), used) {
            (0, 0) => "no single-instance type has two leases".to_owned(),
            (ended, 0) => {
                format!("{ended} leases beside the newest of a single-instance type ended")
            }
            (ended, used) => format!(
                "{ended} leases beside the newest of a single-instance type ended, {used} are in use and stay"
            ),
        };
        step("fix_singletons", used == 0, unused.len(), message)
    }
}

fn validate_state(remarks: &[String], dropped: usize, degraded: Option<&str>) -> RecoveryStep {
    let mut sentences = remarks.to_vec();
    let news = degraded.filter(|reason| !remarks.iter().any(|remark| remark == reason));
    sentences.extend(news.map(str::to_owned));
    if sentences.is_empty() {
        sentences.push("the journal is whole".to_owned());
    }
    step(
        "validate_state",
        degraded.is_none(),
        dropped,
        sentences.join("; "),
    )
}

fn validate_config(problem: Option<&str>) -> RecoveryStep {
    let message = problem.unwrap_or("the configuration is in force");
    step("validate_config", problem.is_none(), 0, message.to_owned())
}

fn rebuild_indexes(wrong: usize) -> RecoveryStep {
    let message = match wrong {
        0 => "ports, owners and deadlines agree with the leases".to_owned(),
        wrong => format!("{wrong} entries did not agree with the leases and were made anew"),
    };
    step("rebuild_indexes", true, wrong, message)
}

fn step(name: &str, success: bool, repaired: usize, message: String) -> RecoveryStep {
    info!(step = name, success, repaired, "{message}");
    RecoveryStep {
        step: name.to_owned(),
        success,
        repaired,
        message,
    }
}

/// A run that the journal does not know, as it was found.
struct Survivor {
    id: LeaseId,
    pid: u32,
    ports: BTreeSet<Port>,
}

impl Authority {
    /// Takes in the runs of which nothing is left but their processes, session directory and listeners: the journal
    /// may have been lost or could not be written. Nobody else gets their ports, which the kernel sees to, but here
    /// they are listed and can be released.
    pub(crate) async fn adopt(self: Arc<Self>) {
        let unknown = self.unknown_sessions(|_| true);
        if unknown.is_empty() {
            return;
        }
        let Some(census) = self.marks.ask().await else {
            return;
        };
        let survivors = spawn_blocking(move || survivors(&unknown, &census)).await;
        for survivor in survivors.unwrap_or_default() {
            self.take_in(survivor).await;
        }
    }

    async fn take_in(self: &Arc<Self>, survivor: Survivor) {
        let Survivor { id, pid, ports } = survivor;
        let Some(port) = self.main_port(&ports) else {
            return;
        };
        let about = spawn_blocking(move || (observation::worktree_of(pid), command_of(pid))).await;
        let (project_path, command) = about.unwrap_or_default();
        let lease = Lease {
            project_path: project_path.and_then(|path| path.to_str().map(str::to_owned)),
            command,
            ..self.found(id, port, &ports)
        };
        let mut core = self.lock();
        let record = core.allocator.adopt(lease);
        self.commit(&mut core, record.as_slice());
        drop(core);
        if record.is_some() {
            info!(%id, %port, pid, "a run that the journal does not know");
            tokio::spawn(Arc::clone(self).bury(id));
        }
    }

    /// The first port that belongs to a service type, else the first.
    fn main_port(&self, ports: &BTreeSet<Port>) -> Option<Port> {
        let core = self.lock();
        let mut of_types = ports
            .iter()
            .filter(|port| core.allocator.types().has_port(port.get()));
        of_types.next().or(ports.first()).copied()
    }

    /// Takes in what another program's state file says: ports that services had last, and leases of those that are
    /// listened on. Whether it is saved.
    pub(crate) fn import(&self, import: &Import) -> bool {
        let listening = own_listeners().unwrap_or_default();
        let mut core = self.lock();
        let sticky = import.services.iter().filter_map(|service| {
            let port = service.port;
            let identity = service.identity()?;
            Some(Record::Sticky { identity, port })
        });
        self.commit(&mut core, &sticky.collect::<Vec<_>>());
        let used = import
            .services
            .iter()
            .filter(|it| listening.contains(&it.port));
        for service in used {
            let Some(id) = service.id.or_else(|| new_id().ok()) else {
                continue;
            };
            let now = kernel::boot_time();
            let lease = Lease {
                id,
                port: service.port,
                spares: Vec::new(),
                reports: Vec::new(),
                hold: Hold::Heartbeat {
                    pid: None,
                    ttl: TTL,
                    deadline: now + TTL,
                },
                boot: self.boot.clone(),
                allocated_at: service.allocated_at.unwrap_or_else(kernel::wall_clock),
                service_type: service.service_type.clone(),
                service_name: service.service_name.clone(),
                instance_id: service.instance_id.clone(),
                project_path: service.project_path.clone(),
                package_dir: None,
                command: None,
                client: Client::Unknown,
                user_agent: None,
                listened: true,
            };
            let record = core.allocator.adopt(lease);
            self.commit(&mut core, record.as_slice());
        }
        core.journal.degraded().is_none()
    }
}

/// Which of these leases have processes that listen, and on what.
fn survivors(ids: &[LeaseId], census: &Census) -> Vec<Survivor> {
    let Ok(sockets) = kernel::listening() else {
        return Vec::new();
    };
    let ports: BTreeMap<u32, Port> = sockets.iter().map(|it| (it.inode, it.port)).collect();
    let inodes: Vec<u32> = ports.keys().copied().collect();
    let survivors = ids.iter().filter_map(|id| {
        let marked: Vec<u32> = census.marked(*id).collect();
        let holders = kernel::holders(&inodes, Some(&marked));
        let pid = holders.first()?.0;
        let ports = holders
            .iter()
            .filter_map(|(_, inode)| ports.get(inode).copied());
        Some(Survivor {
            id: *id,
            pid,
            ports: ports.collect(),
        })
    });
    survivors.collect()
}
