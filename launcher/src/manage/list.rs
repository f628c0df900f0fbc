//! `styxy list`: which ports are leased, to whom, and whether anybody listens.

use std::collections::BTreeMap;
use std::process::ExitCode;

use styxy_protocol::api::{self, Allocation, AllocationsResponse};

use super::Done;
use super::console::Console;
use super::facts::{Facts, state};
use super::table::Table;
use super::view::View;
use crate::cli::ListArgs;
use crate::notice::visible;

/// Prints the leases. No daemon is no lease, not an error.
pub(super) fn list(console: &Console<'_>, args: &ListArgs) -> Done {
    let found = console.ask_running(|it| it.get::<AllocationsResponse>(api::ALLOCATIONS))?;
    let mut leases = found.unwrap_or_default();
    leases.allocations.retain(|lease| is_wanted(lease, args));
    console.show(&leases, |view| text(&leases.allocations, args, view));
    Ok(ExitCode::SUCCESS)
}

fn is_wanted(lease: &Allocation, args: &ListArgs) -> bool {
    let service = args.service.as_ref();
    service.is_none_or(|wanted| lease.service_type == *wanted)
        && args.port.is_none_or(|wanted| has_port(lease, wanted))
}

/// Whether the port is one of the lease's.
pub(super) fn has_port(lease: &Allocation, port: styxy_protocol::Port) -> bool {
    lease.port == port || lease.listeners.iter().any(|it| it.port == port)
}

/// The leases under the worktrees that they belong to; those of none come last.
fn text(leases: &[Allocation], args: &ListArgs, view: &View) -> String {
    if leases.is_empty() {
        return nothing(args);
    }
    let mut worktrees: BTreeMap<(bool, &str), Vec<&Allocation>> = BTreeMap::new();
    for lease in leases {
        let worktree = lease.project_path.as_deref();
        let key = (worktree.is_none(), worktree.unwrap_or_default());
        worktrees.entry(key).or_default().push(lease);
    }
    let mut table = Table::new(["PORT", "TYPE", "NAME", "STATE", "PID", "COMMAND"]);
    for ((is_without, worktree), leases) in worktrees {
        table.text("");
        table.text(if is_without {
            "(no project)".to_owned()
        } else {
            view.path(worktree)
        });
        for lease in leases {
            table.row(row(lease));
            if args.verbose {
                let mut facts = Facts::new(6);
                facts.add_lease_details(lease, view);
                table.text(String::from(facts).trim_end());
            }
        }
    }
    let count = leases.len();
    let unit = if count == 1 {
        "allocation"
    } else {
        "allocations"
    };
    let hint = if args.verbose {
        ""
    } else {
        " (use -v for details)"
    };
    format!("{table}\nTotal: {count} {unit}{hint}\n")
}

fn nothing(args: &ListArgs) -> String {
    let of_type = args.service.as_ref().map(|it| format!(" of type {it}"));
    let on_port = args.port.map(|port| format!(" on port {port}"));
    format!(
        "No active port allocations{}{}\n",
        of_type.unwrap_or_default(),
        on_port.unwrap_or_default()
    )
}

fn row(lease: &Allocation) -> [String; 6] {
    let or_dash = |text: Option<&str>| text.map_or_else(|| "-".to_owned(), visible);
    let others = lease.listeners.iter().map(|listener| listener.port);
    let ports = std::iter::once(lease.port).chain(others.filter(|&port| port != lease.port));
    [
        ports
            .map(|port| port.to_string())
            .collect::<Vec<_>>()
            .join(","),
        lease.service_type.to_string(),
        or_dash(lease.service_name.as_deref()),
        state(lease.state).to_owned(),
        lease
            .pid
            .map_or_else(|| "-".to_owned(), |pid| pid.to_string()),
        or_dash(lease.command.as_deref()),
    ]
}

#[cfg(test)]
pub(super) mod tests {
    use styxy_protocol::Port;
    use styxy_protocol::api::{LeaseState, ListenerReport};

    use super::super::view::tests::view;
    use super::*;

    pub(crate) fn port(number: u16) -> Port {
        Port::new(number).unwrap()
    }

    /// A lease of the front end in `/home/me/shop`.
    pub(crate) fn lease(number: u16) -> Allocation {
        Allocation {
            port: port(number),
            lock_id: "6ba7b810-9dad-41d1-80b4-00c04fd430c8".to_owned(),
            service_type: "dev".parse().unwrap(),
            service_name: Some("web".to_owned()),
            instance_id: Some("cli".to_owned()),
            project_path: Some("/home/me/shop".to_owned()),
            package_dir: Some("/home/me/shop/web".to_owned()),
            pid: Some(41),
            command: Some("npm run dev".to_owned()),
            allocated_at: "2026-01-01T11:55:00Z".to_owned(),
            user_agent: None,
            expires_in: None,
            state: LeaseState::Listening,
            listeners: vec![listener(number, number)],
        }
    }

