//! `styxy check`, `whose`, `scan` and `suggest`: what is said of ports that are free, leased, and somebody's.

use serde_json::Value;
use styxy_tests::{Deadline, Host, Sandbox};

use crate::sandbox;

fn text(sandbox: &Sandbox, arguments: &[&str]) -> String {
    sandbox.styxy(arguments).run().success().stdout
}

fn json(sandbox: &Sandbox, arguments: &[&str]) -> Value {
    let text = text(sandbox, &[arguments, &["--json"]].concat());
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[test]
fn a_port_is_free_leased_or_somebodys() {
    let sandbox = sandbox();
    assert_eq!(
        text(&sandbox, &["check", "3000"]),
        "Port 3000 is available\n"
    );
    assert_eq!(json(&sandbox, &["check", "3000"])["available"], true);
    let _squatter = sandbox.squat(Host::Ipv6Loopback, 3001);
    let taken = text(&sandbox, &["check", "3001"]);
    assert!(
        taken.starts_with("Port 3001 is in use\nSystem Usage:\n  Protocol: tcp6\n"),
        "{taken}"
    );
    assert!(taken.contains("  Address: [::1]:3001\n"), "{taken}");
    text(&sandbox, &["allocate", "dev", "-q"]);
    let leased = text(&sandbox, &["check", "3000"]);
    assert!(
        leased.starts_with("Port 3000 is in use\nStyxy Allocation:\n  Service: dev\n"),
        "{leased}"
    );
    let id = json(&sandbox, &["check", "3000"])["allocated_to"]["lock_id"].clone();
    assert!(
        leased.contains(&format!("  Lock ID: {}\n", id.as_str().expect("an id"))),
        "{leased}"
    );
    let privileged = text(&sandbox, &["check", "80"]);
    assert!(
        privileged.starts_with("Port 80 is not handed out: "),
        "{privileged}"
    );
}

#[test]
fn the_process_behind_a_port_is_named_with_where_it_works() {
    let sandbox = sandbox();
    assert_eq!(
        text(&sandbox, &["whose", "8000"]),
        "Nobody listens on port 8000\n"
    );
    let shop = sandbox.project("shop\u{1b}[2J");
    let server = sandbox.command(["python3", "-m", "http.server", "8000"]);
    let server = server.in_dir(&shop).spawn();
    sandbox.page(8000, "/", "Directory listing", Deadline::short());
    let told = text(&sandbox, &["whose", "8000"]);
    let first = format!("Port 8000 is held by python3 (PID: {})\n", server.pid());
    assert!(told.starts_with(&first), "{told}");
    assert!(
        told.contains("-m http.server 8000\n  Directory: "),
        "{told}"
    );
    assert!(
        told.contains("shop\\u{1b}[2J\n") && !told.contains('\u{1b}'),
        "{told}"
    );
    let seen = json(&sandbox, &["whose", "8000"]);
    assert_eq!(seen["observation"]["pid"], server.pid(), "{seen}");

    text(&sandbox, &["allocate", "dev", "-q"]);
    let leased = text(&sandbox, &["whose", "3000"]);
    assert!(
        leased.starts_with("Nobody listens on port 3000\nStyxy Allocation:\n"),
        "{leased}"
    );
}

#[test]
fn a_scan_has_what_is_leased_and_what_is_in_use() {
    let sandbox = sandbox();
    assert_eq!(
        text(&sandbox, &["scan", "-s", "8000", "-e", "8010"]),
        "No ports in use in range 8000-8010\n"
    );
    let _squatter = sandbox.squat(Host::Ipv4Any, 8005);
    text(&sandbox, &["allocate", "api", "-q"]);
    let told = text(&sandbox, &["scan", "-s", "8000", "-e", "8010"]);
    let rows: Vec<&str> = told.lines().collect();
    assert_eq!(rows.len(), 5, "{told}");
    assert_eq!(rows[0], "Scanning ports 8000-8010", "{told}");
    assert!(rows[2].starts_with("8000  api - "), "{told}");
    assert!(rows[3].starts_with("8005  - "), "{told}");
    assert_eq!(
        rows[4], "Summary: 2 ports in use in range 8000-8010",
        "{told}"
    );
    let found = json(&sandbox, &["scan", "-s", "8005"]);
    assert_eq!(found["ports_in_use"][0]["port"], 8005, "{found}");
}

#[test]
fn suggested_are_the_ports_that_would_be_given() {
    let sandbox = sandbox();
    let _squatter = sandbox.squat(Host::Ipv6Loopback, 3001);
    text(&sandbox, &["allocate", "dev", "-q"]);
    let ports = text(&sandbox, &["suggest", "dev", "-c", "3"]);
    assert_eq!(ports, "3002\n3003\n3004\n");
    let body = json(&sandbox, &["suggest", "dev", "-c", "1"]);
    assert_eq!(body["suggestions"], serde_json::json!([3002]), "{body}");
    let unknown = sandbox
        .styxy(["suggest", "payments", "-c", "1"])
        .run()
        .success();
    assert_eq!(unknown.stdout, "3002\n");
    assert!(
        unknown.stderr.contains("no service type `payments` yet"),
        "{unknown:?}"
    );
}
