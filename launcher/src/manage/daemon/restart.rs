//! `styxy daemon restart`: another daemon in place of the one that runs, with the same leases and the same port.

use std::process::ExitCode;

use styxy_protocol::api::{self, ListenRequest, ListenResponse, StatusResponse};

use super::{start_detached, stop};
use crate::context::Context;
use crate::manage::failed;
use crate::manage::remote::Remote;
use crate::output;
use crate::places::Places;

/// Stops the daemon, if one runs, and starts one that stays.
pub(super) fn restart(context: &Context, places: &Places) -> ExitCode {
    // One that does not answer can be ended all the same.
    let remote = || Remote::at_socket(&places.socket(), context.build);
    let status = remote().and_then(|it| it.get::<StatusResponse>(api::STATUS));
    let port = status.ok().and_then(|status| status.tcp_port);
    let stopped = stop(context, places);
    if stopped != ExitCode::SUCCESS {
        return stopped;
    }
    let started = start_detached(context, places, None);
    let (Some(port), true) = (port, started == ExitCode::SUCCESS) else {
        return started;
    };
    let request = ListenRequest { port };
    match remote().and_then(|it| it.post::<ListenResponse>(api::LISTEN, &request)) {
        Ok(now) => {
            output::print(&format!("API: http://127.0.0.1:{}\n", now.port));
            started
        }
        Err(error) => failed(&format_args!(
            "the daemon does not serve 127.0.0.1:{port} any more: {error}"
        )),
    }
}
