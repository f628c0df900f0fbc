//! How a look is told, with and without leases.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use styxy_protocol::ServiceType;

use super::*;
use crate::allocator::{Hold, LeaseId};

fn port(number: u16) -> Port {
    Port::new(number).unwrap()
}

fn socket(number: u16, address: impl Into<IpAddr>, uid: u32) -> Socket {
    Socket {
        port: port(number),
        address: address.into(),
        inode: 1,
        uid,
    }
}

fn process(name: &str, service_type: Option<&str>) -> Process {
    Process {
        started: Duration::from_secs(90),
        name: name.to_owned(),
        command: Some(format!("{name} --port 3000")),
        directory: Some("/p/web".into()),
        worktree: Some("/p".into()),
        service_type: service_type.map(|it| it.parse().unwrap()),
        ..Process::default()
    }
}

/// Port 3000 is node's on two addresses and python's on a third, port 5432 another user's.
fn sight() -> Sight {
    let mut sight = Sight::of_sockets(
        vec![
            socket(3000, Ipv4Addr::LOCALHOST, 1000),
            socket(3000, Ipv4Addr::LOCALHOST, 1000),
            socket(3000, Ipv6Addr::LOCALHOST, 1000),
            socket(5432, Ipv6Addr::UNSPECIFIED, 70),
        ],
        vec![socket(6000, Ipv4Addr::UNSPECIFIED, 1000)],
    );
    sight.ports.get_mut(&port(3000)).unwrap().pids = vec![12, 34];
    sight.processes = BTreeMap::from([
        (12, process("node", Some("dev"))),
        (34, process("python3", None)),
    ]);
    sight.users = BTreeMap::from([(1000, "ada".to_owned())]);
    sight
}

fn lease(service_type: &str) -> Lease {
    Lease {
        id: LeaseId::from_random(7),
        port: port(3000),
        spares: Vec::new(),
        reports: Vec::new(),
        hold: Hold::Detached {
            owner: None,
            was_killed: false,
        },
        boot: String::new(),
        allocated_at: 0,
        service_type: service_type.parse().unwrap(),
        service_name: None,
        instance_id: Some("agent-1".to_owned()),
        project_path: None,
        package_dir: None,
        command: None,
    }
}

fn observed(number: u16, by_port: Option<&Lease>, by_mark: Option<&Lease>) -> Observation {
    let sight = sight();
    let seen = (port(number), sight.listener(port(number)).unwrap());
    let now = Moment {
        since_boot: Duration::from_millis(91_500),
        wall: 1_790_000_000_000,
    };
    observation(&sight, seen, by_port, by_mark, now)
}

#[test]
fn an_observation_says_who_where_since_when_and_on_which_addresses() {
    let seen = observed(3000, None, None);
    assert_eq!(
        (seen.pid, seen.process.as_deref()),
        (Some(12), Some("node"))
    );
    assert_eq!(seen.command.as_deref(), Some("node --port 3000"));
    assert_eq!(seen.service_type, "dev");
    assert_eq!(seen.addresses, ["127.0.0.1:3000", "[::1]:3000"]);
    assert_eq!(seen.directory.as_deref(), Some("/p/web"));
    assert_eq!(seen.worktree.as_deref(), Some("/p"));
    assert_eq!((seen.uid, seen.duration_ms), (1000, 1500));
    assert_eq!(seen.timestamp, 1_790_000_000_000);
    assert_eq!((seen.instance_id, seen.lock_id), (None, None));
    let others: Vec<_> = seen.others.iter().map(|it| (it.pid, &*it.name)).collect();
    assert_eq!(others, [(34, "python3")]);
}

#[test]
fn of_another_users_socket_only_the_user_is_known() {
    let seen = observed(5432, None, None);
    assert_eq!((seen.pid, seen.process, seen.command), (None, None, None));
    assert_eq!((seen.uid, seen.duration_ms), (70, 0));
    assert_eq!(seen.service_type, "unknown");
    let usage = system_usage(&sight(), port(5432)).unwrap();
    assert_eq!((usage.process, usage.user.as_deref()), (None, Some("70")));
}

#[test]
fn the_type_of_the_ports_lease_wins_and_that_of_a_marked_process_comes_last() {
    let (api, id) = (lease("api"), LeaseId::from_random(7).to_string());
    for (by_port, by_mark, number, service_type) in [
        (Some(&api), None, 3000, "api"),
        (Some(&api), None, 5432, "api"),
        (None, Some(&api), 3000, "dev"),
        (None, Some(&api), 5432, "api"),
    ] {
        let seen = observed(number, by_port, by_mark);
        assert_eq!(seen.service_type, service_type);
        assert_eq!(seen.lock_id.as_ref(), Some(&id));
        assert_eq!(seen.instance_id.as_deref(), Some("agent-1"));
    }
}

#[test]
fn usage_tells_listeners_from_sockets_that_are_only_bound() {
    let usage = system_usage(&sight(), port(3000)).unwrap();
    assert_eq!(
        (&*usage.protocol, &*usage.state, &*usage.tool),
        ("tcp", "LISTEN", "sock_diag")
    );
    assert_eq!(usage.local_address, "127.0.0.1:3000");
    let process = usage.process.unwrap();
    assert_eq!((process.pid, &*process.name), (12, "node"));
    assert_eq!(process.user.as_deref(), Some("ada"));
    let usage = system_usage(&sight(), port(6000)).unwrap();
    assert_eq!((&*usage.state, &*usage.tool), ("BOUND", "sock_diag"));
    assert_eq!(usage.local_address, "0.0.0.0:6000");
    assert_eq!(system_usage(&sight(), port(7000)), None);
    let usage = unseen(port(7000));
    assert_eq!((&*usage.state, &*usage.tool), ("BOUND", "bind"));
    assert_eq!(usage.local_address, "*:7000");
    let usage = system_usage(&sight(), port(5432)).unwrap();
    assert_eq!(
        (&*usage.protocol, &*usage.local_address),
        ("tcp6", "[::]:5432")
    );
}

#[test]
fn observations_are_counted_by_type_and_instance() {
    let api = lease("api");
    let seen = [
        observed(3000, Some(&api), None),
        observed(5432, Some(&api), None),
        observed(5432, None, None),
    ];
    let stats = count(&seen, 3);
    assert_eq!((stats.total_ports, stats.active_instances), (3, 3));
    let unknown: ServiceType = "unknown".parse().unwrap();
    assert_eq!(stats.by_service_type["api"], 2);
    assert_eq!(stats.by_service_type[unknown.as_str()], 1);
    assert_eq!(stats.by_instance["agent-1"], 2);
}
