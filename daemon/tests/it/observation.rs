//! Who has which port: real listeners, real processes, real worktrees.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Mutex, mpsc};

use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrIn, bind as bind_fd, setsockopt, socket, sockopt,
};
use serde_json::{Value, json};
use styxy_daemon::{Config, kernel};
use styxy_protocol::Port;
use styxy_protocol::api::{
    CheckResponse, ObservationStatsResponse, ObservationsResponse, ObserveResponse, ScanResponse,
};

use crate::harness::{
    Answer, Daemon, Process, bind, config, eventually, fresh_port, home, lock_id, low_listener,
};

pub(crate) fn read<T: serde::de::DeserializeOwned>(answer: Answer) -> T {
    assert_eq!(answer.status, 200, "{}", answer.body);
    serde_json::from_value(answer.body).expect("the answer of the contract")
}

fn check(daemon: &Daemon, port: Port) -> CheckResponse {
    read(daemon.get(&format!("/check/{port}")))
}

fn observe(daemon: &Daemon, port: Port) -> ObserveResponse {
    read(daemon.get(&format!("/observe/{port}")))
}

/// A process with this first argument that has `socket` and runs in `directory`.
fn server(argv0: &str, lock_id: Option<&str>, directory: &Path, socket: OwnedFd) -> Process {
    let mut command = Command::new("sleep");
    command.arg0(argv0).arg("600").current_dir(directory);
    command.stdin(socket).stdout(Stdio::null());
    command.envs(lock_id.map(|id| ("STYXY_LEASE", id)));
    let process = Process(command.spawn().expect("it starts"));
    let pid = process.pid();
    eventually("the program runs", || {
        kernel::name(pid).as_deref() == Some("sleep") && !kernel::environ(pid).is_empty()
    });
    process
}

/// As an observation, once the process is the only one that has the socket: every process that is just being
/// started has what its parent has.
fn observed_at(daemon: &Daemon, port: Port, process: &Process) -> styxy_protocol::api::Observation {
    let mut found = None;
    eventually("it is seen", || {
        found = observe(daemon, port).observation;
        found
            .as_ref()
            .is_some_and(|it| it.pid == Some(process.pid()) && it.others.is_empty())
    });
    found.expect("it was seen")
}

#[test]
fn a_free_port_is_available_and_a_leased_one_is_not() {
    let (_dir, paths) = home();
    let daemon = Daemon::start(&paths);
    let free = check(&daemon, fresh_port());
    assert!(free.available);
    assert_eq!(
        (free.allocated_to, free.system_usage, free.reserved),
        (None, None, None)
    );
    let request =
        json!({ "service_type": "dev", "preferred_port": fresh_port(), "spare_ports": 1 });
    let lease = daemon.allocate(&request);
    let ports = [&lease["port"], &lease["spare_ports"][0]];
    for port in ports {
        let answer = daemon.get(&format!("/check/{port}"));
        assert_eq!(answer.body["available"], false);
        let holder = &answer.body["allocated_to"];
        assert_eq!(holder["lock_id"], lease["lock_id"]);
        assert_eq!(holder["lockId"], lease["lock_id"]);
        assert_eq!(holder["port"], lease["port"]);
        assert_eq!(answer.body["system_usage"], Value::Null);
    }
    daemon.release(lock_id(&lease));
    let port = serde_json::from_value(lease["port"].clone()).unwrap();
    assert!(check(&daemon, port).available);
}

