//! npm scripts that contain `styxy run`, and `styxy run` in front of such scripts: one lease either way.

use styxy_tests::{Deadline, Fixture, Host, Running, Sandbox, available};

use crate::server::{WATCHED, auto_assigned, leases, ready_port};
use crate::{FIXTURES, sandbox};

/// `"managed": "styxy run -- vite"`
const NPM: [&str; 3] = ["npm", "run", "managed"];

fn serves_with_one_lease(sandbox: &Sandbox, run: &mut Running, port: u16) {
    assert_eq!(ready_port(run), port, "{run:?}");
    sandbox.page(port, "/", "vite fixture", Deadline::long());
    let leases = leases(sandbox).allocations;
    let ports: Vec<_> = leases.iter().map(|lease| lease.port.get()).collect();
    assert_eq!(ports, [port], "{leases:?}");
    let tree = run.tree();
    run.control_c(Deadline::long());
    tree.wait_gone(Deadline::short());
    sandbox.wait_free(port, Deadline::short());
    sandbox.wait_quiet(Deadline::short());
}

#[test]
fn a_script_that_runs_styxy_gets_a_port_of_its_own() {
    let sandbox = sandbox();
    let Some(dir) = available(FIXTURES.copy(Fixture::Vite, &sandbox, "app")) else {
        return;
    };
    let squatter = sandbox.squat(Host::Ipv6Loopback, 5173);
    let call = sandbox.command(NPM).env(WATCHED.0, WATCHED.1).in_dir(dir);
    let mut run = call.spawn();
    run.line_with(&auto_assigned(5173, 5174), Deadline::long());
    serves_with_one_lease(&sandbox, &mut run, 5174);
    assert!(!squatter.was_visited());
}

#[test]
fn styxy_in_front_of_a_script_that_runs_styxy_takes_one_lease() {
    let sandbox = sandbox();
    let Some(dir) = available(FIXTURES.copy(Fixture::Vite, &sandbox, "app")) else {
        return;
    };
    let call = sandbox.managed(NPM).env(WATCHED.0, WATCHED.1).in_dir(dir);
    let mut run = call.spawn();
    serves_with_one_lease(&sandbox, &mut run, 5173);
    let said = run.so_far();
    assert_eq!(said.matches("STYXY: ready").count(), 1, "{said}");
}

#[test]
fn a_nested_run_keeps_out_of_the_way_of_a_foreign_process_too() {
    let sandbox = sandbox();
    let Some(dir) = available(FIXTURES.copy(Fixture::Vite, &sandbox, "app")) else {
        return;
    };
    let _squatter = sandbox.squat(Host::Ipv4Any, 5173);
    let call = sandbox.managed(NPM).env(WATCHED.0, WATCHED.1).in_dir(dir);
    let mut run = call.spawn();
    serves_with_one_lease(&sandbox, &mut run, 5174);
    let said = run.so_far();
    assert_eq!(said.matches("auto-assigned").count(), 1, "{said}");
}

#[test]
fn a_port_that_is_named_in_front_of_a_nested_run_reaches_it() {
    let sandbox = sandbox();
    let Some(dir) = available(FIXTURES.copy(Fixture::Vite, &sandbox, "app")) else {
        return;
    };
    let call = sandbox.styxy(["run", "--port", "4321", "--", "npm", "run", "managed"]);
    let mut run = call.env(WATCHED.0, WATCHED.1).in_dir(dir).spawn();
    serves_with_one_lease(&sandbox, &mut run, 4321);
}
