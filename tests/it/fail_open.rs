//! With styxy broken in every way that a machine can break it, the command runs, and one line says what is missing.

use std::fs;
use std::path::PathBuf;

use nix::sys::signal::Signal;
use styxy_tests::{Call, Deadline, Host, Sandbox};

use crate::sandbox;
use crate::server::{WATCHED, auto_assigned, leases, number_after, ready_port};

const HTTP_SERVER: [&str; 4] = ["python3", "-m", "http.server", "8000"];

/// Runs commands with styxy in front and its world broken by `broken`: each does what it does bare.
fn everything_still_runs(sandbox: &Sandbox, broken: impl for<'a> Fn(Call<'a>) -> Call<'a>) {
    let script = sandbox.managed(["sh", "-c", "echo out; exit 3"]);
    let ended = broken(script).run().exited(3);
    assert_eq!(ended.stdout, "out\n");
    assert_one_line(&ended.stderr);

    let killed = broken(sandbox.managed(["sh", "-c", "kill -TERM $$"])).run();
    assert_eq!(killed.code(), 128 + 15, "{killed:?}");
    let _missing = broken(sandbox.managed(["no-such-command"]))
        .run()
        .exited(127);

    let free = broken(sandbox.managed(HTTP_SERVER)).spawn();
    sandbox.page(8000, "/", "Directory listing", Deadline::short());
    free.signal(Signal::SIGTERM);
    assert_one_line(&free.end(Deadline::short()).stderr);
    sandbox.wait_free(8000, Deadline::short());

    let _squatter = sandbox.squat(Host::Ipv4Any, 8000);
    let taken = broken(sandbox.managed(HTTP_SERVER)).spawn();
    let line = taken.line_with("✓ STYXY: Port 8000 was in use", Deadline::short());
    let port = number_after(&line, "auto-assigned port ").expect("a port");
    sandbox.page(port, "/", "Directory listing", Deadline::short());
    taken.signal(Signal::SIGTERM);
    taken.exit_status(Deadline::short());
}

/// At most one line, and that one from styxy: where styxy finds another place for its files, it says nothing.
#[track_caller]
fn assert_one_line(stderr: &str) {
    let lines: Vec<_> = stderr
        .lines()
        .filter(|line| line.starts_with("styxy: "))
        .collect();
    assert!(lines.len() <= 1, "{stderr}");
}

/// The directory of the sandbox's daemon, which has been started and stopped.
fn instance_dir(sandbox: &Sandbox) -> PathBuf {
    sandbox.styxy(["daemon", "start", "-d"]).run().success();
    sandbox.styxy(["daemon", "stop"]).run().success();
    the_instance_dir(sandbox)
}

/// The directory of the sandbox's daemon.
fn the_instance_dir(sandbox: &Sandbox) -> PathBuf {
    let entries = fs::read_dir(sandbox.runtime_dir().join("styxy")).expect("a runtime directory");
    let dirs: Vec<_> = entries.map(|entry| entry.expect("entry").path()).collect();
    let [dir] = dirs.as_slice() else {
        panic!("one daemon's directory: {dirs:?}");
    };
    dir.clone()
}

#[test]
fn nowhere_to_write() {
    let sandbox = sandbox();
    // Nobody writes there, not even root.
    everything_still_runs(&sandbox, |call| {
        call.env("HOME", "/proc")
            .env("XDG_RUNTIME_DIR", "/proc")
            .env("TMPDIR", "/proc")
    });
}

#[test]
fn a_home_that_cannot_be_written_to() {
    let sandbox = sandbox();
    everything_still_runs(&sandbox, |call| call.env("HOME", "/proc"));
}

#[test]
fn no_home_and_no_runtime_directory_in_the_environment() {
    let sandbox = sandbox();
    everything_still_runs(&sandbox, |call| {
        call.without("HOME").without("XDG_RUNTIME_DIR")
    });
}

#[test]
fn a_runtime_directory_whose_path_is_too_long_for_a_socket() {
    let sandbox = sandbox();
    let long = sandbox.runtime_dir().join("long".repeat(30));
    fs::create_dir(&long).expect("mkdir");
    everything_still_runs(&sandbox, |call| call.env("XDG_RUNTIME_DIR", &long));
}

