//! A server that outlives the command that started it: the run is over, the lease stays with the listener.

use std::fs;

use nix::sys::signal::Signal;
use styxy_tests::{Deadline, ProcessId, Running, Sandbox, eventually};

use crate::sandbox;
use crate::server::leases;

/// Listens on `PORT`, in the foreground or as `daemon(3)` has it.
const SERVER: &str = r#"
import os, socket, sys, time
server = socket.socket()
server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
server.bind(("127.0.0.1", int(os.environ["PORT"])))
server.listen()
if sys.argv[1] == "daemonize":
    if os.fork():
        os._exit(0)
    os.setsid()
    if os.fork():
        os._exit(0)
print("listening", os.getpid(), server.getsockname()[1], flush=True)
null = os.open("/dev/null", os.O_RDWR)
for descriptor in range(3):
    os.dup2(null, descriptor)
time.sleep(1000)
"#;

/// Runs a script in which `server.py` is started, and wants the lease to stay while the server lives, and no longer.
fn keeps_its_lease(options: &[&str], command: &[&str], code: i32) {
    let sandbox = sandbox();
    let dir = sandbox.project("server");
    fs::write(dir.join("server.py"), SERVER).expect("write");
    fs::write(dir.join("start.sh"), START).expect("write");
    let words = [&["run", "--type", "dev"], options, &["--"], command].concat();
    let start = || sandbox.styxy(&words).in_dir(&dir).spawn();
    let run = start();
    let (server, port) = listening(&run);
    run.end(Deadline::long()).exited(code);
    let detached = eventually(Deadline::long(), || {
        let list = sandbox.styxy(["list"]).run().success();
        list.stdout.contains("detached").then_some(list.stdout)
    });
    let list = detached.unwrap_or_else(|| panic!("{:?}", leases(&sandbox)));
    assert!(list.contains(&port.to_string()), "{list}");
    assert!(server.lives());

    // The next one does not get its port.
    let next = start();
    let (other, other_port) = listening(&next);
    next.end(Deadline::long()).exited(code);
    assert_ne!(port, other_port);

    server.signal(Signal::SIGKILL);
    wait_for_leases(&sandbox, 1);
    other.signal(Signal::SIGKILL);
    wait_for_leases(&sandbox, 0);
    sandbox.wait_quiet(Deadline::long());
}

fn listening(run: &Running) -> (ProcessId, u16) {
    let line = run.line_with("listening", Deadline::long());
    let mut words = line.split(' ').skip(1);
    let mut number = || words.next().and_then(|word| word.parse().ok());
    let (pid, port) = (number().expect("a pid"), number().expect("a port"));
    let server = ProcessId::of(pid).expect("it lives");
    (server, u16::try_from(port).expect("a port"))
}

fn wait_for_leases(sandbox: &Sandbox, count: usize) {
    let reached = eventually(Deadline::long(), || {
        (leases(sandbox).allocations.len() == count).then_some(())
    });
    assert!(reached.is_some(), "{:?}", leases(sandbox));
}

/// The shell ends by itself as soon as its server listens.
const SHELL: [&str; 2] = ["sh", "start.sh"];
const START: &str =
    "rm -f says; mkfifo says; python3 server.py stay > says & head -n 1 says; exit 5";

#[test]
fn a_server_that_daemonizes_itself_keeps_its_lease() {
    keeps_its_lease(&[], &["python3", "server.py", "daemonize"], 0);
}

#[test]
fn a_server_left_by_its_shell_keeps_its_lease() {
    keeps_its_lease(&[], &SHELL, 5);
}

#[test]
fn with_exec_a_server_that_daemonizes_itself_keeps_its_lease() {
    keeps_its_lease(&["--exec"], &["python3", "server.py", "daemonize"], 0);
}

#[test]
fn with_exec_a_server_left_by_its_shell_keeps_its_lease() {
    keeps_its_lease(&["--exec"], &SHELL, 5);
}
