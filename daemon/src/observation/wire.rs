//! What was seen, joined with the leases, in the words of the API. Pure.

use std::path::Path;
use std::time::Duration;

use styxy_protocol::Port;
use styxy_protocol::api::{Observation, ObservationStats, PortProcess, SystemUsage};

use super::{PortState, PortUse, Process, Sight};
use crate::allocator::Lease;
use crate::kernel::Socket;

/// The service type of what nothing is known about.
const UNKNOWN: &str = "unknown";
/// How many further processes of one port are named.
const MAX_OTHERS: usize = 16;

/// Now, by both clocks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    /// Time since boot.
    pub(crate) since_boot: Duration,
    /// Milliseconds since 1970.
    pub(crate) wall: u64,
}

/// Who listens on a port. `by_port` is the lease that the port belongs to; without one, `by_mark` is the lease that the
/// process was started for. The type of the lease counts for its own ports; what its processes open beside these
/// may be something else, and is told by its command line first.
pub(crate) fn observation(
    sight: &Sight,
    (port, port_use): (Port, &PortUse),
    by_port: Option<&Lease>,
    by_mark: Option<&Lease>,
    now: Moment,
) -> Observation {
    let process = sight.process(port_use);
    let lease = by_port.or(by_mark);
    let facts = process.map(|(_, process)| process);
    let service_type = by_port
        .map(|lease| &lease.service_type)
        .or(facts.and_then(|process| process.service_type.as_ref()))
        .or(by_mark.map(|lease| &lease.service_type));
    let others = port_use.pids.iter().skip(1).take(MAX_OTHERS);
    let duration = facts.map(|process| now.since_boot.saturating_sub(process.started));
    Observation {
        port,
        pid: process.map(|(pid, _)| pid),
        process: facts.map(|process| process.name.clone()),
        command: facts.and_then(|process| process.command.clone()),
        service_type: service_type.map_or(UNKNOWN, |it| it.as_str()).to_owned(),
        instance_id: lease.and_then(|lease| lease.instance_id.clone()),
        addresses: addresses(&port_use.sockets),
        directory: facts.and_then(|process| text(process.directory.as_deref())),
        worktree: facts.and_then(|process| text(process.worktree.as_deref())),
        uid: port_use.sockets.first().map_or(0, |socket| socket.uid),
        lock_id: lease.map(|lease| lease.id.to_string()),
        others: others
            .filter_map(|&pid| Some(named(pid, sight.processes.get(&pid)?, None)))
            .collect(),
        timestamp: now.wall,
        duration_ms: duration.map_or(0, |it| u64::try_from(it.as_millis()).unwrap_or(u64::MAX)),
    }
}

/// The sockets of a port. `None` if there are none after all.
pub(crate) fn system_usage(sight: &Sight, port: Port) -> Option<SystemUsage> {
    let port_use = sight.ports.get(&port)?;
    let socket = port_use.sockets.first()?;
    let user = sight.users.get(&socket.uid);
    let user = user.cloned().unwrap_or_else(|| socket.uid.to_string());
    let process = sight.process(port_use);
    Some(SystemUsage {
        port,
        protocol: if socket.address.is_ipv6() {
            "tcp6"
        } else {
            "tcp"
        }
        .to_owned(),
        state: match port_use.state {
            PortState::Listening => "LISTEN",
            PortState::Bound => "BOUND",
        }
        .to_owned(),
        local_address: address(socket),
        process: process.map(|(pid, process)| named(pid, process, Some(user.clone()))),
        user: Some(user),
        tool: "sock_diag".to_owned(),
    })
}

/// What is said of a port that cannot be bound, when the kernel does not tell who has it.
pub(crate) fn unseen(port: Port) -> SystemUsage {
    SystemUsage {
        port,
        protocol: "tcp".to_owned(),
        state: "BOUND".to_owned(),
        local_address: format!("*:{port}"),
        process: None,
        user: None,
        tool: "bind".to_owned(),
    }
}

/// The observations, counted.
pub(crate) fn count(observations: &[Observation], active_instances: usize) -> ObservationStats {
    let mut stats = ObservationStats {
        total_ports: observations.len(),
        active_instances,
        ..ObservationStats::default()
    };
    for observation in observations {
        let of_type = stats
            .by_service_type
            .entry(observation.service_type.clone());
        *of_type.or_default() += 1;
        if let Some(instance) = &observation.instance_id {
            *stats.by_instance.entry(instance.clone()).or_default() += 1;
        }
    }
    stats
}

fn named(pid: u32, process: &Process, user: Option<String>) -> PortProcess {
    PortProcess {
        name: process.name.clone(),
        pid,
        user,
    }
}

fn addresses(sockets: &[Socket]) -> Vec<String> {
    let mut addresses: Vec<String> = sockets.iter().map(address).collect();
    addresses.dedup();
    addresses
}

fn address(socket: &Socket) -> String {
    std::net::SocketAddr::new(socket.address, socket.port.get()).to_string()
}

fn text(path: Option<&Path>) -> Option<String> {
    path.map(|path| path.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests;
