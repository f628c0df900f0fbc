//! The launcher's one extra thread: hears of every port that the tree binds, tells the daemon, and tells the
//! user what was moved and when the service is ready.
//!
//! It sleeps in a futex on the shared table. A bind is only a hint that somebody may listen soon; the kernel
//! is asked whether somebody does. Nothing here can hold up or end the command.

use std::collections::HashMap;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use styxy_daemon::kernel;
use styxy_protocol::Port;
use styxy_protocol::api::ListenerReport;
use styxy_protocol::table::Entry;

use crate::client::Client;
use crate::lease::Lease;
use crate::notice::Notices;
use crate::session::{Session, TableWatcher};

/// After a bind, how long to look for the `listen` that follows it. Later ones are announced by nobody.
const PATIENCE: Duration = Duration::from_secs(30);

/// What the thread knows of its run.
#[derive(Debug)]
pub(crate) struct Watch {
    /// The shared table.
    pub(crate) session: Arc<Session>,
    /// The run's main port.
    pub(crate) port: Port,
    /// The lease, for reports.
    pub(crate) lease_id: String,
    /// The daemon, if there is one.
    pub(crate) client: Option<Client>,
    /// Whether the first port that is bound is the service's, whatever its number.
    pub(crate) any_port: bool,
    /// The voice of the run.
    pub(crate) notices: Arc<Notices>,
}

impl Watch {
    /// Starts the thread. Without it (no memory, no thread) the run goes on and is just quieter.
    pub(crate) fn start(self) {
        let started = now();
        drop(
            thread::Builder::new()
                .name("styxy-watch".to_owned())
                .stack_size(256 << 10)
                .spawn(move || self.follow(started)),
        );
    }

    fn follow(self, started: Instant) {
        let mut announced: HashMap<u16, u16> = self
            .session
            .table()
            .entries()
            .map(|entry| (entry.requested, entry.real))
            .collect();
        let mut is_ready = !self.notices.announces_readiness();
        let mut watcher = TableWatcher::new(Arc::clone(&self.session));
        loop {
            for entry in watcher.wait() {
                let (Some(requested), Some(port)) =
                    (Port::new(entry.requested), Port::new(entry.real))
                else {
                    continue;
                };
                if announced.insert(entry.requested, entry.real) != Some(entry.real)
                    && requested != port
                {
                    self.notices.reassigned(requested, port, None);
                }
                self.report(ListenerReport { requested, port });
                if !is_ready && self.is_the_service(entry) && comes_up(port) {
                    self.notices
                        .ready(port, now().saturating_duration_since(started));
                    is_ready = true;
                }
            }
        }
    }

    fn is_the_service(&self, entry: Entry) -> bool {
        entry.bound
            && (self.any_port
                || entry.requested == self.port.get()
                || entry.real == self.port.get())
    }

    /// The lease's own port needs no report: the daemon looks for a listener on it anyway.
    fn report(&self, report: ListenerReport) {
        if let Some(client) = &self.client
            && (report.port != self.port || report.requested != self.port)
        {
            // A daemon that is gone learns of the listener from the kernel when it matters.
            drop(client.report(&self.lease_id, report));
        }
    }
}

/// Keeps a lease alive that the daemon cannot watch, for as long as this process lives.
pub(crate) fn start_heartbeat(lease: &Lease) {
    let (Some(seconds), Some(client), id) = (
        lease.heartbeat_seconds,
        lease.client.clone(),
        lease.id.clone(),
    ) else {
        return;
    };
    let period = Duration::from_secs(u64::from(seconds.max(1)));
    drop(
        thread::Builder::new()
            .name("styxy-heartbeat".to_owned())
            .stack_size(256 << 10)
            .spawn(move || {
                loop {
                    thread::park_timeout(period);
                    drop(client.heartbeat(&id));
                }
            }),
    );
}

/// Whether somebody listens on the port within a while.
fn comes_up(port: Port) -> bool {
    let deadline = now() + PATIENCE;
    let mut pause = Duration::from_millis(1);
    while now() < deadline {
        if kernel::is_listening(port) {
            return true;
        }
        thread::park_timeout(pause);
        pause = (pause * 2).min(Duration::from_millis(100));
    }
    false
}

#[expect(
    clippy::disallowed_methods,
    reason = "the time to readiness is shown to the user; nothing is decided by it"
)]
fn now() -> Instant {
    Instant::now()
}