#[test]
fn a_listener_on_any_address_is_seen_whoever_has_the_lease() {
    let (_dir, paths) = home();
    let daemon = Daemon::start(&paths);
    for address in ["127.0.0.1", "0.0.0.0", "127.0.0.2", "[::1]", "[::]"] {
        let leased = daemon.allocate(&json!({
            "service_type": "dev", "preferred_port": fresh_port(), "strict": true,
        }));
        let leased: Port = serde_json::from_value(leased["port"].clone()).unwrap();
        for port in [fresh_port(), leased] {
            let Ok(held) = TcpListener::bind(format!("{address}:{port}")) else {
                assert!(address.starts_with('['), "{address} can be bound");
                continue;
            };
            let seen = check(&daemon, port);
            assert!(!seen.available, "{address}");
            assert_eq!(seen.allocated_to.is_some(), port == leased);
            let usage = seen.system_usage.expect("it is in use");
            assert_eq!(usage.local_address, format!("{address}:{port}"));
            assert_eq!((&*usage.state, &*usage.tool), ("LISTEN", "sock_diag"));
            let v6 = address.starts_with('[');
            assert_eq!(usage.protocol, if v6 { "tcp6" } else { "tcp" });
            assert_eq!(usage.process.expect("it is ours").pid, std::process::id());
            let seen = observe(&daemon, port);
            assert!(seen.bound && seen.message.is_none());
            let seen = seen.observation.expect("somebody listens");
            assert_eq!(seen.addresses, [format!("{address}:{port}")]);
            assert_eq!(seen.uid, nix::unistd::geteuid().as_raw());
            assert_eq!(seen.lock_id.is_some(), port == leased);
            drop(held);
        }
    }
}

#[test]
fn both_families_of_one_port_are_one_observation() {
    let (_dir, paths) = home();
    let daemon = Daemon::start(&paths);
    let (_v4, port) = low_listener();
    let Ok(_v6) = TcpListener::bind(format!("[::1]:{port}")) else {
        return;
    };
    let seen = observe(&daemon, port)
        .observation
        .expect("somebody listens");
    let expected = [format!("127.0.0.1:{port}"), format!("[::1]:{port}")];
    assert_eq!(seen.addresses, expected);
    let all: ObservationsResponse = read(daemon.get("/observe/all"));
    let of_port = all.observations.iter().filter(|it| it.port == port);
    assert_eq!(of_port.count(), 1);
}

#[test]
fn a_port_that_is_bound_is_in_use_although_nobody_listens() {
    let (_dir, paths) = home();
    let daemon = Daemon::start(&paths);
    let port = fresh_port();
    let flags = SockFlag::SOCK_CLOEXEC;
    let fd = socket(AddressFamily::Inet, SockType::Stream, flags, None).unwrap();
    let address: SocketAddr = format!("127.0.0.1:{port}").parse().unwrap();
    let SocketAddr::V4(address) = address else {
        unreachable!("it is written so");
    };
    bind_fd(fd.as_raw_fd(), &SockaddrIn::from(address)).unwrap();
    let seen = check(&daemon, port);
    assert!(!seen.available);
    let usage = seen.system_usage.expect("it is in use");
    assert_eq!(usage.state, "BOUND");
    // Before Linux 6.8 the kernel does not tell whose it is.
    match &*usage.tool {
        "bind" => assert_eq!(usage.local_address, format!("*:{port}")),
        _ => assert_eq!(usage.process.expect("it is ours").pid, std::process::id()),
    }
    let seen = observe(&daemon, port);
    assert!(!seen.bound && seen.observation.is_none());
    let expected = format!("Port {port} is bound, but nobody listens on it");
    assert_eq!(seen.message, Some(expected));
    let scan: ScanResponse = read(daemon.get(&format!("/scan?start={port}&end={port}")));
    let [found] = &*scan.ports_in_use else {
        panic!("{scan:?}");
    };
    assert_eq!(found.system_usage.as_ref().unwrap().state, "BOUND");
    drop(fd);
    eventually("it is free", || check(&daemon, port).available);
    let message = observe(&daemon, port).message;
    assert_eq!(message, Some(format!("Nobody listens on port {port}")));
}

