//! Getting a port for a run: a lease from the daemon, or, when no daemon can be had, a port that is free now.

use std::path::{Path, PathBuf};

use styxy_daemon::kernel;
use styxy_protocol::api::{AllocateRequest, Conflict, ErrorCode, Holder};
use styxy_protocol::{Port, ServiceType};

use crate::background::{self, StartedBy};
use crate::client::{Client, ClientError};
use crate::context::Context;
use crate::places::{Places, PlacesError};

/// Spare ports of a run, for listeners that nobody foresaw.
const SPARES: u8 = 2;

/// A holder that could not be seen.
const UNKNOWN: Holder = Holder::Process {
    pid: None,
    command: None,
};

/// What a run would like to have.
#[derive(Clone, Debug)]
pub(crate) struct Wish {
    /// Kind of service.
    pub(crate) service_type: ServiceType,
    /// Name of the service in its package.
    pub(crate) name: String,
    /// Worktree of the project.
    pub(crate) worktree: Option<PathBuf>,
    /// Package directory inside it.
    pub(crate) package_dir: Option<PathBuf>,
    /// The port that the user or the command asked for.
    pub(crate) asked: Option<Port>,
    /// The port that the tool takes by itself.
    pub(crate) default: Option<Port>,
    /// Only the asked-for port will do (the default one if none was asked for).
    pub(crate) strict: bool,
    /// What is run, for display.
    pub(crate) command: String,
}

impl Wish {
    /// The port that there would be without styxy.
    pub(crate) fn wanted(&self) -> Option<Port> {
        self.asked.or(self.default)
    }
}

/// A port for the run, released when dropped.
#[derive(Debug)]
pub(crate) struct Lease {
    /// Identifier; also the name of the session directory.
    pub(crate) id: String,
    /// The port.
    pub(crate) port: Port,
    /// Further ports of this run.
    pub(crate) spares: Vec<Port>,
    /// Why it is not the wanted port.
    pub(crate) conflict: Option<Conflict>,
    /// The daemon wants a sign of life this often, in seconds.
    pub(crate) heartbeat_seconds: Option<u32>,
    /// Who leased it; `None` when nobody did.
    pub(crate) client: Option<Client>,
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(client) = &self.client {
            // A daemon that cannot be told sees by itself that this process is gone.
            drop(client.release(&self.id));
        }
    }
}

/// Only one port would do and it is taken.
#[derive(Debug, thiserror::Error)]
#[error(
    "port {port} is taken{}; without `--strict` another one is used",
    crate::notice::holder(holder)
)]
pub(crate) struct Taken {
    port: Port,
    holder: Holder,
}

