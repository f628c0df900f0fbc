//! Tools that start Node for their user: again after every change, with variables set, or several at once.

use std::fs;

use nix::sys::signal::Signal;
use styxy_tests::{Deadline, Fixture, Host, Sandbox, available};

use crate::server::{Server, WATCHED, number_after, ready_port, wrapper_tests};
use crate::{FIXTURES, sandbox};

/// The server that reads `PORT`, started so.
const fn node(argv: &'static [&'static str]) -> Server {
    Server {
        fixture: Fixture::NodeTools,
        argv,
        port: 3000,
        text: "hello from node",
        says: "node listens on {}",
    }
}

wrapper_tests!(nodemon, node(&["nodemon", "server.js"]));
wrapper_tests!(cross_env, node(&["npm", "run", "cross"]));

wrapper_tests!(
    nodemon_exec,
    Server {
        port: 4322,
        text: "hello from hard-coded node",
        ..node(&["npm", "run", "exec"])
    }
);

#[test]
fn nodemon_keeps_the_port_when_it_restarts_the_server() {
    let sandbox = sandbox();
    let Some(dir) = available(FIXTURES.copy(Fixture::NodeTools, &sandbox, "app")) else {
        return;
    };
    let _squatter = sandbox.squat(Host::Ipv4Loopback, 3000);
    let call = sandbox.managed(["npx", "nodemon", "server.js"]);
    let run = call.env(WATCHED.0, WATCHED.1).in_dir(&dir).spawn();
    let port = ready_port(&run);
    sandbox.page(port, "/", "version 1", Deadline::long());

    let source = fs::read_to_string(dir.join("server.js")).expect("the server");
    let changed = source.replace("VERSION = 1", "VERSION = 2");
    fs::write(dir.join("server.js"), changed).expect("write");
    sandbox.page(port, "/", "version 2", Deadline::long());

    let tree = run.tree();
    run.signal_group(Signal::SIGINT);
    run.exit_status(Deadline::long());
    tree.wait_gone(Deadline::short());
    sandbox.wait_free(port, Deadline::short());
    sandbox.wait_quiet(Deadline::short());
}

/// Runs two servers at once and gives their ports as they print them: of Node, and of Vite.
fn both(sandbox: &Sandbox, squatters: &[u16]) -> Option<[u16; 2]> {
    let dir = available(FIXTURES.copy(Fixture::NodeTools, sandbox, "app"))?;
    let held: Vec<_> = squatters
        .iter()
        .map(|port| sandbox.squat(Host::Ipv4Loopback, *port))
        .collect();
    let call = sandbox.managed(["npm", "run", "both"]);
    let run = call.env(WATCHED.0, WATCHED.1).in_dir(&dir).spawn();
    let ports = ["node listens on ", "Local:   http://localhost:"].map(|mark| {
        let line = run.line_with(mark, Deadline::long());
        number_after(&line, mark).expect("a port")
    });
    sandbox.page(ports[0], "/", "hello from node", Deadline::long());
    sandbox.page(ports[1], "/", "vite beside node", Deadline::long());
    for squatter in &held {
        assert!(!squatter.was_visited(), "{run:?}");
        let moved = format!("✓ STYXY: Port {} was in use", squatter.port);
        run.line_with(&moved, Deadline::short());
    }
    let tree = run.tree();
    run.signal_group(Signal::SIGINT);
    run.exit_status(Deadline::long());
    tree.wait_gone(Deadline::short());
    for port in ports {
        sandbox.wait_free(port, Deadline::short());
    }
    sandbox.wait_quiet(Deadline::short());
    Some(ports)
}

#[test]
fn two_servers_at_once_have_the_ports_that_they_have_without_styxy() {
    let sandbox = sandbox();
    if let Some(ports) = both(&sandbox, &[]) {
        assert_eq!(ports, [3000, 5173]);
    }
}

#[test]
fn two_servers_at_once_both_come_up_beside_foreign_ones() {
    let sandbox = sandbox();
    if let Some(ports) = both(&sandbox, &[3000, 5173]) {
        assert!(ports[0] != 3000 && ports[1] != 5173, "{ports:?}");
        assert_ne!(ports[0], ports[1]);
    }
}
