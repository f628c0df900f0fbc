//! `styxy whose`: which process listens on a port, and what it belongs to.

use std::process::ExitCode;
use std::time::Duration;

use styxy_protocol::api::{self, Allocation, AllocationsResponse, Observation, ObserveResponse};

use super::Done;
use super::console::Console;
use super::facts::Facts;
use super::list::has_port;
use super::view::{View, span};
use crate::cli::WhoseArgs;
use crate::notice::printable;

/// Prints who listens, and whose lease the port is.
pub(super) fn whose(console: &Console<'_>, args: &WhoseArgs) -> Done {
    let path = api::observe_path(args.port);
    let found: ObserveResponse = console.ask(|it| it.get(&path))?;
    let lease = if console.format.json {
        None
    } else {
        let leases: AllocationsResponse = console.ask(|it| it.get(api::ALLOCATIONS))?;
        leases
            .allocations
            .into_iter()
            .find(|it| has_port(it, args.port))
    };
    console.show(&found, |view| text(&found, lease.as_ref(), view));
    Ok(ExitCode::SUCCESS)
}

fn text(found: &ObserveResponse, lease: Option<&Allocation>, view: &View) -> String {
    let port = found.port;
    let mut text = match &found.observation {
        Some(seen) => format!(
            "Port {port} is held by {}\n{}",
            name(seen),
            process(seen, view)
        ),
        None => format!("Nobody listens on port {port}\n"),
    };
    if let Some(lease) = lease {
        let mut facts = Facts::new(2);
        facts.add_lease(lease, view);
        text.push_str("Styxy Allocation:\n");
        text.push_str(&String::from(facts));
    }
    text
}

fn name(seen: &Observation) -> String {
    let process = seen.process.as_deref().map(printable);
    let process = process.unwrap_or_else(|| "a process that may not be looked at".to_owned());
    match seen.pid {
        Some(pid) => format!("{process} (PID: {pid})"),
        None => format!("{process} (user id {})", seen.uid),
    }
}

fn process(seen: &Observation, view: &View) -> String {
    let mut facts = Facts::new(2);
    facts.add_if("Command", seen.command.as_deref().map(printable));
    facts.add_if(
        "Directory",
        seen.directory.as_deref().map(|it| view.path(it)),
    );
    facts.add_if("Worktree", seen.worktree.as_deref().map(|it| view.path(it)));
    facts.add("Service", printable(&seen.service_type));
    let addresses: Vec<String> = seen.addresses.iter().map(|it| printable(it)).collect();
    facts.add("Listens on", addresses.join(", "));
    let others: Vec<String> = seen
        .others
        .iter()
        .map(|it| format!("{} (PID: {})", printable(&it.name), it.pid))
        .collect();
    facts.add_if("Others", (!others.is_empty()).then(|| others.join(", ")));
    if seen.pid.is_some() {
        facts.add("Runs for", span(Duration::from_millis(seen.duration_ms)));
    }
    facts.into()
}

#[cfg(test)]
mod tests {
    use styxy_protocol::api::PortProcess;

    use super::super::list::tests::{lease, port};
    use super::super::view::tests::view;
    use super::*;

    fn seen() -> Observation {
        Observation {
            port: port(3000),
            pid: Some(4107),
            process: Some("node".to_owned()),
            command: Some("node server.js\u{1b}]0;x\u{7}".to_owned()),
            service_type: "dev".to_owned(),
            instance_id: Some("cli".to_owned()),
            addresses: vec!["127.0.0.1:3000".to_owned(), "[::1]:3000".to_owned()],
            directory: Some("/home/me/shop/web".to_owned()),
            worktree: Some("/home/me/shop".to_owned()),
            uid: 1000,
            lock_id: None,
            others: vec![PortProcess {
                name: "vite\u{7}".to_owned(),
                pid: 77,
                user: None,
            }],
            timestamp: 0,
            duration_ms: 200_000,
        }
    }

    fn held_by(observation: Option<Observation>) -> ObserveResponse {
        ObserveResponse {
            port: port(3000),
            bound: observation.is_some(),
            observation,
            message: None,
        }
    }

    #[test]
    fn the_process_is_told_and_the_lease() {
        let found = held_by(Some(seen()));
        insta::assert_snapshot!(text(&found, Some(&lease(3000)), &view()), @r"
        Port 3000 is held by node (PID: 4107)
          Command: node server.js\u{1b}]0;x\u{7}
          Directory: ~/shop/web
          Worktree: ~/shop
          Service: dev
          Listens on: 127.0.0.1:3000, [::1]:3000
          Others: vite\u{7} (PID: 77)
          Runs for: 3 min
        Styxy Allocation:
          Service: dev
          Name: web
          State: listening
          Project: ~/shop
          PID: 41
          Command: npm run dev
          Lock ID: 6ba7b810-9dad-41d1-80b4-00c04fd430c8
          Instance: cli
          Allocated: 5 min ago
          Package: ~/shop/web
          Listeners: 3000
        ");
    }

    #[test]
    fn a_process_of_somebody_else_is_told_as_far_as_it_is_known() {
        let found = held_by(Some(Observation {
            pid: None,
            others: Vec::new(),
            process: None,
            command: None,
            directory: None,
            worktree: None,
            ..seen()
        }));
        insta::assert_snapshot!(text(&found, None, &view()), @"
        Port 3000 is held by a process that may not be looked at (user id 1000)
          Service: dev
          Listens on: 127.0.0.1:3000, [::1]:3000
        ");
    }

    #[test]
    fn a_leased_port_may_have_no_process() {
        assert_eq!(
            text(&held_by(None), None, &view()),
            "Nobody listens on port 3000\n"
        );
        let leased = text(&held_by(None), Some(&lease(3000)), &view());
        assert!(
            leased.contains("Nobody listens") && leased.contains("Lock ID: "),
            "{leased}"
        );
    }
}
