//! The harness itself, with commands that have nothing to do with styxy: what it reports must be true.

use styxy_tests::{Deadline, Host, available};

use crate::sandbox;

#[test]
fn two_sandboxes_have_the_same_port_twice() {
    let one = sandbox();
    if available(one.has_own_ports()).is_none() {
        return;
    }
    let other = sandbox();
    let squatter = one.squat(Host::Ipv4Any, 8000);
    assert!(!one.is_free(8000));
    assert!(other.is_free(8000));
    drop(squatter);
    assert!(one.is_free(8000));
}

#[test]
fn a_port_is_taken_whatever_the_address_it_is_held_on() {
    let sandbox = sandbox();
    for (port, host) in [
        (8000, Host::Ipv4Loopback),
        (8001, Host::Ipv4Any),
        (8002, Host::Ipv6Loopback),
        (8003, Host::Ipv6Any),
        (8004, Host::Dual),
    ] {
        assert!(sandbox.is_free(port), "{host:?}");
        let squatter = sandbox.squat(host, port);
        assert!(!sandbox.is_free(port), "{host:?}");
        assert!(!squatter.was_visited(), "{host:?}");
        drop(squatter);
        assert!(sandbox.is_free(port), "{host:?}");
    }
}

#[test]
fn commands_run_in_the_sandbox_with_nothing_but_its_environment() {
    let sandbox = sandbox();
    let env = sandbox.command(["env"]).without("PATH").run().success();
    assert!(
        env.stdout
            .contains(&format!("HOME={}\n", sandbox.home().display()))
    );
    for name in ["CARGO", "PATH=", "LD_PRELOAD", "STYXY"] {
        let leaked = env.stdout.lines().find(|line| line.starts_with(name));
        assert_eq!(leaked, None);
    }
    assert!(sandbox.processes().is_empty());
}

#[test]
fn statuses_outputs_and_signals_are_reported_as_they_are() {
    let sandbox = sandbox();
    let ended = sandbox
        .command(["sh", "-c", "echo out; echo err >&2; exit 3"])
        .run();
    let ended = ended.exited(3);
    assert_eq!(
        (ended.stdout.as_str(), ended.stderr.as_str()),
        ("out\n", "err\n")
    );
    let ended = sandbox.command(["sh", "-c", "kill -TERM $$"]).run();
    assert_eq!(ended.code(), 128 + 15);
}

#[test]
fn a_server_in_the_sandbox_is_reached_and_its_tree_is_seen_to_go() {
    let sandbox = sandbox();
    let mut server = sandbox
        .command(["sh", "-c", "python3 -m http.server 8000; true"])
        .spawn();
    server.line_with("Serving HTTP", Deadline::short());
    sandbox.page(8000, "/", "Directory listing", Deadline::short());
    let tree = server.tree();
    assert_eq!(tree.len(), 2, "{tree:?}");
    assert!(
        tree == sandbox.processes(),
        "{tree:?} and {:?}",
        sandbox.processes()
    );

    server.control_c(Deadline::short());
    assert_eq!(server.end(Deadline::short()).code(), 128 + 2);
    tree.wait_gone(Deadline::short());
    assert!(sandbox.is_free(8000));
    sandbox.wait_quiet(Deadline::short());
}

#[test]
fn keys_at_a_terminal_are_signals_to_its_foreground_group() {
    let sandbox = sandbox();
    let mut command = sandbox.command(["sh", "-c", "tty; exec cat"]).on_terminal();
    command.line_with("/dev/pts/", Deadline::short());
    command.type_keys("\x03");
    assert_eq!(command.end(Deadline::short()).code(), 128 + 2);

    let mut command = sandbox.command(["sh", "-c", "tty; exec cat"]).on_terminal();
    command.line_with("/dev/pts/", Deadline::short());
    command.hang_up();
    let status = command.exit_status(Deadline::short());
    assert_eq!(
        std::os::unix::process::ExitStatusExt::signal(&status),
        Some(1)
    );
}

#[test]
fn what_a_test_leaves_behind_is_gone_with_its_sandbox() {
    let sandbox = sandbox();
    let escape = "setsid sh -c 'echo started; exec sleep 1000' & wait";
    let command = sandbox.command(["sh", "-c", escape]).spawn();
    command.line_with("started", Deadline::short());
    let everybody = sandbox.processes();
    assert!(everybody.len() >= 2, "{everybody:?}");
    drop(sandbox);
    assert!(everybody.iter().all(|process| !process.lives()));
}
