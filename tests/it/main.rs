//! Every test that needs a real process, in one binary.
//!
//! A test gets its world from [`sandbox`] and its projects from [`FIXTURES`]; what it needs and the machine does not
//! have goes through `styxy_tests::available`, which says that the test was skipped.

mod bad_input;
mod cli;
mod cli_config;
mod cli_daemon;
mod cli_leases;
mod cli_ports;
mod cli_ways;
mod daemon_kill;
mod daemon_port;
mod fail_open;
mod follow;
mod frameworks;
mod harness;
mod house;
mod http_server;
mod launcher;
mod leftovers;
mod many;
mod node_tools;
mod npm_scripts;
mod package_managers;
mod server;
mod storybook;
mod supervision;
mod versions;

use styxy_tests::{Fixtures, Programs, Sandbox};

const FIXTURES: Fixtures = Fixtures {
    store: env!("CARGO_TARGET_TMPDIR"),
};

fn sandbox() -> Sandbox {
    Sandbox::new(Programs {
        styxy: env!("CARGO_BIN_EXE_styxy-under-test"),
        newer: env!("CARGO_BIN_EXE_styxy-newer"),
        inside: env!("CARGO_BIN_EXE_inside"),
    })
}
