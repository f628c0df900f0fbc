//! What the launcher does around the child: what the daemon and the child get from it and what not, what it says and
//! how often, and that nothing odd about a project costs a run its lease.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::sys::signal::Signal;
use styxy_protocol::api::StatusResponse;
use styxy_tests::{Deadline, Host, Manners, Sandbox, eventually};

use crate::sandbox;
use crate::server::{WATCHED, leases};

const HTTP_SERVER: [&str; 4] = ["python3", "-m", "http.server", "8000"];

/// An executable script that no recipe knows, in a project of its own.
fn script(sandbox: &Sandbox, text: &str) -> PathBuf {
    use std::os::unix::fs::PermissionsExt;
    let path = sandbox.project("script").join("serve");
    fs::write(&path, format!("#!/bin/sh\n{text}\n")).expect("write");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("chmod");
    path
}

fn start_daemon(sandbox: &Sandbox) {
    sandbox.styxy(["daemon", "start", "-d"]).run().success();
}

fn signal_daemons(sandbox: &Sandbox, signal: Signal) {
    for daemon in sandbox.daemons().iter() {
        daemon.signal(signal);
    }
}

#[test]
fn a_daemon_that_is_stopped_is_noticed_rather_than_waited_for() {
    let sandbox = sandbox();
    start_daemon(&sandbox);
    signal_daemons(&sandbox, Signal::SIGSTOP);
    let serve = script(&sandbox, "echo on $PORT");
    let ended = sandbox.managed([&serve]).run().success();
    assert_eq!(ended.stdout, "on 3000\n");
    let said = "styxy: going on without the daemon: the daemon is stopped; `kill -CONT ";
    assert!(ended.stderr.starts_with(said), "{ended:?}");
    assert_eq!(ended.stderr.lines().count(), 1, "{ended:?}");
}

#[test]
fn a_daemon_that_is_stopped_during_a_run_changes_nothing_about_the_end() {
    let sandbox = sandbox();
    let serve = script(&sandbox, "echo on $PORT; read line; exit 3");
    let mut run = sandbox.managed([&serve]).spawn_with_input();
    run.line_with("on 3000", Deadline::short());
    signal_daemons(&sandbox, Signal::SIGSTOP);
    run.type_keys("\n");
    let ended = run.end(Deadline::short()).exited(3);
    assert_eq!(ended.stderr, "");
    signal_daemons(&sandbox, Signal::SIGCONT);
    let released = eventually(Deadline::short(), || {
        leases(&sandbox).allocations.is_empty().then_some(())
    });
    assert!(released.is_some(), "{:?}", leases(&sandbox));
}

#[test]
fn a_daemon_that_is_stopped_can_be_ended() {
    let sandbox = sandbox();
    start_daemon(&sandbox);
    let daemons = sandbox.daemons();
    signal_daemons(&sandbox, Signal::SIGSTOP);
    let stopped = sandbox.styxy(["daemon", "stop"]).run().success();
    assert!(stopped.stdout.starts_with("Stopped Styxy daemon (PID: "));
    assert!(daemons.iter().all(|daemon| !daemon.lives()));
}

#[test]
fn after_a_stop_the_next_daemon_finds_everything_free() {
    let sandbox = sandbox();
    start_daemon(&sandbox);
    for _ in 0..5 {
        sandbox.styxy(["daemon", "stop"]).run().success();
        let daemon = sandbox.styxy(["daemon", "start"]).spawn();
        daemon.line_with("listens on", Deadline::short());
    }
}

#[test]
fn a_daemon_has_nothing_of_the_command_that_started_it() {
    let sandbox = sandbox();
    let open = sandbox.projects().join("open");
    fs::write(&open, "").expect("write");
    // A descriptor that nobody means to give to a daemon, a blocked signal, a variable, a directory.
    let odd = r"
import os, signal, sys
os.dup2(os.open(sys.argv[1], os.O_RDONLY), 9)
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
os.execvp(sys.argv[2], sys.argv[2:])
";
    let serve = script(&sandbox, "exit 0");
    let (open_text, serve) = (open.to_string_lossy(), serve.to_string_lossy());
    let words = [
        "python3", "-c", odd, &open_text, "styxy", "run", "--", &serve,
    ];
    let call = sandbox.command(words).env("SECRET", "of a project");
    call.run().success();
    let daemons = sandbox.daemons();
    let status = sandbox
        .styxy(["daemon", "status", "--json"])
        .run()
        .success();
    let status: StatusResponse = serde_json::from_str(&status.stdout).expect("a status");
    let place = |name: &str| PathBuf::from(format!("/proc/{}/{name}", status.pid));
    let links = fs::read_dir(place("fd")).expect("descriptors");
    let links = links.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
    assert!(!links.collect::<Vec<_>>().contains(&open));
    assert_eq!(fs::read_link(place("cwd")).expect("cwd"), Path::new("/"));
    let environ = fs::read(place("environ")).expect("environ");
    let names: BTreeSet<_> = environ
        .split(|&byte| byte == 0)
        .filter_map(|entry| entry.split(|&byte| byte == b'=').next())
        .filter(|name| !name.is_empty())
        .map(|name| String::from_utf8_lossy(name).into_owned())
        .collect();
    let expected = ["HOME", "LANG", "PATH", "TMPDIR", "XDG_RUNTIME_DIR"];
    assert_eq!(names, expected.map(str::to_owned).into());
    sandbox.styxy(["daemon", "stop"]).run().success();
    daemons.wait_gone(Deadline::short());
}

