//! What a start makes of what it finds: a damaged journal, a lost one, the state file of the program before.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use serde_json::{Value, json};
use styxy_daemon::{Config, Ended};
use styxy_protocol::api::{RecoveryStep, StatusResponse};

use crate::harness::{Daemon, Process, ask, bind, config, eventually, fresh_port, home, lock_id};

fn steps(daemon: &Daemon) -> Vec<RecoveryStep> {
    let status: StatusResponse =
        serde_json::from_value(daemon.get("/status").body).expect("a status");
    status.recovery
}

#[test]
fn every_start_says_what_it_found_in_five_steps() {
    let (_dir, paths) = home();
    let daemon = Daemon::start(&paths);
    let found = steps(&daemon);
    let names: Vec<_> = found.iter().map(|step| step.step.as_str()).collect();
    let expected = [
        "validate_state",
        "validate_config",
        "drop_orphans",
        "fix_singletons",
        "rebuild_indexes",
    ];
    assert_eq!(names, expected);
    assert!(
        found.iter().all(|step| step.success && step.repaired == 0),
        "{found:?}"
    );
    let mut dies = Process::idle();
    daemon.allocate(&json!({ "service_type": "dev", "pid": dies.pid() }));
    assert_eq!(daemon.stop(), Ended::Stopped);
    dies.kill();
    let daemon = Daemon::start(&paths);
    let orphans = &steps(&daemon)[2];
    assert!(orphans.success && orphans.repaired == 1, "{orphans:?}");
}

#[test]
fn a_damaged_journal_loses_what_is_damaged_and_nothing_else_however_often_it_is_read() {
    let (_dir, paths) = home();
    let daemon = Daemon::start(&paths);
    let leases = ["dev", "api", "docs"].map(|kind| daemon.allocate(&ask(kind)));
    assert_eq!(daemon.stop(), Ended::Stopped);
    let mut bytes = fs::read(paths.journal()).unwrap();
    let second_line = bytes.iter().position(|byte| *byte == b'\n').unwrap() + 40;
    bytes[second_line] ^= 1;
    fs::write(paths.journal(), &bytes).unwrap();
    for repaired in [1, 0] {
        let daemon = Daemon::start(&paths);
        let state = &steps(&daemon)[0];
        assert_eq!(
            (state.success, state.repaired),
            (true, repaired),
            "{state:?}"
        );
        let left: Vec<_> = daemon
            .leases()
            .iter()
            .map(|lease| lock_id(lease).to_owned())
            .collect();
        assert_eq!(left.len(), 2);
        assert!(!left.contains(&lock_id(&leases[1]).to_owned()));
        assert_eq!(daemon.stop(), Ended::Stopped);
    }
    assert_eq!(
        fs::read(paths.journal().with_extension("damaged")).unwrap(),
        bytes
    );
}

#[test]
fn a_run_that_the_journal_has_lost_is_found_again_by_its_listener() {
    let (_dir, paths) = home();
    let daemon = Daemon::start(&paths);
    let port = fresh_port();
    let request = json!({ "service_type": "dev", "preferred_port": port, "strict": true });
    let lease = daemon.allocate(&request);
    let id = lock_id(&lease).to_owned();
    let session = daemon.session_dir(&id);
    let mut server = Process::listener(&id, &["sleep", "600"], bind(port));
    // A mark alone, of a run that this daemon knows nothing of, is somebody else's.
    let stranger = "00000000-0000-4000-8000-0000000000bb";
    let _other = Process::listener(stranger, &["sleep", "600"], bind(fresh_port()));
    assert_eq!(daemon.stop(), Ended::Stopped);
    fs::create_dir_all(&session).unwrap();
    fs::remove_file(paths.journal()).unwrap();

    let daemon = Daemon::start(&paths);
    eventually("it is found", || !daemon.leases().is_empty());
    let leases = daemon.leases();
    assert_eq!(leases.len(), 1);
    assert_eq!(
        (&leases[0]["lock_id"], &leases[0]["port"]),
        (&json!(id), &json!(port))
    );
    assert_eq!(leases[0]["state"], "detached");
    assert!(leases[0]["command"].as_str().unwrap().starts_with("sleep"));
    assert_eq!(daemon.release(&id).status, 200);
    assert!(server.0.try_wait().unwrap().is_none(), "it is let live");
    server.kill();
    eventually("the lease ends", || daemon.leases().is_empty());
}

