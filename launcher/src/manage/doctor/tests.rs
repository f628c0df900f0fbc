//! What the doctor says of machines on which something is wrong.

use std::collections::BTreeMap;

use styxy_protocol::api::{
    AutoAllocation, Compliance, ConfigSettings, HealthConfig, HealthMonitoring, HealthServices,
    HealthSystem, Memory, PROTOCOL, PlacementRule, ServiceHealth, ServiceTypeConfig, TypeSource,
};
use styxy_protocol::{Instances, Port};

use super::*;
use crate::manage::list::tests::{lease, port};

const UID: u32 = 1000;

fn sound() -> Findings {
    Findings {
        timestamp: "2026-01-01T12:00:00Z".to_owned(),
        daemon: Ok(Some(daemon())),
        files: Ok(()),
        home: Some(home(true, 0o700)),
        runtime: Ok("/run/user/1000/styxy/x".into()),
        listening: Ok(12),
        ephemeral: 32768..=60999,
        interception: Ok(()),
    }
}

fn home(is_directory: bool, mode: u32) -> Home {
    Home {
        path: "/home/me/.styxy".into(),
        state: HomeState::There {
            is_directory,
            is_writable: true,
            owner: UID,
            mode,
        },
        free: Some(5_000_000_000),
    }
}

fn daemon() -> Daemon {
    let memory = Memory {
        rss: 5_000_000,
        ..Memory::default()
    };
    let status = StatusResponse {
        status: "running".to_owned(),
        uptime: 301.0,
        allocations: 1,
        instances: 0,
        memory,
        pid: 41,
        protocol: PROTOCOL,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        tcp_port: Port::new(9876),
        degraded: None,
        config_problem: None,
        recovery: Vec::new(),
    };
    Daemon {
        status,
        health: Ok(health(memory)),
        config: Ok(config()),
        leases: Ok(vec![lease(3000)]),
    }
}

fn health(memory: Memory) -> HealthResponse {
    let healthy = || ServiceHealth {
        status: "healthy".to_owned(),
        message: None,
    };
    HealthResponse {
        status: "healthy".to_owned(),
        timestamp: "2026-01-01T12:00:00Z".to_owned(),
        uptime: 301.0,
        version: "0.1.0".to_owned(),
        system: HealthSystem {
            platform: "linux".to_owned(),
            arch: "x86_64".to_owned(),
            pid: 41,
            memory,
        },
        services: HealthServices {
            daemon: healthy(),
            state_manager: healthy(),
            port_scanner: healthy(),
        },
        config: HealthConfig {
            service_types: 1,
            auto_allocation: true,
            tcp_port: None,
        },
        warnings: Vec::new(),
        response_time_ms: 0.1,
    }
}

fn config() -> ConfigResponse {
    let dev = ServiceTypeConfig {
        preferred_ports: vec![port(3000)],
        range: [port(3000), port(3099)],
        port_range: [port(3000), port(3099)],
        description: String::new(),
        examples: Vec::new(),
        instance_behavior: Instances::Multi,
        source: TypeSource::Builtin,
        auto_allocated: false,
        auto_allocated_at: None,
    };
    ConfigResponse {
        service_types: BTreeMap::from([("dev".parse().unwrap(), dev)]),
        compliance: Compliance {
            source: "IANA".to_owned(),
            version: "2.0".to_owned(),
        },
        files: Vec::new(),
        problem: None,
        settings: ConfigSettings {
            auto_allocation: AutoAllocation {
                enabled: true,
                default_chunk_size: 10,
                placement: PlacementRule::After,
                min_port: port(10000),
                max_port: port(49151),
                preserve_gaps: true,
                gap_size: 10,
            },
            auto_allocation_rules: Vec::new(),
            instance_ttl: 300,
            health_monitoring: HealthMonitoring {
                enabled: true,
                check_interval_ms: 30_000,
                max_failures: 3,
                cleanup_stale_allocations: true,
            },
            listen_port: None,
            leases_per_owner: 64,
        },
    }
}

fn said(findings: &Findings) -> String {
    checks::judge(findings, UID).to_text()
}

