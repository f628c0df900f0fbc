//! `styxy daemon start --port`: in the foreground, in the background, and where a daemon runs already.

use std::fs;

use nix::sys::signal::Signal;
use styxy_tests::{Deadline, Host, Running, Sandbox};

use crate::sandbox;

const PORT: u16 = 9876;

fn is_served(sandbox: &Sandbox) {
    let page = sandbox.page(PORT, "/status", "running", Deadline::short());
    assert_eq!(page.status, 200, "{page:?}");
    let page = sandbox.get(PORT, "/allocations").expect("it answers");
    assert_eq!(page.status, 401, "{page:?}");
}

#[test]
fn a_daemon_in_the_foreground_serves_its_port_until_it_is_told_to_stop() {
    let sandbox = sandbox();
    let daemon: Running = sandbox.styxy(["daemon", "start", "--port", "9876"]).spawn();
    daemon.line_with("serves http://127.0.0.1:9876", Deadline::short());
    is_served(&sandbox);
    daemon.signal(Signal::SIGTERM);
    daemon.end(Deadline::short()).success();
    sandbox.wait_free(PORT, Deadline::short());
}

#[test]
fn a_daemon_that_runs_already_opens_the_port() {
    for start in [
        &["daemon", "start", "-p", "9876"][..],
        &["daemon", "start", "-d", "-p", "9876"],
    ] {
        let sandbox = sandbox();
        sandbox
            .styxy(["run", "--type", "dev", "--", "true"])
            .run()
            .success();
        let daemons = sandbox.daemons();
        assert!(sandbox.is_free(PORT));
        for _ in 0..2 {
            let said = sandbox.styxy(start).run().success().stdout;
            assert!(said.contains("is already running (PID: "), "{said}");
            assert!(said.contains("http://127.0.0.1:9876"), "{said}");
            is_served(&sandbox);
        }
        assert!(sandbox.daemons() == daemons, "it is the same one");
        let other = [&start[..start.len() - 1], &["9877"]].concat();
        let refused = sandbox.styxy(other).run().exited(1);
        assert!(refused.stderr.contains("9876 already"), "{refused:?}");
        sandbox.styxy(["daemon", "stop"]).run().success();
    }
}

#[test]
fn a_daemon_in_the_background_is_given_the_port_and_nobody_sees_its_token() {
    let sandbox = sandbox();
    let start = ["daemon", "start", "-d", "--port", "9876"];
    let said = sandbox.styxy(start).run().success().stdout;
    assert!(said.contains("started in background (PID: "), "{said}");
    is_served(&sandbox);
    let places = [".styxy/auth.token", ".styxy/daemon.log"];
    let [token, log] =
        places.map(|name| fs::read_to_string(sandbox.home().join(name)).expect("a file"));
    let daemons = sandbox.daemons();
    let daemon = daemons.iter().next().expect("a daemon").command_line();
    assert_eq!(daemon, "styxy daemon start --background --port 9876");
    let status = sandbox
        .styxy(["daemon", "status", "--json"])
        .run()
        .success();
    let status: serde_json::Value = serde_json::from_str(&status.stdout).expect("JSON");
    assert_eq!(status["tcp_port"], PORT);
    let environ = fs::read(format!("/proc/{}/environ", status["pid"])).expect("ours");
    let environ = String::from_utf8_lossy(&environ);
    for place in [&log, &said, &*environ, &status.to_string()] {
        assert!(!place.contains(&token[..8]), "{place}");
    }
    sandbox.styxy(["daemon", "stop"]).run().success();
}

#[test]
fn a_port_that_is_taken_is_told_with_its_holder_and_no_daemon_stays() {
    let sandbox = sandbox();
    let _squatter = sandbox.squat(Host::Ipv4Loopback, PORT);
    for start in [
        &["daemon", "start", "-p", "9876"][..],
        &["daemon", "start", "-d", "-p", "9876"],
    ] {
        let refused = sandbox.styxy(start).run().exited(1);
        assert!(
            refused.stderr.contains("port 9876 is in use by"),
            "{refused:?}"
        );
        assert!(sandbox.daemons().is_empty());
    }
    // Nobody else has to pay for that.
    sandbox
        .styxy(["run", "--type", "dev", "--", "true"])
        .run()
        .success();
    assert_eq!(sandbox.daemons().len(), 1);
    sandbox.styxy(["daemon", "stop"]).run().success();
}
