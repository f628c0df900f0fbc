//! `styxy release`: gives leases back.

use std::process::ExitCode;

use styxy_protocol::api::{self, ReleaseResponse};

use super::Done;
use super::console::Console;
use super::failure::Failure;
use crate::cli::{ReleaseArgs, Target};
use crate::{exit_codes, notice};

/// Releases every lease that is named, as far as that is possible.
pub(super) fn release(console: &Console<'_>, args: &ReleaseArgs) -> Done {
    if let [target] = args.targets.as_slice() {
        let released = release_one(console, target)?;
        console.show(&released, |_| line(&released));
        return Ok(ExitCode::SUCCESS);
    }
    let mut released = Vec::new();
    let mut is_complete = true;
    for target in &args.targets {
        match release_one(console, target) {
            Ok(answer) => released.push(answer),
            Err(failure) => {
                is_complete = false;
                notice::fatal(&format_args!("{target}: {}", failure.lines()));
            }
        }
    }
    console.show(&released, |_| released.iter().map(line).collect());
    Ok(ExitCode::from(if is_complete {
        0
    } else {
        exit_codes::FAILURE
    }))
}

fn release_one(console: &Console<'_>, target: &Target) -> Result<ReleaseResponse, Failure> {
    let path = api::lease_path(&target.to_string());
    let answer = console.ask_running(|it| it.delete(&path))?;
    answer
        .ok_or_else(|| Failure::Impossible("Release failed: the daemon is not running".to_owned()))
}

fn line(released: &ReleaseResponse) -> String {
    format!("{}\n", notice::printable(&released.message))
}
