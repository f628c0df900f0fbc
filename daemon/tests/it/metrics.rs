//! What the daemon counts, and how it says that it is well.

use std::fs;

use serde_json::json;
use styxy_protocol::api::{CircuitBreakersResponse, HealthResponse, MetricsResponse};

use crate::harness::{Daemon, ask, config, fresh_port, home, lock_id, low_listener};

fn metrics(daemon: &Daemon) -> MetricsResponse {
    serde_json::from_value(daemon.get("/metrics").body).expect("metrics")
}

#[test]
fn what_happens_is_counted_and_never_forgotten() {
    let (_dir, paths) = home();
    let daemon = Daemon::start(&paths);
    let (_held, taken) = low_listener();
    let lease = daemon.allocate(&json!({ "service_type": "api", "preferred_port": taken }));
    daemon.allocate(&ask("api"));
    daemon.allocate(&json!({ "service_type": "api", "dry_run": true }));
    daemon.release(lock_id(&lease));
    daemon.allocate(&json!({ "service_type": "kettle", "dry_run": true }));
    daemon.allocate(&ask("teapot"));
    let strict = json!({ "service_type": "dev", "preferred_port": taken, "strict": true });
    daemon.send("POST", "/allocate", Some(&strict));
    let no_type = json!({ "service_type": "no type" });
    daemon.send("POST", "/allocate", Some(&no_type));
    let agent = json!({ "instance_id": "agent-1" });
    daemon.send("POST", "/instance/register", Some(&agent));
    daemon.get("/health");

    let metrics = metrics(&daemon);
    for (name, value) in [
        ("ports_allocated_total{service_type=\"api\"}", 2),
        ("ports_allocated_total{service_type=\"teapot\"}", 1),
        ("ports_released_total", 1),
        ("stale_allocations_cleaned_total", 0),
        ("allocation_errors_total", 2),
        ("auto_allocations_total", 1),
        ("auto_allocation_errors_total", 0),
        ("port_conflicts_detected_total{service_type=\"dev\"}", 1),
        ("state_saves_total", 5),
        ("state_save_errors_total", 0),
        ("state_loads_total", 1),
        ("health_checks_total", 1),
        ("daemon_starts_total", 1),
    ] {
        assert_eq!(
            metrics.counters.get(name),
            Some(&value),
            "{name}: {metrics:?}"
        );
    }
    // Ports of the range itself may be somebody's on this machine.
    assert!(metrics.counters["port_conflicts_detected_total{service_type=\"api\"}"] >= 1);
    assert!(metrics.counters["port_checks_total{result=\"in_use\"}"] >= 2);
    assert_eq!(metrics.histograms["allocation_request_duration"].count, 7);
    assert_eq!(metrics.histograms["health_check_duration"].count, 1);
    for (name, number) in [("active_allocations", 2_f64), ("active_instances", 1.0)] {
        assert_eq!(metrics.gauges[name].to_bits(), number.to_bits(), "{name}");
    }
    assert!(metrics.gauges["resident_memory_bytes"] > 1e6);
    assert!(metrics.system.memory.rss > metrics.system.memory.heap_used);
}

#[test]
fn a_type_that_there_is_has_a_series_and_one_that_there_is_not_has_none() {
    let (_dir, paths) = home();
    let daemon = Daemon::start(&paths);
    let switch = |enabled| {
        let body = json!({ "enabled": enabled });
        assert_eq!(
            daemon.send("PUT", "/auto-allocation", Some(&body)).status,
            200
        );
    };
    daemon.allocate(&ask("mine-there"));
    switch(false);
    for n in 0..20 {
        let answer = daemon.send("POST", "/allocate", Some(&ask(&format!("mine-{n}"))));
        assert_eq!(answer.status, 400, "{}", answer.text);
    }
    for path in ["/metrics", "/metrics?format=prometheus"] {
        let text = daemon.get(path).text;
        assert_eq!(text.matches("mine-").count(), 1, "{text}");
        assert!(text.contains("mine-there"), "{text}");
    }
    let counters = metrics(&daemon).counters;
    assert_eq!(counters["allocation_errors_total"], 20);
    // Whoever has turned it off wanted no ranges.
    assert_eq!(counters["auto_allocation_errors_total"], 0);
    assert_eq!(counters["auto_allocations_total"], 1);
}

#[test]
fn ranges_that_cannot_be_made_are_counted() {
    let (_dir, paths) = home();
    fs::create_dir_all(&paths.state_dir).unwrap();
    let narrow = "[auto_allocation]\nmin_port = 20000\nmax_port = 20005\n";
    fs::write(paths.state_dir.join("config.toml"), narrow).unwrap();
    let daemon = Daemon::start(&paths);
    let refused = daemon.send("POST", "/allocate", Some(&ask("teapot")));
    assert_eq!(refused.status, 400, "{}", refused.text);
    let asked = json!({ "service_type": "teapot", "dry_run": true });
    let asked = daemon.send("POST", "/allocate", Some(&asked));
    assert_eq!(asked.status, 400, "{}", asked.text);
    let counters = metrics(&daemon).counters;
    assert_eq!(counters["auto_allocation_errors_total"], 1);
    assert_eq!(counters["auto_allocations_total"], 0);
}

