//! Many at once: many launchers, many daemons that want to be the one, and somebody who takes every port he reads of.

use std::collections::BTreeSet;

use nix::sys::signal::Signal;
use styxy_tests::{Deadline, Host, Manners, Running};

use crate::sandbox;
use crate::server::{WATCHED, leases, number_after, ready_port};

const HTTP_SERVER: [&str; 4] = ["python3", "-m", "http.server", "8000"];

#[test]
fn forty_launchers_at_once_get_forty_ports() {
    let sandbox = sandbox();
    let runs: Vec<Running> = (0..40)
        .map(|number| {
            let dir = sandbox.project(&format!("project-{number}"));
            let call = sandbox.managed(HTTP_SERVER).env(WATCHED.0, WATCHED.1);
            call.in_dir(dir).spawn()
        })
        .collect();
    let ports: BTreeSet<u16> = runs.iter().map(ready_port).collect();
    assert_eq!(ports.len(), 40, "{ports:?}");
    assert_eq!(sandbox.daemons().len(), 1, "{:?}", sandbox.daemons());
    assert_eq!(leases(&sandbox).allocations.len(), 40);
    for port in &ports {
        sandbox.page(*port, "/", "Directory listing", Deadline::short());
    }
    for run in &runs {
        run.signal(Signal::SIGTERM);
    }
    for run in &runs {
        run.exit_status(Deadline::long());
    }
    sandbox.wait_quiet(Deadline::long());
    assert!(leases(&sandbox).allocations.is_empty());
}

#[test]
fn a_hundred_starters_without_a_daemon_make_one_and_are_all_served() {
    let sandbox = sandbox();
    let runs: Vec<Running> = (0..100)
        .map(|number| {
            let name = format!("starter-{number}");
            let command = [
                "run",
                "--type",
                "dev",
                "--name",
                &name,
                "--",
                "sh",
                "-c",
                "echo $PORT; read x",
            ];
            sandbox.styxy(command).spawn_with_input()
        })
        .collect();
    let mut ports = BTreeSet::new();
    for run in &runs {
        // Each holds its lease until all have theirs.
        let line = run.line_with("", Deadline::long());
        ports.insert(
            line.parse::<u16>()
                .unwrap_or_else(|_| panic!("no port: {run:?}")),
        );
    }
    assert_eq!(ports.len(), 100, "{ports:?}");
    assert_eq!(sandbox.daemons().len(), 1, "{:?}", sandbox.daemons());
    for mut run in runs {
        run.type_keys("\n");
        let ended = run.end(Deadline::long()).success();
        assert_eq!(ended.stderr.matches("styxy: ").count(), 0, "{ended:?}");
    }
    sandbox.wait_quiet(Deadline::long());
}

#[test]
fn a_hundred_daemons_that_want_to_be_the_one() {
    let sandbox = sandbox();
    let starts: Vec<Running> = (0..100)
        .map(|_| sandbox.styxy(["daemon", "start", "-d"]).spawn())
        .collect();
    for start in starts {
        start.end(Deadline::long()).success();
    }
    assert_eq!(sandbox.daemons().len(), 1, "{:?}", sandbox.daemons());
}

#[test]
fn twenty_times_many_starters_find_no_daemon_and_make_one() {
    let sandbox = sandbox();
    let run = sandbox
        .managed(HTTP_SERVER)
        .env(WATCHED.0, WATCHED.1)
        .spawn();
    assert_eq!(ready_port(&run), 8000);
    for round in 0..20 {
        let daemons = sandbox.daemons();
        for daemon in daemons.iter() {
            daemon.signal(Signal::SIGKILL);
        }
        daemons.wait_gone(Deadline::short());
        let starts: Vec<Running> = (0..10)
            .map(|_| sandbox.styxy(["daemon", "start", "-d"]).spawn())
            .collect();
        for start in starts {
            start.end(Deadline::long()).success();
        }
        assert_eq!(
            sandbox.daemons().len(),
            1,
            "{round}: {:?}",
            sandbox.daemons()
        );
        let leases = leases(&sandbox).allocations;
        assert_eq!(leases.len(), 1, "{round}: {leases:?}");
    }
    run.signal(Signal::SIGTERM);
    run.exit_status(Deadline::short());
    sandbox.wait_quiet(Deadline::short());
}

#[test]
fn a_port_that_is_grabbed_as_soon_as_it_is_announced_does_not_fail_the_run() {
    for manners in [Manners::Plain, Manners::ReuseAddress] {
        let sandbox = sandbox();
        let _squatter = sandbox.squat(Host::Ipv4Any, 8000);
        let run = sandbox
            .managed(HTTP_SERVER)
            .env(WATCHED.0, WATCHED.1)
            .spawn();
        let announced = run.line_with("auto-assigned port", Deadline::short());
        let announced = number_after(&announced, "auto-assigned port ").expect("a port");
        let grabbed = sandbox.try_squat(Host::Ipv4Any, announced, manners);
        let port = ready_port(&run);
        if manners == Manners::Plain {
            // The launcher holds the port until the server has it.
            assert!(grabbed.is_err(), "{run:?}");
            assert_eq!(port, announced, "{run:?}");
        }
        assert!(
            grabbed.is_err() || port != announced,
            "{manners:?}: {run:?}"
        );
        sandbox.page(port, "/", "Directory listing", Deadline::short());
        run.signal(Signal::SIGTERM);
        run.exit_status(Deadline::short());
    }
}
