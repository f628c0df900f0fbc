//! What the configuration looks like to people, and the file that they start from.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use styxy_protocol::api::{
    AutoAllocatedRange, AutoAllocation, AutoAllocationResponse, AutoAllocationRule, Compliance,
    ConfigResponse, ConfigSettings, HealthMonitoring, PlacementRule, ServiceTypeConfig, TypeSource,
};
use styxy_protocol::{Instances, Port};

use super::generate::Generated;
use super::*;
use crate::manage::list::tests::port;
use crate::manage::view::View;
use crate::manage::view::tests::view;

fn service_type(first: u16, last: u16, preferred: &[u16]) -> ServiceTypeConfig {
    ServiceTypeConfig {
        preferred_ports: preferred.iter().map(|&it| port(it)).collect(),
        range: [port(first), port(last)],
        port_range: [port(first), port(last)],
        description: "front ends\u{1b}[2J".to_owned(),
        examples: Vec::new(),
        instance_behavior: Instances::Multi,
        source: TypeSource::Builtin,
        auto_allocated: false,
        auto_allocated_at: None,
    }
}

fn rule() -> AutoAllocationRule {
    AutoAllocationRule {
        pattern: "monitoring-*\u{7}".to_owned(),
        chunk_size: Some(20),
        placement: Some(PlacementRule::Smart),
        preferred_range_start: Some(port(20000)),
    }
}

fn auto_allocation_settings() -> AutoAllocation {
    AutoAllocation {
        enabled: true,
        default_chunk_size: 10,
        placement: PlacementRule::After,
        min_port: port(10000),
        max_port: port(49151),
        preserve_gaps: true,
        gap_size: 10,
    }
}

fn found() -> ConfigResponse {
    let single = ServiceTypeConfig {
        instance_behavior: Instances::Single,
        source: TypeSource::ConfigToml,
        ..service_type(11400, 11431, &[11430, 11431, 11400])
    };
    ConfigResponse {
        service_types: [
            (
                "dev".parse().unwrap(),
                service_type(3000, 3099, &[3000, 3001, 3002, 3003]),
            ),
            ("ai".parse().unwrap(), single),
        ]
        .into(),
        compliance: Compliance {
            source: "IANA".to_owned(),
            version: "2.0".to_owned(),
        },
        files: vec!["/home/me/.styxy/config.toml".to_owned()],
        problem: None,
        settings: ConfigSettings {
            auto_allocation: auto_allocation_settings(),
            auto_allocation_rules: vec![rule()],
            instance_ttl: 300,
            health_monitoring: HealthMonitoring {
                enabled: true,
                check_interval_ms: 30_000,
                max_failures: 3,
                cleanup_stale_allocations: true,
            },
            listen_port: Some(port(9876)),
            leases_per_owner: 64,
        },
    }
}

