//! Getting a port for a run: a lease from the daemon, or, when no daemon can be had, a port that is free now.
//!
//! Invariant: whoever gets a lease here holds its port already, as far as that can be done, so that it is still
//! there when it is announced.

mod without_daemon;

use std::io;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

use styxy_protocol::api::{
    AllocateRequest, AllocateResponse, Conflict, ErrorCode, ExistingLease, Holder, ReleaseResponse,
};
use styxy_protocol::{Port, ServiceType};

use crate::background::{self, StartedBy};
use crate::client::{Asked, Client, ClientError};
use crate::context::Context;
use crate::env_names;
use crate::follow::{self, NotFollowed};
use crate::notice::printable;
use crate::places::{Places, PlacesError};
use crate::sys::hold::Hold;
use without_daemon::without_daemon;

/// Spare ports of a run, for listeners that nobody foresaw.
const SPARES: u8 = 2;

/// How often a port that somebody took before it could be held is given back for another one.
const ATTEMPTS: usize = 3;
/// How often a daemon is started for one request: it may end at once, and one of an older styxy may be started by
/// somebody else in the meantime.
const DAEMONS: usize = 3;
/// What the daemon takes, in bytes; all of it together has to fit into a request of 16 KiB.
const MAX_NAME: usize = 100;
const MAX_PATH: usize = 2000;
const MAX_COMMAND: usize = 1000;

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

/// A port for the run. Unless it is released the daemon takes it back when this process ends, and takes what is
/// left of the run for leftovers of a launcher that was killed.
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
    /// The port's placeholder, unless somebody else was faster.
    pub(crate) hold: Option<Hold>,
    /// Keeps launchers that have no daemon either away from the port.
    #[expect(dead_code, reason = "it is had, not read")]
    pub(crate) claim: Option<UnixDatagram>,
}

impl Lease {
    /// Gives the lease back. What comes of it is to be asked for later.
    pub(crate) fn release(&self) -> Releasing {
        let client = self.client.as_ref();
        Releasing(client.map(|client| client.release(&self.id)))
    }
}

/// A release that the daemon may still be busy with; `None` if there is nobody to be told.
#[derive(Debug)]
#[must_use = "the daemon may not have heard it"]
pub(crate) struct Releasing(Option<Result<Asked<ReleaseResponse>, ClientError>>);

impl Releasing {
    /// Waits until the daemon has answered.
    pub(crate) fn finish(self) -> Release {
        match self.0.map(|asked| asked.and_then(Asked::answer)) {
            // A daemon that does not know it any more has nothing to be told.
            None | Some(Ok(_) | Err(ClientError::Refused(_))) => Release::Done,
            Some(Err(_)) => Release::Untold,
        }
    }
}

/// What became of a release.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Release {
    /// The daemon knows that the run has ended, or there is nothing to know.
    Done,
    /// The daemon could not be told.
    Untold,
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
    /// There may be one service of the type, and it has its lease, but there is nobody to follow.
    #[error(
        "one `{service_type}` service at a time: {why} has the lease of port {port}{}; going on without one",
        remedy(*why, *port)
    )]
    OnlyOne {
        /// The type.
        service_type: ServiceType,
        /// The port of the one that has a lease.
        port: Port,
        /// Why it is not followed.
        why: NotFollowed,
    },
    /// It does not answer as it should.
    #[error("going on without the daemon: {0}")]
    Client(#[from] ClientError),
}

impl Unmanaged {
    /// Ports that the daemon has given to others, as far as its answer says: free in the kernel perhaps, but not ours.
    fn leased(&self) -> Vec<Port> {
        match self {
            Self::OnlyOne { port, .. } => vec![*port],
            Self::Client(ClientError::Refused(answer)) => answer
                .context
                .as_ref()
                .map(|context| context.allocated_ports.clone())
                .unwrap_or_default(),
            _ => Vec::new(),
        }
    }
}

fn remedy(why: NotFollowed, port: Port) -> String {
    match why {
        NotFollowed::Idle => format!(" (`styxy release {port}` ends it)"),
        NotFollowed::Ourselves | NotFollowed::Ended => String::new(),
    }
}

/// What came of asking for a port.
#[derive(Debug)]
pub(crate) enum Acquired {
    /// A port, and why it is not leased, if so.
    Port(Lease, Option<Unmanaged>),
    /// There may be one service of the type, and it runs already.
    Elsewhere(follow::Service),
}

/// What the daemon says.
enum Answer {
    Lease(Lease),
    Elsewhere(follow::Service),
}

/// Asks the daemon, starting it if there is none, and takes hold of the port.
pub(crate) fn acquire(
    context: &Context,
    places: &Result<Places, PlacesError>,
    wish: &Wish,
) -> Result<Acquired, Taken> {
    let mut attempts = 1..=ATTEMPTS;
    loop {
        attempts.next();
        let (mut lease, unmanaged) = match choose(context, places, wish)? {
            Acquired::Port(lease, unmanaged) => (lease, unmanaged),
            elsewhere @ Acquired::Elsewhere(_) => return Ok(elsewhere),
        };
        match Hold::take(lease.port) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && !attempts.is_empty() => {
                // Somebody has bound it since the daemon looked. It is given back, and the daemon looks again.
                let _ = lease.release().finish();
            }
            held => {
                lease.hold = held.ok();
                return Ok(Acquired::Port(lease, unmanaged));
            }
        }
    }
}

