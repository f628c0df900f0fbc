//! What a launcher leaves behind that was killed with SIGKILL: its tree is ended, whatever shape it has, the port is
//! free, and nobody else is touched.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use nix::sys::signal::Signal;
use styxy_tests::{Deadline, Missing, ProcessId, Running, Sandbox, available, eventually};

use crate::sandbox;
use crate::server::leases;

/// Listens on `PORT`, or on the port that is its second argument, after doing what its first one says.
const SERVER: &str = r#"
import os, signal, socket, sys, time
how = sys.argv[1]
if how == "stubborn":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
if how == "orphan" and os.fork():
    os._exit(0)
if how == "reloader" and os.fork():
    time.sleep(1000)
server = socket.socket()
server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
server.bind(("127.0.0.1", int(sys.argv[2] if len(sys.argv) > 2 else os.environ["PORT"])))
server.listen()
print("listening", os.getpid(), server.getsockname()[1], flush=True)
time.sleep(1000)
"#;

/// A run whose server listens.
struct Service {
    run: Running,
    server: ProcessId,
    port: u16,
}

impl Service {
    /// `styxy run -- sh` with this script, in which `$SERVER` is the command of the server.
    fn start(sandbox: &Sandbox, script: &str) -> Self {
        Self::of(Self::spawn(sandbox, "service", script))
    }

    fn spawn(sandbox: &Sandbox, project: &str, script: &str) -> Running {
        let dir = sandbox.project(project);
        fs::write(dir.join("server.py"), SERVER).expect("write");
        let script = script.replace("$SERVER", "python3 server.py");
        fs::write(dir.join("start.sh"), script).expect("write");
        let run = sandbox.styxy(["run", "--type", "dev", "--", "sh", "start.sh"]);
        run.in_dir(dir).spawn()
    }

    fn of(run: Running) -> Self {
        let line = run.line_with("listening", Deadline::long());
        let numbers: Vec<i32> = line
            .split(' ')
            .filter_map(|word| word.parse().ok())
            .collect();
        let [pid, port] = numbers[..] else {
            panic!("{line}");
        };
        let server = ProcessId::of(pid).expect("it lives");
        let port = u16::try_from(port).expect("a port");
        Self { run, server, port }
    }

    /// Kills the launcher and waits until its tree is gone and the port is free.
    fn kill(self, sandbox: &Sandbox) {
        let tree = self.run.tree();
        self.run.signal(Signal::SIGKILL);
        self.run.exit_status(Deadline::short());
        tree.wait_gone(Deadline::short());
        sandbox.wait_free(self.port, Deadline::short());
    }
}

/// Waits until there are this many leases.
fn wait_for_leases(sandbox: &Sandbox, count: usize) {
    let reached = eventually(Deadline::long(), || {
        (leases(sandbox).allocations.len() == count).then_some(())
    });
    assert!(reached.is_some(), "{:?}", leases(sandbox));
}

fn wait_for_nothing(sandbox: &Sandbox) {
    sandbox.wait_quiet(Deadline::long());
    wait_for_leases(sandbox, 0);
}

#[test]
fn trees_of_every_shape_go() {
    for script in [
        "$SERVER plain",
        "sh -c 'sh -c \"$SERVER plain; true\"; true'; true",
        "$SERVER reloader; true",
        "$SERVER stubborn; true",
        "$SERVER orphan; sleep 1000",
        "sh -c '$SERVER plain & sleep 1000 & wait'; true",
        // It has its own process group.
        "timeout 1000 $SERVER plain; true",
        // Stopped, it takes no SIGTERM.
        "sh -c 'kill -STOP $$; true' & $SERVER plain; true",
        // The variables are gone, the library is still there.
        "env -i LD_PRELOAD=$LD_PRELOAD PORT=$PORT PATH=$PATH $SERVER plain; true",
        // Nothing is there; the server itself is all that can be found.
        "env -i PATH=$PATH $SERVER plain $PORT; true",
    ] {
        let sandbox = sandbox();
        Service::start(&sandbox, script).kill(&sandbox);
        wait_for_nothing(&sandbox);
    }
}

#[test]
fn npm_and_node_below_it_go() {
    let sandbox = sandbox();
    let npm = Command::new("npm").arg("--version").output();
    if available(npm.map_err(Missing::from)).is_none() {
        return;
    }
    let project = sandbox.project("node");
    let package = r#"{"name":"node","version":"1.0.0","scripts":{"dev":"node parent.js"}}"#;
    fs::write(project.join("package.json"), package).expect("write");
    let parent =
        "require('child_process').spawn(process.execPath, ['server.js'], { stdio: 'inherit' });";
    fs::write(project.join("parent.js"), parent).expect("write");
    let server =
        "const server = require('net').createServer().listen(+process.env.PORT || 3000, () =>
        console.log('listening', process.pid, server.address().port));";
    fs::write(project.join("server.js"), server).expect("write");
    let run = sandbox.managed(["npm", "run", "dev"]).in_dir(project);
    Service::of(run.spawn()).kill(&sandbox);
    wait_for_nothing(&sandbox);
}

