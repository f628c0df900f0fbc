//! `styxy cleanup`: ends leases that nobody uses.

use std::process::ExitCode;

use styxy_protocol::Port;
use styxy_protocol::api::{
    self, Allocation, AllocationsResponse, CleanupRequest, CleanupResponse, LeaseState,
    ReleaseResponse,
};

use super::Done;
use super::console::Console;
use super::failure::Failure;
use super::list::has_port;
use crate::cli::CleanupArgs;
use crate::notice::printable;

const NOT_RUNNING: &str = "Styxy daemon is not running";

/// Ends what is left over. No daemon has nothing to end.
pub(super) fn cleanup(console: &Console<'_>, args: &CleanupArgs) -> Done {
    let request = CleanupRequest { force: args.force };
    let done = match args.port {
        Some(port) => cleanup_one(console, port, args.force)?,
        None => console.ask_running(|it| it.post(api::CLEANUP, &request))?,
    };
    let line = done.as_ref().map_or_else(|| NOT_RUNNING.to_owned(), line);
    let done = done.unwrap_or_else(|| nothing(NOT_RUNNING));
    console.show(&done, |_| format!("{line}\n"));
    Ok(ExitCode::SUCCESS)
}

fn line(done: &CleanupResponse) -> String {
    match done.cleaned {
        0 => "No stale allocations found".to_owned(),
        1 => "Cleaned up 1 stale allocation".to_owned(),
        count => format!("Cleaned up {count} stale allocations"),
    }
}

fn nothing(message: &str) -> CleanupResponse {
    CleanupResponse {
        success: true,
        cleaned: 0,
        message: message.to_owned(),
    }
}

/// As a cleanup of everything, for the lease of one port.
fn cleanup_one(
    console: &Console<'_>,
    port: Port,
    force: bool,
) -> Result<Option<CleanupResponse>, Failure> {
    let leases = console.ask_running(|it| it.get::<AllocationsResponse>(api::ALLOCATIONS))?;
    let Some(leases) = leases else {
        return Ok(None);
    };
    let lease = leases.allocations.into_iter().find(|it| has_port(it, port));
    let Some(lease) = lease else {
        return Ok(Some(nothing("No stale allocations found")));
    };
    if let Some(user) = user(&lease, force) {
        return Err(Failure::Impossible(format!(
            "port {port} is in use: {user}"
        )));
    }
    let path = api::lease_path(&lease.lock_id);
    let released: ReleaseResponse = console.ask(|it| it.delete(&path))?;
    Ok(Some(CleanupResponse {
        success: true,
        cleaned: 1,
        message: printable(&released.message),
    }))
}

/// Who uses the lease, and what can be done about it; `None` if nobody does.
fn user(lease: &Allocation, force: bool) -> Option<String> {
    match (lease.state, lease.pid) {
        (LeaseState::Listening | LeaseState::Detached, _) => {
            Some("somebody listens on it; `styxy whose` tells who".to_owned())
        }
        (LeaseState::Starting, Some(pid)) if !force => Some(format!(
            "process {pid} has leased it; `--force` ends the lease all the same"
        )),
        (LeaseState::Starting, _) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::list::tests::lease;
    use super::*;

    #[test]
    fn a_lease_is_in_use_by_a_listener_or_by_its_owner() {
        let lease = |state, pid| Allocation {
            state,
            pid,
            ..lease(3000)
        };
        for (lease, force, is_used) in [
            (lease(LeaseState::Listening, None), true, true),
            (lease(LeaseState::Detached, Some(7)), true, true),
            (lease(LeaseState::Starting, Some(7)), false, true),
            (lease(LeaseState::Starting, Some(7)), true, false),
            (lease(LeaseState::Starting, None), false, false),
        ] {
            assert_eq!(user(&lease, force).is_some(), is_used, "{lease:?} {force}");
        }
    }

    #[test]
    fn what_was_done_is_told() {
        let done = |cleaned| CleanupResponse {
            cleaned,
            ..nothing("")
        };
        assert_eq!(line(&done(0)), "No stale allocations found");
        assert_eq!(line(&done(1)), "Cleaned up 1 stale allocation");
        assert_eq!(line(&done(3)), "Cleaned up 3 stale allocations");
    }
}
