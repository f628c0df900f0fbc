//! The commands around the daemon itself: what they say with one and without, and which of them start one.

use std::fs;

use serde_json::Value;
use styxy_tests::{Deadline, eventually};

use crate::sandbox;
use crate::server::leases;

#[test]
fn without_a_daemon_those_that_only_look_say_so_and_start_none() {
    let sandbox = sandbox();
    for (arguments, code, said) in [
        (["list"].as_slice(), 0, "No active port allocations"),
        (&["instances"], 0, "No active instances registered"),
        (&["status"], 0, "Status: Stopped"),
        (&["daemon", "status"], 0, "Status: Stopped"),
        (&["daemon", "stop"], 0, "not running"),
        (&["daemon", "logs"], 1, "no log"),
        (
            &["release", "3000"],
            1,
            "Release failed: the daemon is not running",
        ),
        (&["cleanup"], 0, "Styxy daemon is not running"),
        (
            &["cleanup", "--port", "3000"],
            0,
            "Styxy daemon is not running",
        ),
        (&["doctor"], 1, "the daemon is not running"),
    ] {
        let ended = sandbox.styxy(arguments).run().exited(code);
        let text = if code == 0 || arguments == ["doctor"] {
            &ended.stdout
        } else {
            &ended.stderr
        };
        assert!(text.contains(said), "{arguments:?}: {ended:#?}");
    }
    for arguments in [["list"], ["instances"], ["status"], ["cleanup"], ["doctor"]] {
        let ended = sandbox.styxy(arguments.into_iter().chain(["--json"])).run();
        let body: Result<Value, _> = serde_json::from_str(&ended.stdout);
        assert!(
            body.is_ok_and(|body| body.is_object()),
            "{arguments:?}: {ended:#?}"
        );
    }
    assert!(sandbox.processes().is_empty());
}

#[test]
fn those_that_need_a_daemon_start_one_that_leaves_again() {
    let sandbox = sandbox();
    sandbox.styxy(["allocate", "dev", "-q"]).run().success();
    let daemons = sandbox.daemons();
    assert_eq!(daemons.len(), 1, "{daemons:?}");
    let is_temporary = |it: &styxy_tests::ProcessId| it.command_line().contains("--idle-exit");
    assert!(daemons.iter().all(is_temporary), "{daemons:?}");
}

#[test]
fn words_that_are_not_understood_start_nothing() {
    let sandbox = sandbox();
    for (arguments, word) in [
        (["check", "abc"].as_slice(), "abc"),
        (&["whose", "70000"], "70000"),
        (&["allocate"], "TYPE"),
        (&["allocate", "bad type!"], "bad type!"),
        (&["allocate", "dev", "-p", "abc"], "abc"),
        (&["allocate", "dev", "--", "serve"], "--hold"),
        (&["release", "nonsense"], "nonsense"),
        (&["scan", "-s", "9000", "-e", "8000"], "9000-8000"),
        (&["suggest", "a/b"], "a/b"),
        (&["daemon", "logs", "-n", "x"], "x"),
        (&["config", "frob"], "frob"),
        (&["token"], "rotate"),
    ] {
        let refused = sandbox.styxy(arguments).run().exited(2);
        assert_eq!(refused.stdout, "", "{arguments:?}");
        assert!(refused.stderr.contains(word), "{arguments:?}: {refused:?}");
    }
    assert!(sandbox.processes().is_empty());
}

#[test]
fn a_restart_keeps_the_leases_and_the_log_tells_of_it() {
    let sandbox = sandbox();
    sandbox.styxy(["allocate", "dev", "-q"]).run().success();
    let before = sandbox.daemons();
    let restarted = sandbox.styxy(["daemon", "restart"]).run().success();
    assert!(
        restarted.stdout.contains("Stopped Styxy daemon"),
        "{restarted:?}"
    );
    assert!(
        restarted.stdout.contains("Daemon started in background"),
        "{restarted:?}"
    );
    assert!(sandbox.daemons() != before && sandbox.daemons().len() == 1);
    assert_eq!(leases(&sandbox).allocations.len(), 1);

    let all = sandbox.styxy(["daemon", "logs"]).run().success().stdout;
    assert!(all.contains("allocated"), "{all}");
    let last = sandbox
        .styxy(["daemon", "logs", "-n", "1"])
        .run()
        .success()
        .stdout;
    assert_eq!(last.lines().count(), 1, "{last}");
    assert!(all.ends_with(&last), "{last}");
}

#[test]
fn a_log_that_is_followed_goes_on_in_the_next_file() {
    let sandbox = sandbox();
    sandbox.styxy(["daemon", "start", "-d"]).run().success();
    let follower = sandbox.styxy(["daemon", "logs", "-f", "-n", "0"]).spawn();
    let log = sandbox.home().join(".styxy/daemon.log");
    // There is no saying when it watches, so that something is written until it does.
    let seen = eventually(Deadline::short(), || {
        let port = sandbox
            .styxy(["allocate", "dev", "-q", "--name", "seen"])
            .run()
            .success();
        follower.so_far().contains("allocated").then_some(port)
    });
    assert!(seen.is_some(), "{follower:?}");
    fs::rename(&log, log.with_extension("log.1")).expect("rename");
    fs::write(&log, "a line in the next file\u{1b}[2J\n").expect("write");
    follower.line_with("a line in the next file\\u{1b}[2J", Deadline::short());
}

#[test]
fn the_status_tells_of_the_daemon_and_its_leases() {
    let sandbox = sandbox();
    sandbox.styxy(["allocate", "dev", "-q"]).run().success();
    for arguments in [["status"].as_slice(), &["daemon", "status"]] {
        let text = sandbox.styxy(arguments).run().success().stdout;
        let pid = sandbox.daemons().iter().next().expect("a daemon").pid;
        assert!(
            text.starts_with(&format!("Status: Running (PID: {pid})\nUptime: ")),
            "{text}"
        );
        assert!(text.contains("Allocations: 1 (1 starting)\n"), "{text}");
    }
    let body = sandbox.styxy(["status", "--json"]).run().success();
    let body: Value = serde_json::from_str(&body.stdout).expect("JSON");
    assert_eq!(
        (&body["status"], &body["allocations"]),
        (&"running".into(), &1.into()),
        "{body}"
    );
}

#[test]
fn a_configuration_to_start_from_is_written_once() {
    let sandbox = sandbox();
    let path = sandbox.home().join(".styxy/config.toml");
    let generated = sandbox.styxy(["config", "generate"]).run().success();
    assert!(
        generated.stdout.contains(&*path.to_string_lossy()),
        "{generated:?}"
    );
    fs::write(&path, "# mine\n").expect("write");
    let again = sandbox.styxy(["config", "generate"]).run().success();
    assert!(again.stdout.contains("already exists"), "{again:?}");
    assert_eq!(fs::read_to_string(&path).expect("read"), "# mine\n");
    sandbox
        .styxy(["config", "generate", "--force"])
        .run()
        .success();
    assert_ne!(fs::read_to_string(&path).expect("read"), "# mine\n");
    assert!(sandbox.processes().is_empty());
}
