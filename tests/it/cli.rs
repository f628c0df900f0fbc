//! The commands and options of `styxy`, and that `styxy run` adds nothing to what a command says and how it ends.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;

use nix::sys::signal::Signal;
use serde_json::Value;
use styxy_tests::{Deadline, Host, Sandbox};

use crate::sandbox;
use crate::server::{WATCHED, leases, ready_port};

const HTTP_SERVER: [&str; 4] = ["python3", "-m", "http.server", "8000"];

fn dry_run(sandbox: &Sandbox, options: &[&str], command: &[&str]) -> Value {
    let arguments = [&["run", "--dry-run", "--json"], options, &["--"], command].concat();
    let plan = sandbox.styxy(arguments).run().success();
    serde_json::from_str(&plan.stdout).unwrap_or_else(|error| panic!("{error}: {}", plan.stdout))
}

#[test]
fn statuses_and_outputs_are_those_of_the_bare_command() {
    let sandbox = sandbox();
    let script = sandbox.projects().join("not-executable");
    fs::write(&script, "#!/bin/sh\n").expect("write");
    fs::set_permissions(&script, fs::Permissions::from_mode(0o644)).expect("chmod");
    for command in [
        "true",
        "exit 3",
        "echo out; echo err >&2; exit 255",
        "kill -INT $$",
        "kill -TERM $$",
        "kill -KILL $$",
        "kill -SEGV $$",
        "printf 'no newline'",
        "cat; echo \"$1 $#\"",
    ] {
        let bare = sandbox
            .command(["sh", "-c", command, "sh", "a b", ""])
            .run();
        let managed = sandbox
            .managed(["sh", "-c", command, "sh", "a b", ""])
            .run();
        assert_eq!(managed.status, bare.status, "{command}");
        assert_eq!(managed.stdout, bare.stdout, "{command}");
        assert_eq!(managed.stderr, bare.stderr, "{command}");
    }
    let not_found = sandbox.managed(["no-such-command"]).run().exited(127);
    assert!(
        not_found.stderr.starts_with("styxy: `no-such-command`"),
        "{not_found:?}"
    );
    let script = script.to_string_lossy();
    let not_executable = sandbox.managed([&*script]).run().exited(126);
    assert!(
        not_executable.stderr.starts_with("styxy: "),
        "{not_executable:?}"
    );
    sandbox.wait_quiet(Deadline::short());
}

#[test]
fn the_double_dash_is_optional_and_options_after_the_command_are_its_own() {
    let sandbox = sandbox();
    let with = sandbox
        .styxy(["run", "--", "echo", "--port", "1", "--quiet"])
        .run();
    let without = sandbox
        .styxy(["run", "echo", "--port", "1", "--quiet"])
        .run();
    assert_eq!(with.success().stdout, "--port 1 --quiet\n");
    assert_eq!(without.success().stdout, "--port 1 --quiet\n");
}

#[test]
fn disabled_it_is_the_command_itself() {
    let sandbox = sandbox();
    let script = "echo $$; echo \"${PORT-none} ${STYXY_LEASE-none} ${LD_PRELOAD-none}\"";
    let run = sandbox
        .managed(["sh", "-c", script])
        .env("STYXY_DISABLE", "1")
        .spawn();
    let pid = run.pid();
    let ended = run.end(Deadline::short()).success();
    assert_eq!(ended.stdout, format!("{pid}\nnone none none\n"));
    assert_eq!(ended.stderr, "");
    assert!(sandbox.daemons().is_empty());
}

#[test]
fn list_shows_what_runs_and_nothing_afterwards() {
    let sandbox = sandbox();
    let none = sandbox.styxy(["list"]).run().success();
    assert!(none.stdout.contains("No active"), "{none:?}");
    assert!(leases(&sandbox).allocations.is_empty());

    let run = sandbox.managed(HTTP_SERVER).spawn();
    sandbox.page(8000, "/", "Directory listing", Deadline::short());
    let table = sandbox.styxy(["list"]).run().success();
    let row = table.stdout.lines().find(|line| line.contains("8000"));
    assert!(row.is_some_and(|row| row.contains("api")), "{table:?}");
    let leases = leases(&sandbox).allocations;
    let [lease] = leases.as_slice() else {
        panic!("one lease: {leases:?}");
    };
    assert_eq!(lease.port.get(), 8000);
    assert_eq!(lease.service_type.as_str(), "api");
    assert_eq!(lease.pid, Some(run.pid().cast_unsigned()));
    assert_eq!(
        lease.command.as_deref(),
        Some("python3 -m http.server 8000")
    );
    run.signal(Signal::SIGTERM);
    run.exit_status(Deadline::short());
    let none = sandbox.styxy(["list"]).run().success();
    assert!(none.stdout.contains("No active"), "{none:?}");
}

#[test]
fn the_daemon_is_started_asked_and_stopped() {
    let sandbox = sandbox();
    let call = |verb| sandbox.styxy(["daemon", verb]).run().success().stdout;
    assert!(call("status").contains("Stopped"));
    assert!(call("stop").contains("not running"));
    sandbox.styxy(["daemon", "start", "-d"]).run().success();
    let daemons = sandbox.daemons();
    assert_eq!(daemons.len(), 1, "{daemons:?}");
    assert!(call("status").contains("Running"));
    sandbox.styxy(["daemon", "start", "-d"]).run().success();
    assert!(sandbox.daemons() == daemons, "{:?}", sandbox.daemons());
    assert!(call("stop").contains("Stopped"));
    daemons.wait_gone(Deadline::short());
    assert!(call("status").contains("Stopped"));
}

