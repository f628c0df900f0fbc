//! What files mean, alone and together, and what is told of those that are wrong.

use styxy_protocol::api::{PlacementRule, TypeSource};
use styxy_protocol::{Instances, Port};

use super::*;
use crate::service_types::Definition;

const HOME: &str = "/h";

fn texts(json: &str, toml: &str) -> Texts {
    let text = |text: &str| match text {
        "" => FileText::Absent,
        text => FileText::Text(text.to_owned()),
    };
    Texts {
        json: text(json),
        toml: text(toml),
    }
}

fn loaded(json: &str, toml: &str) -> Loaded {
    load_texts(Path::new(HOME), &texts(json, toml)).unwrap()
}

/// Every problem on a line of its own.
fn problems(json: &str, toml: &str) -> Vec<String> {
    let error = load_texts(Path::new(HOME), &texts(json, toml)).unwrap_err();
    error.problems.iter().map(Problem::to_string).collect()
}

fn rest(json: &str, toml: &str) -> (Settings, Option<String>) {
    let (loaded, error) = load_what_can_be(Path::new(HOME), &texts(json, toml));
    (loaded.settings, error.map(|error| error.to_string()))
}

fn of<'a>(settings: &'a Settings, name: &str) -> &'a Definition {
    settings.types.get(&name.parse().unwrap()).unwrap()
}

fn preferred(definition: &Definition) -> Vec<u16> {
    definition.preferred.iter().map(|port| port.get()).collect()
}

#[test]
fn without_files_the_defaults_hold() {
    let home = tempfile::tempdir().unwrap();
    assert_eq!(load(home.path()), Ok(Loaded::default()));
    assert_eq!(load(&home.path().join("nowhere")), Ok(Loaded::default()));
    assert_eq!(loaded("{}", "# nothing").settings, Settings::default());
}

#[test]
fn a_type_that_says_one_thing_keeps_the_rest() {
    let json = r#"{"service_types": {"dev": {"instance_behavior": "Single"}, "api": {"description": "x"}}}"#;
    let toml = "[service_types.dev]\nrange = [3000, 3009]\n";
    let settings = loaded(json, toml).settings;
    let (dev, builtin) = (of(&settings, "dev"), Settings::default());
    assert_eq!(dev.instances, Instances::Single);
    assert_eq!(dev.range, 3000..=3009);
    assert_eq!(dev.description, of(&builtin, "dev").description);
    assert_eq!(dev.source, TypeSource::ConfigToml);
    assert_eq!(settings.types.iter().count(), 17);
    assert_eq!(of(&settings, "api").source, TypeSource::ConfigJson);
    assert_eq!(of(&settings, "api").range, 8000..=8099);
    assert_eq!(of(&settings, "docs"), of(&builtin, "docs"));
}

#[test]
fn range_and_port_range_are_the_same_and_preferred_ports_follow_the_range() {
    for key in ["range", "port_range"] {
        let toml = format!("[service_types.web]\n{key} = [7000, 7002]\n");
        let settings = loaded("", &toml).settings;
        let web = of(&settings, "web");
        assert_eq!(
            (web.range.clone(), preferred(web)),
            (7000..=7002, vec![7000, 7001, 7002])
        );
        assert_eq!(web.instances, Instances::Multi);
    }
    let moved = loaded(
        r#"{"service_types": {"dev": {"port_range": [7000, 7099]}}}"#,
        "",
    );
    assert_eq!(
        preferred(of(&moved.settings, "dev")),
        [7000, 7001, 7002, 7003]
    );
    let both = r#"{"service_types": {"web": {"range": [7000, 7001], "port_range": [7000, 7001]}}}"#;
    assert_eq!(of(&loaded(both, "").settings, "web").range, 7000..=7001);
    let two = "[service_types.web]\nrange = [7000, 7001]\nport_range = [7000, 7002]\n";
    assert_eq!(
        problems("", two),
        [
            "/h/config.toml:3:14: `service_types.web.port_range` says another range than /h/config.toml:2:9"
        ]
    );
}

