//! Requests and answers.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::os::unix::net::UnixStream;

use serde_json::{Value, json};
use styxy_protocol::api::{AllocationsResponse, ErrorCode, ErrorResponse, StatusResponse};

use crate::harness::{Answer, Daemon, ask, fresh_port, home, lock_id, low_listener};

pub(crate) fn error(answer: &Answer) -> ErrorResponse {
    let error: ErrorResponse = serde_json::from_value(answer.body.clone())
        .unwrap_or_else(|error| panic!("{error}: {}", answer.body));
    assert!(!error.success);
    error
}

#[test]
fn a_lease_is_made_listed_renewed_and_released() {
    let (_dir, paths) = home();
    let daemon = Daemon::start(&paths);
    let request = json!({
        "service_type": "dev",
        "service_name": "web",
        "project_path": "/p",
        "spare_ports": 2,
        "command": "npm run dev",
        "somebody_elses_field": 1,
    });
    let lease = daemon.allocate(&request);
    let port = lease["port"].as_u64().unwrap();
    assert!((3000..=3099).contains(&port), "{lease}");
    assert_eq!(
        lease["message"],
        format!("Port {port} allocated for dev service")
    );
    assert_eq!(lease["spare_ports"].as_array().unwrap().len(), 2);
    assert_eq!(lease["protocol"], styxy_protocol::api::PROTOCOL);
    assert_eq!(lease.get("heartbeat_seconds"), None);

    let list: AllocationsResponse =
        serde_json::from_value(daemon.get("/allocations").body).unwrap();
    assert_eq!(list.allocations.len(), 1);
    assert_eq!(list.allocations[0].command.as_deref(), Some("npm run dev"));
    let status: StatusResponse = serde_json::from_value(daemon.get("/status").body).unwrap();
    assert_eq!((status.allocations, status.degraded), (1, None));
    assert_eq!(
        (status.status.as_str(), status.pid),
        ("running", std::process::id())
    );

    let path = format!("/allocate/{}/heartbeat", lock_id(&lease));
    assert_eq!(
        daemon.send("PUT", &path, None).body["expires_in"],
        24 * 60 * 60
    );
    let released = daemon.release(lock_id(&lease));
    assert_eq!(released.body["message"], format!("Port {port} released"));
    assert!(daemon.leases().is_empty());
    let again = daemon.release(lock_id(&lease));
    assert_eq!(
        (again.status, error(&again).code),
        (400, ErrorCode::LeaseNotFound)
    );
}

const BIG: &[u8] = &[b' '; 17 * 1024];

/// Method, path, body, and the status and code of the answer.
const WRONG_REQUESTS: &[(&str, &str, &[u8], u16, ErrorCode)] = &[
    ("GET", "/nothing", b"", 404, ErrorCode::NotFound),
    ("GET", "/allocate", b"", 405, ErrorCode::NotFound),
    ("POST", "/status", b"", 405, ErrorCode::NotFound),
    ("POST", "/allocate", b"", 400, ErrorCode::InvalidRequest),
    ("POST", "/allocate", b"{", 400, ErrorCode::InvalidRequest),
    (
        "POST",
        "/allocate",
        b"\xff\xfe",
        400,
        ErrorCode::InvalidRequest,
    ),
    ("POST", "/allocate", BIG, 413, ErrorCode::InvalidRequest),
    (
        "POST",
        "/allocate",
        br#"{"service_type":"bad type!"}"#,
        400,
        ErrorCode::InvalidRequest,
    ),
    (
        "POST",
        "/allocate",
        br#"{"service_type":"dev","preferred_port":0}"#,
        400,
        ErrorCode::InvalidRequest,
    ),
    (
        "POST",
        "/allocate",
        br#"{"service_type":"dev","preferred_port":70000}"#,
        400,
        ErrorCode::InvalidRequest,
    ),
    (
        "POST",
        "/allocate",
        br#"{"service_type":"dev","spare_ports":9}"#,
        400,
        ErrorCode::InvalidRequest,
    ),
    (
        "POST",
        "/allocate",
        br#"{"service_type":"dev","service_name":"a\nb"}"#,
        400,
        ErrorCode::InvalidRequest,
    ),
    (
        "POST",
        "/allocate",
        br#"{"service_type":"dev","strict":true}"#,
        400,
        ErrorCode::InvalidRequest,
    ),
    (
        "POST",
        "/allocate",
        br#"{"service_type":"dev","pid":0}"#,
        400,
        ErrorCode::InvalidRequest,
    ),
    ("DELETE", "/allocate/x", b"", 400, ErrorCode::InvalidRequest),
    (
        "DELETE",
        "/allocate/..%2f..%2fetc",
        b"",
        400,
        ErrorCode::InvalidRequest,
    ),
    (
        "DELETE",
        "/allocate/00000000-0000-4000-8000-000000000000",
        b"",
        400,
        ErrorCode::LeaseNotFound,
    ),
    (
        "PUT",
        "/allocate/00000000-0000-4000-8000-000000000000/heartbeat",
        b"",
        404,
        ErrorCode::LeaseNotFound,
    ),
    (
        "POST",
        "/allocate/00000000-0000-4000-8000-000000000000/listeners",
        br#"{"requested":1,"port":1}"#,
        404,
        ErrorCode::LeaseNotFound,
    ),
];

