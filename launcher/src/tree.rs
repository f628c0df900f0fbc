//! What the launcher keeps for the processes of one run: the lease, the hold on its ports, the session
//! directory, and the one thread that hears of their binds.

use std::ffi::OsString;
use std::fs::{self, DirBuilder};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use nix::unistd::Pid;
use styxy_daemon::{RELEASED_MARK, kernel};
use styxy_protocol::Port;
use styxy_recipes::Reach;

use crate::context::Context;
use crate::env_names;
use crate::lease::{Lease, Release, Releasing};
use crate::notice::{Notice, Notices};
use crate::places::Places;
use crate::plan::RunPlan;
use crate::session::{Pin, Session, SessionPlan};
use crate::supervise::Observer;
use crate::sys::hold::Hold;
use crate::sys::process;
use crate::watch::{self, Follower, Teller};

/// The resources of a run. [`Tree::release`] gives them back.
#[derive(Debug)]
pub(crate) struct Tree {
    session: Option<Session>,
    /// Where the session is, or would be.
    directory: Option<PathBuf>,
    follower: Option<Follower>,
    teller: Arc<Teller>,
    lease: Lease,
    /// The release, once it has begun, and whether nothing of the run is left.
    releasing: Option<(Releasing, bool)>,
    _holds: Vec<Hold>,
}

impl Tree {
    /// Makes the session directory and takes hold of the spare ports. What cannot be had is done without.
    pub(crate) fn prepare(
        places: Option<&Places>,
        mut lease: Lease,
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
                notices.say(Notice::Degraded(&format_args!(
                    "going on without interception: {error}"
                )));
            })
            .ok()
        });
        // Without the library a child that does not reuse addresses could not bind beside our placeholder.
        let mut holds = Vec::new();
        let main = lease.hold.take();
        if session.is_some() {
            let spares = lease.spares.iter().chain(&plan.further);
            holds.extend(main);
            holds.extend(spares.filter_map(|&port| Hold::take(port).ok()));
        }
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
            follower: session.as_ref().map(Session::watch).map(Follower::new),
            session,
            directory: places.map(|places| places.session(&lease.id)),
            teller: Arc::new(teller),
            lease,
            releasing: None,
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

    /// Where the witness's program lies.
    pub(crate) fn witness(&self) -> Option<PathBuf> {
        self.session.as_ref()?.witness()
    }

    /// Leaves everything to the command that this process is about to become. When that ends, what it leaves running is
    /// its own affair, and not leftovers of a launcher that was killed.
    pub(crate) fn hand_over(&self) {
        if self.lease.client.is_some() {
            self.mark_as_released();
        }
    }

    /// The command could not be executed, so this process goes on.
    pub(crate) fn take_back(&self) {
        if let Some(directory) = &self.directory {
            drop(fs::remove_file(directory.join(RELEASED_MARK)));
            // Stays if it is a session's, which removes it by itself.
            drop(fs::remove_dir(directory));
        }
    }

    /// Tells the daemon, when it looks, that whatever is left of the run is left on purpose.
    fn mark_as_released(&self) {
        if let Some(directory) = &self.directory {
            // Not there yet in a run without interception.
            drop(
                DirBuilder::new()
                    .recursive(true)
                    .mode(0o700)
                    .create(directory),
            );
            drop(fs::write(directory.join(RELEASED_MARK), ""));
        }
    }

    /// Gives everything back. The session directory stays while a process of the run may still need it; the
    /// daemon sweeps it then.
    pub(crate) fn release(mut self) {
        if self.releasing.is_none() {
            self.ended(process::has_children());
        }
        let Some((releasing, is_over)) = self.releasing.take() else {
            return;
        };
        if releasing.finish() == Release::Untold && !is_over {
            // The next daemon would take what is left for leftovers of a launcher that was killed, and end it.
            self.mark_as_released();
        }
        if let Some(session) = self.session.take() {
            session.keep();
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
            .chain(plan.further.iter().copied().map(Pin::from))
            .collect(),
        spares: first
            .into_iter()
            .chain(lease.spares.iter().copied())
            .collect(),
        strict: true,
    }
}

impl Observer for Tree {
    fn settled(&mut self) {
        if let Some(follower) = self.follower.take() {
            watch::start(follower, Arc::clone(&self.teller));
        }
        watch::start_heartbeat(&self.lease);
    }