#[test]
fn a_file_of_the_documented_format_is_read_whole() {
    let json = r#"{
        "service_types": {"grafana": {
            "description": "d", "preferred_ports": [11510, 11511, 11512, 11513], "port_range": [11510, 11511],
            "instance_behavior": "multi", "auto_allocated": true, "auto_allocated_at": "2025-01-01T00:00:00.000Z",
            "multi_instance_pattern": "sequential"}},
        "auto_allocation": {"enabled": false, "default_chunk_size": 5, "placement": "smart", "gap_size": 0},
        "auto_allocation_rules": {"monitoring-*": {"chunk_size": 7, "placement": "before"}, "x-*": {}},
        "recovery": {"port_conflict": {"max_retries": 3}, "health_monitoring": {"max_failures": 9}},
        "listen_port": 9876, "daemon": {"log_level": "info"}, "compliance": null
    }"#;
    let settings = loaded(json, "").settings;
    let grafana = of(&settings, "grafana");
    assert_eq!(grafana.source, TypeSource::AutoAllocated);
    assert_eq!(preferred(grafana), [11_510, 11_511]);
    assert_eq!(
        grafana.auto_allocated_at.as_deref(),
        Some("2025-01-01T00:00:00.000Z")
    );
    assert!(!settings.auto_allocation.enabled);
    assert_eq!(settings.auto_allocation.placement, PlacementRule::Smart);
    assert_eq!(settings.auto_allocation.min_port.get(), 10_000);
    let rules = settings
        .rules
        .iter()
        .map(|rule| (rule.pattern.as_str(), rule.chunk_size));
    assert_eq!(
        rules.collect::<Vec<_>>(),
        [
            ("monitoring-*", Some(7)),
            ("x-*", None),
            ("database-*", Some(5))
        ]
    );
    assert_eq!(settings.health_monitoring.max_failures, 9);
    assert!(settings.health_monitoring.enabled);
    assert_eq!(settings.listen_port, Port::new(9876));
}

#[test]
fn config_toml_has_the_last_word_and_says_where() {
    let json = r#"{"auto_allocation": {"enabled": false, "gap_size": 5}, "auto_allocation_rules": {"a-*": {"chunk_size": 1}}}"#;
    let toml = "[auto_allocation]\nenabled = true\n[auto_allocation_rules.'b-*']\nchunk_size = 2\n\
                [auto_allocation_rules.'a-*']\nplacement = 'after'\n[service_types.web]\nrange = [7000, 7001]\n\
                [daemon]\nlisten_port = 9876\n[instances]\nttl_seconds = 60\n[limits]\nleases_per_owner = 8\n";
    let loaded = loaded(json, toml);
    let settings = &loaded.settings;
    assert!(settings.auto_allocation.enabled);
    assert_eq!(settings.auto_allocation.gap_size, 5);
    let patterns: Vec<_> = settings
        .rules
        .iter()
        .map(|rule| rule.pattern.as_str())
        .collect();
    assert_eq!(patterns, ["b-*", "a-*", "monitoring-*", "database-*"]);
    assert_eq!(settings.rules[1].chunk_size, Some(1));
    assert_eq!(settings.instance_ttl.as_secs(), 60);
    assert_eq!(
        (settings.listen_port, settings.leases_per_owner),
        (Port::new(9876), 8)
    );
    assert_eq!(loaded.pins.enabled.as_deref(), Some("/h/config.toml:2:11"));
    assert_eq!(loaded.pins.types.len(), 1);
    assert_eq!(
        loaded.files,
        [Path::new("/h/config.json"), Path::new("/h/config.toml")]
    );
}

