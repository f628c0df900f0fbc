//! The configuration in force, the ranges that are made by themselves, and what was recorded of that.

use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::http::StatusCode;
use axum::routing::{delete, get};
use axum::{Json, Router};
use styxy_protocol::api::{
    self, AuditResponse, AutoAllocationRequest, AutoAllocationResponse, Compliance, ConfigResponse,
    ConfigSettings, ErrorCode, ServiceTypeConfig, TypeSource, UndoResponse,
};
use styxy_protocol::{Port, ServiceType};

use super::{Context, Segment, parse};
use crate::authority::{Authority, NotSwitched, NotUndone};
use crate::server::answers::Fault;
use crate::service_types::{Definition, ends};
use crate::settings::Settings;

/// The policy that the ranges follow: registered ports, none that need a privilege.
const COMPLIANCE: (&str, &str) = ("IANA", "2.0");

pub(super) fn routes() -> Router<Context> {
    Router::new()
        .route(api::CONFIG, get(config))
        .route(api::AUTO_ALLOCATION, get(auto_allocation).put(switch))
        .route("/auto-allocation/{service_type}", delete(undo))
        .route(api::AUDIT, get(audit))
}

async fn config(State(context): State<Context>) -> Json<ConfigResponse> {
    let in_force = context.authority.configuration();
    let settings = &in_force.settings;
    let types = settings.types.iter();
    Json(ConfigResponse {
        service_types: types.map(|it| (it.name.clone(), shown(it))).collect(),
        compliance: Compliance {
            source: COMPLIANCE.0.to_owned(),
            version: COMPLIANCE.1.to_owned(),
        },
        files: in_force
            .files
            .iter()
            .map(|path| path.display().to_string())
            .collect(),
        problem: in_force.problem,
        settings: rest(settings),
    })
}

fn shown(definition: &Definition) -> ServiceTypeConfig {
    let range = definition.ends();
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

async fn auto_allocation(State(context): State<Context>) -> Json<AutoAllocationResponse> {
    Json(auto_allocation_of(&context.authority))
}

async fn switch(
    State(context): State<Context>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<AutoAllocationResponse>, Fault> {
    let request: AutoAllocationRequest = parse(body)?;
    context.authority.switch_auto_allocation(request.enabled)?;
    Ok(Json(auto_allocation_of(&context.authority)))
}

fn auto_allocation_of(authority: &Authority) -> AutoAllocationResponse {
    let settings = authority.settings();
    AutoAllocationResponse {
        settings: settings.auto_allocation.clone(),
        rules: settings.rules.clone(),
        ranges: authority.auto_allocated_ranges(),
    }
}

async fn undo(
    State(context): State<Context>,
    Segment(name): Segment,
) -> Result<Json<UndoResponse>, Fault> {
    let name: ServiceType = name
        .parse()
        .map_err(|error: styxy_protocol::ServiceTypeError| Fault::invalid(error.to_string()))?;
    let range = context.authority.undo_range(&name);
    let range = range.map_err(|why| not_undone(&name, why))?;
    let (first, last) = (range.start(), range.end());
    Ok(Json(UndoResponse {
        success: true,
        range: ends(&range),
        message: format!("Range {first}-{last} of service type {name} is free again"),
    }))
}

async fn audit(State(context): State<Context>) -> Json<AuditResponse> {
    Json(context.authority.audit().newest())
}

impl From<NotSwitched> for Fault {
    fn from(why: NotSwitched) -> Self {
        match why {
            NotSwitched::Fixed(place) => {
                let error = format!("`auto_allocation.enabled` is fixed by {place}");
                refused(error).suggest("change it there; the daemon takes it over at once")
            }
            NotSwitched::NotWritten(reason) => {
                refused(format!("nothing was changed: {reason}")).suggest("mend the file first")
            }
        }
    }
}

fn not_undone(name: &ServiceType, why: NotUndone) -> Fault {
    match why {
        NotUndone::Unknown => {
            let error = format!("Unknown service type '{name}'");
            Fault::new(
                StatusCode::BAD_REQUEST,
                ErrorCode::UnknownServiceType,
                error,
            )
        }
        NotUndone::NotAutoAllocated => Fault::invalid(format!(
            "the range of service type '{name}' was not made by auto-allocation"
        )),
        NotUndone::InUse(ports) => {
            let ports: Vec<_> = ports.iter().map(Port::to_string).collect();
            let error = format!(
                "service type '{name}' is in use: leased are {}",
                ports.join(", ")
            );
            refused(error).suggest("release these ports first")
        }
        NotUndone::Fixed(place) => {
            let error = format!("service type '{name}' is configured in {place}");
            refused(error).suggest("take it out there first")
        }
        NotUndone::NotWritten(reason) => {
            refused(format!("nothing was changed: {reason}")).suggest("mend the file first")
        }
    }
}

fn refused(error: String) -> Fault {
    Fault::new(StatusCode::CONFLICT, ErrorCode::Configuration, error)
}
