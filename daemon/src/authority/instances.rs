//! Instances: registering them, hearing of them, and the leases that are theirs.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use styxy_protocol::api::{self, ListenerReport, Metadata};
use styxy_protocol::{Port, ServiceType};
use tokio::task::spawn_blocking;
use tracing::info;

use super::{Authority, new_id};
use crate::allocator::{Client, Hold, Lease, LeaseId, Owner, OwnerKind};
use crate::instances::{Instance, InstanceId, RegisterRefusal, Seen};
use crate::kernel::{self, Pidfd};
use crate::owner::{self, Peer};

/// Characters of a command that are kept.
const MAX_COMMAND: usize = 1000;

/// What a client says about itself.
#[derive(Clone, Debug)]
pub(crate) struct Registration {
    /// Its name.
    pub(crate) id: InstanceId,
    /// Where it works.
    pub(crate) working_directory: Option<String>,
    /// What else there is to say.
    pub(crate) metadata: Metadata,
    /// Its process.
    pub(crate) pid: Option<u32>,
    /// A port that its process listens on, and what for.
    pub(crate) port: Option<(Port, ServiceType)>,
}

impl Authority {
    /// Takes in an instance, and gives it a lease of the port that its process listens on.
    ///
    /// A process that cannot be seen, or that has ended, is kept as a number; such an instance lives by its
    /// heartbeats like any other.
    pub(crate) async fn register(
        self: &Arc<Self>,
        registration: Registration,
        peer: Peer,
    ) -> Result<(), RegisterRefusal> {
        let watched = owner::identify(registration.pid, peer).ok();
        let watched = watched.and_then(|(kind, pidfd)| match kind {
            OwnerKind::Watched(owner) => Some((owner, pidfd?)),
            OwnerKind::Unwatched(_) | OwnerKind::Nobody => None,
        });
        let instance = Instance {
            id: registration.id.clone(),
            working_directory: registration.working_directory.clone(),
            pid: registration.pid,
            process: watched.as_ref().map(|(owner, _)| owner.process),
            metadata: registration.metadata.clone(),
            boot: self.boot.clone(),
            registered_at: kernel::wall_clock(),
            seen: now(),
        };
        {
            let mut core = self.lock();
            let record = core.instances.register(instance)?;
            self.write(&mut core, &[record.into()]);
        }
        info!(id = %registration.id, "instance registered");
        if let Some((owner, pidfd)) = watched {
            self.lease_what_it_has(registration, owner, pidfd).await;
        }
        Ok(())
    }

    /// Whether there is a service type of this name.
    pub(crate) fn has_type(&self, name: &ServiceType) -> bool {
        self.lock().allocator.types().get(name).is_some()
    }

    /// A sign of life of an instance, and when that was; `None` if there is no such instance.
    pub(crate) fn hear_of(&self, id: &InstanceId) -> Option<Seen> {
        let seen = now();
        let mut core = self.lock();
        let record = core.instances.heartbeat(id, seen)?;
        self.write(&mut core, &[record.into()]);
        Some(seen)
    }

    /// Every instance, with its leases.
    pub(crate) fn instances(&self) -> Vec<api::Instance> {
        let core = self.lock();
        let mut leases: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        for lease in core.allocator.leases() {
            if let Some(name) = lease.instance_id.as_deref() {
                leases.entry(name).or_default().push(lease.id.to_string());
            }
        }
        let instances = core.instances.iter();
        instances
            .map(|instance| instance.view(leases.remove(instance.id.as_str()).unwrap_or_default()))
            .collect()
    }

    /// Leases the named port to the process that listens on it, unless it has a lease.
    async fn lease_what_it_has(
        self: &Arc<Self>,
        registration: Registration,
        owner: Owner,
        pidfd: Pidfd,
    ) {
        let Some((port, service_type)) = registration.port else {
            return;
        };
        let pid = owner.process.pid;
        let listens = spawn_blocking(move || kernel_says(pid, port)).await;
        let (Ok(true), Ok(id)) = (listens, new_id()) else {
            return;
        };
        // Styxy has not started it: what else is in its process group is none of our business when it ends.
        let owner = Owner {
            group: None,
            ..owner
        };
        let lease = Lease {
            hold: Hold::Owner(owner),
            service_type,
            instance_id: Some(registration.id.to_string()),
            project_path: registration.working_directory,
            command: command_of(pid),
            client: Client::Instance(registration.id.to_string()),
            ..self.found(id, port, &BTreeSet::new())
        };
        let mut core = self.lock();
        let record = core.allocator.adopt(lease).filter(|_| !core.is_closed);
        self.commit(&mut core, record.as_slice());
        drop(core);
        if record.is_some() {
            info!(%id, %port, "leased to the process that has it");
            self.watch(id, pidfd);
        }
    }

    /// A lease of ports that are in use, of which nothing else is known, and that nobody holds.
    pub(super) fn found(&self, id: LeaseId, port: Port, more: &BTreeSet<Port>) -> Lease {
        let others = more.iter().filter(|other| **other != port);
        let report = |port: &Port| ListenerReport {
            requested: *port,
            port: *port,
        };
        Lease {
            id,
            port,
            spares: Vec::new(),
            reports: others.map(report).collect(),
            hold: Hold::Detached {
                owner: None,
                was_killed: false,
            },
            boot: self.boot.clone(),
            allocated_at: kernel::wall_clock(),
            service_type: self.lock().allocator.type_of(port),
            service_name: None,
            instance_id: None,
            project_path: None,
            package_dir: None,
            command: None,
            client: Client::Unknown,
            user_agent: None,
            listened: true,
        }
    }
}

/// The command line of a process, as much of it as is kept of a command.
pub(super) fn command_of(pid: u32) -> Option<String> {
    let line = kernel::command_line(pid)?;
    Some(line.chars().take(MAX_COMMAND).collect())
}

/// Whether this process listens on this port.
fn kernel_says(pid: u32, port: Port) -> bool {
    let sockets = kernel::listening_on(port).unwrap_or_default();
    let inodes: Vec<u32> = sockets.iter().map(|socket| socket.inode).collect();
    !inodes.is_empty() && !kernel::holders(&inodes, Some(&[pid])).is_empty()
}

fn now() -> Seen {
    Seen {
        at: kernel::boot_time(),
        wall: kernel::wall_clock(),
    }
}
