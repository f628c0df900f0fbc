//! The judgement: one function a section, from what was found to what is said.

use std::time::Duration;

use serde_json::{Value, json};
use styxy_protocol::api::{ConfigResponse, LeaseState};

use super::report::{Check, Checks, Report, Status};
use super::{Daemon, Findings, Home, HomeState};
use crate::manage::status::megabytes;
use crate::manage::view::{first_line, span};

/// Less free space than this is worth a word, in bytes.
const LITTLE_SPACE: u64 = 50_000_000;
/// More memory than this is not normal for the daemon, in bytes.
const MUCH_MEMORY: u64 = 100_000_000;
/// How many leases the JSON shows.
const SHOWN_LEASES: usize = 5;
/// What makes a daemon that does not answer as it should one that does.
const RESTART: &str = "start it anew with `styxy daemon restart`";

/// What makes a broken configuration a sound one.
const MEND: &str = "`styxy config validate` shows the places to mend";

/// What is wrong.
pub(super) fn judge(findings: &Findings, uid: u32) -> Report {
    let daemon = findings.daemon.as_ref().ok().and_then(Option::as_ref);
    let checks = Checks {
        daemon: daemon_check(findings),
        configuration: configuration(findings, daemon),
        ports: ports(findings, daemon),
        system: system(findings, uid),
        resources: resources(findings, daemon),
    };
    Report::new(checks, findings.timestamp.clone())
}

fn daemon_check(findings: &Findings) -> Check {
    let daemon = match &findings.daemon {
        Ok(Some(daemon)) => daemon,
        Ok(None) => {
            let mut check = Check::new("", json!({}));
            let start = "start it with `styxy daemon start -d`, or let the first `styxy run` do it";
            check.blame(Status::Warning, "the daemon is not running", Some(start));
            return check;
        }
        Err(error) => {
            let mut check = Check::new("", json!({ "error": error }));
            check.blame(Status::Error, error, Some("look at `styxy daemon logs`"));
            return check;
        }
    };
    let status = &daemon.status;
    let mut check = Check::new(
        format!("running for {} (PID: {})", uptime(daemon), status.pid),
        json!({
            "uptime": status.uptime,
            "allocations": status.allocations,
            "instances": status.instances,
            "memory_mb": megabytes(status.memory.rss).round(),
            "pid": status.pid,
            "version": status.version,
        }),
    );
    if let Some(reason) = &status.degraded {
        let message = format!("leases are not being saved: {reason}");
        check.blame(
            Status::Warning,
            &message,
            Some("make the home directory writable, then `styxy daemon restart`"),
        );
    }
    if status.version != env!("CARGO_PKG_VERSION") {
        let message = format!(
            "the daemon is of version {}, this is {}",
            status.version,
            env!("CARGO_PKG_VERSION")
        );
        check.blame(Status::Warning, &message, Some(RESTART));
    }
    for step in status.recovery.iter().filter(|step| !step.success) {
        let message = format!("recovery: {}", step.message);
        check.blame(
            Status::Warning,
            &message,
            Some("look at `styxy daemon logs`"),
        );
    }
    match &daemon.health {
        Ok(health) => {
            let told = |it: &&String| !check.message.contains(it.as_str());
            let warnings: Vec<String> = health.warnings.iter().filter(told).cloned().collect();
            for warning in warnings {
                check.blame(Status::Warning, &warning, None);
            }
        }
        Err(error) => check.blame(Status::Error, error, Some(RESTART)),
    }
    check
}

fn uptime(daemon: &Daemon) -> String {
    let uptime = Duration::try_from_secs_f64(daemon.status.uptime);
    span(uptime.unwrap_or_default())
}

fn configuration(findings: &Findings, daemon: Option<&Daemon>) -> Check {
    let has_token = findings
        .home
        .as_ref()
        .is_some_and(|home| home.path.join(crate::places::Places::TOKEN).exists());
    let Some(daemon) = daemon else {
        let mut check = Check::new("the files are sound", json!({ "auth_enabled": has_token }));
        if let Err(problem) = &findings.files {
            check.blame(Status::Error, &first_line(problem), Some(MEND));
        }
        return check;
    };
    let config = match &daemon.config {
        Ok(config) => config,
        Err(error) => {
            let mut check = Check::new("", json!({ "error": error }));
            check.blame(Status::Error, error, Some(RESTART));
            return check;
        }
    };
    let mut check = Check::new(
        format!("{} service types", config.service_types.len()),
        json!({
            "service_types": config.service_types.len(),
            "config_source": config.compliance.source,
            "files": config.files,
            "auth_enabled": has_token,
        }),
    );
    if let Some(problem) = &config.problem {
        check.blame(Status::Error, &first_line(problem), Some(MEND));
    }
    check
}

fn ports(findings: &Findings, daemon: Option<&Daemon>) -> Check {
    let no_leases = Vec::new();
    let leases = daemon
        .and_then(|it| it.leases.as_ref().ok())
        .unwrap_or(&no_leases);
    let listening = leases
        .iter()
        .filter(|it| it.state == LeaseState::Listening)
        .count();
    let shown = &leases[..leases.len().min(SHOWN_LEASES)];
    let mut check = Check::new(
        format!("{} leased, {listening} of them listening", leases.len()),
        json!({
            "daemon_port": daemon_port(daemon),
            "active_allocations": leases.len(),
            "allocations": shown,
            "ephemeral_range": [findings.ephemeral.start(), findings.ephemeral.end()],
        }),
    );
    if let Some(Err(error)) = daemon.map(|it| &it.leases) {
        check.blame(Status::Error, error, Some(RESTART));
    }
    if let Some(Ok(config)) = daemon.map(|it| &it.config) {
        for message in swallowed(config, findings) {
            check.blame(
                Status::Warning,
                &message,
                Some("give the type another range in config.toml, or narrow net.ipv4.ip_local_port_range"),
            );
        }
    }
    check
}

