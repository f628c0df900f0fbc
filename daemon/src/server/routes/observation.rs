//! What the kernel says about ports: check one, scan a range, observe listeners, suggest free ones.

use std::collections::HashMap;
use std::io;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::routing::get;
use axum::{Json, Router};
use styxy_protocol::Port;
use styxy_protocol::api::{
    self, CheckResponse, ErrorContext, ObservationStatsResponse, ObservationsResponse,
    ObserveResponse, ScanResponse, SuggestResponse,
};

use super::{Context, Segment};
use crate::kernel;
use crate::server::answers::Fault;

/// The range that is scanned if none is named.
const SCAN_START: Port = const { Port::new(3000).unwrap() };
const SCAN_END: Port = const { Port::new(9999).unwrap() };
/// How many ports are suggested if no number is named, and at most.
const SUGGESTIONS: usize = 5;
const MAX_SUGGESTIONS: usize = 50;
/// Characters of a wrong value that are repeated.
const MAX_REPEATED: usize = 100;

/// What stands behind the `?`.
type Parameters = Result<Query<HashMap<String, String>>, QueryRejection>;

pub(super) fn routes() -> Router<Context> {
    Router::new()
        .route("/check/{port}", get(check))
        .route(api::SCAN, get(scan))
        .route(api::OBSERVE_ALL, get(observe_all))
        .route("/observe/{port}", get(observe))
        .route(api::OBSERVATION_STATS, get(observation_stats))
        .route("/suggest/{service_type}", get(suggest))
}

async fn check(
    State(context): State<Context>,
    segment: Result<Segment, Fault>,
) -> Result<Json<CheckResponse>, Fault> {
    let text = text(segment);
    let port = text.parse();
    let port = port.map_err(|_| no_port(format!("Invalid port number: {}", cut(&text)), &text))?;
    let answer = context.authority.check(port).await;
    answer.map(Json).map_err(|error| no_answer(&error))
}

async fn scan(
    State(context): State<Context>,
    parameters: Parameters,
) -> Result<Json<ScanResponse>, Fault> {
    let parameters = parameters.map(|Query(parameters)| parameters);
    let parameters = parameters.unwrap_or_default();
    let port = |name: &str, otherwise| {
        let given = parameters.get(name).and_then(|text| text.parse().ok());
        given.unwrap_or(otherwise)
    };
    let (start, end) = (port("start", SCAN_START), port("end", SCAN_END));
    let found = context.authority.scan(start, end).await;
    Ok(Json(ScanResponse {
        scan_range: format!("{start}-{end}"),
        ports_in_use: found.map_err(|error| no_answer(&error))?,
    }))
}

async fn observe(
    State(context): State<Context>,
    segment: Result<Segment, Fault>,
) -> Result<Json<ObserveResponse>, Fault> {
    let text = text(segment);
    let port: Port = text
        .parse()
        .map_err(|_| no_port("Invalid port number".to_owned(), &text))?;
    let observation = context
        .authority
        .observe(port)
        .await
        .map_err(|error| no_answer(&error))?;
    let message = observation.is_none().then(|| match kernel::probe(port) {
        Ok(false) => format!("Port {port} is bound, but nobody listens on it"),
        _ => format!("Nobody listens on port {port}"),
    });
    Ok(Json(ObserveResponse {
        port,
        bound: observation.is_some(),
        observation,
        message,
    }))
}

async fn observe_all(State(context): State<Context>) -> Result<Json<ObservationsResponse>, Fault> {
    let answer = context.authority.observe_all().await;
    answer.map(Json).map_err(|error| no_answer(&error))
}

async fn observation_stats(
    State(context): State<Context>,
) -> Result<Json<ObservationStatsResponse>, Fault> {
    let stats = context.authority.observation_stats().await;
    Ok(Json(ObservationStatsResponse {
        stats: stats.map_err(|error| no_answer(&error))?,
        timestamp: kernel::wall_clock_millis(),
    }))
}

async fn suggest(
    State(context): State<Context>,
    segment: Result<Segment, Fault>,
    parameters: Parameters,
) -> Json<SuggestResponse> {
    let count = parameters
        .ok()
        .and_then(|Query(parameters)| how_many(parameters.get("count")?));
    let count = count.unwrap_or(SUGGESTIONS);
    let found = context.authority.suggest(&text(segment), count);
    let (service_type, suggestions) = (found.service_type, found.ports);
    let message = match suggestions.len() {
        0 => format!("No available ports for {service_type} services"),
        1 => format!("1 available port for {service_type} services"),
        many => format!("{many} available ports for {service_type} services"),
    };
    Json(SuggestResponse {
        count: (!suggestions.is_empty()).then_some(suggestions.len()),
        service_type,
        suggestions,
        message,
    })
}

/// A number of suggestions; `None` where it is none, or 0, which both stand for the usual number.
fn how_many(text: &str) -> Option<usize> {
    let digits = text.strip_prefix('-');
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|it| it.is_ascii_digit());
    match digits {
        Some(digits) => (is_number(digits) && digits.bytes().any(|it| it != b'0')).then_some(0),
        None if !is_number(text) => None,
        // As many as can be written are more than enough.
        None => Some(text.parse().unwrap_or(usize::MAX).min(MAX_SUGGESTIONS)).filter(|&it| it > 0),
    }
}

/// What was sent, as far as it is text.
fn text(segment: Result<Segment, Fault>) -> String {
    segment.map(|Segment(text)| text).unwrap_or_default()
}

fn cut(text: &str) -> String {
    text.chars().take(MAX_REPEATED).collect()
}

fn no_port(error: String, text: &str) -> Fault {
    let advice = "give a number from 1 to 65535";
    Fault::invalid(error).suggest(advice).about(ErrorContext {
        suggestions: vec![advice.to_owned()],
        category: "VALIDATION".to_owned(),
        severity: "medium".to_owned(),
        provided_port: Some(cut(text)),
        ..ErrorContext::default()
    })
}

fn no_answer(error: &io::Error) -> Fault {
    Fault::internal(format!(
        "the kernel does not tell who has which port: {error}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_of_suggestions_is_bounded_and_nonsense_stands_for_the_usual_one() {
        for (text, number) in [
            ("3", Some(3)),
            ("50", Some(50)),
            ("51", Some(50)),
            ("99999999999999999999999", Some(50)),
            ("-1", Some(0)),
            ("-99999999999999999999999", Some(0)),
            ("0", None),
            ("-0", None),
            ("", None),
            ("-", None),
            ("NaN", None),
            ("3.5", None),
            ("+3", None),
        ] {
            assert_eq!(how_many(text), number, "{text:?}");
        }
    }
}
