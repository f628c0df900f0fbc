//! What was counted.

use axum::extract::{RawQuery, State};
use axum::http::header::{ACCEPT, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderValue};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use axum::{Json, Router};
use styxy_protocol::api::{self, Cpu, MetricsResponse, MetricsSystem};

use super::{Context, status};
use crate::kernel;
use crate::metrics::Now;
use crate::server::answers::Fault;

/// What the text is (`OpenMetrics` 1.0).
const TEXT: HeaderValue =
    HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");

pub(super) fn routes() -> Router<Context> {
    Router::new().route(api::METRICS, get(metrics))
}

async fn metrics(
    State(context): State<Context>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Fault> {
    let health = context.authority.health();
    let memory = status::memory();
    let now = Now {
        leases: health.leases,
        instances: health.instances,
        uptime: health.uptime.as_secs_f64(),
        resident: memory.rss,
    };
    if wants_text(query.as_deref(), &headers) {
        let text = context.metrics.text(&now);
        let text = text.map_err(|error| Fault::internal(error.to_string()))?;
        return Ok(([(CONTENT_TYPE, TEXT)], text).into_response());
    }
    let (user, system) = kernel::processor_time();
    let micros = |time: std::time::Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
    let gauges = now.gauges().into_iter();
    let answer = MetricsResponse {
        counters: context.metrics.counters(),
        histograms: context.metrics.histograms(),
        gauges: gauges
            .map(|(name, _, value)| (name.to_owned(), value))
            .collect(),
        system: MetricsSystem {
            uptime: now.uptime * 1000.0,
            memory,
            cpu: Cpu {
                user: micros(user),
                system: micros(system),
            },
            pid: std::process::id(),
        },
    };
    Ok(Json(answer).into_response())
}

/// Whether a client wants the text: it says so in the query, or it accepts text and not JSON.
fn wants_text(query: Option<&str>, headers: &HeaderMap) -> bool {
    let format = query
        .unwrap_or_default()
        .split('&')
        .filter_map(|pair| pair.strip_prefix("format="))
        .next_back();
    match format {
        Some("prometheus") => return true,
        Some("json") => return false,
        _ => {}
    }
    let accepts = |wanted: &str| {
        let mut values = headers.get_all(ACCEPT).iter();
        values.any(|value| {
            let mut types = value.to_str().unwrap_or_default().split(',');
            types.any(|it| {
                let name = it.split(';').next().unwrap_or_default().trim();
                name.eq_ignore_ascii_case(wanted)
            })
        })
    };
    !accepts("application/json")
        && (accepts("application/openmetrics-text") || accepts("text/plain"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_for_those_who_ask_for_it() {
        let wants = |query: Option<&str>, accept: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT, HeaderValue::from_str(accept).unwrap());
            wants_text(query, &headers)
        };
        for accept in [
            "text/plain",
            "text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
            "application/openmetrics-text;version=1.0.0,text/plain;q=0.5",
        ] {
            assert!(wants(None, accept), "{accept}");
            assert!(!wants(Some("format=json"), accept), "{accept}");
        }
        for accept in [
            "*/*",
            "application/json",
            "application/json, text/plain",
            "",
        ] {
            assert!(!wants(None, accept), "{accept}");
            assert!(wants(Some("a=b&format=prometheus"), accept), "{accept}");
            assert!(!wants(Some("format=nonsense&&=&%zz"), accept), "{accept}");
        }
    }
}