/// The loopback port of the API, if it is served on one.
fn daemon_port(daemon: Option<&Daemon>) -> Value {
    match daemon.map(|it| (it.status.tcp_port, it.status.uptime)) {
        Some((Some(port), uptime)) => {
            json!({ "port": port, "status": "in_use_by_styxy", "uptime": uptime })
        }
        _ => {
            json!({ "port": null, "status": "off", "message": "the API is served on the Unix socket alone" })
        }
    }
}

/// A sentence for each service type that has hardly a port left that is not the kernel's.
fn swallowed(config: &ConfigResponse, findings: &Findings) -> Vec<String> {
    let (first, last) = (*findings.ephemeral.start(), *findings.ephemeral.end());
    let is_swallowed = |range: [u16; 2]| first <= range[0] && range[1] <= last;
    let types = config.service_types.iter();
    types
        .filter(|(_, it)| is_swallowed(it.range.map(u16::from)))
        .map(|(name, _)| format!("all ports of `{name}` lie in the kernel's ephemeral range {first}-{last} and are not handed out"))
        .collect()
}

fn system(findings: &Findings, uid: u32) -> Check {
    let state = |result: bool| if result { "available" } else { "missing" };
    let home = findings.home.as_ref().map(|home| home_problem(home, uid));
    let mut check = Check::new(
        "permissions, socket diagnostics and interception are fine",
        json!({
            "port_tools": { "sock_diag": state(findings.listening.is_ok()) },
            "filesystem_permissions": if matches!(home, Some(None)) && findings.runtime.is_ok() { "ok" } else { "error" },
            "interception": state(findings.interception.is_ok()),
            "listening_ports": findings.listening.as_ref().ok(),
        }),
    );
    match home {
        None => check.blame(
            Status::Error,
            "there is no home directory",
            Some("set `HOME` or `STYXY_HOME`"),
        ),
        Some(Some((status, message, remedy))) => check.blame(status, &message, Some(&remedy)),
        Some(None) => {}
    }
    if let Err(error) = &findings.runtime {
        check.blame(
            Status::Error,
            error,
            Some("set `XDG_RUNTIME_DIR` to a directory of your own with mode 0700"),
        );
    }
    if let Err(error) = &findings.listening {
        let message = format!("the kernel does not tell who listens: {error}");
        check.blame(Status::Warning, &message, None);
    }
    if let (Err(error), true) = (&findings.interception, findings.runtime.is_ok()) {
        let message = format!("commands are not intercepted: {error}");
        check.blame(Status::Warning, &message, None);
    }
    check
}

/// What is wrong with the home, how bad that is, and what to do.
fn home_problem(home: &Home, uid: u32) -> Option<(Status, String, String)> {
    let path = home.path.display();
    match &home.state {
        HomeState::Unreadable(error) => Some((
            Status::Error,
            format!("`{path}` cannot be looked at: {error}"),
            "set `STYXY_HOME` to a directory of your own".to_owned(),
        )),
        HomeState::There {
            is_directory: false,
            ..
        } => Some((
            Status::Error,
            format!("`{path}` is not a directory"),
            format!("move `{path}` away, or set `STYXY_HOME`"),
        )),
        HomeState::There { owner, .. } if *owner != uid => Some((
            Status::Warning,
            format!("`{path}` belongs to another user"),
            "set `STYXY_HOME` to a directory of your own".to_owned(),
        )),
        HomeState::There {
            is_writable: false, ..
        } => Some((
            Status::Warning,
            format!("`{path}` cannot be written to, so leases are not saved"),
            format!("`chmod u+rwx {path}`"),
        )),
        HomeState::There { mode, .. } if mode & 0o077 != 0 => Some((
            Status::Warning,
            format!("`{path}` is open to other users (mode {mode:04o})"),
            format!("`chmod 700 {path}`"),
        )),
        // What is missing is made when it is needed.
        HomeState::Missing | HomeState::There { .. } => None,
    }
}

fn resources(findings: &Findings, daemon: Option<&Daemon>) -> Check {
    let memory = daemon.map(|it| it.status.memory);
    let free = findings.home.as_ref().and_then(|home| home.free);
    let mut check = Check::new(
        "normal",
        json!({
            "memory": memory.map_or_else(|| json!({}), |it| json!({ "rss_mb": megabytes(it.rss).round() })),
            "uptime_seconds": daemon.map_or(0.0, |it| it.status.uptime.floor()),
            "free_space_mb": free.map(|it| megabytes(it).round()),
        }),
    );
    if let Some(free) = free.filter(|&free| free < LITTLE_SPACE) {
        let message = format!(
            "only {:.0} MB are free where styxy keeps its state",
            megabytes(free)
        );
        check.blame(
            Status::Warning,
            &message,
            Some("make room in the home directory"),
        );
    }
    if let Some(memory) = memory.filter(|it| it.rss > MUCH_MEMORY) {
        let message = format!("the daemon takes {:.0} MB of memory", megabytes(memory.rss));
        check.blame(Status::Warning, &message, Some(RESTART));
    }
    check
}