/// Lines of a `config.toml`, and what is told of it.
const WRONG: &[(&str, &str)] = &[
    (
        "a = 1",
        "1:1: unknown key `a`; known are `service_types`, `auto_allocation`, `auto_allocation_rules`, `health_monitoring`, `daemon`, `instances`, `limits`",
    ),
    (
        "[auto_allocation]\ngapsize = 1",
        "2:1: unknown key `auto_allocation.gapsize`; known are `enabled`, `default_chunk_size`, `placement`, `min_port`, `max_port`, `preserve_gaps`, `gap_size`",
    ),
    (
        "[auto_allocation]\ngap_size = 1001",
        "2:12: `auto_allocation.gap_size` is `1001`, not a number from 0 to 1000",
    ),
    (
        "[auto_allocation]\ngap_size = 70000000000000000000",
        "2:12: `auto_allocation.gap_size` is `70000000000000000000`, not a number from 0 to 1000",
    ),
    (
        "[auto_allocation]\ndefault_chunk_size = 0",
        "2:22: `auto_allocation.default_chunk_size` is `0`, not a number from 1 to 1000",
    ),
    (
        "[auto_allocation]\nenabled = 'yes'",
        "2:11: `auto_allocation.enabled` is `'yes'`, not true or false",
    ),
    (
        "[auto_allocation]\nplacement = 'between'",
        "2:13: `auto_allocation.placement` is `'between'`, not \"after\" or \"before\" or \"smart\"",
    ),
    (
        "[auto_allocation]\nmax_port = 9999",
        "2:12: `auto_allocation.min_port` 10000 is not below `auto_allocation.max_port` 9999",
    ),
    (
        "[auto_allocation]\nmin_port = 80",
        "2:12: `auto_allocation.min_port` is `80`, not a number from 1024 to 65535",
    ),
    (
        "auto_allocation = 1",
        "1:19: `auto_allocation` is `1`, not a table of keys and values",
    ),
    (
        "[auto_allocation_rules.'x-*']\nchunk_size = 1001",
        "2:14: `auto_allocation_rules.\"x-*\".chunk_size` is `1001`, not a number from 1 to 1000",
    ),
    (
        "[service_types.'bad type!']\nrange = [7000, 7001]",
        "1:16: service type `bad type!` is not 1 to 50 letters, digits and hyphens",
    ),
    (
        "[service_types.web]\nrange = [7001, 7000]",
        "2:9: `service_types.web.range` is `[7001, 7000]`, not the first and the last port, such as [3000, 3099]",
    ),
    (
        "[service_types.web]\nrange = [7001]",
        "2:9: `service_types.web.range` is `[7001]`, not the first and the last port, such as [3000, 3099]",
    ),
    (
        "[service_types.web]\nrange = [80, 90]",
        "2:10: `service_types.web.range` is `80`, not a number from 1024 to 65535",
    ),
    (
        "[service_types.web]\ndescription = ''",
        "1:16: service type `web` has no range; say `range = [first, last]`",
    ),
    (
        "[service_types.dev]\npreferred_ports = [3000, 4000]",
        "2:19: preferred port 4000 of service type `dev` is not in its range 3000-3099",
    ),
    (
        "[service_types.dev]\ninstance_behavior = 'two'",
        "2:21: `service_types.dev.instance_behavior` is `'two'`, not \"single\" or \"multi\"",
    ),
    (
        "[service_types.web]\nrange = [3099, 3100]",
        "2:9: range 3099-3100 of service type `web` overlaps with range 3000-3099 of service type `dev` (built in)",
    ),
    (
        "[daemon]\nlisten_port = 80",
        "2:15: `daemon.listen_port` is `80`, not a number from 1024 to 65535",
    ),
    (
        "[daemon]\nport = 9876",
        "2:1: unknown key `daemon.port`; known are `listen_port`",
    ),
    (
        "[instances]\nttl_seconds = 0",
        "2:15: `instances.ttl_seconds` is `0`, not a number from 1 to 2592000",
    ),
];

#[test]
fn what_is_wrong_is_told_with_place_value_and_what_is_allowed() {
    for (toml, expected) in WRONG {
        let told = problems("", toml);
        assert_eq!(told[0], format!("/h/config.toml:{expected}"), "{toml}");
    }
    let json = "{\n  \"service_types\": {\n    \"web\": { \"range\": [7000, \"7001\"] }\n  }\n}";
    assert_eq!(
        problems(json, ""),
        [
            "/h/config.json:3:30: `service_types.web.range` is `\"7001\"`, not a number from 1024 to 65535"
        ]
    );
}

#[test]
fn two_types_with_a_common_port_are_both_named_with_their_files() {
    let json =
        r#"{"service_types": {"one": {"port_range": [11510, 11519], "auto_allocated": true}}}"#;
    let toml = "[service_types.two]\nrange = [11519, 11529]";
    assert_eq!(
        problems(json, toml),
        [
            "/h/config.toml:2:9: range 11519-11529 of service type `two` overlaps with range 11510-11519 of \
          service type `one` (made by auto-allocation, /h/config.json:1:42; \
          `styxy config auto-allocation undo one` gives it back)"
        ]
    );
    let swapped =
        "[service_types.dev]\nrange = [4000, 4099]\n[service_types.ui]\nrange = [3000, 3099]\n";
    assert_eq!(of(&loaded("", swapped).settings, "dev").range, 4000..=4099);
}

