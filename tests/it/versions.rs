//! Two versions of styxy in one home: the newer one takes the daemon over, the older one leaves it alone, and no
//! service notices either.

use std::collections::BTreeSet;
use std::fs;

use nix::sys::signal::Signal;
use styxy_protocol::api::{Allocation, AllocationsResponse};
use styxy_tests::{Call, Deadline, Ended, Processes, Running, Sandbox};

use crate::sandbox;
use crate::server::{WATCHED, ready_port};

const PAGE: &str = "Directory listing";

/// `run`, `list` and so on of one version.
type Version = for<'a> fn(&'a Sandbox, &[&str]) -> Call<'a>;

fn older<'a>(sandbox: &'a Sandbox, arguments: &[&str]) -> Call<'a> {
    sandbox.styxy(arguments)
}

fn newer<'a>(sandbox: &'a Sandbox, arguments: &[&str]) -> Call<'a> {
    sandbox.newer(arguments)
}

fn start(sandbox: &Sandbox, styxy: Version, project: &str) -> Running {
    let server = ["run", "--", "python3", "-m", "http.server", "8000"];
    let call = styxy(sandbox, &server).env(WATCHED.0, WATCHED.1);
    call.in_dir(sandbox.project(project)).spawn()
}

#[track_caller]
fn list(sandbox: &Sandbox, styxy: Version) -> Vec<Allocation> {
    let list = styxy(sandbox, &["list", "--json"]).run().success();
    let answer: AllocationsResponse = serde_json::from_str(&list.stdout).expect("JSON");
    answer.allocations
}

/// Who has which port under which name, as far as nobody may ever change it.
fn rights(leases: &[Allocation]) -> BTreeSet<(u16, String, Option<u32>)> {
    let right = |lease: &Allocation| (lease.port.get(), lease.lock_id.clone(), lease.pid);
    leases.iter().map(right).collect()
}

/// Services that run.
struct Services {
    runs: Vec<(u16, Running)>,
    trees: Vec<Processes>,
    rights: BTreeSet<(u16, String, Option<u32>)>,
}

impl Services {
    /// Five of them, the first of which starts the daemon.
    fn five(sandbox: &Sandbox, styxy: Version) -> Self {
        let runs: Vec<_> = (0..5)
            .map(|number| {
                let run = start(sandbox, styxy, &format!("service-{number}"));
                (ready_port(&run), run)
            })
            .collect();
        let rights = rights(&list(sandbox, styxy));
        assert_eq!(rights.len(), 5, "{rights:?}");
        let trees = runs.iter().map(|(_, run)| run.tree()).collect();
        Self {
            runs,
            trees,
            rights,
        }
    }

    /// None of them has noticed anything.
    fn go_on(&self, sandbox: &Sandbox) {
        for ((port, run), tree) in self.runs.iter().zip(&self.trees) {
            sandbox.page(*port, "/", PAGE, Deadline::short());
            assert!(run.tree() == *tree, "{:?}, not {tree:?}", run.tree());
        }
    }

    fn end(self) -> Vec<Ended> {
        for (_, run) in &self.runs {
            run.signal(Signal::SIGTERM);
        }
        let runs = self.runs.iter();
        runs.map(|(_, run)| run.end(Deadline::long())).collect()
    }
}

/// Which daemons have served in this home, one line of the log each.
fn served(sandbox: &Sandbox) -> usize {
    let log = fs::read_to_string(sandbox.home().join(".styxy/daemon.log")).expect("a log");
    log.matches("serving").count()
}

#[test]
fn a_newer_run_replaces_the_daemon_and_every_lease_goes_on() {
    let sandbox = sandbox();
    let services = Services::five(&sandbox, older);
    let before = sandbox.daemons();
    assert_eq!(before.len(), 1);

    let run = start(&sandbox, newer, "another");
    let port = ready_port(&run);
    before.wait_gone(Deadline::short());
    assert_eq!(sandbox.daemons().len(), 1, "{:?}", sandbox.daemons());
    let leases = list(&sandbox, newer);
    // The old daemon gave the newcomer a lease before the two knew of each other; it must not be there.
    assert_eq!(leases.len(), 6, "{leases:?}");
    assert!(rights(&leases).is_superset(&services.rights), "{leases:?}");
    let ports: BTreeSet<u16> = leases.iter().map(|lease| lease.port.get()).collect();
    assert_eq!(ports.len(), 6, "{leases:?}");
    assert!(services.runs.iter().all(|(other, _)| *other != port));
    services.go_on(&sandbox);
    sandbox.page(port, "/", PAGE, Deadline::short());

    run.signal(Signal::SIGTERM);
    let said = run.end(Deadline::short());
    assert!(!said.stderr.contains("styxy: "), "{said:?}");
    // The older launchers give their leases back to the newer daemon.
    for ended in services.end() {
        assert!(!ended.stderr.contains("styxy: "), "{ended:?}");
    }
    sandbox.wait_quiet(Deadline::short());
    assert_eq!(list(&sandbox, newer), []);
    for port in ports {
        assert!(sandbox.is_free(port), "{port}");
    }
    assert_eq!(served(&sandbox), 2);
}

