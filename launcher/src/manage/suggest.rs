//! `styxy suggest`: free ports for a kind of service, one a line.

use std::process::ExitCode;

use styxy_protocol::api::{self, SuggestResponse};

use super::Done;
use super::console::Console;
use super::failure::Failure;
use crate::cli::SuggestArgs;
use crate::notice;

/// Prints the ports alone; what else there is to say goes to stderr.
pub(super) fn suggest(console: &Console<'_>, args: &SuggestArgs) -> Done {
    let wanted = &args.service;
    let path = format!(
        "{}?count={}",
        api::suggest_path(wanted.as_str()),
        args.count
    );
    let found: SuggestResponse = console.ask(|it| it.get(&path))?;
    console.show(&found, |_| {
        let ports = found.suggestions.iter();
        ports
            .flat_map(|port| [port.to_string(), "\n".to_owned()])
            .collect()
    });
    if found.suggestions.is_empty() {
        return Err(Failure::Impossible(found.message));
    }
    if found.service_type != *wanted && !console.format.json {
        let known_as = &found.service_type;
        notice::fatal(&format_args!(
            "there is no service type `{wanted}` yet, so these are ports for `{known_as}`; `styxy allocate {wanted}` gives it a range of its own"
        ));
    }
    Ok(ExitCode::SUCCESS)
}