#[test]
fn a_listener_that_would_share_its_port_makes_it_no_less_taken() {
    let (_dir, paths) = home();
    let daemon = Daemon::start(&paths);
    let port = fresh_port();
    let flags = SockFlag::SOCK_CLOEXEC;
    let fd = socket(AddressFamily::Inet, SockType::Stream, flags, None).unwrap();
    setsockopt(&fd, sockopt::ReusePort, &true).unwrap();
    setsockopt(&fd, sockopt::ReuseAddr, &true).unwrap();
    let SocketAddr::V4(address) = SocketAddr::from(([127, 0, 0, 1], port.get())) else {
        unreachable!("it is made so");
    };
    bind_fd(fd.as_raw_fd(), &SockaddrIn::from(address)).unwrap();
    nix::sys::socket::listen(&fd, nix::sys::socket::Backlog::new(1).unwrap()).unwrap();
    assert!(!check(&daemon, port).available);
}

#[test]
fn reserved_ports_say_so() {
    let (_dir, paths) = home();
    let daemon = Daemon::start(&paths);
    for (port, reason) in [
        (1023, "ports below 1024 need a privilege"),
        (6000, "browsers refuse to open this port"),
    ] {
        let seen = check(&daemon, Port::new(port).unwrap());
        assert_eq!(seen.reserved.as_deref(), Some(reason));
        // Reserved or not, it says whether somebody could take it now: a bind of our own tells the same.
        let could_bind = kernel::port_is_free(seen.port);
        assert_eq!(seen.available, could_bind, "{seen:?}");
    }
}

#[test]
fn a_server_is_known_by_process_directory_and_worktree() {
    let (dir, paths) = home();
    let daemon = Daemon::start_with(Config {
        classify: Box::new(|arguments, directory| {
            let is_vite = arguments == ["vite", "600"] && directory?.ends_with("web");
            is_vite.then(|| "dev".parse().unwrap())
        }),
        ..config(&paths)
    });
    let worktree = dir.path().canonicalize().unwrap().join("feature");
    let directory = worktree.join("web");
    fs::create_dir_all(&directory).unwrap();
    fs::write(worktree.join(".git"), "gitdir: /nowhere\n").unwrap();
    let (socket, port) = low_listener();
    let mut process = server("vite", None, &directory, socket.into());
    let seen = observed_at(&daemon, port, &process);
    assert_eq!(seen.process.as_deref(), Some("sleep"));
    assert_eq!(seen.command.as_deref(), Some("vite 600"));
    assert_eq!(seen.directory.as_deref(), directory.to_str());
    assert_eq!(seen.worktree.as_deref(), worktree.to_str());
    assert_eq!(seen.service_type, "dev");
    assert_eq!((seen.lock_id, seen.instance_id), (None, None));
    let stats: ObservationStatsResponse = read(daemon.get("/observation-stats"));
    assert!(stats.stats.by_service_type["dev"] >= 1);
    assert!(stats.timestamp >= seen.timestamp);
    // A worktree that was removed under a running server is no worktree any more.
    fs::remove_dir_all(&worktree).unwrap();
    let seen = observed_at(&daemon, port, &process);
    let deleted = format!("{} (deleted)", directory.display());
    assert_eq!((seen.directory, seen.worktree), (Some(deleted), None));
    process.kill();
    eventually("it is gone", || !observe(&daemon, port).bound);
}

#[test]
fn a_lease_is_found_by_its_port_and_by_the_mark_of_its_processes() {
    let (dir, paths) = home();
    let daemon = Daemon::start(&paths);
    let leased = fresh_port();
    let lease = daemon.allocate(&json!({
        "service_type": "api", "instance_id": "agent-1", "preferred_port": leased, "strict": true,
    }));
    let id = lock_id(&lease);
    let (socket, other) = low_listener();
    let by_mark = server("web", Some(id), dir.path(), socket.into());
    let by_port = server("web", None, dir.path(), bind(leased).into());
    for (port, process) in [(other, &by_mark), (leased, &by_port)] {
        let seen = observed_at(&daemon, port, process);
        assert_eq!(seen.lock_id.as_deref(), Some(id));
        assert_eq!(seen.instance_id.as_deref(), Some("agent-1"));
        assert_eq!(seen.service_type, "api");
    }
    let (socket, foreign) = low_listener();
    let somebody = "00000000-0000-4000-8000-00000000002a";
    let unrelated = server("web", Some(somebody), dir.path(), socket.into());
    let seen = observed_at(&daemon, foreign, &unrelated);
    assert_eq!((seen.lock_id, &*seen.service_type), (None, "unknown"));
    let all: ObservationsResponse = read(daemon.get("/observe/all"));
    assert_eq!(all.stats.by_instance["agent-1"], 2);
}