#[test]
fn a_daemon_started_by_hand_stays_as_long_as_it_is_told() {
    let sandbox = sandbox();
    let start = ["daemon", "start", "-d", "--idle-exit", "1000"];
    sandbox.styxy(start).run().success();
    let daemons = sandbox.daemons();
    let line = daemons
        .iter()
        .next()
        .map(styxy_tests::ProcessId::command_line);
    assert_eq!(
        line.as_deref(),
        Some("styxy daemon start --background --idle-exit 1000")
    );
}

#[test]
fn the_child_gets_the_environment_and_what_is_styxys_and_nothing_else() {
    let sandbox = sandbox();
    let serve = script(&sandbox, "exec env -0");
    let outer = "/nowhere/s/outer/styxy.so";
    let call = |call: styxy_tests::Call<'_>| {
        let odd = OsStr::from_bytes(b"\xff\n");
        let call = call.env("ODD", odd).env("EMPTY", "");
        let call = call.env("STYXY_LEASE", "outer").env("PORT", "");
        call.in_dir(sandbox.projects()).run().success().stdout
    };
    let bare = call(sandbox.command([&serve]));
    let managed = call(sandbox.managed([&serve]).env("LD_PRELOAD", outer));
    let set = |text: &str| -> BTreeSet<String> {
        let ours = ["PORT=", "STYXY_LEASE=", "LD_PRELOAD=", "ASAN_OPTIONS="];
        let foreign = |entry: &&str| !ours.iter().any(|name| entry.starts_with(name));
        text.split('\0')
            .filter(foreign)
            .map(str::to_owned)
            .collect()
    };
    assert_eq!(set(&managed), set(&bare));
    let value = |name: &str| {
        let mut entries = managed.split('\0').filter(|entry| entry.starts_with(name));
        let found = entries.next().map(|entry| entry[name.len()..].to_owned());
        assert_eq!(entries.next(), None, "{name} is there twice");
        found.unwrap_or_else(|| panic!("no {name}"))
    };
    assert_eq!(value("PORT="), "3000");
    assert_ne!(value("STYXY_LEASE="), "outer");
    let library = format!("/s/{}/styxy.so", value("STYXY_LEASE="));
    let preload = value("LD_PRELOAD=");
    assert!(
        preload.ends_with(&library) && !preload.contains(outer),
        "{preload}"
    );
}

#[test]
fn nothing_odd_about_a_project_costs_it_its_lease() {
    let sandbox = sandbox();
    for (number, odd) in [
        b"line\nend".as_slice(),
        b"\xff\xfe",
        b"\x1b[2J",
        b"a b:c'd\"e",
        &[b'x'; 250],
    ]
    .into_iter()
    .enumerate()
    {
        let dir = sandbox
            .project(&number.to_string())
            .join(OsStr::from_bytes(odd));
        fs::create_dir(&dir).expect("mkdir");
        let serve = dir.join(OsStr::from_bytes(odd));
        fs::rename(script(&sandbox, "echo on $PORT; read line"), &serve).expect("mv");
        let call = sandbox.managed([&serve]).in_dir(&dir);
        let mut run = call.spawn_with_input();
        run.line_with("on ", Deadline::short());
        assert_eq!(leases(&sandbox).allocations.len(), 1, "{odd:?}: {run:?}");
        let list = sandbox.styxy(["list"]).run().success().stdout;
        // The heads, the worktree, the lease and the sum, with a blank line between.
        assert_eq!(list.lines().count(), 6, "{list}");
        assert!(
            !list.contains(|character: char| character.is_control() && character != '\n'),
            "{list:?}"
        );
        run.type_keys("\n");
        assert_eq!(run.end(Deadline::short()).success().stderr, "");
        sandbox.wait_quiet(Deadline::short());
    }
}