/// Why there is a port but no lease.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unmanaged {
    /// There is nowhere to meet the daemon.
    #[error("going on without the daemon: {0}")]
    NoPlace(String),
    /// It cannot be started.
    #[error("going on without the daemon: {0}")]
    Start(#[from] background::StartError),
    /// It does not answer as it should.
    #[error("going on without the daemon: {0}")]
    Client(#[from] ClientError),
}

/// Asks the daemon, starting it if there is none.
pub(crate) fn acquire(
    context: &Context,
    places: &Result<Places, PlacesError>,
    wish: &Wish,
) -> Result<(Lease, Option<Unmanaged>), Taken> {
    match (ask(context, places, wish), wish.wanted()) {
        (Ok(lease), _) => Ok((lease, None)),
        (Err(Unmanaged::Client(ClientError::Refused(answer))), Some(port))
            if answer.code == ErrorCode::PortTaken =>
        {
            Err(Taken {
                port,
                holder: answer.holder.unwrap_or(UNKNOWN),
            })
        }
        (Err(reason), _) => without_daemon(wish).map(|lease| (lease, Some(reason))),
    }
}

fn ask(
    context: &Context,
    places: &Result<Places, PlacesError>,
    wish: &Wish,
) -> Result<Lease, Unmanaged> {
    let places = match places {
        Ok(places) => places,
        Err(error) => return Err(Unmanaged::NoPlace(error.to_string())),
    };
    let client = Client::new(places.socket());
    let request = request(context, wish);
    let answer = match client.allocate(&request) {
        Err(ClientError::Unreachable { .. }) => {
            background::start(context, places, StartedBy::Run)?;
            client.allocate(&request)?
        }
        answer => answer?,
    };
    Ok(Lease {
        id: answer.lock_id,
        port: answer.port,
        spares: answer.spare_ports,
        conflict: answer.conflict,
        heartbeat_seconds: answer.heartbeat_seconds,
        client: Some(client),
    })
}

/// Asks a daemon that runs already which port it would be, changing nothing.
pub(crate) fn preview(
    context: &Context,
    places: Option<&Places>,
    wish: &Wish,
) -> Result<Lease, Taken> {
    let request = AllocateRequest {
        dry_run: true,
        ..request(context, wish)
    };
    match places.map(|places| Client::new(places.socket()).allocate(&request)) {
        Some(Ok(answer)) => Ok(Lease {
            id: String::new(),
            port: answer.port,
            spares: answer.spare_ports,
            conflict: answer.conflict,
            heartbeat_seconds: None,
            client: None,
        }),
        _ => without_daemon(wish),
    }
}

fn request(context: &Context, wish: &Wish) -> AllocateRequest {
    let text = |path: &Path| path.to_string_lossy().into_owned();
    AllocateRequest {
        service_type: wish.service_type.clone(),
        service_name: Some(wish.name.clone()),
        instance_id: None,
        project_path: wish.worktree.as_deref().map(text),
        package_dir: wish.package_dir.as_deref().map(text),
        preferred_port: if wish.strict {
            wish.wanted()
        } else {
            wish.asked
        },
        default_port: wish.default,
        strict: wish.strict,
        spare_ports: SPARES,
        pid: Some(context.pid),
        command: Some(wish.command.clone()),
        dry_run: false,
    }
}

/// A port that is free at this moment, chosen as the daemon would but knowing only the kernel's view.
fn without_daemon(wish: &Wish) -> Result<Lease, Taken> {
    if let (true, Some(port)) = (wish.strict, wish.wanted())
        && !kernel::port_is_free(port)
    {
        return Err(Taken {
            port,
            holder: UNKNOWN,
        });
    }
    let port = candidates(wish)
        .find(|&port| kernel::port_is_free(port))
        .or_else(random_port);
    let port = port.or(wish.wanted()).unwrap_or(LAST_RESORT);
    let conflict = wish
        .wanted()
        .filter(|&wanted| wanted != port)
        .map(|port| Conflict {
            port,
            holder: UNKNOWN,
        });
    Ok(Lease {
        id: random_id(),
        port,
        spares: (0..SPARES).filter_map(|_| random_port()).collect(),
        conflict,
        heartbeat_seconds: None,
        client: None,
    })
}

/// When not even a random port can be had (no IPv6, where `portpicker` finds none), the command itself will say so.
const LAST_RESORT: Port = Port::new(3000).unwrap();

fn candidates(wish: &Wish) -> impl Iterator<Item = Port> {
    let after = wish
        .default
        .into_iter()
        .flat_map(|default| (1..=9).filter_map(move |step| default.get().checked_add(step)));
    let of_type = wish
        .service_type
        .builtin()
        .into_iter()
        .flat_map(|spec| spec.preferred_ports().chain(spec.range()));
    wish.wanted()
        .into_iter()
        .chain(wish.default)
        .chain(after.chain(of_type).filter_map(Port::new))
}

fn random_port() -> Option<Port> {
    let free = |port: &Port| kernel::port_is_free(*port);
    portpicker::pick_unused_port()
        .and_then(Port::new)
        .filter(free)
}

/// An identifier nobody else has; the kernel makes one at every read (random(4)).
fn random_id() -> String {
    let id = std::fs::read_to_string("/proc/sys/kernel/random/uuid").unwrap_or_default();
    if id.is_empty() {
        std::process::id().to_string()
    } else {
        id.trim().to_owned()
    }
}
