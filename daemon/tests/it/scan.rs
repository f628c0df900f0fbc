//! Questions about many ports: scans and suggestions; and questions that name no port.

use std::net::TcpListener;

use serde_json::{Value, json};
use styxy_protocol::api::{ErrorCode, ErrorResponse, ScanResponse, SuggestResponse};

use crate::harness::{Daemon, ask, fresh_port, home, lock_id, low_listener};
use crate::observation::read;

#[test]
fn a_value_that_is_no_port_is_refused_with_the_value() {
    let (_dir, paths) = home();
    let daemon = Daemon::start(&paths);
    let long = "9".repeat(300);
    let repeated = &long[..100];
    for (sent, value) in [
        ("abc", "abc"),
        ("0", "0"),
        ("65536", "65536"),
        ("-1", "-1"),
        ("3000x", "3000x"),
        ("%1b%5b2J", "\u{1b}[2J"),
        ("%ff", ""),
        (long.as_str(), repeated),
    ] {
        for (path, error) in [
            ("check", format!("Invalid port number: {value}")),
            ("observe", "Invalid port number".to_owned()),
        ] {
            let answer = daemon.get(&format!("/{path}/{sent}"));
            assert_eq!(answer.status, 400, "{path} {sent}");
            let fault: ErrorResponse = serde_json::from_value(answer.body).unwrap();
            assert_eq!(
                (fault.error, fault.code),
                (error, ErrorCode::InvalidRequest)
            );
            let context = fault.context.expect("there is more to say");
            assert_eq!(context.category, "VALIDATION");
            assert_eq!(context.provided_port.as_deref(), Some(value));
        }
    }
}

#[test]
fn a_scan_looks_at_the_whole_range_and_lists_what_is_leased_or_in_use() {
    let (_dir, paths) = home();
    let daemon = Daemon::start(&paths);
    let lease = daemon.allocate(&json!({
        "service_type": "dev", "preferred_port": fresh_port(), "strict": true,
    }));
    let (_held, listening) = low_listener();
    let scan = |range: &str| read::<ScanResponse>(daemon.get(&format!("/scan{range}")));
    let found = scan("?start=1&end=65535");
    assert_eq!(found.scan_range, "1-65535");
    let ports = &found.ports_in_use;
    assert!(ports.is_sorted_by_key(|it| it.port));
    assert!(
        ports
            .iter()
            .all(|it| it.allocated_to.is_some() || it.system_usage.is_some())
    );
    let at = |port: &Value| ports.iter().find(|it| json!(it.port) == *port);
    let leased = at(&lease["port"]).expect("it is leased");
    let holder = leased.allocated_to.as_ref().expect("it has a lease");
    assert_eq!(holder.lock_id, lock_id(&lease));
    assert_eq!(leased.system_usage, None);
    let used = at(&json!(listening)).expect("it is in use");
    assert_eq!(used.allocated_to, None);
    let usage = used.system_usage.as_ref().expect("it is in use");
    assert_eq!(usage.process.as_ref().unwrap().pid, std::process::id());

    let one = scan(&format!("?start={listening}&end={listening}"));
    assert_eq!(one.ports_in_use.len(), 1);
    let none = scan("?start=5&end=2");
    assert_eq!((&*none.scan_range, none.ports_in_use.len()), ("5-2", 0));
    for wrong in [
        "",
        "?start=abc&end=-1",
        "?start=0&end=65536",
        "?start=%ff",
        "?x",
    ] {
        assert_eq!(scan(wrong).scan_range, "3000-9999", "{wrong}");
    }
}

#[test]
fn suggestions_are_the_ports_that_are_given_then() {
    let (_dir, paths) = home();
    let daemon = Daemon::start(&paths);
    let suggest = |path: &str| read::<SuggestResponse>(daemon.get(&format!("/suggest/{path}")));
    let taken = (3100..3102).filter_map(|port| TcpListener::bind(("::1", port)).ok());
    let _taken: Vec<TcpListener> = taken.collect();
    daemon.allocate(&ask("monitoring"));
    // Somebody else on this machine may take one of the ports just now.
    let is_kept = |_| {
        let found = suggest("monitoring?count=3");
        assert_eq!(found.count, Some(3));
        assert_eq!(found.message, "3 available ports for monitoring services");
        let mut given = (0..3).map(|_| daemon.allocate(&ask("monitoring"))["port"].clone());
        found
            .suggestions
            .iter()
            .all(|port| given.next() == Some(json!(port)))
    };
    assert!((0..5).any(is_kept));
    for (path, service_type, number) in [
        ("api", "api", 5),
        ("api?count=0", "api", 5),
        ("api?count=x", "api", 5),
        ("api?count=500", "api", 50),
        ("nonsense?count=2", "dev", 2),
        ("bad%20type!?count=1", "dev", 1),
        ("%ff", "dev", 5),
    ] {
        let found = suggest(path);
        assert_eq!(found.service_type.as_str(), service_type, "{path}");
        assert_eq!(found.suggestions.len(), number, "{path}");
        assert_eq!(found.count, Some(number), "{path}");
    }
    let none = daemon.get("/suggest/api?count=-1").body;
    assert_eq!(
        (&none["suggestions"], none.get("count")),
        (&json!([]), None)
    );
    let lease = daemon.allocate(&ask("ai"));
    let found = suggest("ai?count=4");
    assert_eq!(json!(found.suggestions), json!([lease["port"]]));
}
