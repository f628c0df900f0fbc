//! `styxy instances`: who has told the daemon that it is there.

use std::process::ExitCode;

use styxy_protocol::api::{self, InstancesResponse};

use super::Done;
use super::console::Console;
use super::table::Table;
use super::view::View;
use crate::notice::printable;

/// Prints the instances. No daemon is no instance, not an error.
pub(super) fn instances(console: &Console<'_>) -> Done {
    let found = console.ask_running(|it| it.get::<InstancesResponse>(api::INSTANCES))?;
    let found = found.unwrap_or_default();
    console.show(&found, |view| text(&found, view));
    Ok(ExitCode::SUCCESS)
}

fn text(found: &InstancesResponse, view: &View) -> String {
    let count = found.instances.len();
    if count == 0 {
        return "No active instances registered\n".to_owned();
    }
    let mut table = Table::new(["INSTANCE", "DIRECTORY", "PID", "ALLOCATIONS", "LAST SEEN"]);
    for instance in &found.instances {
        let directory = instance.working_directory.as_deref();
        table.row([
            printable(&instance.instance_id),
            directory.map_or_else(|| "-".to_owned(), |it| view.path(it)),
            instance
                .pid
                .map_or_else(|| "-".to_owned(), |pid| pid.to_string()),
            instance.active_allocations.len().to_string(),
            view.ago(&instance.last_heartbeat),
        ]);
    }
    let unit = if count == 1 { "instance" } else { "instances" };
    format!("{table}Total: {count} active {unit}\n")
}

#[cfg(test)]
mod tests {
    use styxy_protocol::api::{Instance, Metadata};

    use super::super::view::tests::view;
    use super::*;

    #[test]
    fn an_instance_is_where_it_works_and_when_it_was_heard_of() {
        let instance = |id: &str, directory: Option<&str>, pid| Instance {
            instance_id: id.to_owned(),
            working_directory: directory.map(str::to_owned),
            pid,
            registered_at: "2026-01-01T09:00:00Z".to_owned(),
            last_heartbeat: "2026-01-01T11:59:30Z".to_owned(),
            active_allocations: vec!["a".to_owned(), "b".to_owned()],
            metadata: Metadata::new(),
        };
        let found = InstancesResponse {
            instances: vec![
                instance("agent-1", Some("/home/me/shop\u{1b}[2J"), None),
                instance("ldpreload-41", None, Some(41)),
            ],
        };
        insta::assert_snapshot!(text(&found, &view()), @r"
        INSTANCE      DIRECTORY        PID  ALLOCATIONS  LAST SEEN
        agent-1       ~/shop\u{1b}[2J  -    2            30 s ago
        ldpreload-41  -                41   2            30 s ago
        Total: 2 active instances
        ");
        let none = InstancesResponse::default();
        assert_eq!(text(&none, &view()), "No active instances registered\n");
    }
}
