//! `styxy config show`: the service types and settings in force.

use std::process::ExitCode;

use styxy_protocol::Instances;
use styxy_protocol::api::{self, ConfigResponse, ConfigSettings, ServiceTypeConfig, TypeSource};

use crate::manage::Done;
use crate::manage::console::Console;
use crate::manage::facts::Facts;
use crate::manage::table::Table;
use crate::manage::view::{View, first_line};
use crate::notice::visible;

pub(super) fn show(console: &Console<'_>) -> Done {
    let found: ConfigResponse = console.ask(|it| it.get(api::CONFIG))?;
    console.show(&found, |view| text(&found, view));
    Ok(ExitCode::SUCCESS)
}

pub(super) fn text(found: &ConfigResponse, view: &View) -> String {
    let mut table = Table::new([
        "TYPE",
        "PORTS",
        "PREFERRED",
        "INSTANCES",
        "SOURCE",
        "DESCRIPTION",
    ]);
    for (name, service_type) in &found.service_types {
        table.row(row(name.as_str(), service_type));
    }
    let count = found.service_types.len();
    let settings = settings(&found.settings);
    let files: Vec<String> = found.files.iter().map(|file| view.path(file)).collect();
    let files = if files.is_empty() {
        "none (`styxy config generate` writes one)".to_owned()
    } else {
        files.join(", ")
    };
    let problem = found.problem.as_deref();
    let problem = problem.map(|it| format!("Configuration problem: {}\n", first_line(it)));
    format!(
        "{table}\nTotal service types: {count}\n{settings}Configuration files: {files}\n{}",
        problem.unwrap_or_default()
    )
}

fn row(name: &str, service_type: &ServiceTypeConfig) -> [String; 6] {
    let [first, last] = service_type.range;
    [
        name.to_owned(),
        format!("{first}-{last}"),
        ports(&service_type.preferred_ports),
        match service_type.instance_behavior {
            Instances::Single => "single".to_owned(),
            Instances::Multi => "multi".to_owned(),
        },
        source(service_type.source).to_owned(),
        visible(&service_type.description),
    ]
}

/// Ports that follow each other as `first-last`, others one by one.
fn ports(ports: &[styxy_protocol::Port]) -> String {
    let follow =
        |pair: &[styxy_protocol::Port]| pair[0].get().checked_add(1) == Some(pair[1].get());
    match ports {
        [] => "-".to_owned(),
        [first, .., last] if ports.windows(2).all(follow) => format!("{first}-{last}"),
        _ => ports
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join(","),
    }
}

fn source(source: TypeSource) -> &'static str {
    match source {
        TypeSource::Builtin => "built in",
        TypeSource::ConfigToml => "config.toml",
        TypeSource::ConfigJson => "config.json",
        TypeSource::AutoAllocated => "auto-allocated",
    }
}

fn settings(settings: &ConfigSettings) -> String {
    let on = |is_on| if is_on { "on" } else { "off" };
    let auto = &settings.auto_allocation;
    let monitoring = &settings.health_monitoring;
    let mut facts = Facts::new(0);
    facts.add(
        "Auto-allocation",
        format_args!(
            "{}, {} ports between {} and {}, placement {}",
            on(auto.enabled),
            auto.default_chunk_size,
            auto.min_port,
            auto.max_port,
            auto.placement
        ),
    );
    facts.add(
        "Instances are forgotten after",
        format_args!("{} s without a heartbeat", settings.instance_ttl),
    );
    facts.add(
        "Health monitoring",
        format_args!(
            "{}, every {} ms, {} failures",
            on(monitoring.enabled),
            monitoring.check_interval_ms,
            monitoring.max_failures
        ),
    );
    facts.add(
        "Leases of one process",
        format_args!("at most {}", settings.leases_per_owner),
    );
    facts.add_if(
        "API",
        settings
            .listen_port
            .map(|port| format!("http://127.0.0.1:{port}")),
    );
    facts.into()
}