fn choose(
    context: &Context,
    places: &Result<Places, PlacesError>,
    wish: &Wish,
) -> Result<Acquired, Taken> {
    match (ask(context, places, wish), wish.wanted()) {
        (Ok(Answer::Lease(lease)), _) => Ok(Acquired::Port(lease, None)),
        (Ok(Answer::Elsewhere(service)), _) => Ok(Acquired::Elsewhere(service)),
        (Err(Unmanaged::Client(ClientError::Refused(answer))), Some(port))
            if answer.code == ErrorCode::PortTaken =>
        {
            Err(Taken {
                port,
                holder: answer.holder.unwrap_or(UNKNOWN),
            })
        }
        (Err(reason), _) => {
            without_daemon(wish, &reason.leased()).map(|lease| Acquired::Port(lease, Some(reason)))
        }
    }
}

fn ask(
    context: &Context,
    places: &Result<Places, PlacesError>,
    wish: &Wish,
) -> Result<Answer, Unmanaged> {
    let places = match places {
        Ok(places) => places,
        Err(error) => return Err(Unmanaged::NoPlace(error.to_string())),
    };
    let client = Client::new(places.socket(), context.build);
    let request = request(context, wish);
    let mut attempts = 1..ATTEMPTS;
    let answer = loop {
        let mut answer = allocate(context, places, &client, &request)?;
        let Some(existing) = answer.existing.take() else {
            break answer;
        };
        match find_elsewhere(context, &client, wish, answer.port, existing) {
            Ok(service) => return Ok(Answer::Elsewhere(service)),
            Err(NotFollowed::Ended) if attempts.next().is_some() => {}
            Err(why) => {
                return Err(Unmanaged::OnlyOne {
                    service_type: wish.service_type.clone(),
                    port: answer.port,
                    why,
                });
            }
        }
    };
    Ok(Answer::Lease(Lease {
        id: answer.lock_id,
        port: answer.port,
        spares: answer.spare_ports,
        conflict: answer.conflict,
        heartbeat_seconds: answer.heartbeat_seconds,
        client: Some(client),
        hold: None,
        claim: None,
    }))
}

/// The one service of the wish's type, which has this lease.
fn find_elsewhere(
    context: &Context,
    client: &Client,
    wish: &Wish,
    port: Port,
    lease: ExistingLease,
) -> Result<follow::Service, NotFollowed> {
    let inside = context.var(env_names::LEASE);
    follow::find(
        client.clone(),
        wish.service_type.clone(),
        port,
        lease,
        inside,
    )
}

/// The answer of a daemon of our version, which is started where there is none or only an older one.
fn allocate(
    context: &Context,
    places: &Places,
    client: &Client,
    request: &AllocateRequest,
) -> Result<AllocateResponse, Unmanaged> {
    for _ in 0..DAEMONS {
        match client.allocate(request) {
            Err(ClientError::Absent { .. }) => {}
            Err(ClientError::Older { lease, .. }) => {
                let ended = background::end_older(context, places);
                let started =
                    ended.and_then(|()| background::start(context, places, StartedBy::Run));
                // Whoever serves now knows it: it is in the journal.
                if let Some(id) = lease {
                    drop(client.release(&id).and_then(Asked::answer));
                }
                started?;
                continue;
            }
            answer => return Ok(answer?),
        }
        background::start(context, places, StartedBy::Run)?;
    }
    Ok(client.allocate(request)?)
}

/// Asks a daemon that runs already which port it would be, changing nothing; and whether the service with that port
/// runs already and would be followed.
pub(crate) fn preview(
    context: &Context,
    places: Option<&Places>,
    wish: &Wish,
) -> Result<(Lease, bool), Taken> {
    let request = AllocateRequest {
        dry_run: true,
        ..request(context, wish)
    };
    let client = places.map(|places| Client::new(places.socket(), context.build));
    let answer = client.map(|client| (client.allocate(&request), client));
    let Some((Ok(answer), client)) = answer else {
        return Ok((without_daemon(wish, &[])?, false));
    };
    let service = answer
        .existing
        .map(|existing| find_elsewhere(context, &client, wish, answer.port, existing));
    let is_followed = match service {
        None => false,
        Some(Ok(_)) => true,
        Some(Err(_)) => return Ok((without_daemon(wish, &[])?, false)),
    };
    let lease = Lease {
        id: String::new(),
        port: answer.port,
        spares: answer.spare_ports,
        conflict: answer.conflict,
        heartbeat_seconds: None,
        client: None,
        hold: None,
        claim: None,
    };
    Ok((lease, is_followed))
}

fn request(context: &Context, wish: &Wish) -> AllocateRequest {
    let text = |path: &Path| end_of(&printable(&path.to_string_lossy()), MAX_PATH).to_owned();
    AllocateRequest {
        service_type: wish.service_type.clone(),
        service_name: Some(service_name(&wish.name)),
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
        command: Some(start_of(&wish.command, MAX_COMMAND).to_owned()),
        ttl_seconds: None,
        dry_run: false,
    }
}

/// The name as the daemon takes it: at most so many letters, digits and marks that names of packages and scripts have.
fn service_name(name: &str) -> String {
    let is_taken = |c: &char| c.is_ascii_alphanumeric() || "-_.:@/+".contains(*c);
    let taken = name.chars().map(|c| if is_taken(&c) { c } else { '-' });
    taken.take(MAX_NAME).collect()
}

/// As much of the start of `text` as fits into `limit` bytes.
fn start_of(text: &str, limit: usize) -> &str {
    &text[..text.floor_char_boundary(limit)]
}

/// As much of the end of `text` as fits into `limit` bytes: what tells two long paths apart is there.
fn end_of(text: &str, limit: usize) -> &str {
    &text[text.ceil_char_boundary(text.len().saturating_sub(limit))..]
}

#[cfg(test)]
pub(crate) mod tests;
