//! The ways to the daemon: its socket, or the port that `STYXY_DAEMON_PORT` names.

use std::fs;

use styxy_tests::Host;

use crate::sandbox;

/// Asks by the port that is named.
const PORT: &str = "STYXY_DAEMON_PORT";

#[test]
fn a_port_that_leads_nowhere_is_told_with_what_to_do() {
    let sandbox = sandbox();
    let list = |port: &str| {
        sandbox
            .styxy(["list"])
            .env(PORT, port)
            .run()
            .exited(1)
            .stderr
    };
    assert!(list("abc").contains("`abc`"), "{}", list("abc"));
    assert!(list("0").contains("`0`"), "{}", list("0"));
    let without_token = list("9876");
    assert!(without_token.contains("auth.token"), "{without_token}");
    let home = sandbox.home().join(".styxy");
    fs::create_dir(&home).expect("mkdir");
    fs::write(
        home.join("auth.token"),
        "0123456789abcdef0123456789abcdef\n",
    )
    .expect("write");
    let nobody = list("9876");
    assert!(
        nobody.contains("no daemon listens on 127.0.0.1:9876"),
        "{nobody}"
    );
    assert!(
        sandbox.processes().is_empty(),
        "none is started on somebody's port"
    );
    sandbox.styxy(["list"]).env(PORT, "").run().success();
}

#[test]
fn a_port_on_which_somebody_else_listens_is_told_to_be_silent() {
    let sandbox = sandbox();
    let home = sandbox.home().join(".styxy");
    fs::create_dir(&home).expect("mkdir");
    fs::write(
        home.join("auth.token"),
        "0123456789abcdef0123456789abcdef\n",
    )
    .expect("write");
    let _squatter = sandbox.squat(Host::Ipv4Loopback, 9876);
    let silent = sandbox.styxy(["list"]).env(PORT, "9876").run().exited(1);
    assert!(
        silent.stderr.contains("does not answer within 5 seconds"),
        "{silent:?}"
    );
}