#[test]
fn the_configuration_is_a_table_and_a_few_lines() {
    insta::assert_snapshot!(show::text(&found(), &view()), @r"
    TYPE  PORTS        PREFERRED          INSTANCES  SOURCE       DESCRIPTION
    ai    11400-11431  11430,11431,11400  single     config.toml  front ends\u{1b}[2J
    dev   3000-3099    3000-3003          multi      built in     front ends\u{1b}[2J

    Total service types: 2
    Auto-allocation: on, 10 ports between 10000 and 49151, placement after
    Instances are forgotten after: 300 s without a heartbeat
    Health monitoring: on, every 30000 ms, 3 failures
    Leases of one process: at most 64
    API: http://127.0.0.1:9876
    Configuration files: ~/.styxy/config.toml
    ");
    let none = ConfigResponse {
        files: Vec::new(),
        problem: Some("config.toml:1:1: x\ny".to_owned()),
        ..found()
    };
    let text = show::text(&none, &view());
    assert!(text.contains("Configuration files: none"), "{text}");
    assert!(text.contains("problem: config.toml:1:1: x\n"), "{text}");
}

#[test]
fn files_are_judged_with_the_place_of_what_is_wrong() {
    let temp = tempfile::tempdir().unwrap();
    let shown = |text: &str| {
        fs::write(temp.path().join("config.toml"), text).unwrap();
        let view = View {
            home: Some(temp.path().to_owned()),
            ..view()
        };
        validate::Verdict::from(styxy_daemon::config::load(temp.path())).to_text(&view)
    };
    insta::assert_snapshot!(shown("[limits]\nleases_per_owner = 3\n"), @"
    Configuration is valid
    Service types: 17
    No port range overlaps detected
    File: ~/config.toml
    ");
    insta::assert_snapshot!(shown("[limits]\nleases_per_owner = \"\u{202e}many\"\n"), @r#"
    ~/config.toml:2:20: `limits.leases_per_owner` is `"\u{202e}many"`, not a number from 1 to 10000
    2 | leases_per_owner = "\u{202e}many"
      |                    ^^^^^^^
    Configuration is not valid; what does not depend on the faults stays in force
    "#);
    let verdict = validate::Verdict::from(styxy_daemon::config::load(temp.path()));
    let json = serde_json::to_value(verdict).unwrap();
    assert_eq!(
        (&json["valid"], &json["problems"][0]["line"]),
        (&false.into(), &2.into()),
        "{json}"
    );
}

#[test]
fn each_copy_of_a_project_has_a_port_of_its_own_as_far_as_there_are_enough() {
    insta::assert_snapshot!(instances::text(&found()), @"
    TYPE  MAIN   DEV    STAGING  FEATURES
    ai    11430  11431  -        -
    dev   3000   3001   3002     3003
    Lease one with: styxy allocate dev --instance staging --port PORT
    ");
    let json = serde_json::to_value(instances::templates(&found())).unwrap();
    assert_eq!(json["instance_templates"]["staging"]["dev"], 3002);
    assert_eq!(
        json["instance_templates"]["staging"].get("ai"),
        None,
        "{json}"
    );
}

#[test]
fn auto_allocation_is_told_with_its_rules_and_ranges() {
    let mut found = AutoAllocationResponse {
        settings: auto_allocation_settings(),
        rules: vec![rule()],
        ranges: Vec::new(),
    };
    insta::assert_snapshot!(auto_allocation::status(&found, &view()), @r"
    Auto-allocation: Enabled
    Default chunk size: 10 ports
    Placement strategy: after
    Port range: 10000-49151
    Preserve gaps: Yes (10 ports)
    Rule: monitoring-*\u{7}: 20 ports, placement smart, from 20000 on
    Auto-allocated services: 0
    ");
    found.ranges.push(AutoAllocatedRange {
        service_type: "grafana".parse().unwrap(),
        range: [Port::new(11510).unwrap(), port(11519)],
        auto_allocated_at: Some("2026-01-01T10:00:00Z".to_owned()),
        active_allocations: 2,
    });
    insta::assert_snapshot!(auto_allocation::list(&found.ranges, &view()), @"
    TYPE     PORTS        ALLOCATED  LEASES
    grafana  11510-11519  2 h ago    2
    To take one back: styxy config auto-allocation undo TYPE
    ");
    assert_eq!(
        auto_allocation::list(&[], &view()),
        "No services have been auto-allocated yet\n"
    );
}

#[test]
fn a_generated_file_is_the_users_own_and_no_other_is_lost() {
    let temp = tempfile::tempdir().unwrap();
    let home = temp.path().join("styxy");
    let path = home.join("config.toml");
    assert_eq!(generate::write(&path, false).unwrap(), Generated::New);
    let mode = |path: &std::path::Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&home), mode(&path)), (0o700, 0o600));
    fs::write(&path, "mine").unwrap();
    assert_eq!(generate::write(&path, false).unwrap(), Generated::Exists);
    assert_eq!(fs::read_to_string(&path).unwrap(), "mine");
    assert_eq!(generate::write(&path, true).unwrap(), Generated::Replaced);
    assert_eq!(
        fs::read_to_string(home.join("config.toml.bak")).unwrap(),
        "mine"
    );
    let loaded = styxy_daemon::config::load(&home).unwrap();
    assert_eq!(
        loaded.files,
        [path],
        "it is understood, and changes nothing"
    );
    assert_eq!(loaded.settings, styxy_daemon::settings::Settings::default());
}
