//! A second `styxy run` of a service of which there may be one: it follows the first.

use std::fs;

use nix::sys::signal::Signal;
use styxy_tests::{Deadline, Host, Running, Sandbox, eventually};

use crate::sandbox;
use crate::server::{WATCHED, leases, ready_port};

/// Listens on `PORT` until it is told to end.
const SERVER: &str = "exec python3 -m http.server $PORT";
/// Leaves a trace, so that it is known whether it was started.
const TRACE: &str = "touch started; exec sleep 1000";

fn start(sandbox: &Sandbox, project: &str, script: &str) -> Running {
    let words = [
        "run", "--type", "ai", "--name", "llm", "--", "sh", "-c", script,
    ];
    let call = sandbox.styxy(words).env(WATCHED.0, WATCHED.1);
    call.in_dir(sandbox.project(project)).spawn()
}

/// The first one, listening.
fn service(sandbox: &Sandbox) -> (Running, u16) {
    let run = start(sandbox, "first", SERVER);
    let port = ready_port(&run);
    (run, port)
}

/// A second one, which follows the first and has not started its own command.
fn follower(sandbox: &Sandbox, port: u16) -> Running {
    let run = start(sandbox, "second", TRACE);
    let said = run.line_with("✓ STYXY: ", Deadline::short());
    let expected = format!("one `ai` service at a time; it runs on http://localhost:{port} (");
    assert!(said.contains(&expected), "{said}");
    assert!(said.ends_with("; following it"), "{said}");
    assert_eq!(run.tree().len(), 1, "{run:?}");
    run
}

/// It has ended because its service has, and nothing was started.
#[track_caller]
fn assert_followed(sandbox: &Sandbox, run: &Running) {
    let ended = run.end(Deadline::short()).exited(123);
    assert_eq!(ended.stdout, "");
    assert!(!sandbox.projects().join("second/started").exists());
}

fn kill_daemon(sandbox: &Sandbox) {
    let daemons = sandbox.daemons();
    for daemon in daemons.iter() {
        daemon.signal(Signal::SIGKILL);
    }
    daemons.wait_gone(Deadline::short());
}

#[test]
fn a_second_one_says_where_the_first_runs_and_ends_after_it() {
    let sandbox = sandbox();
    let (service, port) = service(&sandbox);
    let strict = [
        "run", "--type", "ai", "--port", "11999", "--strict", "--", "sh", "-c", TRACE,
    ];
    let followers = [
        follower(&sandbox, port),
        sandbox
            .styxy(strict)
            .in_dir(sandbox.project("second"))
            .spawn(),
    ];
    let said = followers[1].line_with("following it", Deadline::short());
    let who = format!(
        "(llm of {}, pid {})",
        sandbox.projects().join("first").display(),
        service.pid()
    );
    assert!(said.contains(&who), "{said}");
    assert_eq!(leases(&sandbox).allocations.len(), 1);
    service.signal(Signal::SIGTERM);
    for follower in &followers {
        assert_followed(&sandbox, follower);
    }
    sandbox.wait_quiet(Deadline::short());
    assert!(leases(&sandbox).allocations.is_empty());
}

#[test]
fn signals_end_a_follower_and_nothing_else() {
    let sandbox = sandbox();
    let (service, port) = service(&sandbox);
    let told = follower(&sandbox, port);
    told.signal(Signal::SIGTERM);
    assert_eq!(told.end(Deadline::short()).code(), 128 + 15);
    let words = ["run", "--type", "ai", "--", "sh", "-c", TRACE];
    let mut interrupted = sandbox.styxy(words).on_terminal();
    interrupted.line_with("following it", Deadline::short());
    interrupted.control_c(Deadline::short());
    assert_eq!(interrupted.end(Deadline::short()).code(), 128 + 2);
    sandbox.page(port, "/", "Directory listing", Deadline::short());
    assert_eq!(leases(&sandbox).allocations.len(), 1);
    service.signal(Signal::SIGTERM);
    service.exit_status(Deadline::short());
    sandbox.wait_quiet(Deadline::short());
}

#[test]
fn a_service_is_followed_to_its_end_without_a_daemon() {
    let sandbox = sandbox();
    let (service, port) = service(&sandbox);
    let follower = follower(&sandbox, port);
    kill_daemon(&sandbox);
    service.signal(Signal::SIGTERM);
    assert_followed(&sandbox, &follower);
    sandbox.wait_quiet(Deadline::short());
}

