//! `styxy list`: which ports are leased, to whom, and whether anybody listens.

use std::process::ExitCode;

use styxy_protocol::api::{self, Allocation, AllocationsResponse, LeaseState};

use crate::cli::ListArgs;
use crate::context::Context;
use crate::manage::remote::{self, RemoteError};
use crate::notice::visible;
use crate::output;
use crate::places::Places;

/// Prints the leases. No daemon is no lease, not an error.
pub(crate) fn list(context: &Context, args: &ListArgs) -> ExitCode {
    let found = match Places::find(context) {
        Ok(places) => {
            let socket = places.socket();
            remote::get::<AllocationsResponse>(&socket, context.build, api::ALLOCATIONS)
        }
        Err(error) => return super::failed(&error),
    };
    let leases = match found {
        Ok(leases) => leases,
        Err(RemoteError::NotRunning) => AllocationsResponse::default(),
        Err(error) => return super::failed(&error),
    };
    if args.json {
        output::print_json(&leases);
    } else {
        output::print(&table(&leases.allocations));
    }
    ExitCode::SUCCESS
}

/// The leases in columns as wide as their contents; the last column is as long as it is.
fn table(leases: &[Allocation]) -> String {
    if leases.is_empty() {
        return "No active port allocations\n".to_owned();
    }
    let mut rows =
        vec![["PORT", "TYPE", "NAME", "STATE", "PID", "PROJECT", "COMMAND"].map(str::to_owned)];
    rows.extend(leases.iter().map(row));
    let widths: Vec<usize> = (0..6)
        .map(|column| {
            rows.iter()
                .map(|row| row[column].chars().count())
                .max()
                .unwrap_or(0)
        })
        .collect();
    let line = |row: &[String; 7]| {
        let cells = row
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:width$}  "));
        format!("{}{}\n", cells.collect::<String>(), row[6])
    };
    rows.iter().map(line).collect()
}

fn row(lease: &Allocation) -> [String; 7] {
    let or_dash = |text: Option<&str>| text.map_or_else(|| "-".to_owned(), visible);
    let state = match lease.state {
        LeaseState::Starting => "starting",
        LeaseState::Listening => "listening",
        LeaseState::Detached => "detached",
    };
    let mut port = lease.port.to_string();
    for listener in lease
        .listeners
        .iter()
        .filter(|listener| listener.port != lease.port)
    {
        port = format!("{port},{}", listener.port);
    }
    [
        port,
        lease.service_type.to_string(),
        or_dash(lease.service_name.as_deref()),
        state.to_owned(),
        lease
            .pid
            .map_or_else(|| "-".to_owned(), |pid| pid.to_string()),
        or_dash(lease.project_path.as_deref()),
        or_dash(lease.command.as_deref()),
    ]
}

#[cfg(test)]
mod tests {
    use styxy_protocol::Port;
    use styxy_protocol::api::ListenerReport;

    use super::*;

    #[test]
    fn a_table_shows_every_port_of_a_lease_and_nothing_that_moves_the_cursor() {
        let port = |number| Port::new(number).unwrap();
        let lease = Allocation {
            port: port(6006),
            lock_id: "id".to_owned(),
            service_type: "storybook".parse().unwrap(),
            service_name: Some("storybook".to_owned()),
            instance_id: None,
            project_path: Some("/home/me/app\u{1b}[2J".to_owned()),
            package_dir: None,
            pid: Some(41),
            command: Some("npm run storybook".to_owned()),
            allocated_at: "2026-01-01T00:00:00Z".to_owned(),
            user_agent: None,
            expires_in: None,
            state: LeaseState::Listening,
            listeners: vec![
                ListenerReport {
                    requested: port(6006),
                    port: port(6006),
                },
                ListenerReport {
                    requested: port(24678),
                    port: port(20000),
                },
            ],
        };
        insta::assert_snapshot!(table(&[lease]), @r"
        PORT        TYPE       NAME       STATE      PID  PROJECT                COMMAND
        6006,20000  storybook  storybook  listening  41   /home/me/app\u{1b}[2J  npm run storybook
        ");
        assert_eq!(table(&[]), "No active port allocations\n");
    }
}
