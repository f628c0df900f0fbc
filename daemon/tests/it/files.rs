//! Lock, socket, journal and the directories around them.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use serde_json::json;
use styxy_daemon::{Config, DaemonError, Ended, LogTarget, Paths, run_until};

use crate::harness::{Daemon, Process, ask, config, eventually, fresh_port, home, lock_id, mode};

#[test]
fn everything_is_for_its_owner_alone() {
    let (dir, paths) = home();
    let log = dir.path().join("log");
    let daemon = Daemon::start_with(Config {
        log: LogTarget::File(log.clone()),
        ..config(&paths)
    });
    daemon.allocate(&ask("dev"));
    for file in [
        paths.socket(),
        paths.lock(),
        paths.pid(),
        paths.journal(),
        paths.journal_lock(),
        log,
    ] {
        assert_eq!(mode(&file), 0o600, "{}", file.display());
    }
    for dir in [&paths.runtime_dir, &paths.state_dir] {
        assert_eq!(mode(dir), 0o700, "{}", dir.display());
    }
}

#[test]
fn a_second_daemon_loses_the_race_and_the_first_serves_on() {
    let (_dir, paths) = home();
    let daemon = Daemon::start(&paths);
    let lease = daemon.allocate(&ask("dev"));
    let second = run_until(config(&paths), std::future::pending());
    assert!(matches!(second, Ok(Ended::LostTheRace)), "{second:?}");
    assert_eq!(daemon.leases()[0]["lock_id"], lease["lock_id"]);
}

#[test]
fn of_many_daemons_that_start_at_once_exactly_one_serves() {
    let (_dir, paths) = home();
    let daemons: Vec<_> = (0..20)
        .map(|_| {
            std::thread::spawn({
                let paths = paths.clone();
                move || Daemon::start(&paths)
            })
        })
        .collect();
    let daemons: Vec<_> = daemons
        .into_iter()
        .map(|thread| thread.join().unwrap())
        .collect();
    daemons[0].allocate(&ask("dev"));
    assert!(daemons.iter().all(|daemon| daemon.leases().len() == 1));
    // One that is so slow that the first has been stopped would win a race of its own.
    eventually("all others have lost", || {
        daemons.iter().filter(|daemon| daemon.has_ended()).count() == 19
    });
    let ended: Vec<_> = daemons.into_iter().map(Daemon::stop).collect();
    let serving = ended
        .iter()
        .filter(|ended| **ended == Ended::Stopped)
        .count();
    assert_eq!(serving, 1, "{ended:?}");
}

#[test]
fn what_a_killed_daemon_leaves_is_in_nobodys_way() {
    let (_dir, paths) = home();
    fs::create_dir(&paths.runtime_dir).unwrap();
    drop(std::os::unix::net::UnixListener::bind(paths.socket()).unwrap());
    fs::write(paths.pid(), "1\n").unwrap();
    fs::write(paths.lock(), "").unwrap();
    let daemon = Daemon::start(&paths);
    assert_eq!(daemon.get("/status").status, 200);
    assert_eq!(
        fs::read_to_string(paths.pid()).unwrap(),
        format!("{}\n", std::process::id())
    );
    assert_eq!(daemon.stop(), Ended::Stopped);
    assert!(!paths.socket().exists() && !paths.pid().exists() && paths.lock().exists());
}

#[test]
fn a_daemon_whose_files_are_taken_away_makes_room_for_another() {
    let displace: [fn(&Paths); 4] = [
        |paths| fs::remove_file(paths.socket()).unwrap(),
        |paths| fs::remove_file(paths.lock()).unwrap(),
        |paths| fs::remove_dir_all(&paths.runtime_dir).unwrap(),
        |paths| fs::rename(&paths.runtime_dir, paths.state_dir.join("moved")).unwrap(),
    ];
    for displace in displace {
        let (_dir, paths) = home();
        let mut first = Daemon::start(&paths);
        let owner = Process::idle();
        let lease = first.allocate(&json!({ "service_type": "dev", "pid": owner.pid() }));
        displace(&paths);
        assert_eq!(first.wait(), Ended::Displaced);
        let second = Daemon::start(&paths);
        assert_eq!(second.leases()[0]["lock_id"], lease["lock_id"]);
    }
}

#[test]
fn the_socket_of_another_daemon_is_left_to_it() {
    let (dir, paths) = home();
    let mut first = Daemon::start(&paths);
    fs::rename(&paths.runtime_dir, dir.path().join("moved")).unwrap();
    let second = Daemon::start(&paths);
    assert_eq!(first.wait(), Ended::Displaced);
    second.allocate(&ask("dev"));
    assert!(paths.pid().exists());
}

