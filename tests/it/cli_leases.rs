//! `styxy allocate`, `release`, `list` and `cleanup`: leases that nobody's `styxy run` stands behind.

use serde_json::Value;
use styxy_protocol::api::{Allocation, LeaseState};
use styxy_tests::{Deadline, Ended, Host, Sandbox, eventually};

use crate::sandbox;
use crate::server::leases;

fn json(ended: &Ended) -> Value {
    serde_json::from_str(&ended.stdout).unwrap_or_else(|error| panic!("{error}: {ended:#?}"))
}

/// The only lease.
fn the_lease(sandbox: &Sandbox) -> Allocation {
    let leases = leases(sandbox).allocations;
    assert_eq!(leases.len(), 1, "{leases:?}");
    leases[0].clone()
}

fn wait_without_leases(sandbox: &Sandbox) {
    let gone = eventually(Deadline::short(), || {
        leases(sandbox).allocations.is_empty().then_some(())
    });
    assert!(gone.is_some(), "{:?}", leases(sandbox));
}

#[test]
fn a_port_is_leased_listed_and_given_back() {
    let sandbox = sandbox();
    let leased = sandbox.styxy(["allocate", "dev", "web"]).run().success();
    let lease = the_lease(&sandbox);
    assert_eq!(lease.port.get(), 3000);
    assert_eq!(lease.service_name.as_deref(), Some("web"));
    assert_eq!(lease.instance_id.as_deref(), Some("cli"));
    assert_eq!(lease.pid, None);
    assert_eq!(
        leased.stdout,
        format!(
            "✓ Port 3000 allocated for dev service\nLock ID: {}\nUse this port for your dev service: 3000\n",
            lease.lock_id
        )
    );
    assert_eq!(leased.stderr, "");

    let list = sandbox.styxy(["list"]).run().success().stdout;
    let heading = list
        .lines()
        .position(|line| line == sandbox.projects().to_string_lossy());
    let row = list
        .lines()
        .position(|line| line.starts_with("3000  dev   web"));
    assert!(heading.is_some() && row > heading, "{list}");
    assert!(
        list.ends_with("Total: 1 allocation (use -v for details)\n"),
        "{list}"
    );
    let details = sandbox
        .styxy(["list", "-v", "--port", "3000"])
        .run()
        .success();
    assert!(details.stdout.contains(&lease.lock_id), "{details:?}");
    let others = sandbox.styxy(["list", "--service", "api"]).run().success();
    assert!(
        others.stdout.starts_with("No active port allocations"),
        "{others:?}"
    );

    let released = sandbox.styxy(["release", &lease.lock_id]).run().success();
    assert!(
        released.stdout.contains("Port 3000 released"),
        "{released:?}"
    );
    assert!(leases(&sandbox).allocations.is_empty());
    let again = sandbox.styxy(["release", &lease.lock_id]).run().exited(1);
    assert!(
        again.stderr.starts_with("styxy: ") && again.stderr.contains(&lease.lock_id),
        "{again:?}"
    );
}

#[test]
fn the_answer_is_a_port_or_json_for_those_who_want_it() {
    let sandbox = sandbox();
    let quiet = sandbox
        .styxy(["allocate", "-s", "api", "-n", "one", "-q"])
        .run()
        .success();
    assert_eq!(quiet.stdout, "8000\n");
    let answer = json(
        &sandbox
            .styxy(["allocate", "api", "two", "--json"])
            .run()
            .success(),
    );
    assert_eq!(answer["success"], true, "{answer}");
    assert_eq!(answer["port"], 8001, "{answer}");
    let list = json(
        &sandbox
            .styxy(["list", "--json", "--port", "8001"])
            .run()
            .success(),
    );
    assert_eq!(
        list["allocations"].as_array().map(Vec::len),
        Some(1),
        "{list}"
    );
    assert_eq!(
        list["allocations"][0]["lock_id"], answer["lock_id"],
        "{list}"
    );
    let id = answer["lock_id"].as_str().expect("an id");
    let released = json(&sandbox.styxy(["release", id, "--json"]).run().success());
    assert_eq!(released["port"], 8001, "{released}");
    let refused = sandbox.styxy(["release", id, "--json"]).run().exited(1);
    assert_eq!(json(&refused)["success"], false, "{refused:?}");
}