    pub(crate) fn listener(requested: u16, got: u16) -> ListenerReport {
        ListenerReport {
            requested: port(requested),
            port: port(got),
        }
    }

    /// A lease that hangs on no process and that a hostile client has made.
    fn hostile() -> Allocation {
        Allocation {
            service_type: "storybook".parse().unwrap(),
            service_name: None,
            instance_id: Some("a\u{7}b".to_owned()),
            project_path: None,
            package_dir: None,
            pid: None,
            command: Some("evil\u{1b}[2J\n5174 dev".to_owned()),
            expires_in: Some(3 * 3600),
            state: LeaseState::Starting,
            listeners: Vec::new(),
            ..lease(6006)
        }
    }

    fn args(words: &[&str]) -> ListArgs {
        use clap::Parser as _;
        let cli = crate::cli::Cli::try_parse_from([&["styxy", "list"], words].concat()).unwrap();
        match cli.command {
            crate::cli::Command::Manage(crate::cli::ManageCommand::List(args)) => args,
            other => panic!("{other:?}"),
        }
    }

    fn shown(leases: &[Allocation], words: &[&str]) -> String {
        let args = args(words);
        let mut leases = leases.to_vec();
        leases.retain(|lease| is_wanted(lease, &args));
        text(&leases, &args, &view())
    }

    fn three() -> Vec<Allocation> {
        let elsewhere = Allocation {
            project_path: Some("/srv/fix\u{1b}[2J".to_owned()),
            package_dir: Some("/srv/fix\u{1b}[2J".to_owned()),
            listeners: vec![listener(5174, 5174), listener(24678, 20000)],
            state: LeaseState::Detached,
            ..lease(5174)
        };
        vec![lease(5173), elsewhere, hostile()]
    }

    #[test]
    fn leases_stand_under_their_worktrees() {
        insta::assert_snapshot!(shown(&three(), &[]), @r"
        PORT        TYPE       NAME  STATE      PID  COMMAND

        ~/shop
        5173        dev        web   listening  41   npm run dev

        /srv/fix\u{1b}[2J
        5174,20000  dev        web   detached   41   npm run dev

        (no project)
        6006        storybook  -     starting   -    evil\u{1b}[2J\u{a}5174 dev

        Total: 3 allocations (use -v for details)
        ");
    }

    #[test]
    fn everything_that_is_known_is_told_on_demand() {
        insta::assert_snapshot!(shown(&three(), &["-v"]), @r"
        PORT        TYPE       NAME  STATE      PID  COMMAND

        ~/shop
        5173        dev        web   listening  41   npm run dev
              Lock ID: 6ba7b810-9dad-41d1-80b4-00c04fd430c8
              Instance: cli
              Allocated: 5 min ago
              Package: ~/shop/web
              Listeners: 5173

        /srv/fix\u{1b}[2J
        5174,20000  dev        web   detached   41   npm run dev
              Lock ID: 6ba7b810-9dad-41d1-80b4-00c04fd430c8
              Instance: cli
              Allocated: 5 min ago
              Listeners: 5174, 20000 (asked for 24678)

        (no project)
        6006        storybook  -     starting   -    evil\u{1b}[2J\u{a}5174 dev
              Lock ID: 6ba7b810-9dad-41d1-80b4-00c04fd430c8
              Instance: a\u{7}b
              Allocated: 5 min ago
              Expires: in 3 h

        Total: 3 allocations
        ");
    }

    #[test]
    fn a_type_or_a_port_can_be_looked_for() {
        let total = |words: &[&str]| {
            shown(&three(), words)
                .lines()
                .last()
                .unwrap_or_default()
                .to_owned()
        };
        assert_eq!(
            total(&["-s", "storybook"]),
            "Total: 1 allocation (use -v for details)"
        );
        assert_eq!(
            total(&["--port", "20000"]),
            "Total: 1 allocation (use -v for details)"
        );
        assert_eq!(
            total(&["--port", "24678"]),
            "No active port allocations on port 24678"
        );
        assert_eq!(
            total(&["--service", "api"]),
            "No active port allocations of type api"
        );
        assert_eq!(shown(&[], &[]), "No active port allocations\n");
    }
}
