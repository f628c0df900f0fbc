//! `styxy config auto-allocation`: how service types that are not known get a range of ports.

use std::process::ExitCode;

use styxy_protocol::api::{
    self, AutoAllocatedRange, AutoAllocationRequest, AutoAllocationResponse, AutoAllocationRule,
    UndoResponse,
};

use crate::cli::AutoAllocationCommand;
use crate::manage::Done;
use crate::manage::console::Console;
use crate::manage::facts::Facts;
use crate::manage::table::Table;
use crate::manage::view::View;
use crate::notice::printable;

pub(super) fn auto_allocation(console: &Console<'_>, command: &AutoAllocationCommand) -> Done {
    match command {
        AutoAllocationCommand::Status(_) => {
            let found: AutoAllocationResponse = console.ask(|it| it.get(api::AUTO_ALLOCATION))?;
            console.show(&found, |view| status(&found, view));
        }
        AutoAllocationCommand::List(_) => {
            let found: AutoAllocationResponse = console.ask(|it| it.get(api::AUTO_ALLOCATION))?;
            console.show(&found.ranges, |view| list(&found.ranges, view));
        }
        AutoAllocationCommand::Enable(_) => switch(console, true)?,
        AutoAllocationCommand::Disable(_) => switch(console, false)?,
        AutoAllocationCommand::Undo(args) => {
            let path = api::auto_allocation_path(args.service_type.as_str());
            let undone: UndoResponse = console.ask(|it| it.delete(&path))?;
            console.show(&undone, |_| {
                let [first, last] = undone.range;
                let service_type = &args.service_type;
                format!(
                    "Removed auto-allocated service type '{service_type}'\nRange {first}-{last} is now available\n"
                )
            });
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn switch(console: &Console<'_>, enabled: bool) -> Result<(), crate::manage::failure::Failure> {
    let request = AutoAllocationRequest { enabled };
    let now: AutoAllocationResponse = console.ask(|it| it.put(api::AUTO_ALLOCATION, &request))?;
    console.show(&now, |_| {
        if now.settings.enabled {
            "Auto-allocation enabled\nService types that are not known get a range of ports from now on\n"
        } else {
            "Auto-allocation disabled\nService types that are not known are refused from now on; ranges that were made stay\n"
        }
        .to_owned()
    });
    Ok(())
}

pub(super) fn status(found: &AutoAllocationResponse, view: &View) -> String {
    let settings = &found.settings;
    let yes = |is| if is { "Yes" } else { "No" };
    let mut facts = Facts::new(0);
    facts.add(
        "Auto-allocation",
        if settings.enabled {
            "Enabled"
        } else {
            "Disabled"
        },
    );
    facts.add(
        "Default chunk size",
        format_args!("{} ports", settings.default_chunk_size),
    );
    facts.add("Placement strategy", settings.placement);
    facts.add(
        "Port range",
        format_args!("{}-{}", settings.min_port, settings.max_port),
    );
    facts.add(
        "Preserve gaps",
        format_args!(
            "{} ({} ports)",
            yes(settings.preserve_gaps),
            settings.gap_size
        ),
    );
    for rule in &found.rules {
        facts.add("Rule", rule_text(rule));
    }
    facts.add("Auto-allocated services", found.ranges.len());
    let ranges = if found.ranges.is_empty() {
        String::new()
    } else {
        list(&found.ranges, view)
    };
    String::from(facts) + &ranges
}

fn rule_text(rule: &AutoAllocationRule) -> String {
    let chunk_size = rule.chunk_size.map(|it| format!("{it} ports"));
    let placement = rule.placement.map(|it| format!("placement {it}"));
    let start = rule.preferred_range_start.map(|it| format!("from {it} on"));
    let says: Vec<String> = [chunk_size, placement, start]
        .into_iter()
        .flatten()
        .collect();
    format!("{}: {}", printable(&rule.pattern), says.join(", "))
}

pub(super) fn list(ranges: &[AutoAllocatedRange], view: &View) -> String {
    if ranges.is_empty() {
        return "No services have been auto-allocated yet\n".to_owned();
    }
    let mut table = Table::new(["TYPE", "PORTS", "ALLOCATED", "LEASES"]);
    for range in ranges {
        let [first, last] = range.range;
        let when = range.auto_allocated_at.as_deref();
        table.row([
            range.service_type.to_string(),
            format!("{first}-{last}"),
            when.map_or_else(|| "-".to_owned(), |it| view.ago(it)),
            range.active_allocations.to_string(),
        ]);
    }
    format!("{table}To take one back: styxy config auto-allocation undo TYPE\n")
}