#[test]
fn a_deliberate_daemon_is_let_live_and_its_port_stays_leased() {
    let sandbox = sandbox();
    let service = Service::start(&sandbox, "setsid $SERVER plain & wait");
    service.run.signal(Signal::SIGKILL);
    service.run.exit_status(Deadline::short());
    let detached = eventually(Deadline::short(), || {
        let leases = leases(&sandbox).allocations;
        let state = leases.first().map(|lease| format!("{:?}", lease.state));
        (state.as_deref() == Some("Detached")).then_some(leases)
    });
    let detached = detached.expect("its lease stays");
    assert_eq!(detached.len(), 1);
    assert_eq!(detached[0].port.get(), service.port);
    assert!(service.server.lives());
    assert!(!sandbox.is_free(service.port));
    service.server.signal(Signal::SIGKILL);
    wait_for_nothing(&sandbox);
}

#[test]
fn who_only_looks_like_the_tree_is_let_live() {
    let sandbox = sandbox();
    let service = Service::start(&sandbox, "$SERVER plain; true");
    let id = leases(&sandbox).allocations[0].lock_id.clone();
    let session = session_dir(&sandbox, &id);
    let waits = ["sh", "-c", "echo waits; exec sleep 1000"];
    let bystanders = [
        // Started with the id among its arguments, or with it in a variable that says something else.
        sandbox.command([&waits[..], &[&id]].concat()).spawn(),
        sandbox.command(waits).env("NOTE", id.clone()).spawn(),
        sandbox
            .command(waits)
            .in_dir(&session)
            .env("PWD", session)
            .spawn(),
        // As a terminal multiplexer that was started from such an environment.
        sandbox
            .command([&["setsid"], &waits[..]].concat())
            .env("STYXY_LEASE", id)
            .spawn(),
    ];
    for bystander in &bystanders {
        bystander.line_with("waits", Deadline::short());
    }
    service.run.signal(Signal::SIGKILL);
    sandbox.wait_free(service.port, Deadline::short());
    wait_for_leases(&sandbox, 0);
    let waiting = sandbox.processes();
    let waiting = waiting.filter(|process| process.command_line().starts_with("sleep 1000"));
    assert_eq!(waiting.len(), bystanders.len(), "{waiting:?}");
}

/// The session directory of the lease, of which there is one.
fn session_dir(sandbox: &Sandbox, id: &str) -> PathBuf {
    let instances = fs::read_dir(sandbox.runtime_dir().join("styxy")).expect("a directory");
    let mut dirs = instances.map(|entry| entry.expect("entry").path().join("s").join(id));
    dirs.find(|dir| dir.is_dir()).expect("a session directory")
}

#[test]
fn fifty_at_once_go() {
    let sandbox = sandbox();
    sandbox.styxy(["daemon", "start", "-d"]).run().success();
    let runs: Vec<Running> = (0..50)
        .map(|n| Service::spawn(&sandbox, &format!("service-{n}"), "$SERVER plain; true"))
        .collect();
    let services: Vec<Service> = runs.into_iter().map(Service::of).collect();
    assert_eq!(leases(&sandbox).allocations.len(), 50);
    for service in &services {
        service.run.signal(Signal::SIGKILL);
    }
    for service in &services {
        sandbox.wait_free(service.port, Deadline::long());
    }
    wait_for_nothing(&sandbox);
}

#[test]
fn launchers_killed_at_any_moment_of_their_start_leave_nothing() {
    let sandbox = sandbox();
    sandbox.styxy(["daemon", "start", "-d"]).run().success();
    let nested = "sh -c 'sh -c \"sleep 1000; true\"; true'; true";
    // Each is killed while the next ones start, so the moment is another every time.
    let mut runs: Vec<Running> = Vec::new();
    for number in 0..60 {
        let run = ["run", "--type", "dev", "--", "sh", "-c", nested];
        runs.push(sandbox.styxy(run).spawn());
        if let Some(earlier) = runs.iter().rev().nth(number % 4) {
            earlier.signal(Signal::SIGKILL);
        }
    }
    for run in &runs {
        run.signal(Signal::SIGKILL);
        run.exit_status(Deadline::short());
    }
    wait_for_nothing(&sandbox);
    let sessions = || {
        let instances = fs::read_dir(sandbox.runtime_dir().join("styxy")).expect("a directory");
        let dirs = instances.map(|entry| entry.expect("entry").path().join("s"));
        dirs.filter_map(|dir| fs::read_dir(dir).ok())
            .flatten()
            .count()
    };
    let swept = eventually(Deadline::long(), || (sessions() == 0).then_some(()));
    assert!(swept.is_some(), "{} session directories", sessions());
}

#[test]
fn a_stopped_launcher_keeps_its_lease() {
    let sandbox = sandbox();
    let service = Service::start(&sandbox, "$SERVER plain; true");
    service.run.signal(Signal::SIGSTOP);
    // Somebody else's run makes the daemon work meanwhile.
    let other = Service::start(&sandbox, "$SERVER plain; true");
    assert_ne!(other.port, service.port);
    other.kill(&sandbox);
    wait_for_leases(&sandbox, 1);
    assert!(service.server.lives());
    service.run.signal(Signal::SIGCONT);
    service.run.signal(Signal::SIGTERM);
    service.run.exit_status(Deadline::short());
    wait_for_nothing(&sandbox);
}
