//! `styxy status` and `styxy daemon status`: how the daemon is and what it serves.

use std::process::ExitCode;
use std::time::Duration;

use serde_json::{Value, json};
use styxy_protocol::api::{self, Allocation, AllocationsResponse, LeaseState, StatusResponse};

use super::Done;
use super::console::Console;
use super::facts::Facts;
use super::failure::Failure;
use super::remote::{self, Standing};
use super::view::{View, first_line, span};
use crate::context::Context;
use crate::notice::printable;
use crate::places::Places;

/// Prints how the daemon is, whatever version it is of. No daemon is an answer, not an error.
pub(super) fn status(console: &Console<'_>) -> Done {
    let answer = console.ask_running(|it| it.get_of_any::<Value>(api::STATUS))?;
    let Some(answer) = answer else {
        console.show(&json!({ "status": "stopped" }), |_| {
            "Status: Stopped\n".to_owned()
        });
        return Ok(ExitCode::SUCCESS);
    };
    if console.format.json {
        console.show(&answer, |_| String::new());
        return Ok(ExitCode::SUCCESS);
    }
    let unreadable =
        |error| Failure::Impossible(format!("the daemon's answer cannot be read: {error}"));
    let standing: Standing = serde_json::from_value(answer.clone()).map_err(unreadable)?;
    let other_protocol = other_protocol(console.context, &standing);
    // One of another version may have more or less to say.
    let Ok(status) = serde_json::from_value::<StatusResponse>(answer) else {
        console.show(&(), |_| {
            let (pid, version) = (standing.pid, printable(&standing.version));
            let other_protocol = other_protocol.unwrap_or_default();
            format!("Status: Running (PID: {pid})\nVersion: {version}\n{other_protocol}")
        });
        return Ok(ExitCode::SUCCESS);
    };
    let leases: AllocationsResponse = if other_protocol.is_none() {
        console.remote.get(api::ALLOCATIONS)?
    } else {
        AllocationsResponse::default()
    };
    let socket = match console.remote.port() {
        Some(_) => None,
        None => Some(Places::find(console.context)?.socket()),
    };
    let socket = socket.as_ref().map(|it| it.to_string_lossy());
    console.show(&(), |view| {
        let text = text(&status, &leases.allocations, socket.as_deref(), view);
        text + &other_protocol.unwrap_or_default()
    });
    Ok(ExitCode::SUCCESS)
}

/// A line about a daemon that speaks another protocol than this styxy.
pub(super) fn other_protocol(context: &Context, daemon: &Standing) -> Option<String> {
    let (theirs, ours) = (daemon.protocol, context.build.protocol);
    let remedy = remote::remedy(theirs, ours);
    (theirs != ours).then(|| format!("Protocol: {theirs} (this styxy speaks {ours}; {remedy})\n"))
}

fn text(
    status: &StatusResponse,
    leases: &[Allocation],
    socket: Option<&str>,
    view: &View,
) -> String {
    let mut facts = Facts::new(0);
    facts.add("Status", format_args!("Running (PID: {})", status.pid));
    // A clock cannot have made it negative or endless, but somebody else's daemon may say so.
    let uptime = Duration::try_from_secs_f64(status.uptime).unwrap_or_default();
    let in_words = (uptime >= Duration::from_mins(1)).then(|| format!(" ({})", span(uptime)));
    facts.add(
        "Uptime",
        format_args!("{}s{}", uptime.as_secs(), in_words.unwrap_or_default()),
    );
    facts.add(
        "Allocations",
        format_args!("{}{}", status.allocations, states(leases)),
    );
    facts.add("Instances", status.instances);
    facts.add("Version", printable(&status.version));
    facts.add(
        "Memory",
        format_args!("{:.1} MB", megabytes(status.memory.rss)),
    );
    facts.add_if("Socket", socket.map(|it| view.path(it)));
    facts.add_if(
        "API",
        status
            .tcp_port
            .map(|port| format!("http://127.0.0.1:{port}")),
    );
    for step in &status.recovery {
        if !step.success || step.repaired > 0 {
            facts.add(
                "Recovery",
                format_args!("{}: {}", printable(&step.step), printable(&step.message)),
            );
        }
    }
    facts.add_if("Degraded", status.degraded.as_deref().map(printable));
    facts.add_if(
        "Configuration problem",
        status.config_problem.as_deref().map(first_line),
    );
    facts.into()
}

/// How many leases stand where, as ` (2 listening, 1 starting)`.
fn states(leases: &[Allocation]) -> String {
    let states = [
        LeaseState::Listening,
        LeaseState::Starting,
        LeaseState::Detached,
    ];
    let counted = states.map(|state| (state, leases.iter().filter(|it| it.state == state).count()));
    let counted: Vec<String> = counted
        .iter()
        .filter(|(_, count)| *count > 0)
        .map(|(state, count)| format!("{count} {}", super::facts::state(*state)))
        .collect();
    if counted.is_empty() {
        String::new()
    } else {
        format!(" ({})", counted.join(", "))
    }
}

/// Bytes in units of a million.
#[expect(
    clippy::cast_precision_loss,
    reason = "shown with one digit behind the point"
)]
pub(super) fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

#[cfg(test)]
mod tests {
    use styxy_protocol::api::{Memory, PROTOCOL, RecoveryStep};

    use super::super::list::tests::{lease, port};
    use super::super::view::tests::view;
    use super::*;

    fn running() -> StatusResponse {
        StatusResponse {
            status: "running".to_owned(),
            uptime: 301.7,
            allocations: 2,
            instances: 1,
            memory: Memory {
                rss: 5_120_000,
                ..Memory::default()
            },
            pid: 41,
            protocol: PROTOCOL,
            version: "0.1.0".to_owned(),
            tcp_port: None,
            degraded: None,
            config_problem: None,
            recovery: Vec::new(),
        }
    }

    #[test]
    fn a_daemon_that_is_well_is_told_in_a_few_lines() {
        let leases = [
            lease(3000),
            Allocation {
                state: LeaseState::Starting,
                ..lease(3001)
            },
        ];
        let text = text(&running(), &leases, Some("/home/me/run/sock"), &view());
        insta::assert_snapshot!(text, @"
        Status: Running (PID: 41)
        Uptime: 301s (5 min)
        Allocations: 2 (1 listening, 1 starting)
        Instances: 1
        Version: 0.1.0
        Memory: 5.1 MB
        Socket: ~/run/sock
        ");
    }

    #[test]
    fn what_is_wrong_and_what_was_mended_is_told() {
        let step = |step: &str, success, repaired| RecoveryStep {
            step: step.to_owned(),
            success,
            repaired,
            message: "2 leases had no owner\u{1b}[2J".to_owned(),
        };
        let status = StatusResponse {
            uptime: f64::NAN,
            tcp_port: Some(port(9876)),
            degraded: Some("no space left".to_owned()),
            config_problem: Some("config.toml:3:1: no such key\nx".to_owned()),
            recovery: vec![
                step("validate_state", true, 0),
                step("drop_orphans", true, 2),
                step("validate_config", false, 0),
            ],
            ..running()
        };
        insta::assert_snapshot!(text(&status, &[], None, &view()), @r"
        Status: Running (PID: 41)
        Uptime: 0s
        Allocations: 2
        Instances: 1
        Version: 0.1.0
        Memory: 5.1 MB
        API: http://127.0.0.1:9876
        Recovery: drop_orphans: 2 leases had no owner\u{1b}[2J
        Recovery: validate_config: 2 leases had no owner\u{1b}[2J
        Degraded: no space left
        Configuration problem: config.toml:3:1: no such key
        ");
    }
}
