//! `styxy run --exec`: the command in the launcher's place.

use std::fs;

use nix::sys::signal::Signal;
use styxy_tests::{Deadline, Host, Sandbox, eventually};

use super::end::by_shell;
use super::process::{END, FENCE, Running};
use super::signals::signals;
use super::{Fronts, Kind, PROBE};
use crate::sandbox;
use crate::server::leases;

fn wait_for_no_lease(sandbox: &Sandbox) {
    let none = eventually(Deadline::long(), || {
        leases(sandbox).allocations.is_empty().then_some(())
    });
    assert!(none.is_some(), "{:?}", leases(sandbox));
}

#[test]
fn the_lease_is_the_commands() {
    let sandbox = sandbox();
    let script = "echo on $PORT as $$; read line; exit 3";
    let words = ["run", "--exec", "--type", "dev", "--", "sh", "-c", script];
    let mut run = sandbox.styxy(words).spawn_with_input();
    let pid = run.pid();
    run.line_with(&format!("on 3000 as {pid}"), Deadline::short());
    let lease = leases(&sandbox).allocations.remove(0);
    assert_eq!(lease.pid, Some(pid.cast_unsigned()));
    assert_eq!(run.tree().len(), 1, "{:?}", run.tree());
    run.type_keys("\n");
    let ended = run.end(Deadline::short()).exited(3);
    assert_eq!(ended.stderr, "");
    wait_for_no_lease(&sandbox);
    let sessions = fs::read_dir(sandbox.runtime_dir().join("styxy")).expect("a directory");
    let mut sessions = sessions.map(|home| home.expect("an entry").path().join("s"));
    let swept = sessions.next().expect("a home");
    let swept = eventually(Deadline::long(), || {
        let mut left = fs::read_dir(&swept).expect("sessions");
        left.next().is_none().then_some(())
    });
    assert!(swept.is_some(), "a session directory stays");
}

#[test]
fn a_port_is_moved_all_the_same() {
    let sandbox = sandbox();
    let _squatter = sandbox.squat(Host::Ipv4Any, 8000);
    let words = [
        "run",
        "--exec",
        "--",
        "python3",
        "-m",
        "http.server",
        "8000",
    ];
    let run = sandbox.styxy(words).spawn();
    run.line_with("8001", Deadline::long());
    sandbox.page(8001, "/", "Directory listing", Deadline::long());
    run.signal(Signal::SIGTERM);
    assert_eq!(run.end(Deadline::short()).code(), 128 + 15);
    wait_for_no_lease(&sandbox);
}

#[test]
fn it_ends_as_the_command_ends() {
    let fronts = Fronts::new();
    let exec = fronts.front(Kind::Managed).with(&["--exec"]);
    let bare = fronts.front(Kind::Bare);
    for script in ["exit 0", "exit 7", "kill -TERM $$", "kill -KILL $$"] {
        let command = ["sh", "-c", script];
        assert_eq!(
            by_shell(&exec, &command),
            by_shell(&bare, &command),
            "{script}"
        );
    }
    for (name, code) in [("styxy-no-such-command", 127), ("/etc/passwd", 126)] {
        assert_eq!(by_shell(&exec, &[name]).code, Some(code), "{name}");
    }
    wait_for_no_lease(&fronts.sandbox);
}

#[test]
fn each_signal_reaches_it_once() {
    let fronts = Fronts::new();
    let exec = fronts.front(Kind::Managed).with(&["--exec"]);
    let mut probe = Running::start(exec.command(&[], &[PROBE]));
    assert_eq!(probe.ready().pid, probe.pid());
    for signal in signals() {
        probe.signal_group(signal);
        probe.signal(signal);
        probe.signal(FENCE);
        let lines = probe.lines_before("got 64");
        assert!(
            (1..=2).contains(&lines.len())
                && lines.iter().all(|line| *line == format!("got {signal}")),
            "{signal}: {lines:?}"
        );
    }
    probe.signal(END);
    assert_eq!(probe.end(), (Some(0), None));
}

#[test]
fn without_a_daemon_it_is_the_command_too() {
    let fronts = Fronts::new();
    let exec = fronts.front(Kind::Alone).with(&["--exec"]);
    let mut probe = Running::start(exec.command(&[], &[PROBE]));
    assert_eq!(probe.ready().pid, probe.pid());
    probe.signal(END);
    assert_eq!(probe.end(), (Some(0), None));
}
