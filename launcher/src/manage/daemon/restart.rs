//! `styxy daemon restart`: another daemon in place of the one that runs, with the same leases and the same port.

use std::process::ExitCode;

use styxy_protocol::api::{self, StatusResponse};

use super::{start_detached, stop};
use crate::context::Context;
use crate::manage::remote::Remote;
use crate::places::Places;

/// Stops the daemon, if one runs, and starts one that stays.
pub(super) fn restart(context: &Context, places: &Places) -> ExitCode {
    // One that does not answer can be ended all the same.
    let remote = Remote::at_socket(&places.socket(), context.build);
    let status = remote.and_then(|it| it.get::<StatusResponse>(api::STATUS));
    let port = status.ok().and_then(|status| status.tcp_port);
    let stopped = stop(context, places);
    if stopped != ExitCode::SUCCESS {
        return stopped;
    }
    start_detached(context, places, None, port)
}
