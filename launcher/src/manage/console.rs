//! What every management command works with: the way to the daemon, and how to print.

use serde::Serialize;

use super::failure::Failure;
use super::remote::{Remote, RemoteError};
use super::view::View;
use crate::background::{self, StartedBy};
use crate::cli::Format;
use crate::context::Context;
use crate::notice::printable;
use crate::places::{self, Places, PlacesError};
use crate::{env_names, output};

/// One command's way to the daemon and to its user.
pub(crate) struct Console<'a> {
    /// The outside world.
    pub(super) context: &'a Context,
    /// How to print.
    pub(super) format: Format,
    /// The way to the daemon.
    pub(super) remote: Remote,
    /// How things look to this user now.
    pub(super) view: View,
}

impl<'a> Console<'a> {
    /// A console for the daemon of this home: at its socket, or on the port that `STYXY_DAEMON_PORT` names.
    pub(super) fn open(context: &'a Context, format: Format) -> Result<Self, Failure> {
        let remote = match context.var(env_names::DAEMON_PORT) {
            Some(port) if !port.is_empty() => {
                let text = port.to_string_lossy();
                let port = text.parse();
                let port = port.map_err(|_| Failure::DaemonPort(printable(&text)))?;
                let home = places::home(context).ok_or(PlacesError::NoHome)?;
                Remote::at_port(port, home.join(Places::TOKEN), context.build)?
            }
            _ => return Self::at_socket(context, format),
        };
        Ok(Self::with(context, format, remote))
    }

    /// A console for the daemon at the socket of this home, for what it does for nobody else.
    pub(super) fn at_socket(context: &'a Context, format: Format) -> Result<Self, Failure> {
        let remote = Remote::at_socket(&Places::find(context)?.socket(), context.build)?;
        Ok(Self::with(context, format, remote))
    }

    fn with(context: &'a Context, format: Format, remote: Remote) -> Self {
        Self {
            view: View::of(context),
            context,
            format,
            remote,
        }
    }

    /// Asks the daemon. At the socket one is started if none runs, and put in the place of one of an older styxy;
    /// one at a port is somebody else's to start.
    pub(super) fn ask<A>(
        &self,
        call: impl Fn(&Remote) -> Result<A, RemoteError>,
    ) -> Result<A, Failure> {
        match call(&self.remote) {
            Err(RemoteError::NotRunning) => {
                background::start(self.context, &Places::find(self.context)?, StartedBy::Run)?;
                Ok(call(&self.remote)?)
            }
            Err(RemoteError::OtherProtocol { daemon, ours })
                if daemon.protocol < ours && self.remote.port().is_none() =>
            {
                let places = Places::find(self.context)?;
                background::end_older(self.context, &places)?;
                background::start(self.context, &places, StartedBy::Run)?;
                Ok(call(&self.remote)?)
            }
            answer => Ok(answer?),
        }
    }

    /// Asks the daemon if one runs; `None` if not.
    pub(super) fn ask_running<A>(
        &self,
        call: impl Fn(&Remote) -> Result<A, RemoteError>,
    ) -> Result<Option<A>, Failure> {
        match call(&self.remote) {
            Ok(answer) => Ok(Some(answer)),
            Err(RemoteError::NotRunning) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Prints what was found: as JSON the body, for people the text.
    pub(super) fn show(&self, body: &impl Serialize, text: impl FnOnce(&View) -> String) {
        if self.format.json {
            output::print_json(body);
        } else {
            output::print(&text(&self.view));
        }
    }
}