#[test]
fn what_a_service_leaves_running_is_followed_too() {
    let sandbox = sandbox();
    let script = "setsid python3 -m http.server $PORT & echo $! > pid; wait";
    let service = start(&sandbox, "first", script);
    let port = ready_port(&service);
    let follower = follower(&sandbox, port);
    service.signal(Signal::SIGKILL);
    service.exit_status(Deadline::short());
    let detached = eventually(Deadline::short(), || {
        let list = sandbox.styxy(["list"]).run().success();
        list.stdout.contains("detached").then_some(())
    });
    assert!(detached.is_some(), "{:?}", leases(&sandbox));
    assert!(
        sandbox
            .processes()
            .iter()
            .any(|process| process.pid == follower.pid())
    );
    let servers = sandbox
        .processes()
        .filter(|process| process.command_line().contains("-m http.server"));
    assert_eq!(servers.len(), 1, "{:?}", sandbox.processes());
    for server in servers.iter() {
        server.signal(Signal::SIGKILL);
    }
    assert_followed(&sandbox, &follower);
    sandbox.wait_quiet(Deadline::short());
}

#[test]
fn who_starts_a_killed_service_again_at_once_has_it_again() {
    let sandbox = sandbox();
    let (service, _) = service(&sandbox);
    service.signal(Signal::SIGKILL);
    service.exit_status(Deadline::short());
    let again = start(&sandbox, "first", SERVER);
    ready_port(&again);
    assert_eq!(leases(&sandbox).allocations.len(), 1);
    again.signal(Signal::SIGTERM);
    let said = again.end(Deadline::short());
    assert!(!said.stderr.contains("following"), "{said:?}");
    sandbox.wait_quiet(Deadline::short());
}

#[test]
fn a_lease_that_nobody_uses_is_not_followed_but_a_service_without_a_process_is() {
    let sandbox = sandbox();
    sandbox.styxy(["daemon", "start", "-d"]).run().success();
    let forgotten = sandbox
        .api()
        .send("POST", "/allocate", r#"{"service_type":"ai"}"#);
    let (status, lease) = forgotten.expect("an answer");
    assert_eq!(status, 200, "{lease}");
    let port = lease["port"]
        .as_u64()
        .and_then(|port| u16::try_from(port).ok());
    let port = port.expect("a port");

    let run = start(&sandbox, "second", "exit 7").end(Deadline::short());
    let run = run.exited(7);
    let said: Vec<_> = run
        .stderr
        .lines()
        .filter(|line| line.starts_with("styxy: "))
        .collect();
    assert_eq!(said.len(), 1, "{run:?}");
    assert!(said[0].contains("one that does not run"), "{run:?}");

    let _service = sandbox.squat(Host::Ipv4Any, port);
    let follower = follower(&sandbox, port);
    kill_daemon(&sandbox);
    let ended = follower.end(Deadline::short()).exited(123);
    assert!(ended.stderr.contains("no longer following it"), "{ended:?}");
}

#[test]
fn a_run_inside_the_service_does_not_wait_for_itself() {
    let sandbox = sandbox();
    let project = sandbox.project("first");
    let inner = "styxy run --type ai -- sh -c 'exit 5'";
    fs::write(project.join("inner.sh"), inner).expect("write");
    // The second is what a task runner does that gives its scripts an environment of their own.
    for outer in [
        "sh inner.sh; exit $?",
        "env -u STYXY_LEASE sh inner.sh; exit $?",
    ] {
        let run = start(&sandbox, "first", outer).end(Deadline::short());
        let run = run.exited(5);
        assert!(run.stderr.contains("the run around this one"), "{run:?}");
    }
}

#[test]
fn a_dry_run_says_that_it_would_follow() {
    let sandbox = sandbox();
    let (service, port) = service(&sandbox);
    let words = ["run", "--dry-run", "--type", "ai", "--", "sh", "-c", TRACE];
    let report = sandbox.styxy(words).run().success();
    let expected =
        format!("port      {port} (the one `ai` service runs there; it would be followed");
    assert!(report.stdout.contains(&expected), "{report:?}");
    service.signal(Signal::SIGTERM);
    service.exit_status(Deadline::short());
}
