//! `styxy check`: whether a port is free, and who has it.

use std::process::ExitCode;

use styxy_protocol::api::{self, CheckResponse, SystemUsage};

use super::Done;
use super::console::Console;
use super::facts::Facts;
use super::view::View;
use crate::cli::CheckArgs;
use crate::notice::printable;

/// Prints what is known about a port.
pub(super) fn check(console: &Console<'_>, args: &CheckArgs) -> Done {
    let path = api::check_path(args.port);
    let found: CheckResponse = console.ask(|it| it.get(&path))?;
    console.show(&found, |view| text(&found, view));
    Ok(ExitCode::SUCCESS)
}

fn text(found: &CheckResponse, view: &View) -> String {
    let port = found.port;
    let is_unused = found.allocated_to.is_none() && found.system_usage.is_none();
    let mut text = match &found.reserved {
        Some(reason) if is_unused => {
            return format!("Port {port} is not handed out: {}\n", printable(reason));
        }
        _ if found.available => return format!("Port {port} is available\n"),
        _ => format!("Port {port} is in use\n"),
    };
    if let Some(lease) = &found.allocated_to {
        let mut facts = Facts::new(2);
        facts.add_lease(lease, view);
        text.push_str("Styxy Allocation:\n");
        text.push_str(&String::from(facts));
    }
    if let Some(usage) = &found.system_usage {
        text.push_str("System Usage:\n");
        text.push_str(&system_usage(usage));
    }
    text
}

fn system_usage(usage: &SystemUsage) -> String {
    let mut facts = Facts::new(2);
    facts.add("Protocol", printable(&usage.protocol));
    if let Some(process) = &usage.process {
        facts.add("Process", printable(&process.name));
        facts.add("PID", process.pid);
    }
    facts.add_if("User", usage.user.as_deref().map(printable));
    facts.add("Address", printable(&usage.local_address));
    facts.add("Detected by", printable(&usage.tool));
    facts.into()
}

#[cfg(test)]
pub(super) mod tests {
    use styxy_protocol::api::PortProcess;

    use super::super::list::tests::{lease, port};
    use super::super::view::tests::view;
    use super::*;

    /// Somebody's server on this port.
    pub(crate) fn usage(number: u16) -> SystemUsage {
        SystemUsage {
            port: port(number),
            protocol: "tcp6".to_owned(),
            state: "LISTEN".to_owned(),
            local_address: format!("[::1]:{number}"),
            process: Some(PortProcess {
                name: "node\u{1b}[31m".to_owned(),
                pid: 4107,
                user: Some("me".to_owned()),
            }),
            user: Some("me".to_owned()),
            tool: "sock_diag".to_owned(),
        }
    }

    fn free() -> CheckResponse {
        CheckResponse {
            port: port(3000),
            available: true,
            allocated_to: None,
            system_usage: None,
            reserved: None,
        }
    }

    #[test]
    fn a_port_is_available_reserved_or_in_use() {
        assert_eq!(text(&free(), &view()), "Port 3000 is available\n");
        let reserved = CheckResponse {
            available: false,
            reserved: Some("browsers refuse to open it".to_owned()),
            ..free()
        };
        assert_eq!(
            text(&reserved, &view()),
            "Port 3000 is not handed out: browsers refuse to open it\n"
        );
        let taken = CheckResponse {
            available: false,
            ..free()
        };
        assert_eq!(text(&taken, &view()), "Port 3000 is in use\n");
    }

    #[test]
    fn whoever_has_a_port_is_told() {
        let taken = CheckResponse {
            available: false,
            allocated_to: Some(lease(3000)),
            system_usage: Some(usage(3000)),
            ..free()
        };
        insta::assert_snapshot!(text(&taken, &view()), @r"
        Port 3000 is in use
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
        System Usage:
          Protocol: tcp6
          Process: node\u{1b}[31m
          PID: 4107
          User: me
          Address: [::1]:3000
          Detected by: sock_diag
        ");
    }
}