#[test]
fn a_daemon_that_cannot_start_is_told_in_one_line() {
    let sandbox = sandbox();
    let socket = instance_dir(&sandbox).join("sock");
    if socket.exists() {
        fs::remove_file(&socket).expect("rm");
    }
    // Neither can it be bound, nor removed to make room.
    fs::create_dir_all(socket.join("in-the-way")).expect("mkdir");
    everything_still_runs(&sandbox, |call| call);
    let ended = sandbox
        .managed(HTTP_SERVER.map(|word| word.replace("8000", "no-port")))
        .run();
    let said: Vec<_> = ended
        .stderr
        .lines()
        .filter(|line| line.starts_with("styxy: "))
        .collect();
    assert_eq!(said.len(), 1, "{ended:?}");
    assert!(sandbox.daemons().is_empty(), "{:?}", sandbox.daemons());
}

#[test]
fn a_daemon_that_hangs_keeps_nobody_waiting_for_ever() {
    let sandbox = sandbox();
    sandbox.styxy(["daemon", "start", "-d"]).run().success();
    for daemon in sandbox.daemons().iter() {
        daemon.signal(Signal::SIGSTOP);
    }
    everything_still_runs(&sandbox, |call| call);
}

#[test]
fn who_gives_up_waiting_has_no_lease_when_the_daemon_wakes_up() {
    let sandbox = sandbox();
    sandbox.styxy(["daemon", "start", "-d"]).run().success();
    let stopped = sandbox.daemons();
    for daemon in stopped.iter() {
        daemon.signal(Signal::SIGSTOP);
    }
    // Of a type of which there may be one: a lease that nobody knows of would be in everybody's way.
    let words = ["run", "--type", "ai", "--", "sh", "-c", "echo up; read x"];
    let mut run = sandbox.styxy(words).spawn_with_input();
    run.line_with("up", Deadline::short());
    for daemon in stopped.iter() {
        daemon.signal(Signal::SIGCONT);
    }
    // Answered after the request that was given up, which came first.
    assert_eq!(leases(&sandbox).allocations, []);
    run.type_keys("\n");
    run.end(Deadline::short()).success();
}

#[test]
fn a_daemon_that_is_killed_takes_nothing_with_it() {
    let sandbox = sandbox();
    let run = sandbox
        .managed(HTTP_SERVER)
        .env(WATCHED.0, WATCHED.1)
        .spawn();
    assert_eq!(ready_port(&run), 8000);
    let daemons = sandbox.daemons();
    assert_eq!(daemons.len(), 1);
    for daemon in daemons.iter() {
        daemon.signal(Signal::SIGKILL);
    }
    daemons.wait_gone(Deadline::short());
    sandbox.page(8000, "/", "Directory listing", Deadline::short());

    let other = sandbox.project("other");
    let second = sandbox
        .managed(HTTP_SERVER)
        .env(WATCHED.0, WATCHED.1)
        .in_dir(other)
        .spawn();
    assert_eq!(ready_port(&second), 8001);
    second.line_with(&auto_assigned(8000, 8001), Deadline::short());
    let ports: Vec<_> = leases(&sandbox)
        .allocations
        .iter()
        .map(|lease| lease.port.get())
        .collect();
    assert_eq!(ports, [8000, 8001]);

    for (port, run) in [(8000, run), (8001, second)] {
        run.signal(Signal::SIGTERM);
        let ended = run.end(Deadline::short());
        assert!(
            ended
                .stderr
                .lines()
                .filter(|line| line.starts_with("styxy: "))
                .count()
                <= 1
        );
        sandbox.wait_free(port, Deadline::short());
    }
    sandbox.wait_quiet(Deadline::short());
}

