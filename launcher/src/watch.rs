//! The launcher's one extra thread: hears of every port that the tree binds, tells the daemon, and tells the
//! user what was moved and when the service is ready.
//!
//! It sleeps in a futex on the shared table. A bind is only a hint that somebody may listen soon; the kernel
//! is asked whether somebody does. Nothing here can hold up or end the command.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use styxy_daemon::kernel;
use styxy_protocol::Port;
use styxy_protocol::api::ListenerReport;
use styxy_protocol::table::Entry;

use crate::client::Client;
use crate::lease::Lease;
use crate::notice::Notices;
use crate::session::TableWatcher;

/// After a bind, how long to look for the `listen` that follows it. Later ones are announced by nobody.
const PATIENCE: Duration = Duration::from_secs(30);

/// Tells daemon and user what the tree has bound, each thing once, whoever hears of it first: the thread, or
/// the launcher that looks at the table a last time when the command has ended.
#[derive(Debug)]
pub(crate) struct Teller {
    /// The run's main port.
    pub(crate) port: Port,
    /// The port that the tool was to be moved away from; the user knows already.
    pub(crate) redirected: Option<Port>,
    /// The lease, for reports.
    pub(crate) lease_id: String,
    /// The daemon, if there is one.
    pub(crate) client: Option<Client>,
    /// Whether the first port that is bound is the service's, whatever its number.
    pub(crate) any_port: bool,
    /// The voice of the run.
    pub(crate) notices: Arc<Notices>,
    /// What was told.
    pub(crate) told: Mutex<HashSet<(u16, u16)>>,
}

impl Teller {
    /// Tells what is new in these entries.
    pub(crate) fn tell(&self, entries: impl IntoIterator<Item = Entry>) {
        for entry in entries.into_iter().filter(|entry| entry.bound) {
            let (Some(requested), Some(port)) = (Port::new(entry.requested), Port::new(entry.real))
            else {
                continue;
            };
            let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
            if !told.insert((entry.requested, entry.real)) {
                continue;
            }
            let is_known = self.redirected == Some(requested) && port == self.port;
            if entry.is_moved() && !is_known {
                self.notices.reassigned(requested, port, None);
            }
            drop(told);
            self.report(ListenerReport { requested, port });
        }
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

    /// The listener that is the service: on the run's port if there is one, else on whichever port it chose.
    fn service(&self, entries: &[Entry]) -> Option<Entry> {
        let is_main = |entry: &&Entry| [entry.requested, entry.real].contains(&self.port.get());
        let on_main = entries.iter().find(is_main);
        on_main
            .or_else(|| entries.first().filter(|_| self.any_port))
            .copied()
    }
}

/// Starts the thread. Without it (no memory, no thread) the run goes on and is just quieter.
pub(crate) fn start(mut watcher: TableWatcher, teller: Arc<Teller>) {
    let started = now();
    let follow = move || {
        let mut is_ready = !teller.notices.announces_readiness();
        while let Some(entries) = watcher.wait() {
            teller.tell(entries.iter().copied());
            let service = teller.service(&entries);
            if let Some(port) = service
                .filter(|_| !is_ready)
                .and_then(|entry| Port::new(entry.real))
                && comes_up(port)
            {
                teller
                    .notices
                    .ready(port, now().saturating_duration_since(started));
                is_ready = true;
            }
        }
    };
    drop(
        thread::Builder::new()
            .name("styxy-watch".to_owned())
            .stack_size(256 << 10)
            .spawn(follow),
    );
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
    let beat = move || {
        loop {
            thread::park_timeout(period);
            // A lost heartbeat is made up for by the next one.
            drop(client.heartbeat(&id));
        }
    };
    drop(
        thread::Builder::new()
            .name("styxy-heartbeat".to_owned())
            .stack_size(256 << 10)
            .spawn(beat),
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
