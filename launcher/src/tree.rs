//! What the launcher keeps for the processes of one run: the lease, the hold on its ports, the session
//! directory, and the one thread that hears of their binds.

use std::ffi::OsString;
use std::sync::{Arc, Mutex};

use nix::errno::Errno;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use styxy_daemon::kernel;
use styxy_protocol::Port;
use styxy_recipes::Reach;

use crate::context::Context;
use crate::env_names;
use crate::lease::Lease;
use crate::notice::Notices;
use crate::places::Places;
use crate::plan::RunPlan;
use crate::session::{Pin, Session, SessionPlan};
use crate::supervise::Observer;
use crate::sys::hold::Hold;
use crate::watch::{self, Teller};

/// The resources of a run. [`Tree::release`] gives them back.
#[derive(Debug)]
pub(crate) struct Tree {
    session: Option<Session>,
    teller: Arc<Teller>,
    lease: Lease,
    _holds: Vec<Hold>,
}

impl Tree {
    /// Makes the session directory and takes hold of the ports. What cannot be had is done without.
    pub(crate) fn prepare(
        places: Option<&Places>,
        lease: Lease,
        plan: &RunPlan,
        wanted: Option<Port>,
        notices: Arc<Notices>,
    ) -> Self {
        let redirected = wanted.filter(|&wanted| plan.reach == Reach::None && wanted != lease.port);
        let session = places.filter(|_| plan.intercept).and_then(|places| {
            Session::create(
                &places.runtime,
                &lease.id,
                &session_plan(&lease, plan, redirected),
            )
            .inspect_err(|error| {
                notices.degraded(&format_args!("going on without interception: {error}"));
            })
            .ok()
        });
        // Without the library a child that does not reuse addresses could not bind beside our placeholder.
        let ports = session
            .iter()
            .flat_map(|_| std::iter::once(&lease.port).chain(&lease.spares));
        let holds = ports.filter_map(|&port| Hold::take(port).ok()).collect();
        let teller = Teller {
            port: lease.port,
            redirected,
            lease_id: lease.id.clone(),
            client: lease.client.clone(),
            // It may not read the variable that it was told its port by.
            any_port: plan.is_guess || plan.reach == Reach::Environment,
            notices,
            told: Mutex::default(),
        };
        Self {
            session,
            teller: Arc::new(teller),
            lease,
            _holds: holds,
        }
    }

    /// The variables that put the library into every process of the run.
    pub(crate) fn variables(&self, context: &Context) -> Vec<(OsString, OsString)> {
        let Some(session) = &self.session else {
            return Vec::new();
        };
        vec![
            (
                env_names::PRELOAD.into(),
                session.preload_value(context.var(env_names::PRELOAD)),
            ),
            (
                env_names::ASAN_OPTIONS.into(),
                session.asan_options(context.var(env_names::ASAN_OPTIONS)),
            ),
        ]
    }

    /// Gives everything back. The session directory stays while a process of the run may still need it; the
    /// daemon sweeps it then.
    pub(crate) fn release(self) {
        let Self {
            session,
            teller,
            lease,
            ..
        } = self;
        if let Some(session) = &session {
            teller.tell(session.table().entries());
        }
        let released = lease.release();
        let Some(session) = session.filter(|_| !no_child_is_left()) else {
            return;
        };
        if !released {
            // The next daemon would take what is left for leftovers of a launcher that was killed, and end it.
            drop(std::fs::write(
                session.directory().join(styxy_daemon::RELEASED_MARK),
                "",
            ));
        }
        session.keep();
    }
}

/// Whether every process of the run is gone: orphans become our children, since we are their subreaper.
fn no_child_is_left() -> bool {
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::StillAlive) => return false,
            Ok(_) | Err(Errno::EINTR) => {}
            Err(_) => return true,
        }
    }
}

/// What goes into the port table: the leased port as it is, and, where the tool cannot be told another port
/// than the one it wants, a redirection from that one.
fn session_plan(lease: &Lease, plan: &RunPlan, redirected: Option<Port>) -> SessionPlan {
    let redirection = redirected.map(|requested| Pin {
        requested,
        real: lease.port,
    });
    // An unknown tool may ignore `PORT` and bind a port of its own: then the leased one is the first to give it.
    let first = plan.is_guess.then_some(lease.port);
    SessionPlan {
        pinned: std::iter::once(Pin::from(lease.port))
            .chain(redirection)
            .collect(),
        spares: first
            .into_iter()
            .chain(lease.spares.iter().copied())
            .collect(),
        strict: true,
    }
}

impl Observer for Tree {
    fn spawned(&mut self, _child: Pid) {
        if let Some(session) = &self.session {
            watch::start(session.watch(), Arc::clone(&self.teller));
        }
        watch::start_heartbeat(&self.lease);
    }

    fn port_holders(&self, among: &[Pid]) -> Vec<Pid> {
        let table = self
            .session
            .iter()
            .flat_map(|session| session.table().entries());
        let ports: Vec<u16> = table
            .map(|entry| entry.real)
            .chain([self.lease.port.get()])
            .collect();
        let listening = kernel::listening().unwrap_or_default();
        let inodes: Vec<u32> = listening
            .iter()
            .filter(|socket| ports.contains(&socket.port.get()))
            .map(|socket| socket.inode)
            .collect();
        let pids: Vec<u32> = among
            .iter()
            .map(|pid| pid.as_raw().cast_unsigned())
            .collect();
        let mut holders: Vec<Pid> = kernel::holders(&inodes, Some(&pids))
            .into_iter()
            .map(|(pid, _)| Pid::from_raw(pid.cast_signed()))
            .collect();
        holders.dedup();
        holders
    }
}
