//! Configuration files, ranges that are made by themselves, and the audit log, as clients meet them.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use styxy_daemon::{BrokenConfig, Config, DaemonError, run_until};
use styxy_protocol::api::{AuditResponse, AutoAllocationResponse, ConfigResponse, ErrorCode};

use crate::api::error;
use crate::harness::{Answer, Daemon, ask, config, eventually, home, lock_id, mode};

/// A home with these files, and a daemon in it.
fn daemon_with(json: &str, toml: &str) -> (tempfile::TempDir, Daemon) {
    let (dir, paths) = home();
    write(&paths.state_dir, json, toml);
    let daemon = Daemon::start(&paths);
    (dir, daemon)
}

fn write(home: &Path, json: &str, toml: &str) {
    fs::create_dir_all(home).expect("a home");
    for (name, text) in [("config.json", json), ("config.toml", toml)] {
        if !text.is_empty() {
            fs::write(home.join(name), text).expect("written");
        }
    }
}

fn file(daemon: &Daemon, name: &str) -> PathBuf {
    daemon.paths.state_dir.join(name)
}

fn config_json(daemon: &Daemon) -> Value {
    let text = fs::read_to_string(file(daemon, "config.json")).expect("it is there");
    serde_json::from_str(&text).expect("JSON")
}

fn shown(daemon: &Daemon) -> ConfigResponse {
    serde_json::from_value(daemon.get("/config").body).expect("as it should be")
}

fn auto_allocation(daemon: &Daemon) -> AutoAllocationResponse {
    serde_json::from_value(daemon.get("/auto-allocation").body).expect("as it should be")
}

fn actions(daemon: &Daemon) -> Vec<String> {
    let audit: AuditResponse =
        serde_json::from_value(daemon.get("/audit").body).expect("as it should be");
    let events = audit.recent_events.into_iter();
    events.map(|event| event.action).collect()
}

fn put(daemon: &Daemon, enabled: bool) -> Answer {
    daemon.send(
        "PUT",
        "/auto-allocation",
        Some(&json!({ "enabled": enabled })),
    )
}

fn undo(daemon: &Daemon, name: &str) -> Answer {
    daemon.send("DELETE", &format!("/auto-allocation/{name}"), None)
}

fn refused(daemon: &Daemon, request: &Value) -> Answer {
    let answer = daemon.send("POST", "/allocate", Some(request));
    assert_eq!(answer.status, 400, "{}", answer.body);
    answer
}

fn at_once(daemon: &Daemon, names: &[String]) -> Vec<Value> {
    std::thread::scope(|scope| {
        let asked = names
            .iter()
            .map(|name| scope.spawn(|| daemon.allocate(&ask(name))));
        let asked: Vec<_> = asked.collect();
        asked
            .into_iter()
            .map(|thread| thread.join().expect("no panic"))
            .collect()
    })
}

#[test]
fn a_type_that_is_not_known_gets_a_range_that_outlives_the_daemon() {
    let (_dir, daemon) = daemon_with("", "");
    let first = daemon.allocate(&ask("grafana"));
    assert_eq!(first["auto_allocated"], true);
    assert_eq!(first["allocated_range"], json!([11510, 11519]));
    assert_eq!(
        (&first["chunk_size"], &first["placement"]),
        (&json!(10), &json!("after"))
    );
    assert!((11510..=11519).contains(&first["port"].as_u64().unwrap()));
    let second = daemon.allocate(&ask("grafana"));
    assert_eq!(second.get("auto_allocated"), None, "{second}");
    assert_eq!(mode(&file(&daemon, "config.json")), 0o600);
    let entry = &config_json(&daemon)["service_types"]["grafana"];
    assert_eq!(entry["port_range"], json!([11510, 11519]));
    assert_eq!(
        entry["preferred_ports"],
        json!([11510, 11511, 11512, 11513])
    );
    assert_eq!(
        (&entry["instance_behavior"], &entry["auto_allocated"]),
        (&json!("multi"), &json!(true))
    );
    assert!(
        entry["auto_allocated_at"]
            .as_str()
            .unwrap()
            .starts_with("20")
    );

    let paths = daemon.paths.clone();
    drop(daemon);
    let daemon = Daemon::start(&paths);
    assert_eq!(
        daemon.allocate(&ask("loki"))["allocated_range"],
        json!([11530, 11539])
    );
    assert_eq!(daemon.allocate(&ask("grafana")).get("auto_allocated"), None);
    assert_eq!(actions(&daemon), ["AUTO_ALLOCATION", "AUTO_ALLOCATION"]);
    let ranges = auto_allocation(&daemon).ranges;
    assert_eq!(ranges.len(), 2);
    assert_eq!(
        (
            ranges[0].service_type.as_str(),
            ranges[0].active_allocations
        ),
        ("grafana", 3)
    );
    let shown = &shown(&daemon).service_types[&"loki".parse().unwrap()];
    assert!(shown.auto_allocated && shown.range == shown.port_range);
}