#[test]
fn a_port_that_is_checked_is_counted() {
    let (_dir, paths) = home();
    let daemon = Daemon::start(&paths);
    let (_held, taken) = low_listener();
    daemon.get(&format!("/check/{taken}"));
    daemon.get("/check/abc");
    let once = metrics(&daemon);
    assert_eq!(once.counters["port_checks_total{result=\"in_use\"}"], 1);
    assert_eq!(once.histograms["port_availability_check_duration"].count, 1);
    daemon.get(&format!("/check/{}", fresh_port()));
    let twice = metrics(&daemon);
    assert_eq!(
        twice.histograms["port_availability_check_duration"].count,
        2
    );
}

#[test]
fn prometheus_gets_text_that_says_the_same() {
    let (_dir, paths) = home();
    let daemon = Daemon::start(&paths);
    daemon.allocate(&ask("docs"));
    let by_query = daemon.get("/metrics?format=prometheus");
    let accept =
        b"GET /metrics HTTP/1.1\r\nhost: styxy\r\naccept: text/plain\r\nconnection: close\r\n\r\n";
    let by_header = daemon.exchange(accept);
    for answer in [by_query, by_header] {
        assert_eq!(answer.status, 200);
        let kind = "content-type: application/openmetrics-text; version=1.0.0; charset=utf-8";
        assert!(answer.head.contains(kind), "{}", answer.head);
        let expected = "styxy_ports_allocated_total{service_type=\"docs\"} 1";
        assert!(
            answer.text.lines().any(|line| line == expected),
            "{}",
            answer.text
        );
        assert!(answer.text.contains("# HELP styxy_ports_allocated "));
        assert!(
            answer
                .text
                .lines()
                .any(|line| line == "styxy_active_allocations 1.0")
        );
        assert!(answer.text.ends_with("# EOF\n"));
    }
    for nonsense in [
        "format=xml",
        "format",
        "%zz",
        "&&=&",
        "format=prometheus&format=json",
    ] {
        let answer = daemon.get(&format!("/metrics?{nonsense}"));
        assert_eq!(answer.status, 200, "{nonsense}");
        assert!(
            answer.body["counters"].is_object(),
            "{nonsense}: {}",
            answer.text
        );
    }
}

#[test]
fn health_is_200_and_says_what_is_not_well() {
    let (dir, mut paths) = home();
    let well = Daemon::start(&paths);
    let answer = well.get("/health");
    let health: HealthResponse = serde_json::from_value(answer.body).unwrap();
    assert_eq!((answer.status, health.status.as_str()), (200, "healthy"));
    assert_eq!(health.services.port_scanner.status, "healthy");
    assert!(health.warnings.is_empty() && health.system.memory.rss > 0);
    assert_eq!(
        (health.config.service_types, health.config.tcp_port),
        (17, None)
    );
    drop(well);

    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    paths.state_dir = file.join("state");
    let ill = Daemon::start(&paths);
    // Whether the journal can be written is known once there is something to write.
    ill.allocate(&ask("dev"));
    let answer = ill.get("/health");
    let health: HealthResponse = serde_json::from_value(answer.body).unwrap();
    assert_eq!((answer.status, health.status.as_str()), (200, "degraded"));
    assert_eq!(health.services.state_manager.status, "degraded");
    assert!(health.warnings[0].contains("journal"), "{health:?}");
    assert!(metrics(&ill).counters["state_save_errors_total"] >= 1);
}

#[test]
fn the_status_has_what_the_process_takes_and_where_it_is_served() {
    let (_dir, paths) = home();
    let port = fresh_port();
    let daemon = Daemon::start_with(styxy_daemon::Config {
        tcp_port: Some(port),
        ..config(&paths)
    });
    let status = daemon.get("/status").body;
    assert_eq!(status["tcp_port"], json!(port));
    assert!(status["memory"]["rss"].as_u64() > status["memory"]["heapUsed"].as_u64());
    assert!(status["memory"]["heapUsed"].as_u64() > Some(0));
    assert_eq!(
        daemon.get("/health").body["config"]["tcp_port"],
        json!(port)
    );
}

#[test]
fn the_breaker_counts_how_often_the_kernel_was_asked() {
    let (_dir, paths) = home();
    let daemon = Daemon::start(&paths);
    let attempts = || {
        let answer: CircuitBreakersResponse =
            serde_json::from_value(daemon.get("/circuit-breakers").body).unwrap();
        let scanner = &answer.circuit_breakers["port_scanner"];
        assert_eq!(
            scanner.total_attempts,
            scanner.success_count + scanner.failure_count
        );
        assert_eq!(scanner.state, "CLOSED");
        scanner.total_attempts
    };
    let before = attempts();
    daemon.leases();
    assert!(attempts() > before);
}