#[test]
fn whatever_is_deleted_while_the_daemon_runs_the_next_run_finds_one_that_knows_every_lease() {
    let deletions: [fn(&Sandbox); 5] = [
        |sandbox| fs::remove_file(the_instance_dir(sandbox).join("sock")).expect("rm"),
        |sandbox| fs::remove_file(the_instance_dir(sandbox).join("lock")).expect("rm"),
        |sandbox| fs::remove_dir_all(sandbox.runtime_dir().join("styxy")).expect("rm -r"),
        |sandbox| {
            let runtime = sandbox.runtime_dir();
            fs::rename(runtime.join("styxy"), runtime.join("old")).expect("mv");
        },
        |sandbox| fs::remove_dir_all(sandbox.home().join(".styxy")).expect("rm -r"),
    ];
    for delete in deletions {
        let sandbox = sandbox();
        let run = |name: &str| {
            let call = sandbox.managed(HTTP_SERVER).env(WATCHED.0, WATCHED.1);
            call.in_dir(sandbox.project(name)).spawn()
        };
        let first = run("first");
        assert_eq!(ready_port(&first), 8000);
        delete(&sandbox);
        let second = run("second");
        assert_eq!(ready_port(&second), 8001);
        second.line_with(&auto_assigned(8000, 8001), Deadline::short());
        assert_eq!(leases(&sandbox).allocations.len(), 2);
        // The one that was displaced has gone, or is about to.
        let alone = styxy_tests::eventually(Deadline::short(), || {
            (sandbox.daemons().len() == 1).then_some(())
        });
        assert!(alone.is_some(), "{:?}", sandbox.daemons());
        let daemons = sandbox.daemons();
        for daemon in daemons.iter() {
            daemon.signal(Signal::SIGKILL);
        }
        daemons.wait_gone(Deadline::short());
        sandbox.styxy(["daemon", "start", "-d"]).run().success();
        assert_eq!(leases(&sandbox).allocations.len(), 2);
        for run in [first, second] {
            run.signal(Signal::SIGTERM);
            assert_one_line(&run.end(Deadline::short()).stderr);
        }
        sandbox.wait_quiet(Deadline::short());
    }
}

#[test]
fn a_daemon_that_was_stopped_has_gone_and_another_takes_over_its_leases() {
    let sandbox = sandbox();
    let run = sandbox
        .managed(HTTP_SERVER)
        .env(WATCHED.0, WATCHED.1)
        .spawn();
    assert_eq!(ready_port(&run), 8000);
    for _ in 0..10 {
        sandbox.styxy(["daemon", "stop"]).run().success();
        assert!(sandbox.daemons().is_empty(), "{:?}", sandbox.daemons());
        let daemon = sandbox.styxy(["daemon", "start"]).spawn();
        daemon.line_with("Styxy daemon listens on", Deadline::short());
        assert_eq!(leases(&sandbox).allocations.len(), 1);
    }
    run.signal(Signal::SIGTERM);
    run.exit_status(Deadline::short());
    sandbox.wait_quiet(Deadline::short());
}

#[test]
fn two_names_of_one_home_and_two_runtime_directories_share_what_can_be_shared() {
    let sandbox = sandbox();
    let first = sandbox
        .managed(HTTP_SERVER)
        .env(WATCHED.0, WATCHED.1)
        .spawn();
    assert_eq!(ready_port(&first), 8000);
    let other_name = sandbox.projects().join("home");
    std::os::unix::fs::symlink(sandbox.home(), &other_name).expect("symlink");
    let ended = sandbox
        .styxy(["list"])
        .env("HOME", other_name)
        .run()
        .success();
    assert!(ended.stdout.contains("8000"), "{ended:?}");

    // A daemon in another runtime directory has the same home and must not spoil its journal.
    let elsewhere = sandbox.runtime_dir().join("elsewhere");
    fs::create_dir(&elsewhere).expect("mkdir");
    for _ in 0..3 {
        let call = sandbox.managed(["python3", "-m", "http.server", "8100"]);
        let call = call
            .env(WATCHED.0, WATCHED.1)
            .env("XDG_RUNTIME_DIR", &elsewhere);
        let run = call.in_dir(sandbox.project("other")).spawn();
        ready_port(&run);
        run.signal(Signal::SIGTERM);
        assert_one_line(&run.end(Deadline::short()).stderr);
    }
    let daemons = sandbox.daemons();
    for daemon in daemons.iter() {
        daemon.signal(Signal::SIGKILL);
    }
    daemons.wait_gone(Deadline::short());
    sandbox.styxy(["daemon", "start", "-d"]).run().success();
    let leases = leases(&sandbox).allocations;
    assert_eq!(leases.len(), 1);
    assert_eq!(leases[0].port.get(), 8000);
    first.signal(Signal::SIGTERM);
    first.exit_status(Deadline::short());
}