#[test]
fn a_wanted_port_that_somebody_has_is_another_one_or_an_error() {
    let sandbox = sandbox();
    let _squatter = sandbox.squat(Host::Ipv6Loopback, 8000);
    let leased = sandbox
        .styxy(["allocate", "api", "-p", "8000"])
        .run()
        .success();
    assert!(
        leased.stdout.contains("Port 8000 cannot be had"),
        "{leased:?}"
    );
    assert!(leased.stdout.contains("api service: 8001"), "{leased:?}");
    let refused = sandbox
        .styxy(["allocate", "api", "x", "-p", "8000", "--strict"])
        .run()
        .exited(1);
    assert_eq!(refused.stdout, "");
    let mut lines = refused.stderr.lines();
    assert!(
        lines
            .next()
            .is_some_and(|line| line.starts_with("styxy: port 8000 ")),
        "{refused:?}"
    );
    assert!(lines.next().is_some(), "what to do: {refused:?}");
}

#[test]
fn a_single_service_is_handed_to_everybody_and_held_by_one() {
    let sandbox = sandbox();
    let first = sandbox.styxy(["allocate", "ai", "-q"]).run().success();
    let second = sandbox
        .styxy(["allocate", "ai", "--instance", "other", "-q"])
        .run()
        .success();
    assert_eq!(first.stdout, second.stdout);
    let told = sandbox.styxy(["allocate", "ai"]).run().success();
    assert!(
        told.stdout.contains("only allows single instance"),
        "{told:?}"
    );
    assert!(told.stdout.contains("Instance: cli"), "{told:?}");
    let refused = sandbox
        .styxy(["allocate", "ai", "--hold", "--", "echo", "ran"])
        .run()
        .exited(1);
    assert_eq!(refused.stdout, "");
    assert!(
        refused.stderr.contains("one `ai` service at a time"),
        "{refused:?}"
    );
}

#[test]
fn the_same_directory_gets_the_same_port_again() {
    let sandbox = sandbox();
    let (one, other) = (sandbox.project("one"), sandbox.project("other"));
    let port = |project: &std::path::Path| {
        let call = sandbox.styxy(
            ["allocate", "dev", "-q", "--project"]
                .map(std::ffi::OsStr::new)
                .into_iter()
                .chain([project.as_os_str()]),
        );
        call.run().success().stdout
    };
    let ports = (port(&one), port(&other));
    for lease in leases(&sandbox).allocations {
        sandbox.styxy(["release", &lease.lock_id]).run().success();
    }
    assert_eq!((port(&other), port(&one)), (ports.1, ports.0));
}

#[test]
fn a_held_lease_lives_as_long_as_the_command_that_it_is_for() {
    let sandbox = sandbox();
    let script = "echo \"$$ $PORT\"; exec python3 -m http.server $PORT";
    let run = sandbox
        .styxy(["allocate", "api", "--hold", "--", "sh", "-c", script])
        .spawn();
    // It is the same process.
    run.line_with(&format!("{} 8000", run.pid()), Deadline::short());
    assert!(run.so_far().contains("Port 8000 allocated"), "{run:?}");
    sandbox.page(8000, "/", "Directory listing", Deadline::short());
    let lease = the_lease(&sandbox);
    assert_eq!(lease.pid, Some(run.pid().cast_unsigned()));
    assert!(lease.command.is_some_and(|it| it.starts_with("sh -c ")));
    run.signal(nix::sys::signal::Signal::SIGKILL);
    run.exit_status(Deadline::short());
    wait_without_leases(&sandbox);
    let missing = sandbox
        .styxy(["allocate", "api", "--hold", "--", "no-such-command"])
        .run();
    assert!(missing.exited(127).stderr.contains("`no-such-command`"));
    wait_without_leases(&sandbox);
}

