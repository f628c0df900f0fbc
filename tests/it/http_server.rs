//! The smallest real service, `python3 -m http.server 8000`, through everything that the README promises of it.

use nix::sys::signal::Signal;
use styxy_tests::{Deadline, Host, Running};

use crate::sandbox;
use crate::server::{auto_assigned, leases};

const HTTP_SERVER: [&str; 4] = ["python3", "-m", "http.server", "8000"];

/// Waits until the server has done with the request before: Python swallows an interrupt that comes while it drops
/// what that request has left.
fn wait_at_rest(run: &Running) {
    let at_rest = styxy_tests::eventually(Deadline::short(), || {
        let tree = run.tree();
        let mut servers = tree
            .iter()
            .filter(|it| it.command_line().starts_with("python"));
        servers
            .all(styxy_tests::ProcessId::is_at_rest)
            .then_some(())
    });
    assert!(at_rest.is_some(), "{run:?}");
}

#[test]
fn a_taken_port_is_told_in_one_line_and_the_next_one_answers() {
    for host in Host::TYPICAL {
        let sandbox = sandbox();
        let squatter = sandbox.squat(host, 8000);
        let run = sandbox.managed(HTTP_SERVER).spawn();
        run.line_with(&auto_assigned(8000, 8001), Deadline::short());
        sandbox.page(8001, "/", "Directory listing", Deadline::short());
        assert!(!squatter.was_visited(), "{host:?}");

        // Not an interrupt: Python may swallow one while it finishes a request.
        run.signal(Signal::SIGTERM);
        let ended = run.end(Deadline::short());
        assert_eq!(ended.notices().len(), 1, "{host:?}: {ended:#?}");
        assert!(!ended.stdout.contains("STYXY"), "{host:?}: {ended:#?}");
        sandbox.wait_free(8001, Deadline::short());
    }
}

#[test]
fn styxy_says_nothing_when_nothing_is_in_the_way() {
    let sandbox = sandbox();
    let mut run = sandbox.managed(HTTP_SERVER).spawn();
    sandbox.page(8000, "/", "Directory listing", Deadline::short());
    wait_at_rest(&run);
    run.control_c(Deadline::short());
    let managed = run.end(Deadline::short());
    assert_eq!(managed.notices(), Vec::<&str>::new());

    let mut run = sandbox.command(HTTP_SERVER).spawn();
    sandbox.page(8000, "/", "Directory listing", Deadline::short());
    wait_at_rest(&run);
    run.control_c(Deadline::short());
    let bare = run.end(Deadline::short());
    assert_eq!(managed.status, bare.status);
    assert_eq!(managed.stdout, bare.stdout);
}

#[test]
fn control_c_at_a_terminal_ends_it_as_it_ends_the_bare_command() {
    let sandbox = sandbox();
    let mut statuses = Vec::new();
    for call in [sandbox.command(HTTP_SERVER), sandbox.managed(HTTP_SERVER)] {
        let mut run = call.on_terminal();
        run.line_with("Serving HTTP on", Deadline::short());
        sandbox.page(8000, "/", "Directory listing", Deadline::short());
        wait_at_rest(&run);
        statuses.push(run.control_c(Deadline::short()));
        sandbox.wait_free(8000, Deadline::short());
    }
    assert_eq!(statuses[0], statuses[1], "bare, managed");
}

#[test]
fn whoever_watches_is_told_when_it_is_ready_and_where() {
    let sandbox = sandbox();
    let _squatter = sandbox.squat(Host::Ipv4Any, 8000);
    let run = sandbox.managed(HTTP_SERVER).on_terminal();
    run.line_with("✓ STYXY: ready on http://localhost:8001", Deadline::short());
    let page = sandbox.get(8001, "/").expect("ready is ready");
    assert_eq!(page.status, 200);
    run.signal(Signal::SIGTERM);
}

#[test]
fn the_lease_is_over_when_the_server_is() {
    let sandbox = sandbox();
    for end in [
        Signal::SIGINT,
        Signal::SIGTERM,
        Signal::SIGHUP,
        Signal::SIGKILL,
    ] {
        let run = sandbox.managed(HTTP_SERVER).spawn();
        // No request: Python may swallow an interrupt while it finishes one.
        run.line_with("Serving HTTP on", Deadline::short());
        assert_eq!(leases(&sandbox).allocations.len(), 1, "{end}");
        let tree = run.tree();
        run.signal(end);
        run.exit_status(Deadline::short());
        tree.wait_gone(Deadline::short());
        sandbox.wait_free(8000, Deadline::short());
        let released = styxy_tests::eventually(Deadline::short(), || {
            leases(&sandbox).allocations.is_empty().then_some(())
        });
        assert!(released.is_some(), "{end}: {:?}", leases(&sandbox));
        sandbox.wait_quiet(Deadline::short());
    }
}

#[test]
fn the_same_service_gets_the_same_port_again() {
    let sandbox = sandbox();
    let squatter = sandbox.squat(Host::Ipv4Any, 8000);
    let run = sandbox.managed(HTTP_SERVER).spawn();
    sandbox.page(8001, "/", "Directory listing", Deadline::short());
    run.signal(Signal::SIGTERM);
    run.exit_status(Deadline::short());
    sandbox.wait_free(8001, Deadline::short());
    // Another service of another package does not get in between.
    let other = sandbox.project("other");
    let neighbour = sandbox.managed(HTTP_SERVER).in_dir(other).spawn();
    neighbour.line_with("auto-assigned port", Deadline::short());
    drop(squatter);

    let again = sandbox.managed(["python3", "-m", "http.server"]).spawn();
    sandbox.page(8001, "/", "Directory listing", Deadline::short());
    again.signal(Signal::SIGTERM);
    again.exit_status(Deadline::short());
}
