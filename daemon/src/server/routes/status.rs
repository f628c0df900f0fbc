//! How the daemon is, and what it can be asked.

use std::collections::BTreeMap;

use axum::extract::{Extension, State};
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::get;
use axum::{Json, Router};
use styxy_protocol::api::{
    self, CircuitBreaker, CircuitBreakersResponse, HealthConfig, HealthResponse, HealthServices,
    HealthSystem, Memory, ServiceHealth, StatusResponse,
};

use super::Context;
use crate::kernel;
use crate::owner::Peer;

/// The API's document. A test writes it from the types.
const DOCUMENT: &str = include_str!("../../../openapi.json");

/// Name of the only breaker.
const SCANNER: &str = "port_scanner";

pub(super) fn routes() -> Router<Context> {
    Router::new()
        .route(api::STATUS, get(status))
        .route(api::HEALTH, get(health))
        .route(api::CIRCUIT_BREAKERS, get(circuit_breakers))
        .route(api::OPENAPI, get(openapi))
}

/// Open to clients without a token, who learn nothing from it that names a file.
async fn status(
    State(context): State<Context>,
    Extension(peer): Extension<Peer>,
) -> Json<StatusResponse> {
    let health = context.authority.health();
    let is_trusted = match peer {
        Peer::Socket { .. } => true,
        Peer::Port { has_token, .. } => has_token,
    };
    Json(StatusResponse {
        status: "running".to_owned(),
        uptime: health.uptime.as_secs_f64(),
        allocations: health.leases,
        instances: health.instances,
        memory: memory(),
        pid: std::process::id(),
        protocol: context.build.protocol,
        version: context.build.version.to_owned(),
        tcp_port: context.doors.port(),
        degraded: health
            .degraded
            .or_else(|| context.doors.problem())
            .filter(|_| is_trusted),
        config_problem: health.config_problem.filter(|_| is_trusted),
        recovery: if is_trusted {
            health.recovery
        } else {
            Vec::new()
        },
    })
}

async fn health(State(context): State<Context>) -> Json<HealthResponse> {
    let start = kernel::boot_time();
    let health = context.authority.health();
    let scan = kernel::listening().err();
    let scan = scan.map(|error| format!("the kernel does not list its sockets: {error}"));
    let (state_manager, port_scanner) = (part(health.degraded), part(scan));
    let parts = [&state_manager, &port_scanner];
    let warnings: Vec<_> = parts
        .into_iter()
        .filter_map(|part| part.message.clone())
        .chain(health.config_problem)
        .chain(context.doors.problem())
        .collect();
    let duration = kernel::boot_time().saturating_sub(start);
    context.metrics.health_checks.inc();
    context.metrics.health_check_duration.observe(duration);
    Json(HealthResponse {
        status: word(warnings.is_empty()),
        timestamp: kernel::rfc3339(kernel::wall_clock()),
        uptime: health.uptime.as_secs_f64(),
        version: context.build.version.to_owned(),
        system: HealthSystem {
            platform: std::env::consts::OS.to_owned(),
            arch: std::env::consts::ARCH.to_owned(),
            pid: std::process::id(),
            memory: memory(),
        },
        services: HealthServices {
            daemon: part(None),
            state_manager,
            port_scanner,
        },
        config: HealthConfig {
            service_types: health.service_types,
            auto_allocation: context.authority.settings().auto_allocation.enabled,
            tcp_port: context.doors.port(),
        },
        warnings,
        response_time_ms: duration.as_secs_f64() * 1000.0,
    })
}

async fn circuit_breakers() -> Json<CircuitBreakersResponse> {
    let breaker = breaker(kernel::tally());
    Json(CircuitBreakersResponse {
        circuit_breakers: BTreeMap::from([(SCANNER.to_owned(), breaker)]),
    })
}

async fn openapi() -> impl IntoResponse {
    ([(CONTENT_TYPE, "application/json")], DOCUMENT)
}

/// What this process takes of memory, now.
pub(super) fn memory() -> Memory {
    let (resident, anonymous) = kernel::memory();
    Memory {
        rss: resident,
        heap_total: anonymous,
        heap_used: anonymous,
        external: 0,
        array_buffers: 0,
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a rate of 2^52 attempts is near enough"
)]
fn breaker(tally: kernel::Tally) -> CircuitBreaker {
    let total = tally.successes + tally.failures;
    CircuitBreaker {
        name: SCANNER.to_owned(),
        state: if tally.is_failing { "OPEN" } else { "CLOSED" }.to_owned(),
        failure_count: tally.failures,
        success_count: tally.successes,
        total_attempts: total,
        failure_rate: if total == 0 {
            0.0
        } else {
            tally.failures as f64 / total as f64
        },
        last_failure_time: (tally.last_failure > 0).then_some(tally.last_failure * 1000),
    }
}

fn part(problem: Option<String>) -> ServiceHealth {
    ServiceHealth {
        status: word(problem.is_none()),
        message: problem,
    }
}

fn word(is_well: bool) -> String {
    if is_well { "healthy" } else { "degraded" }.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_breaker_is_open_while_the_last_attempt_failed() {
        let tally = kernel::Tally {
            successes: 3,
            failures: 1,
            is_failing: true,
            last_failure: 5,
        };
        let open = breaker(tally);
        assert_eq!((open.state.as_str(), open.total_attempts), ("OPEN", 4));
        assert_eq!(
            (open.failure_rate * 100.0).round().to_bits(),
            25_f64.to_bits()
        );
        assert_eq!(open.last_failure_time, Some(5000));
        let closed = breaker(kernel::Tally::default());
        assert_eq!(
            (closed.state.as_str(), closed.failure_rate.to_bits()),
            ("CLOSED", 0)
        );
        assert_eq!(closed.last_failure_time, None);
    }
}