#[test]
fn an_older_run_leaves_the_daemon_alone_and_comes_up_without_it() {
    let sandbox = sandbox();
    let services = Services::five(&sandbox, newer);
    let daemons = sandbox.daemons();

    let run = start(&sandbox, older, "another");
    let port = ready_port(&run);
    sandbox.page(port, "/", PAGE, Deadline::short());
    assert!(services.runs.iter().all(|(other, _)| *other != port));
    assert!(sandbox.daemons() == daemons, "{:?}", sandbox.daemons());
    // Not even the lease that it was given before it knew whose the daemon is.
    assert_eq!(rights(&list(&sandbox, newer)), services.rights);
    services.go_on(&sandbox);

    run.signal(Signal::SIGTERM);
    let said = run.end(Deadline::short());
    let lines: Vec<_> = said
        .stderr
        .lines()
        .filter(|line| line.starts_with("styxy: "))
        .collect();
    assert_eq!(lines.len(), 1, "{said:?}");
    assert!(lines[0].contains("newer styxy (protocol "), "{said:?}");
    services.end();
    sandbox.wait_quiet(Deadline::short());
    assert_eq!(list(&sandbox, newer), []);
    assert_eq!(served(&sandbox), 1);
}

#[test]
fn of_many_newer_runs_at_once_one_replaces_the_daemon() {
    let sandbox = sandbox();
    let services = Services::five(&sandbox, older);
    let names: Vec<String> = (0..25).map(|number| format!("newer-{number}")).collect();
    let runs: Vec<Running> = names
        .iter()
        .map(|name| {
            let script = "echo port $PORT; read x";
            let words = [
                "run", "--type", "dev", "--name", name, "--", "sh", "-c", script,
            ];
            newer(&sandbox, &words).spawn_with_input()
        })
        .collect();
    for run in &runs {
        run.line_with("port ", Deadline::long());
    }
    assert_eq!(sandbox.daemons().len(), 1, "{:?}", sandbox.daemons());
    assert_eq!(served(&sandbox), 2);
    let leases = list(&sandbox, newer);
    assert_eq!(leases.len(), 30, "{leases:?}");
    assert!(rights(&leases).is_superset(&services.rights), "{leases:?}");
    let ports: BTreeSet<u16> = leases.iter().map(|lease| lease.port.get()).collect();
    assert_eq!(ports.len(), 30, "{leases:?}");
    services.go_on(&sandbox);
    for mut run in runs {
        run.type_keys("\n");
        let ended = run.end(Deadline::long()).success();
        assert!(!ended.stderr.contains("styxy: "), "{ended:?}");
    }
    services.end();
    sandbox.wait_quiet(Deadline::long());
    assert_eq!(list(&sandbox, newer), []);
}

#[test]
fn management_commands_say_what_to_do_about_a_daemon_of_another_version() {
    let sandbox = sandbox();
    let run = start(&sandbox, older, "service");
    let port = ready_port(&run);
    let lease = rights(&list(&sandbox, older));

    let refused = newer(&sandbox, &["list"]).run().exited(1);
    assert!(
        refused.stderr.contains("`styxy daemon restart`"),
        "{refused:?}"
    );
    let preview = ["run", "--dry-run", "--", "python3", "-m", "http.server"];
    newer(&sandbox, &preview).run().success();
    let status = newer(&sandbox, &["daemon", "status"]).run().success();
    assert!(
        status.stdout.contains("`styxy daemon restart`"),
        "{status:?}"
    );
    assert_eq!(
        rights(&list(&sandbox, older)),
        lease,
        "nothing has happened"
    );

    newer(&sandbox, &["daemon", "restart"]).run().success();
    assert_eq!(rights(&list(&sandbox, newer)), lease);
    sandbox.page(port, "/", PAGE, Deadline::short());
    let refused = older(&sandbox, &["list"]).run().exited(1);
    assert!(refused.stderr.contains("update this one"), "{refused:?}");
    let status = older(&sandbox, &["daemon", "status", "--json"])
        .run()
        .success();
    assert!(status.stdout.contains("\"99.0.0\""), "{status:?}");

    older(&sandbox, &["daemon", "stop"]).run().success();
    assert!(sandbox.daemons().is_empty(), "{:?}", sandbox.daemons());
    older(&sandbox, &["daemon", "start", "-d"]).run().success();
    assert_eq!(rights(&list(&sandbox, older)), lease, "the way back");
    run.signal(Signal::SIGTERM);
    run.exit_status(Deadline::short());
    sandbox.wait_quiet(Deadline::short());
}

#[test]
fn a_daemon_that_cannot_be_replaced_is_told_in_one_line_and_goes_on() {
    let sandbox = sandbox();
    let services = Services::five(&sandbox, older);
    let daemons = sandbox.daemons();
    let entries = fs::read_dir(sandbox.runtime_dir().join("styxy")).expect("a directory");
    let dir = entries
        .flatten()
        .next()
        .expect("the daemon's directory")
        .path();
    // What a launcher leaves that could not start one a moment ago.
    fs::write(dir.join("start.failed"), "no room").expect("write");

    let run = start(&sandbox, newer, "another");
    let port = ready_port(&run);
    sandbox.page(port, "/", PAGE, Deadline::short());
    assert!(sandbox.daemons() == daemons, "{:?}", sandbox.daemons());
    assert_eq!(rights(&list(&sandbox, older)), services.rights);
    run.signal(Signal::SIGTERM);
    let said = run.end(Deadline::short());
    assert_eq!(said.stderr.matches("styxy: ").count(), 1, "{said:?}");
    assert!(said.stderr.contains("no room"), "{said:?}");
    services.end();
    sandbox.wait_quiet(Deadline::short());
}
