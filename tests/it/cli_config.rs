//! `styxy config` and `styxy audit`: the configuration in force, and ranges for types that are not known.

use std::fs;

use serde_json::Value;
use styxy_tests::Sandbox;

use crate::sandbox;
use crate::server::leases;

fn text(sandbox: &Sandbox, arguments: &[&str]) -> String {
    sandbox.styxy(arguments).run().success().stdout
}

fn json(sandbox: &Sandbox, arguments: &[&str]) -> Value {
    let text = text(sandbox, &[arguments, &["--json"]].concat());
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

fn configure(sandbox: &Sandbox, toml: &str) {
    let home = sandbox.home().join(".styxy");
    fs::create_dir_all(&home).expect("mkdir");
    fs::write(home.join("config.toml"), toml).expect("write");
}

#[test]
fn the_configuration_in_force_is_shown() {
    let sandbox = sandbox();
    configure(&sandbox, "[service_types.payments]\nrange = [7000, 7009]\n");
    for arguments in [["config"].as_slice(), &["config", "show"]] {
        let shown = text(&sandbox, arguments);
        assert!(
            shown
                .lines()
                .any(|line| line.starts_with("payments") && line.contains("7000-7009")),
            "{shown}"
        );
        assert!(shown.contains("Total service types: 18\n"), "{shown}");
    }
    assert_eq!(
        json(&sandbox, &["config", "show"])["service_types"]["dev"]["range"][0],
        3000
    );
    let instances = text(&sandbox, &["config", "instances"]);
    let dev = instances.lines().find(|line| line.starts_with("dev "));
    let ports: Vec<&str> = dev.unwrap_or_default().split_whitespace().collect();
    assert_eq!(
        ports,
        ["dev", "3000", "3001", "3002", "3003"],
        "{instances}"
    );
}

#[test]
fn files_are_judged_without_a_daemon() {
    let sandbox = sandbox();
    configure(&sandbox, "[limits]\nleases_per_owner = 0\n");
    let bad = sandbox.styxy(["config", "validate"]).run().exited(1);
    assert!(bad.stdout.contains("config.toml:2:"), "{bad:?}");
    let bad = sandbox
        .styxy(["config", "validate", "--json"])
        .run()
        .exited(1);
    let body: Value = serde_json::from_str(&bad.stdout).expect("JSON");
    assert_eq!(body["valid"], false, "{body}");
    let ill = sandbox.styxy(["doctor"]).run().exited(1);
    assert!(
        ill.stdout.contains("✗ CONFIGURATION: ") && ill.stdout.contains("config validate"),
        "{ill:?}"
    );
    text(&sandbox, &["config", "generate", "--force"]);
    assert!(text(&sandbox, &["config", "validate"]).contains("Configuration is valid\n"));
    assert!(sandbox.processes().is_empty());
}

#[test]
fn a_new_service_type_gets_a_range_which_can_be_taken_back() {
    let sandbox = sandbox();
    let leased = text(&sandbox, &["allocate", "grafana"]);
    assert!(leased.starts_with("Auto-allocated service type: grafana\nNew port range: 11510-11519\nChunk size: 10 ports"), "{leased}");
    assert!(
        text(&sandbox, &["config", "auto-allocation"]).starts_with("Auto-allocation: Enabled\n")
    );
    let list = text(&sandbox, &["config", "auto-allocation", "list"]);
    assert!(list.contains("grafana  11510-11519"), "{list}");
    let audit = text(&sandbox, &["audit"]);
    assert!(
        audit.contains("AUTO_ALLOCATION") && audit.contains("grafana"),
        "{audit}"
    );

    let id = leases(&sandbox).allocations[0].lock_id.clone();
    text(&sandbox, &["release", &id]);
    let undone = text(&sandbox, &["config", "auto-allocation", "undo", "grafana"]);
    assert!(
        undone.contains("Range 11510-11519 is now available"),
        "{undone}"
    );
    let again = sandbox
        .styxy(["config", "auto-allocation", "undo", "grafana"])
        .run()
        .exited(1);
    assert!(again.stderr.contains("grafana"), "{again:?}");

    assert!(text(&sandbox, &["config", "auto-allocation", "disable"]).contains("disabled"));
    let refused = sandbox.styxy(["allocate", "grafana"]).run().exited(1);
    assert!(
        refused.stderr.contains("grafana") && refused.stderr.lines().count() > 1,
        "{refused:?}"
    );
    assert!(text(&sandbox, &["config", "auto-allocation", "enable"]).contains("enabled"));
    assert_eq!(text(&sandbox, &["allocate", "grafana", "-q"]), "11510\n");
}

#[test]
fn a_run_of_a_new_type_gets_a_port_of_its_range() {
    let sandbox = sandbox();
    let run = ["run", "--type", "payments", "--", "sh", "-c", "echo $PORT"];
    assert_eq!(text(&sandbox, &run), "11510\n");
    assert!(text(&sandbox, &["config", "auto-allocation", "list"]).contains("payments"));
}
