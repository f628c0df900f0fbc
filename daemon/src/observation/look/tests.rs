//! The look at real sockets and processes, and the parts of it that decide.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpListener};

use styxy_protocol::ServiceType;

use super::*;

fn port_of(listener: &TcpListener) -> Port {
    Port::new(listener.local_addr().unwrap().port()).unwrap()
}

fn socket(port: u16, address: impl Into<IpAddr>, inode: u32) -> Socket {
    Socket {
        port: Port::new(port).unwrap(),
        address: address.into(),
        inode,
        uid: 1000,
    }
}

#[test]
fn addresses_of_one_port_are_one_use_and_listeners_hide_what_is_only_bound() {
    let listening = vec![
        socket(3000, Ipv6Addr::LOCALHOST, 1),
        socket(3000, Ipv4Addr::LOCALHOST, 2),
        socket(4000, Ipv4Addr::UNSPECIFIED, 3),
    ];
    let bound = vec![
        socket(3000, Ipv4Addr::new(127, 0, 0, 2), 4),
        socket(5000, Ipv6Addr::UNSPECIFIED, 5),
    ];
    let sight = Sight::of_sockets(listening, bound);
    let seen: Vec<_> = sight
        .ports
        .iter()
        .map(|(port, it)| {
            let inodes: Vec<u32> = it.sockets.iter().map(|socket| socket.inode).collect();
            (port.get(), it.state, inodes)
        })
        .collect();
    assert_eq!(
        seen,
        [
            (3000, PortState::Listening, vec![2, 1]),
            (4000, PortState::Listening, vec![3]),
            (5000, PortState::Bound, vec![5]),
        ]
    );
    let listening: Vec<u16> = sight.listening().map(|(port, _)| port.get()).collect();
    assert_eq!(listening, [3000, 4000]);
}

#[test]
fn our_own_listener_is_seen_with_our_own_facts() {
    let held = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = port_of(&held);
    let classify: Classify = Box::new(|arguments, directory| {
        let is_us = arguments == std::env::args().collect::<Vec<_>>() && directory.is_some();
        is_us.then(|| "test".parse().unwrap())
    });
    let sight = Sight::take(&classify);
    let found = sight.listener(port).unwrap();
    let (pid, process) = sight.process(found).unwrap();
    assert_eq!(pid, std::process::id());
    assert_eq!(Some(&process.name), kernel::name(pid).as_ref());
    assert_eq!(
        process.service_type.as_ref().map(ServiceType::as_str),
        Some("test")
    );
    assert_eq!(process.directory, kernel::directory(pid));
    assert!(process.started <= kernel::boot_time());
    let uid = nix::unistd::geteuid();
    let name = User::from_uid(uid).unwrap().map(|user| user.name);
    assert_eq!(sight.users.get(&uid.as_raw()).cloned(), name);
}

#[test]
fn what_has_gone_meanwhile_is_dropped() {
    let held = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut seen = kernel::listening_on(port_of(&held)).unwrap();
    let gone = socket(1, Ipv4Addr::LOCALHOST, u32::MAX);
    seen.push(gone);
    let mut sight = Sight::of_sockets(seen, Vec::new());
    for port in sight.ports.values_mut() {
        port.pids = vec![7];
    }
    sight.drop_what_has_gone();
    assert_eq!(sight.listener(gone.port), None);
    assert!(sight.listener(port_of(&held)).unwrap().pids.is_empty());
}

#[test]
fn a_process_that_has_a_socket_from_its_parent_is_not_named() {
    let own = std::process::id();
    let mut child = std::process::Command::new("sleep")
        .arg("600")
        .spawn()
        .unwrap();
    assert_eq!(eldest(&BTreeSet::from([own, child.id()])), [own]);
    assert_eq!(eldest(&BTreeSet::from([child.id()])), [child.id()]);
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(eldest(&BTreeSet::from([child.id()])).is_empty());
}

#[test]
fn the_worktree_is_the_nearest_directory_with_a_git_file_or_directory() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    fs::create_dir_all(root.join("repo/.git")).unwrap();
    fs::create_dir_all(root.join("repo/linked/src/deep")).unwrap();
    fs::write(root.join("repo/linked/.git"), "gitdir: /nowhere\n").unwrap();
    fs::create_dir_all(root.join("repo/other")).unwrap();
    for (directory, expected) in [
        ("repo", "repo"),
        ("repo/other", "repo"),
        ("repo/linked", "repo/linked"),
        ("repo/linked/src/deep", "repo/linked"),
    ] {
        let found = worktree(&root.join(directory));
        assert_eq!(found, Some(root.join(expected)), "{directory}");
    }
    let deep = "d/".repeat(MAX_DEPTH + 1);
    assert_eq!(worktree(&root.join("repo").join(deep)), None);
}

#[test]
fn a_command_line_is_cut_between_characters() {
    assert_eq!(joined(&["a".to_owned(), "b c".to_owned()]), "a b c");
    let long = joined(&["é".repeat(MAX_COMMAND)]);
    assert_eq!(long.len(), MAX_COMMAND);
    let odd = joined(&["x".to_owned() + &"é".repeat(MAX_COMMAND)]);
    assert_eq!(odd.len(), MAX_COMMAND - 1);
}
