//! `styxy audit`: what was changed, and when.

use std::process::ExitCode;

use serde_json::Value;
use styxy_protocol::api::{self, AuditEvent, AuditResponse};

use super::Done;
use super::console::Console;
use super::table::Table;
use super::view::View;
use crate::cli::AuditArgs;
use crate::notice::printable;

/// Prints the newest entries.
pub(super) fn audit(console: &Console<'_>, args: &AuditArgs) -> Done {
    let mut found: AuditResponse = console.ask(|it| it.get(api::AUDIT))?;
    let older = found.recent_events.len().saturating_sub(args.lines);
    found.recent_events.drain(..older);
    console.show(&found, |view| text(&found, view));
    Ok(ExitCode::SUCCESS)
}

fn text(found: &AuditResponse, view: &View) -> String {
    let location = view.path(&found.log_location);
    if found.recent_events.is_empty() {
        return format!("No entries in {location}\n");
    }
    let mut table = Table::new(["TIME", "ACTION", "DETAILS"]);
    for event in &found.recent_events {
        table.row([
            printable(&event.timestamp),
            printable(&event.action),
            details(event),
        ]);
    }
    format!("{table}All entries: {location}\n")
}

/// As `key=value`, in the order of the keys.
fn details(event: &AuditEvent) -> String {
    let details = event.details.iter().map(|(key, value)| {
        let value = match value {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        format!("{}={}", printable(key), printable(&value))
    });
    details.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::view::tests::view;
    use super::*;

    #[test]
    fn an_entry_is_a_line() {
        let event = |action: &str, key: &str, value| AuditEvent {
            timestamp: "2026-01-01T11:00:00Z".to_owned(),
            action: action.to_owned(),
            details: [(key.to_owned(), value)].into(),
        };
        let found = AuditResponse {
            enabled: true,
            log_location: "/home/me/.styxy/audit.log".to_owned(),
            retention_days: 30,
            recent_events: vec![
                event("AUTO_ALLOCATION", "range", json!([11510, 11519])),
                event(
                    "TOKEN_ROTATED",
                    "by",
                    json!("x\u{1b}[2J\n2026 TOKEN_ROTATED"),
                ),
            ],
        };
        insta::assert_snapshot!(text(&found, &view()), @r"
        TIME                  ACTION           DETAILS
        2026-01-01T11:00:00Z  AUTO_ALLOCATION  range=[11510,11519]
        2026-01-01T11:00:00Z  TOKEN_ROTATED    by=x\u{1b}[2J\u{a}2026 TOKEN_ROTATED
        All entries: ~/.styxy/audit.log
        ");
        let none = AuditResponse {
            recent_events: Vec::new(),
            ..found
        };
        assert_eq!(text(&none, &view()), "No entries in ~/.styxy/audit.log\n");
    }
}