#[test]
fn two_daemons_of_one_home_never_write_one_journal() {
    let (dir, paths) = home();
    let first = Daemon::start(&paths);
    let lease = first.allocate(&ask("dev"));
    let elsewhere = Paths {
        runtime_dir: dir.path().join("elsewhere"),
        ..paths.clone()
    };
    let second = Daemon::start(&elsewhere);
    second.allocate(&ask("dev"));
    let status = second.get("/status").body;
    let reason = status["degraded"].as_str().expect("it says so");
    assert!(reason.contains("in use by another daemon"), "{reason}");
    assert_eq!(first.get("/status").body["degraded"], json!(null));
    assert_eq!(second.stop(), Ended::Stopped);
    assert_eq!(first.stop(), Ended::Stopped);
    let next = Daemon::start(&elsewhere);
    let leases = next.leases();
    assert_eq!(leases.len(), 1);
    assert_eq!(leases[0]["lock_id"], lease["lock_id"]);
}

#[test]
fn a_runtime_directory_that_others_can_write_to_is_refused() {
    let (dir, paths) = home();
    fs::create_dir(&paths.runtime_dir).unwrap();
    fs::set_permissions(&paths.runtime_dir, fs::Permissions::from_mode(0o777)).unwrap();
    let refused = run_until(config(&paths), std::future::pending());
    assert!(
        matches!(refused, Err(DaemonError::UnsafeRuntimeDir { .. })),
        "{refused:?}"
    );
    fs::remove_dir(&paths.runtime_dir).unwrap();
    std::os::unix::fs::symlink(dir.path(), &paths.runtime_dir).unwrap();
    let refused = run_until(config(&paths), std::future::pending());
    assert!(
        matches!(refused, Err(DaemonError::UnsafeRuntimeDir { .. })),
        "{refused:?}"
    );
}

#[test]
fn without_a_state_directory_it_serves_from_memory_and_says_so() {
    let (dir, mut paths) = home();
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    paths.state_dir = file.join("state");
    let daemon = Daemon::start(&paths);
    let lease = daemon.allocate(&ask("dev"));
    let status = daemon.get("/status").body;
    assert!(
        status["degraded"].as_str().unwrap().contains("journal"),
        "{status}"
    );
    assert_eq!(daemon.release(lock_id(&lease)).status, 200);
}

#[test]
fn a_restart_keeps_leases_and_sticky_ports() {
    let (_dir, paths) = home();
    let daemon = Daemon::start(&paths);
    let mut request = json!({
        "service_type": "dev",
        "service_name": "web",
        "project_path": "/p",
        "preferred_port": fresh_port(),
        "pid": std::process::id(),
    });
    let kept = daemon.allocate(&request);
    let nobodys = daemon.allocate(&ask("dev"));
    let released = daemon.allocate(&ask("dev"));
    daemon.release(lock_id(&released));
    assert_eq!(daemon.stop(), Ended::Stopped);

    let daemon = Daemon::start(&paths);
    let ids = |daemon: &Daemon| -> BTreeSet<String> {
        let leases = daemon.leases();
        leases
            .iter()
            .map(|lease| lock_id(lease).to_owned())
            .collect()
    };
    let before = [lock_id(&nobodys), lock_id(&kept)].map(str::to_owned);
    assert_eq!(ids(&daemon), BTreeSet::from(before));
    daemon.release(lock_id(&kept));
    daemon.release(lock_id(&nobodys));
    assert_eq!(daemon.stop(), Ended::Stopped);

    let daemon = Daemon::start(&paths);
    assert_eq!(ids(&daemon), BTreeSet::new());
    request["preferred_port"].take();
    assert_eq!(
        daemon.allocate(&request)["port"],
        kept["port"],
        "that of last time"
    );
}

#[test]
fn it_exits_when_the_last_lease_has_been_gone_for_long_enough() {
    let (_dir, paths) = home();
    let daemon = Daemon::start(&paths);
    let mut owner = Process::idle();
    daemon.allocate(&json!({ "service_type": "dev", "pid": owner.pid() }));
    assert_eq!(daemon.stop(), Ended::Stopped);

    let mut daemon = Daemon::start_with(Config {
        idle_exit: Some(Duration::from_millis(1)),
        ..config(&paths)
    });
    assert_eq!(daemon.leases().len(), 1, "a lease from before keeps it");
    owner.kill();
    assert_eq!(daemon.wait(), Ended::Idle);
    assert!(!paths.socket().exists());
}