    fn ended(&mut self, leaves_children: bool) {
        if let Some(session) = &self.session {
            self.teller.tell(session.table().entries());
        }
        if !leaves_children {
            // Before the daemon hears of the end: so it is nothing that the daemon has to look after.
            self.session = None;
        }
        self.releasing = Some((self.lease.release(), !leaves_children));
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

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd as _;

    use nix::errno::Errno;

    use super::*;
    use crate::lease::tests::lease;
    use crate::notice::Volume;
    use crate::notice::tests::recorded;

    fn port(number: u16) -> Port {
        Port::new(number).unwrap()
    }

    fn plan(intercept: bool, redirects: bool, is_guess: bool) -> RunPlan {
        RunPlan {
            argv: vec!["x".into()],
            env: Vec::new(),
            intercept,
            reach: if redirects {
                Reach::None
            } else {
                Reach::Argument
            },
            is_guess,
            port: port(3000),
            further: Vec::new(),
        }
    }

    fn pin(requested: u16, real: u16) -> Pin {
        Pin {
            requested: port(requested),
            real: port(real),
        }
    }

    /// As a program does that takes no care: it cannot bind beside a placeholder.
    fn bind_without_reuse(number: u16) -> nix::Result<()> {
        use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrIn, bind, socket};
        let (family, flags) = (AddressFamily::Inet, SockFlag::SOCK_CLOEXEC);
        let socket = socket(family, SockType::Stream, flags, None)?;
        bind(socket.as_raw_fd(), &SockaddrIn::new(0, 0, 0, 0, number))
    }

    #[test]
    fn the_table_has_the_leased_port_and_what_leads_to_it() {
        let lease = Lease {
            spares: vec![port(20000), port(20001)],
            ..lease(3000)
        };
        let cases = [
            // A tool that was told its port.
            (false, None, vec![pin(3000, 3000)], vec![20000, 20001]),
            // One that cannot be told: it is moved from the port that it wants.
            (
                false,
                Some(port(8080)),
                vec![pin(3000, 3000), pin(8080, 3000)],
                vec![20000, 20001],
            ),
            // One that nobody knows: the leased port is the first for a listener that nobody foresaw.
            (true, None, vec![pin(3000, 3000)], vec![3000, 20000, 20001]),
        ];
        for (is_guess, redirected, pinned, spares) in cases {
            let expected = SessionPlan {
                pinned,
                spares: spares.into_iter().map(port).collect(),
                strict: true,
            };
            let found = session_plan(&lease, &plan(true, false, is_guess), redirected);
            assert_eq!(found, expected);
        }
    }

    #[test]
    fn without_interception_nothing_is_held_and_nothing_is_put_into_the_environment() {
        let free = std::net::TcpListener::bind("[::]:0").unwrap();
        let number = free.local_addr().unwrap().port();
        drop(free);
        let held = Lease {
            hold: Some(Hold::take(port(number)).unwrap()),
            ..lease(number)
        };
        assert_eq!(bind_without_reuse(number), Err(Errno::EADDRINUSE));
        let (notices, said) = recorded(Volume::Normal);
        let tree = Tree::prepare(
            None,
            held,
            &plan(true, false, false),
            None,
            Arc::new(notices),
        );
        assert_eq!(bind_without_reuse(number), Ok(()), "let go of");
        let context = Context {
            build: crate::BUILD,
            env: Vec::new(),
            cwd: None,
            pid: 1,
            uid: 0,
            is_watched: false,
        };
        assert_eq!(tree.variables(&context), []);
        tree.release();
        assert_eq!(*said.lock().unwrap(), "");
    }

    #[test]
    fn a_session_that_cannot_be_had_is_told_and_done_without() {
        let nowhere = Places {
            home: "/nonexistent".into(),
            runtime: "/nonexistent".into(),
        };
        let (notices, said) = recorded(Volume::Normal);
        let plan = plan(true, false, false);
        let tree = Tree::prepare(Some(&nowhere), lease(3000), &plan, None, Arc::new(notices));
        assert!(tree.session.is_none());
        let said = said.lock().unwrap();
        assert!(
            said.starts_with("styxy: going on without interception: "),
            "{said}"
        );
    }
}