#[test]
fn what_a_held_command_leaves_running_runs_on_and_keeps_its_port() {
    // The shell ends with its stdin, and leaves the server in its own session and process group.
    let serve = "python3 -m http.server $PORT >/dev/null 2>&1 & cat";
    let by_pid = format!("PORT=$(styxy allocate api -q --pid $$); {serve}");
    for argv in [
        [
            "styxy", "allocate", "api", "--hold", "-q", "--", "sh", "-c", serve,
        ]
        .as_slice(),
        &["sh", "-c", &by_pid],
    ] {
        let sandbox = sandbox();
        let mut shell = sandbox.command(argv).spawn_with_input();
        sandbox.page(8000, "/", "Directory listing", Deadline::short());
        shell.hang_up();
        shell.end(Deadline::short()).success();
        let detached = eventually(Deadline::short(), || {
            (the_lease(&sandbox).state == LeaseState::Detached).then_some(())
        });
        assert!(detached.is_some(), "{argv:?}: {:?}", leases(&sandbox));
        let other = sandbox
            .styxy(["allocate", "api", "other", "-q"])
            .run()
            .success();
        assert_eq!(other.stdout, "8001\n", "{argv:?}");
        sandbox.page(8000, "/", "Directory listing", Deadline::short());
        let log = sandbox.styxy(["daemon", "logs"]).run().success().stdout;
        assert!(!log.contains("left behind"), "{argv:?}: {log}");

        let rest = sandbox.processes();
        let server = rest
            .iter()
            .find(|it| it.command_line().contains("http.server"));
        server
            .expect("the server")
            .signal(nix::sys::signal::Signal::SIGTERM);
        let ended = eventually(Deadline::short(), || {
            let leases = leases(&sandbox).allocations;
            (leases.len() == 1).then_some(leases)
        });
        assert!(ended.is_some_and(|it| it[0].port.get() == 8001), "{argv:?}");
    }
}

#[test]
fn a_lease_can_hang_on_a_pipe() {
    let sandbox = sandbox();
    let mut holder = sandbox
        .styxy(["allocate", "dev", "--hold", "-q"])
        .spawn_with_input();
    assert_eq!(holder.line_with("3000", Deadline::short()), "3000");
    assert_eq!(the_lease(&sandbox).pid, Some(holder.pid().cast_unsigned()));
    holder.type_keys("nobody reads this\n");
    holder.hang_up();
    holder.end(Deadline::short()).success();
    assert!(
        leases(&sandbox).allocations.is_empty(),
        "given back before it ended"
    );

    let holder = sandbox
        .styxy(["allocate", "dev", "--hold"])
        .spawn_with_input();
    holder.line_with("until stdin ends", Deadline::short());
    holder.signal(nix::sys::signal::Signal::SIGTERM);
    holder.exit_status(Deadline::short());
    wait_without_leases(&sandbox);
}

#[test]
fn shell_scripts_hold_a_lease_with_their_pid() {
    let sandbox = sandbox();
    let script = "styxy allocate dev -q --pid $$; exec cat";
    let mut shell = sandbox.command(["sh", "-c", script]).spawn_with_input();
    shell.line_with("3000", Deadline::short());
    assert_eq!(the_lease(&sandbox).pid, Some(shell.pid().cast_unsigned()));
    shell.hang_up();
    shell.end(Deadline::short()).success();
    wait_without_leases(&sandbox);
    let nobody = sandbox
        .styxy(["allocate", "dev", "--pid", "4194304"])
        .run()
        .exited(1);
    assert!(nobody.stderr.contains("4194304"), "{nobody:?}");
}

#[test]
fn a_cleanup_of_one_port_asks_who_uses_it() {
    let sandbox = sandbox();
    sandbox.styxy(["allocate", "dev", "-q"]).run().success();
    let holder = sandbox
        .styxy(["allocate", "api", "--hold", "-q"])
        .spawn_with_input();
    holder.line_with("8000", Deadline::short());
    let used = sandbox.styxy(["cleanup", "--port", "8000"]).run().exited(1);
    assert!(used.stderr.contains("--force"), "{used:?}");
    for (port, force) in [("3000", None), ("8000", Some("--force"))] {
        let arguments = ["cleanup", "--port", port].into_iter().chain(force);
        let cleaned = sandbox.styxy(arguments).run().success();
        assert_eq!(cleaned.stdout, "Cleaned up 1 stale allocation\n");
    }
    let none = sandbox.styxy(["cleanup", "--port", "3000"]).run().success();
    assert_eq!(none.stdout, "No stale allocations found\n");
    assert!(leases(&sandbox).allocations.is_empty());
}