#[test]
fn a_daemon_in_the_foreground_ends_with_the_signal_that_asks_it_to() {
    for end in [Signal::SIGINT, Signal::SIGTERM] {
        let sandbox = sandbox();
        let daemon = sandbox.styxy(["daemon", "start"]).spawn();
        daemon.line_with("listens on", Deadline::short());
        sandbox.styxy(["daemon", "status"]).run().success();
        daemon.signal(end);
        daemon.end(Deadline::short()).success();
        assert!(sandbox.processes().is_empty());
    }
}

#[test]
fn a_lease_outlives_the_daemon_that_gave_it() {
    let sandbox = sandbox();
    let run = sandbox.managed(HTTP_SERVER).spawn();
    sandbox.page(8000, "/", "Directory listing", Deadline::short());
    sandbox.styxy(["daemon", "stop"]).run().success();
    sandbox.page(8000, "/", "Directory listing", Deadline::short());
    sandbox.styxy(["daemon", "start", "-d"]).run().success();
    let other = sandbox.project("other");
    let second = sandbox
        .managed(HTTP_SERVER)
        .env(WATCHED.0, WATCHED.1)
        .in_dir(other)
        .spawn();
    assert_eq!(ready_port(&second), 8001);
    let ports: Vec<_> = leases(&sandbox)
        .allocations
        .iter()
        .map(|lease| lease.port.get())
        .collect();
    assert_eq!(ports, [8000, 8001]);
    for run in [run, second] {
        run.signal(Signal::SIGTERM);
        run.exit_status(Deadline::short());
    }
    sandbox.wait_quiet(Deadline::short());
}

#[test]
fn a_dry_run_tells_the_plan_and_changes_nothing() {
    let sandbox = sandbox();
    let _squatter = sandbox.squat(Host::Ipv6Loopback, 8000);
    let plan = dry_run(&sandbox, &[], &HTTP_SERVER);
    assert_eq!(plan["recipe"], "python-http-server", "{plan}");
    assert_eq!(plan["service_type"], "api", "{plan}");
    assert_eq!(plan["outcome"], "service", "{plan}");
    assert_eq!(plan["port"], 8001, "{plan}");
    assert_eq!(
        plan["argv"].as_array().and_then(|argv| argv.last()),
        Some(&"8001".into())
    );
    assert!(
        plan["why"].as_array().is_some_and(|why| !why.is_empty()),
        "{plan}"
    );
    assert!(plan["env"].is_object(), "{plan}");
    assert!(leases(&sandbox).allocations.is_empty());
    assert!(sandbox.is_free(8001));

    let text = sandbox
        .styxy(["run", "--dry-run", "python3", "-m", "http.server"])
        .run();
    let text = text.success();
    assert!(
        text.stdout.contains("8001") && text.stdout.contains("http.server"),
        "{text:?}"
    );
    assert_eq!(text.stderr, "");
}

#[test]
fn port_type_and_name_are_the_users_to_choose() {
    let sandbox = sandbox();
    let plan = dry_run(&sandbox, &["--port", "4567"], &HTTP_SERVER);
    assert_eq!(plan["port"], 4567, "{plan}");
    let plan = dry_run(&sandbox, &["--type", "docs"], &["sh", "-c", "our-server"]);
    assert_eq!(plan["service_type"], "docs", "{plan}");
    let port = plan["port"].as_u64().expect("a port");
    assert!((4100..=4199).contains(&port), "{plan}");

    let run = |name: &'static str, port: &'static str| {
        let options = ["run", "--name", name, "--port", port, "--"];
        let call = sandbox.styxy([options.as_slice(), &HTTP_SERVER].concat());
        call.env(WATCHED.0, WATCHED.1).spawn()
    };
    let (one, other) = (run("one", "4567"), run("other", "4568"));
    assert_eq!((ready_port(&one), ready_port(&other)), (4567, 4568));
    let names: Vec<_> = leases(&sandbox).allocations;
    let names: Vec<_> = names
        .iter()
        .filter_map(|lease| lease.service_name.as_deref())
        .collect();
    assert_eq!(names, ["one", "other"]);
    for run in [one, other] {
        run.signal(Signal::SIGTERM);
        run.exit_status(Deadline::short());
    }
}

#[test]
fn quiet_is_quiet() {
    let sandbox = sandbox();
    let _squatter = sandbox.squat(Host::Ipv4Any, 8000);
    let call = sandbox.styxy([["run", "--quiet", "--"].as_slice(), &HTTP_SERVER].concat());
    let run = call.env(WATCHED.0, WATCHED.1).spawn();
    sandbox.page(8001, "/", "Directory listing", Deadline::short());
    run.signal(Signal::SIGTERM);
    let ended = run.end(Deadline::short());
    assert_eq!(ended.notices(), Vec::<&str>::new());
    assert_eq!(
        ended.status.signal(),
        Some(15),
        "as http.server ends by SIGTERM"
    );
}

#[test]
fn strict_wants_this_port_or_none() {
    let sandbox = sandbox();
    let squatter = sandbox.squat(Host::Ipv4Any, 8000);
    let command = ["run", "--strict", "--port", "8000", "--", "echo", "started"];
    let refused = sandbox.styxy(command).run().exited(125);
    assert_eq!(refused.stdout, "");
    assert!(
        refused.stderr.starts_with("styxy: ") && refused.stderr.contains("8000"),
        "{refused:?}"
    );
    drop(squatter);
    let started = sandbox.styxy(command).run().success();
    assert_eq!(started.stdout, "started\n");
}