#[test]
fn every_error_is_json_with_a_code() {
    let (_dir, paths) = home();
    let daemon = Daemon::start(&paths);
    for (method, path, body, status, code) in WRONG_REQUESTS {
        let answer = daemon.send_raw(method, path, body);
        assert_eq!(
            (answer.status, error(&answer).code),
            (*status, *code),
            "{method} {path}: {}",
            answer.body
        );
    }
    assert!(daemon.leases().is_empty());
}

#[test]
fn a_hundred_requests_at_once_get_a_hundred_ports() {
    let (_dir, paths) = home();
    let daemon = Daemon::start(&paths);
    let types = ["dev", "api", "docs", "ui"];
    let ports: Vec<Value> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..100)
            .map(|n| {
                let daemon = &daemon;
                scope.spawn(move || daemon.allocate(&ask(types[n % types.len()]))["port"].clone())
            })
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    });
    let distinct: BTreeSet<_> = ports.iter().map(|port| port.as_u64().unwrap()).collect();
    assert_eq!(distinct.len(), 100);
    assert_eq!(daemon.leases().len(), 100);
}

#[test]
fn a_conflict_with_a_foreign_process_names_it() {
    let (_dir, paths) = home();
    let daemon = Daemon::start(&paths);
    let (_held, port) = low_listener();
    let request = json!({ "service_type": "dev", "preferred_port": port });
    let lease = daemon.allocate(&request);
    assert_ne!(lease["port"], json!(port));
    let own = std::process::id();
    let conflict = &lease["conflict"];
    assert_eq!(conflict["port"], json!(port));
    assert_eq!(conflict["holder"]["kind"], "process");
    assert_eq!(conflict["holder"]["pid"], own);
    assert!(
        conflict["holder"]["command"]
            .as_str()
            .unwrap()
            .contains("it-")
    );

    let strict = json!({ "service_type": "dev", "preferred_port": port, "strict": true });
    let refused = daemon.send("POST", "/allocate", Some(&strict));
    assert_eq!(
        (refused.status, error(&refused).code),
        (409, ErrorCode::PortTaken)
    );
    assert_eq!(refused.body["holder"]["pid"], own);
    assert!(error(&refused).error.contains(&format!("(pid {own})")));
}

#[test]
fn a_listener_that_was_reported_belongs_to_the_lease_and_is_shown() {
    let (_dir, paths) = home();
    let daemon = Daemon::start(&paths);
    let lease = daemon.allocate(&ask("dev"));
    let (held, port) = low_listener();
    let path = format!("/allocate/{}/listeners", lock_id(&lease));
    let report = json!({ "requested": 8000, "port": port });
    assert_eq!(daemon.send("POST", &path, Some(&report)).status, 200);
    let listed = daemon.leases();
    assert_eq!(listed[0]["state"], "listening");
    assert_eq!(listed[0]["listeners"], json!([report]));
    drop(held);
    assert_eq!(daemon.leases()[0]["listeners"], json!([]));
    let strict = json!({ "service_type": "dev", "preferred_port": port, "strict": true });
    let refused = daemon.send("POST", "/allocate", Some(&strict));
    assert_eq!(refused.body["holder"]["kind"], "lease");
    let other = daemon.allocate(&ask("dev"));
    let path = format!("/allocate/{}/listeners", lock_id(&other));
    assert_eq!(daemon.send("POST", &path, Some(&report)).status, 409);
}

