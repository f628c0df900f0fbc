//! What the launcher keeps for the processes of one run: the lease, the hold on its ports, the session
//! directory, and the one thread that hears of their binds.

use std::ffi::OsString;
use std::sync::Arc;

use nix::errno::Errno;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use styxy_daemon::kernel;
use styxy_protocol::Port;

use crate::context::Context;
use crate::env_names;
use crate::lease::Lease;
use crate::notice::Notices;
use crate::places::Places;
use crate::plan::RunPlan;
use crate::session::{Pin, Session, SessionPlan};
use crate::supervise::Observer;
use crate::sys::hold::Hold;
use crate::watch::{self, Watch};

/// The resources of a run. [`Tree::release`] gives them back.
#[derive(Debug)]
pub(crate) struct Tree {
    lease: Lease,
    session: Option<Arc<Session>>,
    _holds: Vec<Hold>,
    is_guess: bool,
    notices: Arc<Notices>,
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
        let session = places.filter(|_| plan.intercept).and_then(|places| {
            Session::create(
                &places.runtime,
                &lease.id,
                &session_plan(&lease, plan, wanted),
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
        Self {
            lease,
            session: session.map(Arc::new),
            _holds: holds,
            is_guess: plan.is_guess,
            notices,
        }
    }

    /// The variables that put the library into every process of the run.
    pub(crate) fn variables(&self, context: &Context) -> Vec<(OsString, OsString)> {
        self.session
            .iter()
            .flat_map(|session| {
                [
                    (
                        env_names::PRELOAD.into(),
                        session.preload_value(context.var(env_names::PRELOAD)),
                    ),
                    (
                        env_names::ASAN_OPTIONS.into(),
                        Session::asan_options(context.var(env_names::ASAN_OPTIONS)),
                    ),
                ]
            })
            .collect()
    }

    /// Gives everything back. The session directory stays while a process of the run may still need it; the
    /// daemon sweeps it then.
    pub(crate) fn release(self) {
        if let Some(session) = self.session.as_deref().filter(|_| no_child_is_left()) {
            session.remove();
        }
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
fn session_plan(lease: &Lease, plan: &RunPlan, wanted: Option<Port>) -> SessionPlan {
    let mut pins = vec![Pin {
        requested: lease.port,
        real: lease.port,
    }];
    if let Some(wanted) = wanted.filter(|&wanted| plan.redirects && wanted != lease.port) {
        pins.push(Pin {
            requested: wanted,
            real: lease.port,
        });
    }
    // An unknown tool may ignore `PORT` and bind a port of its own: then the leased one is the first to give it.
    let first = plan.is_guess.then_some(lease.port);
    SessionPlan {
        pins,
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
            let watch = Watch {
                session: Arc::clone(session),
                port: self.lease.port,
                lease_id: self.lease.id.clone(),
                client: self.lease.client.clone(),
                any_port: self.is_guess,
                notices: Arc::clone(&self.notices),
            };
            watch.start();
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