#[test]
fn two_projects_on_one_port_are_both_named() {
    let (dir, paths) = home();
    let daemon = Daemon::start(&paths);
    let (socket, port) = low_listener();
    let first = server("a", None, dir.path(), socket.into());
    let socket = TcpListener::bind(format!("127.0.0.2:{port}")).unwrap();
    let second = server("b", None, dir.path(), socket.into());
    eventually("both are seen", || {
        let seen = observe(&daemon, port).observation.expect("they listen");
        let others: Vec<u32> = seen.others.iter().map(|it| it.pid).collect();
        seen.pid == Some(first.pid()) && others == [second.pid()]
    });
}

#[test]
fn two_hundred_listeners_are_all_seen_at_once_while_others_come_and_go() {
    let (dir, paths) = home();
    let daemon = Daemon::start(&paths);
    let held: Vec<TcpListener> = (0..200)
        .map(|_| TcpListener::bind("127.0.0.1:0").unwrap())
        .collect();
    let mut expected: Vec<u16> = held
        .iter()
        .map(|it| it.local_addr().unwrap().port())
        .collect();
    expected.sort_unstable();
    let passers = std::thread::scope(|scope| {
        let passer = scope.spawn(|| {
            for _ in 0..20 {
                let (socket, _) = low_listener();
                server("passer", None, dir.path(), socket.into()).kill();
            }
        });
        let mut looks = 0;
        while !passer.is_finished() || looks == 0 {
            let all: ObservationsResponse = read(daemon.get("/observe/all"));
            assert_eq!(all.total, all.observations.len());
            assert_eq!(all.stats.total_ports, all.total);
            assert!(all.observations.is_sorted_by_key(|it| it.port));
            let ours = all
                .observations
                .iter()
                .filter(|it| it.pid == Some(std::process::id()));
            let ours: Vec<u16> = ours.map(|it| it.port.get()).collect();
            let missing: Vec<_> = expected.iter().filter(|it| !ours.contains(it)).collect();
            assert!(missing.is_empty(), "{missing:?}");
            looks += 1;
        }
        passer.join()
    });
    passers.expect("no panic");
}

#[test]
fn what_takes_too_long_to_look_at_costs_its_name_and_not_the_answer() {
    let (_dir, paths) = home();
    let (answer_tx, answer_rx) = mpsc::channel::<()>();
    let answer_rx = Mutex::new(answer_rx);
    let daemon = Daemon::start_with(Config {
        // As a directory on a file server that is gone. Ends with the test.
        classify: Box::new(move |_, _| {
            answer_rx.lock().unwrap().recv().ok();
            None
        }),
        ..config(&paths)
    });
    let (_held, port) = low_listener();
    let seen = check(&daemon, port);
    assert!(!seen.available);
    let usage = seen.system_usage.expect("it is in use");
    assert_eq!((&*usage.state, usage.process), ("LISTEN", None));
    drop(answer_tx);
    eventually("everything is seen again", || {
        let seen = observe(&daemon, port).observation;
        seen.is_some_and(|it| it.pid == Some(std::process::id()))
    });
}

#[test]
fn hostile_command_lines_come_back_bounded_and_escaped() {
    let (dir, paths) = home();
    let daemon = Daemon::start(&paths);
    let hostile = format!("\x1b]0;title\x07\n\r\"\\\u{202e}{}", "é".repeat(32_000));
    let (socket, port) = low_listener();
    let process = server(&hostile, None, dir.path(), socket.into());
    // The harness reads the body as strict JSON, which has no raw control characters.
    let seen = observed_at(&daemon, port, &process);
    let command = seen.command.expect("it has one");
    assert!(hostile.starts_with(&command));
    assert!((4090..=4096).contains(&command.len()), "{}", command.len());
}
