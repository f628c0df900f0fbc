//! Questions about ports: who has this one, which are taken, which would be given.
//!
//! Every answer asks the kernel first and joins what it says with the leases then; the table of leases alone never
//! says that a port is free.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use styxy_protocol::api::{
    CheckResponse, Observation, ObservationStats, ObservationsResponse, ScannedPort,
};
use styxy_protocol::{Port, ServiceType};
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::{Authority, Core};
use crate::allocator::Suggestions;
use crate::kernel;
use crate::observation::{self, Moment, PortUse, Sight};

/// How long processes may be looked at. A file system that does not answer costs their names, not the answer.
const LOOK_PATIENCE: Duration = Duration::from_secs(3);

impl Authority {
    /// Whether this port is free, and who has it.
    ///
    /// # Errors
    /// The kernel does not say whether the port can be bound.
    pub(crate) async fn check(&self, port: Port) -> io::Result<CheckResponse> {
        let is_free = unless_denied(self.probe(port))?;
        let usage = if is_free == Some(true) {
            None
        } else {
            let sight = self.sight().await;
            let seen = observation::system_usage(&sight, port);
            // What nobody was seen to have may have been let go meanwhile.
            seen.or_else(|| is_taken(port).then(|| observation::unseen(port)))
        };
        let listening = listening_ports();
        let core = self.lock();
        let lease = core
            .allocator
            .allocation_at(port, &listening, kernel::boot_time());
        let reserved = core.allocator.reserved(port);
        Ok(CheckResponse {
            port,
            available: lease.is_none() && usage.is_none() && is_free.is_some(),
            reserved: reserved
                .filter(|_| lease.is_none())
                .map(|reserved| reserved.to_string()),
            allocated_to: lease,
            system_usage: usage,
        })
    }

    /// The ports from `first` to `last` that are leased or in use, ascending.
    ///
    /// # Errors
    /// As [`Self::check`].
    pub(crate) async fn scan(&self, first: Port, last: Port) -> io::Result<Vec<ScannedPort>> {
        let turn = Arc::clone(&self.scans).acquire_owned().await;
        let taken = spawn_blocking(move || {
            // Kept until the end even if the client has hung up.
            let _turn = turn;
            taken_ports(first, last)
        });
        let taken = taken.await;
        let taken = taken.unwrap_or_else(|panic| Err(io::Error::other(panic)))?;
        let sight = if taken.is_empty() {
            Arc::default()
        } else {
            self.sight().await
        };
        let listening = listening_ports();
        let core = self.lock();
        let leased: BTreeSet<Port> = core.allocator.leased_ports(first, last).collect();
        let ports = leased.union(&taken).copied();
        let ports = ports.map(|port| {
            let unseen = || (taken.contains(&port) && is_taken(port)).then_some(port);
            ScannedPort {
                port,
                allocated_to: core
                    .allocator
                    .allocation_at(port, &listening, kernel::boot_time()),
                system_usage: observation::system_usage(&sight, port)
                    .or_else(|| unseen().map(observation::unseen)),
            }
        });
        Ok(ports
            .filter(|port| port.allocated_to.is_some() || port.system_usage.is_some())
            .collect())
    }

    /// Who listens on this port. `None` if nobody does.
    ///
    /// # Errors
    /// The kernel does not list its sockets.
    pub(crate) async fn observe(&self, port: Port) -> io::Result<Option<Observation>> {
        if kernel::listening_on(port)?.is_empty() {
            return Ok(None);
        }
        let sight = self.sight().await;
        let core = self.lock();
        let found = sight.listener(port);
        Ok(found.map(|found| core.observation(&sight, (port, found), now())))
    }

    /// Who listens on which port, ascending, and the same counted.
    ///
    /// # Errors
    /// As [`Self::observe`].
    pub(crate) async fn observe_all(&self) -> io::Result<ObservationsResponse> {
        kernel::listening()?;
        let sight = self.sight().await;
        let core = self.lock();
        let moment = now();
        let observations: Vec<Observation> = sight
            .listening()
            .map(|found| core.observation(&sight, found, moment))
            .collect();
        let stats = observation::count(&observations, core.instances.len());
        Ok(ObservationsResponse {
            total: observations.len(),
            observations,
            stats,
        })
    }

    /// As [`Self::observe_all`], the counts alone.
    ///
    /// # Errors
    /// As [`Self::observe`].
    pub(crate) async fn observation_stats(&self) -> io::Result<ObservationStats> {
        Ok(self.observe_all().await?.stats)
    }

    /// The ports that `count` services of this type would get, one after the other.
    pub(crate) fn suggest(&self, service_type: &str, count: usize) -> Suggestions {
        let wanted = service_type.parse::<ServiceType>().ok();
        let core = self.lock();
        core.allocator.suggest(wanted, count, &kernel::port_is_free)
    }

    /// Who has which port now; where the look takes too long or fails, without the processes.
    async fn sight(&self) -> Arc<Sight> {
        if let Ok(Some(sight)) = timeout(LOOK_PATIENCE, self.sights.ask()).await {
            return sight;
        }
        let listening = kernel::listening().unwrap_or_default();
        Arc::new(Sight::of_sockets(listening, Vec::new()))
    }
}

impl Core {
    fn observation(&self, sight: &Sight, seen: (Port, &PortUse), now: Moment) -> Observation {
        let by_port = self.allocator.lease_at(seen.0);
        let process = sight.process(seen.1);
        let mut marks = process.into_iter().flat_map(|(_, process)| &process.marks);
        let by_mark = marks.find_map(|id| self.allocator.lease(*id));
        observation::observation(sight, seen, by_port, by_mark, now)
    }
}

fn now() -> Moment {
    Moment {
        since_boot: kernel::boot_time(),
        wall: kernel::wall_clock_millis(),
    }
}

/// Whether a probed port can be bound; `None` if we may not bind it, which says nothing about others.
fn unless_denied(probed: io::Result<bool>) -> io::Result<Option<bool>> {
    match probed {
        Ok(is_free) => Ok(Some(is_free)),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether somebody has this port, as far as a bind tells.
fn is_taken(port: Port) -> bool {
    matches!(kernel::probe(port), Ok(false))
}

/// Every port of the range that somebody has. Some microseconds a port, hence on a blocking thread.
fn taken_ports(first: Port, last: Port) -> io::Result<BTreeSet<Port>> {
    let mut taken = listening_ports();
    taken.retain(|port| (first..=last).contains(port));
    for port in (first.get()..=last.get()).filter_map(Port::new) {
        if !taken.contains(&port) && unless_denied(kernel::probe(port))? == Some(false) {
            taken.insert(port);
        }
    }
    Ok(taken)
}

fn listening_ports() -> BTreeSet<Port> {
    let sockets = kernel::listening().unwrap_or_default();
    sockets.iter().map(|socket| socket.port).collect()
}
