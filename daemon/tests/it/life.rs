//! Leases and the processes that they hang on.

use std::fs;
use std::net::TcpListener;

use serde_json::{Value, json};
use styxy_daemon::{Ended, kernel};
use styxy_protocol::Port;

use crate::harness::{Daemon, Process, ask, bind, eventually, fresh_port, home, lock_id};

/// A lease on a port that nobody else wants, held by this process.
fn lease_for(daemon: &Daemon, owner: &Process) -> (Value, Port) {
    let port = fresh_port();
    let request = json!({
        "service_type": "dev",
        "preferred_port": port,
        "strict": true,
        "pid": owner.pid(),
    });
    (daemon.allocate(&request), port)
}

#[test]
fn a_lease_ends_with_its_owner() {
    let (_dir, paths) = home();
    let daemon = Daemon::start(&paths);
    let mut owner = Process::idle();
    let (lease, port) = lease_for(&daemon, &owner);
    assert_eq!(daemon.leases()[0]["pid"], owner.pid());
    assert_eq!(daemon.leases()[0]["state"], "starting");
    owner.kill();
    eventually("the lease ends", || daemon.leases().is_empty());
    assert_eq!(daemon.release(lock_id(&lease)).status, 400);
    let again = json!({ "service_type": "dev", "preferred_port": port, "strict": true });
    daemon.allocate(&again);
}

#[test]
fn a_process_that_has_ended_cannot_own_a_lease() {
    let (_dir, paths) = home();
    let daemon = Daemon::start(&paths);
    let mut owner = Process::idle();
    let pid = owner.pid();
    owner.kill();
    let request = json!({ "service_type": "dev", "pid": pid });
    assert_eq!(daemon.send("POST", "/allocate", Some(&request)).status, 400);
}

#[test]
fn what_a_killed_owner_leaves_behind_is_ended_and_its_port_is_free() {
    let (_dir, paths) = home();
    let daemon = Daemon::start(&paths);
    let mut owner = Process::idle();
    let (lease, port) = lease_for(&daemon, &owner);
    let mut bystander = Process::idle();
    let mut server = Process::listener(lock_id(&lease), &["sleep", "600"], bind(port));
    eventually("it is seen", || daemon.leases()[0]["state"] == "listening");
    owner.kill();
    assert_eq!(server.death(), Some(libc::SIGTERM));
    eventually("the lease ends", || daemon.leases().is_empty());
    assert!(kernel::port_is_free(port));
    assert!(
        bystander.0.try_wait().unwrap().is_none(),
        "it belongs to nobody"
    );
}

#[test]
fn a_leftover_that_ignores_sigterm_is_killed() {
    let (_dir, paths) = home();
    let daemon = Daemon::start(&paths);
    let mut owner = Process::idle();
    let (lease, _) = lease_for(&daemon, &owner);
    let script = "trap '' TERM; echo ready; while :; do sleep 1; done";
    let mut stubborn = Process::of_lease(
        Some(lock_id(&lease)),
        &["sh", "-c", script],
        std::process::Stdio::null(),
    );
    assert_eq!(stubborn.line(), "ready\n");
    owner.kill();
    assert_eq!(stubborn.death(), Some(libc::SIGKILL));
    eventually("the lease ends", || daemon.leases().is_empty());
}

#[test]
fn who_only_mentions_the_lease_is_let_live() {
    let (_dir, paths) = home();
    let daemon = Daemon::start(&paths);
    let mut owner = Process::idle();
    let (lease, port) = lease_for(&daemon, &owner);
    let id = lock_id(&lease);
    let mut server = Process::listener(id, &["sleep", "600"], bind(port));
    let session = daemon.session_dir(id);
    let mention = |name: &str, value: String| {
        let assignment = format!("{name}={value}");
        let mut process = Process::of_lease(
            None,
            &["env", &assignment, "sh", "-c", "echo ready; exec sleep 600"],
            std::process::Stdio::null(),
        );
        assert_eq!(process.line(), "ready\n");
        process
    };
    let mut bystanders = [
        mention("PWD", session.display().to_string()),
        mention("NOTE", format!("STYXY_LEASE={id} is slow")),
        mention("OTHER_STYXY_LEASE", id.to_owned()),
    ];
    owner.kill();
    assert_eq!(server.death(), Some(libc::SIGTERM));
    eventually("the lease ends", || daemon.leases().is_empty());
    for bystander in &mut bystanders {
        assert!(bystander.0.try_wait().unwrap().is_none());
    }
}