#[test]
fn a_long_command_has_its_lease() {
    let sandbox = sandbox();
    let serve = script(&sandbox, "echo on $PORT");
    let serve = serve.to_string_lossy();
    let ended = sandbox
        .managed([&*serve, &"x".repeat(100_000)])
        .run()
        .success();
    assert_eq!(
        (ended.stdout.as_str(), ended.stderr.as_str()),
        ("on 3000\n", "")
    );
}

#[test]
fn what_styxy_adds_never_makes_a_command_too_long() {
    let sandbox = sandbox();
    let serve = script(&sandbox, "echo \"ran with $#\"");
    // Finds the longest arguments that the kernel takes where styxy adds nothing, and runs with those.
    let longest = r"
import os, sys

def end_of(count, is_probe):
    pid = os.fork()
    if pid == 0:
        if is_probe:
            os.environ['STYXY_DISABLE'] = '1'
            null = os.open('/dev/null', os.O_WRONLY)
            os.dup2(null, 1)
            os.dup2(null, 2)
        words = ['x' * 2000] * (count // 2000) + ['y' * (count % 2000)]
        try:
            os.execvp(sys.argv[1], sys.argv[1:] + words)
        except OSError:
            os._exit(99)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

low, high = 0, 1 << 23
while high - low > 1:
    middle = (low + high) // 2
    if end_of(middle, True) == 0:
        low = middle
    else:
        high = middle
os._exit(end_of(low, False))
";
    let words = ["python3", "-c", longest, "styxy", "run", "--"];
    let words = words.iter().map(OsStr::new).chain([serve.as_os_str()]);
    let ended = sandbox.command(words).spawn();
    let ended = ended.end(Deadline::long()).success();
    assert!(ended.stdout.starts_with("ran with "), "{ended:?}");
}

#[test]
fn each_thing_is_said_once() {
    let sandbox = sandbox();
    let _squatter = sandbox.squat(Host::Ipv4Any, 8000);
    let run = sandbox.managed(HTTP_SERVER).env(WATCHED.0, WATCHED.1);
    let run = run.spawn();
    run.line_with("ready on http://localhost:8001", Deadline::short());
    run.signal(Signal::SIGTERM);
    let ended = run.end(Deadline::short());
    assert_eq!(
        ended.stderr.matches("auto-assigned").count(),
        1,
        "{ended:?}"
    );
    assert_eq!(ended.stderr.matches("ready on").count(), 1, "{ended:?}");
}

#[test]
fn a_listener_that_was_moved_is_told_once_even_if_the_command_ends_at_once() {
    let sandbox = sandbox();
    let _squatter = sandbox.try_squat(Host::Ipv4Any, 24678, Manners::ReuseAddress);
    let bind = "import os, socket\n\
                s = socket.socket()\n\
                s.bind(('', 24678))\n\
                s.listen()\n\
                os._exit(0)";
    let serve = script(&sandbox, &format!("exec python3 -c \"{bind}\""));
    let ended = sandbox.managed([&serve]).run().success();
    let moved = "✓ STYXY: Port 24678 was in use, auto-assigned port ";
    assert_eq!(ended.stderr.matches(moved).count(), 1, "{ended:?}");
    assert_eq!(ended.stderr.lines().count(), 1, "{ended:?}");
}

#[test]
fn two_runs_without_a_daemon_have_different_ports() {
    let sandbox = sandbox();
    let serve = script(&sandbox, "echo on $PORT; read line");
    let mut runs = Vec::new();
    for port in [3000, 3001] {
        let call = sandbox.managed([&serve]).env("HOME", "/proc");
        let call = call.env("XDG_RUNTIME_DIR", "/proc").env("TMPDIR", "/proc");
        let run = call.spawn_with_input();
        run.line_with(&format!("on {port}"), Deadline::short());
        runs.push(run);
    }
    for mut run in runs {
        run.type_keys("\n");
        run.end(Deadline::short()).success();
    }
}

#[test]
fn a_dry_run_tells_which_program_it_would_be() {
    let sandbox = sandbox();
    let serve = script(&sandbox, "exit 0");
    let dry_run = |command: &str| {
        let call = sandbox.styxy(["run", "--dry-run", "--", command]);
        call.run().success().stdout
    };
    let path = serve.to_string_lossy();
    assert!(dry_run(&path).contains(&format!("program   {path}\n")));
    assert!(dry_run("no-such-program").contains("program   not found"));
}

#[test]
fn strict_without_a_port_is_a_wrong_use() {
    let sandbox = sandbox();
    let serve = script(&sandbox, "echo ran");
    let call = sandbox.styxy(["run".as_ref(), "--strict".as_ref(), serve.as_os_str()]);
    let refused = call.run().exited(2);
    assert_eq!(refused.stdout, "");
    assert_eq!(
        refused.stderr,
        "styxy: `--strict` needs a port: name one with `--port PORT`\n"
    );
}
