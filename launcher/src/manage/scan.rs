//! `styxy scan`: the ports of a range that are leased or in use.

use std::process::ExitCode;

use styxy_protocol::Port;
use styxy_protocol::api::{self, ScanResponse, ScannedPort};

use super::Done;
use super::console::Console;
use super::failure::Failure;
use super::table::Table;
use crate::cli::ScanArgs;
use crate::notice::{printable, visible};

/// The last port, where none was named.
const LAST: Port = Port::new(9999).unwrap();

/// Prints the ports.
pub(super) fn scan(console: &Console<'_>, args: &ScanArgs) -> Done {
    let (start, end) = (args.start, args.end.unwrap_or(LAST.max(args.start)));
    if end < start {
        return Err(Failure::Usage(format!(
            "the range {start}-{end} ends before it begins; the usage is `styxy scan --start FIRST --end LAST`"
        )));
    }
    let path = format!("{}?start={start}&end={end}", api::SCAN);
    let found: ScanResponse = console.ask(|it| it.get(&path))?;
    console.show(&found, |_| text(&found));
    Ok(ExitCode::SUCCESS)
}

fn text(found: &ScanResponse) -> String {
    let range = printable(&found.scan_range);
    if found.ports_in_use.is_empty() {
        return format!("No ports in use in range {range}\n");
    }
    let mut table = Table::new(["PORT", "STYXY", "SYSTEM", "ADDRESS", "LOCK ID"]);
    for port in &found.ports_in_use {
        table.row(row(port));
    }
    let count = found.ports_in_use.len();
    let unit = if count == 1 { "port" } else { "ports" };
    format!("Scanning ports {range}\n{table}Summary: {count} {unit} in use in range {range}\n")
}

fn row(port: &ScannedPort) -> [String; 5] {
    let dash = || "-".to_owned();
    let lease = port.allocated_to.as_ref();
    let usage = port.system_usage.as_ref();
    let leased_to = |it: &api::Allocation| {
        let name = it.service_name.as_deref();
        format!(
            "{} - {}",
            it.service_type,
            visible(name.unwrap_or("unnamed"))
        )
    };
    let held_by = |it: &api::SystemUsage| match &it.process {
        Some(process) => format!("{} (PID: {})", visible(&process.name), process.pid),
        None => match &it.user {
            Some(user) => format!("a process of {}", visible(user)),
            None => "an unknown process".to_owned(),
        },
    };
    [
        port.port.to_string(),
        lease.map_or_else(dash, leased_to),
        usage.map_or_else(dash, held_by),
        usage.map_or_else(dash, |it| printable(&it.local_address)),
        lease.map_or_else(dash, |it| printable(&it.lock_id)),
    ]
}

#[cfg(test)]
mod tests {
    use super::super::check::tests::usage;
    use super::super::list::tests::{lease, port};
    use super::*;

    #[test]
    fn a_port_is_leased_or_in_use_or_both() {
        let found = ScanResponse {
            scan_range: "3000-3099".to_owned(),
            ports_in_use: vec![
                ScannedPort {
                    port: port(3000),
                    allocated_to: Some(lease(3000)),
                    system_usage: Some(usage(3000)),
                },
                ScannedPort {
                    port: port(3001),
                    allocated_to: Some(lease(3001)),
                    system_usage: None,
                },
                ScannedPort {
                    port: port(3002),
                    allocated_to: None,
                    system_usage: Some(api::SystemUsage {
                        process: None,
                        ..usage(3002)
                    }),
                },
            ],
        };
        insta::assert_snapshot!(text(&found), @r"
        Scanning ports 3000-3099
        PORT  STYXY      SYSTEM                      ADDRESS     LOCK ID
        3000  dev - web  node\u{1b}[31m (PID: 4107)  [::1]:3000  6ba7b810-9dad-41d1-80b4-00c04fd430c8
        3001  dev - web  -                           -           6ba7b810-9dad-41d1-80b4-00c04fd430c8
        3002  -          a process of me             [::1]:3002  -
        Summary: 3 ports in use in range 3000-3099
        ");
        let none = ScanResponse {
            ports_in_use: Vec::new(),
            ..found
        };
        assert_eq!(text(&none), "No ports in use in range 3000-3099\n");
    }
}