#[test]
fn a_broken_file_takes_nothing_with_it_that_does_not_depend_on_it() {
    let json =
        r#"{"service_types": {"one": {"port_range": [11510, 11519], "auto_allocated": true}}}"#;
    let (settings, problem) = rest(json, "[limits\n");
    assert_eq!(of(&settings, "one").range, 11_510..=11_519);
    assert!(problem.unwrap().starts_with("/h/config.toml:1:"));
    let (settings, _) = rest("{", "[limits]\nleases_per_owner = 3\n");
    assert_eq!(
        (settings.leases_per_owner, settings.types.iter().count()),
        (3, 17)
    );

    // Of a file that can be read, only what is wrong is left out.
    let toml = "[service_types.a]\nrange = [7000, 7001]\n[service_types.b]\nrange = [7001, 7002]\n\
                [service_types.dev]\nrange = [4050, 4051]\ndescription = 'x'\n[limits]\nleases_per_owner = 3\n\
                [auto_allocation]\nmin_port = 20000\nmax_port = 15000\ngap_size = 3\n";
    let (settings, problem) = rest(json, toml);
    assert_eq!(of(&settings, "a").range, 7000..=7001);
    assert_eq!(settings.types.get(&"b".parse().unwrap()), None);
    assert_eq!(of(&settings, "dev"), of(&Settings::default(), "dev"));
    assert_eq!(settings.leases_per_owner, 3);
    assert_eq!(settings.auto_allocation.min_port.get(), 10_000);
    assert_eq!(settings.auto_allocation.gap_size, 3);
    let problem = problem.unwrap();
    for told in ["type `b` overlaps", "type `dev` overlaps", "is not below"] {
        assert!(problem.contains(told), "{problem}");
    }
    let (settings, _) = rest(
        "",
        "[service_types.a]\nrange = [7000, 7001]\nexamples = 1\n",
    );
    assert_eq!(settings.types.iter().count(), 17);
}

#[test]
fn a_file_that_cannot_be_read_is_a_problem_and_no_wait() {
    let home = tempfile::tempdir().unwrap();
    nix::unistd::mkfifo(&home.path().join(TOML), nix::sys::stat::Mode::S_IRUSR).unwrap();
    std::fs::create_dir(home.path().join(JSON)).unwrap();
    let error = load(home.path()).unwrap_err();
    assert_eq!(error.problems.len(), 2);
    assert!(
        error.problems[0].message.contains("it is not a file"),
        "{error}"
    );
    std::fs::remove_dir(home.path().join(JSON)).unwrap();
    std::fs::write(home.path().join(JSON), vec![b' '; 1024 * 1024 + 1]).unwrap();
    assert!(
        load(home.path())
            .unwrap_err()
            .to_string()
            .contains("more than 1048576 bytes")
    );
    std::fs::write(home.path().join(JSON), b"\xff").unwrap();
    assert!(
        load(home.path())
            .unwrap_err()
            .to_string()
            .contains("not UTF-8")
    );
    std::fs::remove_file(home.path().join(TOML)).unwrap();
    std::fs::write(home.path().join(JSON), "\u{feff}{}").unwrap();
    assert!(load(home.path()).is_ok());
}

#[test]
fn the_template_changes_nothing_and_every_line_of_it_holds() {
    assert_eq!(loaded("", template()).settings, Settings::default());
    let is_setting = |line: &&str| {
        let words: Vec<&str> = line.split(' ').collect();
        line.starts_with('[') || words.get(1) == Some(&"=")
    };
    let lines = template()
        .lines()
        .filter_map(|line| line.strip_prefix("# "));
    let said: Vec<&str> = lines.filter(is_setting).collect();
    let mut settings = loaded("", &said.join("\n")).settings;
    assert_eq!(settings.listen_port.take(), Port::new(9876));
    let rule = settings.rules[0].clone();
    assert_eq!(rule.preferred_range_start, Port::new(12_000));
    settings.rules.clone_from(&Settings::default().rules);
    let mut dev = of(&settings, "dev").clone();
    dev.source = TypeSource::Builtin;
    settings.types.insert(dev);
    assert_eq!(settings, Settings::default());
}
