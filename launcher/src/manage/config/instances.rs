//! `styxy config instances`: fixed ports for up to four copies of a project side by side.
//!
//! The table is for people who write ports into files by hand. Nothing is leased by it.

use std::collections::BTreeMap;
use std::process::ExitCode;

use serde::Serialize;
use styxy_protocol::ServiceType;
use styxy_protocol::api::{self, ConfigResponse, ServiceTypeConfig};

use crate::manage::Done;
use crate::manage::console::Console;
use crate::manage::table::Table;

/// The copies, and how far their ports lie behind the first preferred one of a type.
const TEMPLATES: [(&str, u16); 4] = [("main", 0), ("dev", 1), ("staging", 2), ("features", 3)];

#[derive(Debug, Serialize)]
pub(super) struct Templates {
    instance_templates: BTreeMap<&'static str, BTreeMap<ServiceType, u16>>,
}

pub(super) fn instances(console: &Console<'_>) -> Done {
    let found: ConfigResponse = console.ask(|it| it.get(api::CONFIG))?;
    console.show(&templates(&found), |_| text(&found));
    Ok(ExitCode::SUCCESS)
}

/// The port of one copy's service, if the type has that many.
fn port(service_type: &ServiceTypeConfig, offset: u16) -> Option<u16> {
    let [first, last] = service_type.range.map(u16::from);
    let base = service_type
        .preferred_ports
        .first()
        .map_or(first, |port| port.get());
    let port = base.checked_add(offset)?;
    (first..=last).contains(&port).then_some(port)
}

pub(super) fn templates(found: &ConfigResponse) -> Templates {
    let of = |offset| {
        let types = found.service_types.iter();
        let ports = types.filter_map(|(name, it)| Some((name.clone(), port(it, offset)?)));
        ports.collect()
    };
    Templates {
        instance_templates: TEMPLATES
            .iter()
            .map(|&(name, offset)| (name, of(offset)))
            .collect(),
    }
}

pub(super) fn text(found: &ConfigResponse) -> String {
    let [main, dev, staging, features] = TEMPLATES.map(|(name, _)| name.to_uppercase());
    let mut table = Table::new(["TYPE", &main, &dev, &staging, &features]);
    for (name, service_type) in &found.service_types {
        let cell = |(_, offset)| {
            port(service_type, offset).map_or_else(|| "-".to_owned(), |port| port.to_string())
        };
        let [main, dev, staging, features] = TEMPLATES.map(cell);
        table.row([name.to_string(), main, dev, staging, features]);
    }
    format!("{table}Lease one with: styxy allocate dev --instance staging --port PORT\n")
}
