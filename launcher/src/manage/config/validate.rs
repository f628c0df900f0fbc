//! `styxy config validate`: what is wrong with the configuration files.

use std::process::ExitCode;

use styxy_protocol::ServiceType;
use styxy_protocol::api::{self, ConfigResponse, ServiceTypeConfig};

use crate::exit_codes;
use crate::manage::Done;
use crate::manage::console::Console;
use crate::manage::view::View;
use crate::notice::printable;

pub(super) fn validate(console: &Console<'_>) -> Done {
    let found: ConfigResponse = console.ask(|it| it.get(api::CONFIG))?;
    console.show(&found, |view| text(&found, view));
    Ok(ExitCode::from(match found.problem {
        Some(_) => exit_codes::FAILURE,
        None => 0,
    }))
}

pub(super) fn text(found: &ConfigResponse, view: &View) -> String {
    let mut text = String::new();
    match &found.problem {
        Some(problem) => {
            text.push_str("Configuration is not valid, and not in force\n");
            text.extend(problem.lines().map(|line| printable(line) + "\n"));
        }
        None => text.push_str("Configuration is valid\n"),
    }
    for file in &found.files {
        text.extend(["File: ", &view.path(file), "\n"]);
    }
    let overlaps = overlaps(found);
    if overlaps.is_empty() {
        text.push_str("No port range overlaps detected\n");
    }
    text.extend(overlaps);
    text
}

/// A line for each two types that have ports in common, which is allowed and seldom meant.
fn overlaps(found: &ConfigResponse) -> Vec<String> {
    let types: Vec<(&ServiceType, &ServiceTypeConfig)> = found.service_types.iter().collect();
    let mut overlaps = Vec::new();
    for (at, (name, one)) in types.iter().enumerate() {
        for (other_name, other) in &types[at + 1..] {
            let ([first, last], [other_first, other_last]) = (one.range, other.range);
            if first <= other_last && other_first <= last {
                overlaps.push(format!(
                    "Port range overlap: {name} ({first}-{last}) overlaps with {other_name} ({other_first}-{other_last})\n"
                ));
            }
        }
    }
    overlaps
}
