//! `styxy token rotate`: a new token for the HTTP API.

use std::process::ExitCode;

use serde_json::json;
use styxy_protocol::api::{self, TokenResponse};

use super::Done;
use super::console::Console;
use crate::cli::Format;
use crate::context::Context;

/// Has the daemon make a new token. It does that for clients of its socket alone.
pub(super) fn rotate(context: &Context, format: Format) -> ExitCode {
    super::told(
        format,
        Console::at_socket(context, format).and_then(|it| make(&it)),
    )
}

fn make(console: &Console<'_>) -> Done {
    let made: TokenResponse = console.ask(|it| it.post(api::TOKEN, &json!({})))?;
    console.show(&made, |view| {
        format!(
            "New token in {}; the old one is void\n",
            view.path(&made.path)
        )
    });
    Ok(ExitCode::SUCCESS)
}
