//! The configuration in force.

use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};
use styxy_protocol::Port;
use styxy_protocol::api::{
    self, Compliance, ConfigResponse, ConfigSettings, ServiceTypeConfig, TypeSource,
};

use super::Context;
use crate::service_types::Definition;
use crate::settings::Settings;

/// The policy that the ranges follow: registered ports, none that need a privilege.
const COMPLIANCE: (&str, &str) = ("IANA", "2.0");

pub(super) fn routes() -> Router<Context> {
    Router::new().route(api::CONFIG, get(config))
}

async fn config(State(context): State<Context>) -> Json<ConfigResponse> {
    let settings = context.authority.settings();
    let types = settings.types.iter();
    Json(ConfigResponse {
        service_types: types.map(|it| (it.name.clone(), shown(it))).collect(),
        compliance: Compliance {
            source: COMPLIANCE.0.to_owned(),
            version: COMPLIANCE.1.to_owned(),
        },
        files: Vec::new(),
        problem: None,
        settings: rest(&settings),
    })
}

fn shown(definition: &Definition) -> ServiceTypeConfig {
    let range = ends(definition);
    ServiceTypeConfig {
        preferred_ports: definition.preferred.clone(),
        range,
        port_range: range,
        description: definition.description.clone(),
        examples: definition.examples.clone(),
        instance_behavior: definition.instances,
        source: definition.source,
        auto_allocated: definition.source == TypeSource::AutoAllocated,
        auto_allocated_at: definition.auto_allocated_at.clone(),
    }
}

fn ends(definition: &Definition) -> [Port; 2] {
    [definition.range.start(), definition.range.end()]
        .map(|&port| Port::new(port).expect("no range has port 0"))
}

fn rest(settings: &Settings) -> ConfigSettings {
    ConfigSettings {
        auto_allocation: settings.auto_allocation.clone(),
        auto_allocation_rules: settings.rules.clone(),
        instance_ttl: settings.instance_ttl.as_secs(),
        health_monitoring: settings.health_monitoring,
        listen_port: settings.listen_port,
        leases_per_owner: settings.leases_per_owner,
    }
}