#[test]
fn a_sound_machine_is_healthy() {
    let report = checks::judge(&sound(), UID);
    assert!(report.is_healthy());
    insta::assert_snapshot!(report.to_text(), @"
    ✓ DAEMON: running for 5 min (PID: 41)
    ✓ CONFIGURATION: 1 service types
    ✓ PORTS: 1 leased, 1 of them listening
    ✓ SYSTEM: permissions, socket diagnostics and interception are fine
    ✓ RESOURCES: normal

    Overall Status: HEALTHY
    ");
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!(json["status"], "healthy");
    for (section, details) in [
        (
            "daemon",
            ["uptime", "allocations", "instances", "memory_mb"].as_slice(),
        ),
        (
            "configuration",
            &["service_types", "config_source", "auth_enabled"],
        ),
        (
            "ports",
            &["daemon_port", "active_allocations", "allocations"],
        ),
        ("system", &["port_tools", "filesystem_permissions"]),
        ("resources", &["memory", "uptime_seconds"]),
    ] {
        let check = &json["checks"][section];
        assert_eq!(check["status"], "healthy", "{json}");
        assert!(check["message"].is_string(), "{json}");
        for name in details {
            assert!(
                !check["details"][name].is_null(),
                "{section}.{name}: {json}"
            );
        }
    }
    assert_eq!(json["timestamp"], "2026-01-01T12:00:00Z");
}

#[test]
fn without_a_daemon_there_is_a_warning_and_what_to_do() {
    let findings = Findings {
        daemon: Ok(None),
        home: Some(Home {
            state: HomeState::Missing,
            ..home(true, 0o700)
        }),
        ..sound()
    };
    insta::assert_snapshot!(said(&findings), @"
    ! DAEMON: the daemon is not running
    ✓ CONFIGURATION: the files are sound
    ✓ PORTS: 0 leased, 0 of them listening
    ✓ SYSTEM: permissions, socket diagnostics and interception are fine
    ✓ RESOURCES: normal

    Overall Status: WARNING - styxy works, but not as well as it could

    Recommendations:
      1. start it with `styxy daemon start -d`, or let the first `styxy run` do it
    ");
}

#[test]
fn files_are_looked_at_without_a_daemon_too() {
    let findings = Findings {
        daemon: Ok(None),
        files: Err("config.toml:1:1: no such key".to_owned()),
        ..sound()
    };
    let said = said(&findings);
    assert!(
        said.contains("✗ CONFIGURATION: config.toml:1:1: no such key"),
        "{said}"
    );
}

#[test]
fn everything_that_is_wrong_is_told_and_can_move_no_cursor() {
    let mut ill = daemon();
    ill.status.version = "0.0.1".to_owned();
    ill.status.degraded = Some("no space left\u{1b}[2J".to_owned());
    ill.status.memory.rss = 200_000_000;
    ill.config.as_mut().unwrap().problem = Some("config.toml:1:1: no such key".to_owned());
    ill.health.as_mut().unwrap().warnings = vec!["the journal is large".to_owned()];
    let findings = Findings {
        daemon: Ok(Some(ill)),
        home: Some(Home {
            free: Some(1_000_000),
            ..home(true, 0o755)
        }),
        runtime: Err("no directory for the daemon's socket".to_owned()),
        listening: Err("permission denied".to_owned()),
        ephemeral: 1024..=65535,
        interception: Err("noexec".to_owned()),
        ..sound()
    };
    insta::assert_snapshot!(said(&findings), @r"
    ! DAEMON: leases are not being saved: no space left\u{1b}[2J; the daemon is of version 0.0.1, this is 0.1.0; the journal is large
    ✗ CONFIGURATION: config.toml:1:1: no such key
    ! PORTS: all ports of `dev` lie in the kernel's ephemeral range 1024-65535 and are not handed out
    ✗ SYSTEM: `/home/me/.styxy` is open to other users (mode 0755); no directory for the daemon's socket; the kernel does not tell who listens: permission denied
    ! RESOURCES: only 1 MB are free where styxy keeps its state; the daemon takes 200 MB of memory

    Overall Status: ERROR - commands run, but not with all of styxy's help

    Recommendations:
      1. make the home directory writable, then `styxy daemon restart`
      2. start it anew with `styxy daemon restart`
      3. `styxy config validate` shows the places to mend
      4. give the type another range in config.toml, or narrow net.ipv4.ip_local_port_range
      5. `chmod 700 /home/me/.styxy`
      6. set `XDG_RUNTIME_DIR` to a directory of your own with mode 0700
      7. make room in the home directory
    ");
}

#[test]
fn a_daemon_that_gives_no_good_answers_is_an_error() {
    let silent = Findings {
        daemon: Err("the daemon does not answer within 5 seconds".to_owned()),
        ..sound()
    };
    assert!(
        said(&silent).starts_with("✗ DAEMON: the daemon does not answer"),
        "{}",
        said(&silent)
    );
    let mut old = daemon();
    (old.health, old.config) = (
        Err("no such path".to_owned()),
        Err("no such path".to_owned()),
    );
    old.leases = Err("no such path".to_owned());
    let old = Findings {
        daemon: Ok(Some(old)),
        ..sound()
    };
    assert_eq!(said(&old).matches("✗ ").count(), 3, "{}", said(&old));
}

#[test]
fn a_home_has_to_be_a_directory_of_the_user_alone() {
    let with = |home| said(&Findings { home, ..sound() });
    assert!(with(None).contains("✗ SYSTEM: there is no home directory"));
    assert!(with(Some(home(false, 0o600))).contains("is not a directory"));
    assert!(with(Some(home(true, 0o750))).contains("open to other users (mode 0750)"));
    let temp = tempfile::tempdir().unwrap();
    let missing = Home::look_at(temp.path().join("a/b"));
    assert!(
        matches!(missing.state, HomeState::Missing) && missing.free.is_some(),
        "{missing:?}"
    );
    let there = Home::look_at(temp.path().to_owned());
    assert!(
        matches!(
            there.state,
            HomeState::There {
                is_directory: true,
                is_writable: true,
                ..
            }
        ),
        "{there:?}"
    );
}