#[test]
fn a_second_ai_service_gets_the_first_ones_port() {
    let (_dir, paths) = home();
    let daemon = Daemon::start(&paths);
    let first = daemon.allocate(&ask("ai"));
    let second = daemon.allocate(&ask("ai"));
    assert_eq!(second["port"], first["port"]);
    assert_eq!(second["lock_id"], first["lock_id"]);
    assert_eq!(second["existing"], true);
    assert_eq!(
        second["message"],
        "Service 'ai' only allows single instance"
    );
    assert_eq!(daemon.leases().len(), 1);
}

#[test]
fn a_dry_run_leaves_nothing_behind() {
    let (_dir, paths) = home();
    let daemon = Daemon::start(&paths);
    let port = fresh_port();
    let request =
        json!({ "service_type": "dev", "preferred_port": port, "strict": true, "dry_run": true });
    let tried = daemon.allocate(&request);
    assert_eq!(
        (tried["port"].clone(), tried["lock_id"].as_str()),
        (json!(port), Some(""))
    );
    assert!(daemon.leases().is_empty());
}

#[test]
fn a_path_that_is_no_text_is_told_in_json() {
    let (_dir, paths) = home();
    let daemon = Daemon::start(&paths);
    let report = json!({ "requested": 5000, "port": 5001 });
    for (method, path, body) in [
        ("DELETE", "/allocate/%ff", None),
        ("PUT", "/allocate/%ff/heartbeat", None),
        ("POST", "/allocate/%ff/listeners", Some(&report)),
        ("PUT", "/instance/%ff/heartbeat", None),
        ("DELETE", "/auto-allocation/%ff", None),
        ("GET", "/check/%ff", None),
        ("GET", "/observe/%ff", None),
    ] {
        let answer = daemon.send(method, path, body);
        assert_eq!(answer.status, 400, "{method} {path}: {}", answer.text);
        let error = error(&answer);
        assert_eq!(error.code, ErrorCode::InvalidRequest, "{method} {path}");
        assert!(error.suggestion.is_some(), "{method} {path}");
    }
    // What cannot be a type counts as any other that is not known.
    let suggested = daemon.get("/suggest/%ff");
    assert_eq!(suggested.status, 200, "{}", suggested.text);
    assert_eq!(suggested.body["service_type"], "dev");
}

#[test]
fn clients_that_send_nothing_or_rubbish_keep_nobody_waiting() {
    let (_dir, paths) = home();
    let daemon = Daemon::start(&paths);
    let idle: Vec<_> = (0..100)
        .map(|_| UnixStream::connect(paths.socket()).unwrap())
        .collect();
    for rubbish in [
        &b"\0\0\0\0\r\n\r\n"[..],
        b"GET / HTTP/9.9\r\n\r\n",
        b"POST /allocate HTTP/1.1\r\ncontent-length: 99\r\n\r\n{",
    ] {
        let mut stream = UnixStream::connect(paths.socket()).unwrap();
        stream.write_all(rubbish).unwrap();
    }
    let head = format!(
        "GET /status HTTP/1.1\r\nx: {}\r\n\r\n",
        "y".repeat(64 * 1024)
    );
    let mut stream = UnixStream::connect(paths.socket()).unwrap();
    stream.write_all(head.as_bytes()).ok();
    assert_eq!(daemon.get("/status").status, 200);
    drop(idle);
}

/// The calls of a launcher that was started before the daemon was replaced by this one.
#[test]
fn a_launcher_of_protocol_1_can_go_on_with_its_lease() {
    let (_dir, paths) = home();
    let daemon = Daemon::start(&paths);
    let lease = daemon.allocate(&ask("dev"));
    let (id, port) = (lock_id(&lease), &lease["port"]);

    let renewed = daemon.send("PUT", &format!("/allocate/{id}/heartbeat"), None);
    assert_eq!(renewed.status, 200, "{}", renewed.body);
    assert_eq!(renewed.body["success"], true);
    assert!(renewed.body["expires_in"].is_u64(), "{}", renewed.body);

    let report = json!({ "requested": 5000, "port": fresh_port() });
    let path = format!("/allocate/{id}/listeners");
    let told = daemon.send("POST", &path, Some(&report));
    let released = daemon.release(id);
    for done in [told, released] {
        assert_eq!(done.status, 200, "{}", done.body);
        assert_eq!(done.body["success"], true);
        assert_eq!(&done.body["port"], port);
        assert!(done.body["message"].is_string(), "{}", done.body);
    }
    // What it takes for `it has ended already`.
    let again = daemon.release(id);
    assert_eq!(again.status, 400);
    assert_eq!(error(&again).code, ErrorCode::LeaseNotFound);
}