#[test]
fn fifty_new_types_at_once_get_fifty_ranges_with_gaps() {
    let (_dir, daemon) = daemon_with("", "");
    let names: Vec<String> = (0..50).map(|n| format!("new-{n}")).collect();
    let leases = at_once(&daemon, &names);
    let ports: BTreeSet<_> = leases
        .iter()
        .map(|it| it["port"].as_u64().unwrap())
        .collect();
    assert_eq!(ports.len(), 50);
    assert!(leases.iter().all(|lease| lease["auto_allocated"] == true));
    let written = config_json(&daemon);
    let mut ranges: Vec<(u64, u64)> = names
        .iter()
        .map(|name| {
            let range = &written["service_types"][name]["port_range"];
            (range[0].as_u64().unwrap(), range[1].as_u64().unwrap())
        })
        .collect();
    ranges.sort_unstable();
    for pair in ranges.windows(2) {
        assert!(pair[1].0 > pair[0].1 + 10, "{pair:?}");
    }
    let backups = fs::read_dir(file(&daemon, "config-backups"))
        .unwrap()
        .count();
    assert_eq!(backups, 10);
    assert_eq!(actions(&daemon).len(), 50);
}

#[test]
fn fifty_requests_for_one_new_type_make_one_range() {
    let (_dir, daemon) = daemon_with(r#"{"auto_allocation": {"default_chunk_size": 60}}"#, "");
    let leases = at_once(&daemon, &vec!["new".to_owned(); 50]);
    let made = leases
        .iter()
        .filter(|lease| lease.get("auto_allocated").is_some());
    assert_eq!(made.count(), 1);
    let ports: BTreeSet<_> = leases
        .iter()
        .map(|it| it["port"].as_u64().unwrap())
        .collect();
    assert_eq!(ports.len(), 50);
    assert_eq!(auto_allocation(&daemon).ranges.len(), 1);
    assert_eq!(actions(&daemon), ["AUTO_ALLOCATION"]);
}

#[test]
fn nothing_is_written_for_a_dry_run_a_bad_name_or_a_refused_request() {
    let (_dir, daemon) = daemon_with("", "");
    let tried = daemon.allocate(&json!({ "service_type": "new", "dry_run": true }));
    assert!((11510..=11519).contains(&tried["port"].as_u64().unwrap()));
    assert_eq!(tried.get("auto_allocated"), None);
    let bad = refused(&daemon, &ask("bad type!"));
    assert_eq!(error(&bad).code, ErrorCode::InvalidRequest);
    refused(&daemon, &json!({ "service_type": "new", "strict": true }));
    for request in [json!({}), json!({ "service_type": null }), ask("")] {
        let answer = refused(&daemon, &request);
        assert!(
            error(&answer)
                .error
                .contains("Service type name is required"),
            "{}",
            answer.body
        );
    }
    assert!(!file(&daemon, "config.json").exists());
    assert!(!file(&daemon, "audit.log").exists());
    assert_eq!(shown(&daemon).service_types.len(), 17);
}

#[test]
fn the_rest_of_config_json_stays_as_it_was_and_has_a_copy() {
    let old = r#"{"zeta": {"k": [1]}, "service_types": {"web": {"port_range": [7000, 7001], "note": "mine"}}, "alpha": null}"#;
    let (_dir, daemon) = daemon_with(old, "");
    daemon.allocate(&ask("new"));
    let text = fs::read_to_string(file(&daemon, "config.json")).unwrap();
    let order: Vec<_> = ["zeta", "service_types", "web", "note", "\"new\"", "alpha"]
        .iter()
        .map(|key| text.find(key).unwrap())
        .collect();
    assert!(order.is_sorted(), "{text}");
    let backup = fs::read_dir(file(&daemon, "config-backups"))
        .unwrap()
        .next()
        .unwrap()
        .unwrap();
    assert_eq!(fs::read_to_string(backup.path()).unwrap(), old);
    assert_eq!(mode(&backup.path()), 0o600);
}

#[test]
fn what_cannot_be_written_is_kept_in_memory_until_it_can() {
    let (_dir, daemon) = daemon_with("{ broken", "");
    let lease = daemon.allocate(&ask("new"));
    assert_eq!(lease["allocated_range"], json!([11510, 11519]));
    assert_eq!(daemon.allocate(&ask("new")).get("auto_allocated"), None);
    assert_eq!(
        fs::read_to_string(file(&daemon, "config.json")).unwrap(),
        "{ broken"
    );
    let status = daemon.get("/status").body;
    assert!(
        status["config_problem"]
            .as_str()
            .unwrap()
            .contains("config.json:1:"),
        "{status}"
    );
    assert!(
        status["degraded"]
            .as_str()
            .unwrap()
            .contains("not being saved"),
        "{status}"
    );
    assert_eq!(put(&daemon, false).status, 409);

    fs::write(file(&daemon, "config.json"), r#"{"by": "hand"}"#).unwrap();
    eventually("the mended file has the range", || {
        let text = fs::read_to_string(file(&daemon, "config.json")).unwrap();
        text.contains("11510") && text.contains("hand")
    });
    let status = daemon.get("/status").body;
    assert_eq!(
        (status.get("config_problem"), status.get("degraded")),
        (None, None)
    );
}

#[test]
fn auto_allocation_is_switched_at_once_and_for_good() {
    let (_dir, daemon) = daemon_with("", "");
    daemon.allocate(&ask("known"));
    let off = put(&daemon, false);
    assert_eq!((off.status, &off.body["enabled"]), (200, &json!(false)));
    assert_eq!(
        config_json(&daemon)["auto_allocation"],
        json!({ "enabled": false })
    );
    let unknown = error(&refused(&daemon, &ask("teapot")));
    assert_eq!(
        unknown.error,
        "Unknown service type 'teapot': Unknown service type 'teapot' and auto-allocation is disabled"
    );
    assert_eq!(unknown.code, ErrorCode::UnknownServiceType);
    assert!(unknown.suggestion.unwrap().contains("storybook"));
    let context = unknown.context.unwrap();
    assert_eq!(context.provided_service_type.as_deref(), Some("teapot"));
    assert_eq!(context.valid_service_types.len(), 18);
    assert!(daemon.allocate(&ask("known"))["port"].is_number());

    let paths = daemon.paths.clone();
    drop(daemon);
    let daemon = Daemon::start(&paths);
    assert!(!auto_allocation(&daemon).settings.enabled);
    assert_eq!(put(&daemon, true).status, 200);
    assert_eq!(put(&daemon, true).status, 200);
    assert!(daemon.allocate(&ask("teapot"))["port"].is_number());
    let expected = ["", "_DISABLED", "_ENABLED", ""].map(|it| format!("AUTO_ALLOCATION{it}"));
    assert_eq!(actions(&daemon), expected);
    assert_eq!(
        daemon
            .send("PUT", "/auto-allocation", Some(&json!({})))
            .status,
        400
    );
}

#[test]
fn what_config_toml_fixes_is_not_changed_elsewhere() {
    let (_dir, daemon) = daemon_with("", "[auto_allocation]\nenabled = false\n");
    let answer = put(&daemon, true);
    assert_eq!(
        (answer.status, error(&answer).code),
        (409, ErrorCode::Configuration)
    );
    let told = error(&answer).error;
    assert!(
        told.contains("config.toml:2:11") && told.contains("auto_allocation.enabled"),
        "{told}"
    );
    assert!(!file(&daemon, "config.json").exists());
    fs::remove_file(file(&daemon, "config.toml")).unwrap();
    assert_eq!(
        put(&daemon, false).status,
        200,
        "the file is looked at anew"
    );
}

#[test]
fn a_range_is_given_back_when_nobody_uses_it() {
    let (_dir, daemon) = daemon_with("", "");
    let lease = daemon.allocate(&ask("new"));
    let busy = undo(&daemon, "new");
    assert_eq!(
        (busy.status, error(&busy).code),
        (409, ErrorCode::Configuration)
    );
    assert!(error(&busy).error.contains(&lease["port"].to_string()));
    assert_eq!(daemon.release(lock_id(&lease)).status, 200);
    let undone = undo(&daemon, "new");
    assert_eq!(
        (undone.status, &undone.body["range"]),
        (200, &json!([11510, 11519]))
    );
    assert_eq!(config_json(&daemon)["service_types"], json!({}));
    assert_eq!(
        actions(&daemon),
        ["AUTO_ALLOCATION", "AUTO_ALLOCATION_UNDO"]
    );
    for (name, code) in [
        ("new", ErrorCode::UnknownServiceType),
        ("dev", ErrorCode::InvalidRequest),
        ("bad%20type", ErrorCode::InvalidRequest),
    ] {
        let answer = undo(&daemon, name);
        assert_eq!((answer.status, error(&answer).code), (400, code), "{name}");
    }
    assert_eq!(
        daemon.allocate(&ask("newer"))["allocated_range"],
        json!([11510, 11519])
    );
    fs::write(
        file(&daemon, "config.toml"),
        "[service_types.newer]\ninstance_behavior = 'single'\n",
    )
    .unwrap();
    let held = undo(&daemon, "newer");
    assert_eq!(held.status, 409, "{}", held.body);
}

#[test]
fn a_change_is_taken_over_and_a_broken_one_is_not() {
    let (_dir, daemon) = daemon_with("", "");
    let toml = file(&daemon, "config.toml");
    assert_eq!(shown(&daemon).files, Vec::<String>::new());
    fs::write(&toml, "[service_types.web]\nrange = [7000, 7009]\n").unwrap();
    eventually("the new type is known", || {
        shown(&daemon).service_types.len() == 18
    });
    assert_eq!(shown(&daemon).files, [toml.display().to_string()]);
    let web = |end: u64| {
        let port = daemon.allocate(&ask("web"))["port"].as_u64().unwrap();
        assert!((7000..=end).contains(&port), "{port}");
        shown(&daemon).service_types[&"web".parse().unwrap()].range[1].get()
    };
    assert_eq!(web(7009), 7009);

    fs::write(&toml, "[service_types.web]\nrange = [7000]\n").unwrap();
    eventually("the problem is told", || shown(&daemon).problem.is_some());
    let problem = shown(&daemon).problem.unwrap();
    assert!(
        problem.contains("config.toml:2:9") && problem.contains("[7000]"),
        "{problem}"
    );
    assert_eq!(daemon.get("/status").body["config_problem"], problem);
    assert_eq!(
        daemon.allocate(&ask("web"))["port"],
        7001,
        "the old one is in force"
    );
    assert_eq!(
        daemon.allocate(&ask("new"))["allocated_range"],
        json!([11510, 11519])
    );

    // As editors do it that write a new file beside the old one.
    let fresh = toml.with_extension("tmp");
    fs::write(&fresh, "[service_types.web]\nrange = [7000, 7012]\n").unwrap();
    fs::rename(&fresh, &toml).unwrap();
    eventually("it is mended", || shown(&daemon).problem.is_none());
    assert_eq!(web(7012), 7012);
    fs::remove_file(&toml).unwrap();
    eventually("the type is gone", || {
        shown(&daemon).service_types.len() == 18
    });
    assert!(
        shown(&daemon)
            .service_types
            .contains_key(&"new".parse().unwrap())
    );
}

#[test]
fn a_link_to_a_file_elsewhere_is_followed() {
    let (dir, paths) = home();
    let elsewhere = dir.path().join("dotfiles");
    fs::create_dir_all(&elsewhere).unwrap();
    fs::create_dir_all(&paths.state_dir).unwrap();
    let target = elsewhere.join("styxy.toml");
    fs::write(&target, "").unwrap();
    std::os::unix::fs::symlink(&target, paths.state_dir.join("config.toml")).unwrap();
    let daemon = Daemon::start(&paths);
    assert_eq!(shown(&daemon).service_types.len(), 17);
    fs::write(&target, "[service_types.web]\nrange = [7000, 7001]\n").unwrap();
    eventually("the change is seen", || {
        shown(&daemon).service_types.len() == 18
    });
}

#[test]
fn a_daemon_that_is_to_refuse_does_not_start_with_a_broken_file() {
    let (_dir, paths) = home();
    write(&paths.state_dir, "", "[limits]\nleases = 3\n");
    let strict = Config {
        broken_config: BrokenConfig::Refuse,
        ..config(&paths)
    };
    let ended = run_until(strict, std::future::pending());
    let Err(DaemonError::Config(error)) = ended else {
        panic!("{ended:?}");
    };
    assert_eq!(error.problems.len(), 1);
    let place = error.problems[0].place.as_ref().unwrap();
    assert_eq!((place.line, place.column), (2, 1));
    assert!(
        error.problems[0].message.contains("`limits.leases`"),
        "{error}"
    );
    assert!(!paths.socket().exists());

    // One that is to serve does so with everything else.
    write(
        &paths.state_dir,
        r#"{"service_types": {"web": {"range": [7000, 7001]}}}"#,
        "",
    );
    let daemon = Daemon::start(&paths);
    assert_eq!(shown(&daemon).service_types.len(), 18);
    assert!(shown(&daemon).problem.unwrap().contains("config.toml:2:1"));
}

#[test]
fn a_home_that_cannot_be_written_to_costs_nobody_a_port() {
    let (_dir, daemon) = daemon_with("{}", "");
    // A directory where the new file has to be made stands in its way, whoever runs the test.
    let in_the_way = file(&daemon, "config-backups");
    fs::write(&in_the_way, "").unwrap();
    fs::create_dir(file(&daemon, "audit.log")).unwrap();
    assert_eq!(
        daemon.allocate(&ask("new"))["allocated_range"],
        json!([11510, 11519])
    );
    let degraded = daemon.get("/status").body["degraded"].clone();
    assert!(
        degraded.as_str().unwrap().contains("config.json"),
        "{degraded}"
    );
    assert_eq!(daemon.get("/audit").body["enabled"], false);
    assert_eq!(
        fs::read_to_string(file(&daemon, "config.json")).unwrap(),
        "{}"
    );
    assert_eq!(auto_allocation(&daemon).ranges.len(), 1);

    fs::remove_file(&in_the_way).unwrap();
    fs::remove_dir(file(&daemon, "audit.log")).unwrap();
    daemon.allocate(&ask("newer"));
    let types = config_json(&daemon)["service_types"].clone();
    assert!(
        types["new"].is_object() && types["newer"].is_object(),
        "{types}"
    );
    assert_eq!(daemon.get("/status").body.get("degraded"), None);
    let audit = daemon.get("/audit").body;
    assert_eq!(
        (&audit["enabled"], &audit["retention_days"]),
        (&json!(true), &json!(30))
    );
    assert_eq!(
        audit["log_location"],
        file(&daemon, "audit.log").display().to_string()
    );
    let permissions = fs::metadata(file(&daemon, "audit.log"))
        .unwrap()
        .permissions();
    assert_eq!(permissions.mode() & 0o777, 0o600);
}