fn former_state(live: u16, silent: u16) -> Value {
    let entry = |port: u16, name: &str| {
        json!({
            "port": port,
            "lockId": format!("00000000-0000-4000-8000-0000000{port:05}"),
            "serviceType": "dev",
            "service_type": "dev",
            "serviceName": name,
            "projectPath": "/p",
            "allocated_at": "2025-10-11T12:00:00.000Z",
        })
    };
    json!({
        "saved_at": "2025-10-11T12:00:00.000Z",
        "allocations": [entry(live, "live"), entry(silent, "silent"), { "port": "x" }],
        "instances": [],
        "singletonServices": [],
    })
}

#[test]
fn the_state_of_the_program_before_is_taken_over_once() {
    let (_dir, paths) = home();
    let (live, silent) = (fresh_port(), fresh_port());
    let _held = bind(live);
    fs::create_dir(&paths.state_dir).unwrap();
    let path = paths.state_dir.join("daemon.state");
    let text = former_state(live.get(), silent.get()).to_string();
    fs::write(&path, &text).unwrap();
    for _ in 0..2 {
        let daemon = Daemon::start(&paths);
        let leases = daemon.leases();
        assert_eq!(leases.len(), 1);
        assert_eq!(
            (&leases[0]["port"], &leases[0]["service_name"]),
            (&json!(live), &json!("live"))
        );
        assert_eq!(
            (&leases[0]["pid"], &leases[0]["state"]),
            (&json!(null), &json!("listening"))
        );
        assert_eq!(daemon.stop(), Ended::Stopped);
        assert!(!path.exists());
        assert_eq!(
            fs::read_to_string(path.with_extension("state.imported")).unwrap(),
            text
        );
    }
    let daemon = Daemon::start(&paths);
    let request = json!({ "service_type": "dev", "service_name": "silent", "project_path": "/p" });
    assert_eq!(
        daemon.allocate(&request)["port"],
        json!(silent),
        "that of last time"
    );
}

#[test]
fn a_broken_state_file_is_set_aside() {
    let (_dir, paths) = home();
    fs::create_dir(&paths.state_dir).unwrap();
    let path = paths.state_dir.join("daemon.state");
    for name in ["state.damaged", "state.damaged.2"] {
        fs::write(&path, "{").unwrap();
        let daemon = Daemon::start(&paths);
        assert_eq!(daemon.get("/status").status, 200);
        assert!(!path.exists() && path.with_extension(name).exists());
    }
}

#[test]
fn a_lease_that_is_given_in_the_moment_of_idle_exit_is_watched_over() {
    let (_dir, paths) = home();
    let mut owner = Process::idle();
    let body = json!({ "service_type": "dev", "pid": owner.pid() }).to_string();
    let (first_half, rest) = body.split_at(10);
    // Whoever is so slow that the daemon has stopped waiting gets no lease, and may try again.
    let (mut daemon, lease) = loop {
        let mut daemon = Daemon::start_with(Config {
            idle_exit: Some(Duration::from_millis(100)),
            ..config(&paths)
        });
        let Ok(mut client) = UnixStream::connect(paths.socket()) else {
            assert_eq!(daemon.wait(), Ended::Idle);
            continue;
        };
        let head = format!(
            "POST /allocate HTTP/1.1\r\nhost: styxy\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        write!(client, "{head}{first_half}").ok();
        eventually("the daemon is about to end", || !paths.socket().exists());
        write!(client, "{rest}").ok();
        let mut answer = String::new();
        client.read_to_string(&mut answer).ok();
        if answer.starts_with("HTTP/1.1 200 ") {
            let (_, body) = answer.split_once("\r\n\r\n").unwrap();
            break (daemon, serde_json::from_str::<Value>(body).unwrap());
        }
        assert_eq!(daemon.wait(), Ended::Idle);
    };
    eventually("it serves on", || {
        UnixStream::connect(paths.socket()).is_ok()
    });
    assert_eq!(daemon.leases()[0]["lock_id"], lease["lock_id"]);
    assert!(paths.pid().exists());
    owner.kill();
    assert_eq!(daemon.wait(), Ended::Idle, "once it is unused");
    assert!(!paths.socket().exists());
}