#[test]
fn a_deliberate_daemon_lives_on_and_keeps_its_port_leased() {
    let (_dir, paths) = home();
    let daemon = Daemon::start(&paths);
    let mut owner = Process::idle();
    let (lease, port) = lease_for(&daemon, &owner);
    let mut server = Process::listener(lock_id(&lease), &["setsid", "sleep", "600"], bind(port));
    owner.kill();
    eventually("it is detached", || {
        daemon.leases()[0]["state"] == "detached"
    });
    assert!(server.0.try_wait().unwrap().is_none());
    let strict = json!({ "service_type": "dev", "preferred_port": port, "strict": true });
    assert_eq!(
        daemon.send("POST", "/allocate", Some(&strict)).body["holder"]["kind"],
        "lease"
    );
    server.kill();
    eventually("the lease ends", || daemon.leases().is_empty());
}

#[test]
fn a_released_lease_stays_while_something_of_its_tree_listens_and_nothing_is_ended() {
    let (_dir, paths) = home();
    let daemon = Daemon::start(&paths);
    let mut owner = Process::idle();
    let (lease, port) = lease_for(&daemon, &owner);
    let mut server = Process::listener(lock_id(&lease), &["sleep", "600"], bind(port));
    let released = daemon.release(lock_id(&lease));
    assert_eq!(released.status, 200);
    owner.kill();
    let leases = daemon.leases();
    assert_eq!(leases[0]["state"], "detached");
    assert_eq!(leases[0]["listeners"][0]["port"], json!(port));
    assert!(server.0.try_wait().unwrap().is_none());
    server.kill();
    eventually("the lease ends", || daemon.leases().is_empty());
}

#[test]
fn a_released_lease_ends_although_a_stranger_listens_on_its_port() {
    let (_dir, paths) = home();
    let daemon = Daemon::start(&paths);
    let lease = daemon.allocate(&json!({
        "service_type": "dev",
        "preferred_port": fresh_port(),
        "strict": true,
    }));
    let port = serde_json::from_value(lease["port"].clone()).unwrap();
    let _stranger = bind(port);
    assert_eq!(daemon.release(lock_id(&lease)).status, 200);
    eventually("the lease ends", || daemon.leases().is_empty());
}

#[test]
fn an_owner_that_ended_while_no_daemon_ran_is_noticed_at_the_next_start() {
    let (_dir, paths) = home();
    let daemon = Daemon::start(&paths);
    let (mut dies, lives) = (Process::idle(), Process::idle());
    let (orphan, port) = lease_for(&daemon, &dies);
    let (kept, _) = lease_for(&daemon, &lives);
    let mut server = Process::listener(lock_id(&orphan), &["sleep", "600"], bind(port));
    assert_eq!(daemon.stop(), Ended::Stopped);
    dies.kill();
    let daemon = Daemon::start(&paths);
    assert_eq!(server.death(), Some(libc::SIGTERM));
    eventually("the lease ends", || daemon.leases().len() == 1);
    assert_eq!(daemon.leases()[0]["lock_id"], kept["lock_id"]);
    let mut lives = lives;
    lives.kill();
    eventually("a lease from before the restart is watched", || {
        daemon.leases().is_empty()
    });
}

#[test]
fn what_a_launcher_left_on_purpose_while_no_daemon_ran_is_let_live() {
    let (_dir, paths) = home();
    let daemon = Daemon::start(&paths);
    let mut owner = Process::idle();
    let (lease, port) = lease_for(&daemon, &owner);
    let mut server = Process::listener(lock_id(&lease), &["sleep", "600"], bind(port));
    let session = daemon.session_dir(lock_id(&lease));
    assert_eq!(daemon.stop(), Ended::Stopped);
    fs::create_dir_all(&session).unwrap();
    fs::write(session.join("released"), "").unwrap();
    owner.kill();
    let daemon = Daemon::start(&paths);
    assert_eq!(daemon.leases()[0]["state"], "detached");
    assert!(server.0.try_wait().unwrap().is_none());
    server.kill();
    eventually("the lease ends", || daemon.leases().is_empty());
    eventually("the session directory is gone", || !session.exists());
}

#[test]
fn a_session_directory_lives_as_long_as_a_process_that_was_started_with_it() {
    let (_dir, paths) = home();
    let daemon = Daemon::start(&paths);
    let lease = daemon.allocate(&ask("dev"));
    let session = daemon.session_dir(lock_id(&lease));
    fs::create_dir_all(&session).unwrap();
    fs::write(session.join("tab"), "").unwrap();
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut user = Process::listener(lock_id(&lease), &["sleep", "600"], socket);
    daemon.release(lock_id(&lease));
    eventually("the lease ends", || daemon.leases().is_empty());
    assert!(session.exists());
    user.kill();
    eventually("the session directory is gone", || !session.exists());
}
