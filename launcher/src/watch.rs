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
use crate::notice::{Notice, Notices};
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
            if !self.is_news(entry) {
                continue;
            }
            let is_known = self.redirected == Some(requested) && port == self.port;
            if entry.is_moved() && !is_known {
                self.notices.say(Notice::Reassigned {
                    wanted: requested,
                    got: port,
                    holder: None,
                });
            }
            self.report(ListenerReport { requested, port });
        }
    }

    /// The lock is held for this alone: what follows may have to wait for the daemon, or for whoever reads stderr.
    fn is_news(&self, entry: Entry) -> bool {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        told.insert((entry.requested, entry.real))
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

/// A table that is followed from a moment on, whenever the thread is started that does so.
#[derive(Debug)]
pub(crate) struct Follower {
    table: TableWatcher,
    since: Instant,
}

impl Follower {
    /// Follows from now on.
    pub(crate) fn new(table: TableWatcher) -> Self {
        let since = now();
        Self { table, since }
    }
}

/// Starts the thread. Without it (no memory, no thread) the run goes on and is just quieter.
pub(crate) fn start(follower: Follower, teller: Arc<Teller>) {
    let Follower { mut table, since } = follower;
    let follow = move || {
        let mut is_ready = !teller.notices.announces_readiness();
        while let Some(entries) = table.wait() {
            teller.tell(entries.iter().copied());
            let service = teller.service(&entries);
            if let Some(port) = service
                .filter(|_| !is_ready)
                .and_then(|entry| Port::new(entry.real))
                && comes_up(port)
            {
                let after = now().saturating_duration_since(since);
                teller.notices.say(Notice::Ready { port, after });
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::notice::Volume;
    use crate::notice::tests::recorded;

    fn port(number: u16) -> Port {
        Port::new(number).unwrap()
    }

    fn bound(requested: u16, real: u16) -> Entry {
        Entry {
            requested,
            real,
            pinned: false,
            bound: true,
            contested: false,
        }
    }

    /// One for a run on port 3000 that was moved away from 8080, and what it says.
    fn teller(any_port: bool) -> (Teller, Arc<Mutex<String>>) {
        let (notices, said) = recorded(Volume::Normal);
        let teller = Teller {
            port: port(3000),
            redirected: Some(port(8080)),
            lease_id: "x".to_owned(),
            client: None,
            any_port,
            notices: Arc::new(notices),
            told: Mutex::default(),
        };
        (teller, said)
    }

    #[test]
    fn each_thing_is_told_once_whoever_hears_of_it() {
        let (teller, said) = teller(false);
        let unbound = Entry {
            bound: false,
            ..bound(9000, 20001)
        };
        teller.tell([bound(3000, 3000), bound(24678, 20000), unbound]);
        teller.tell([bound(24678, 20000)]);
        // The same port again, for another process of the run.
        teller.tell([bound(24678, 20002), bound(24678, 20000)]);
        assert_eq!(
            *said.lock().unwrap(),
            "✓ STYXY: Port 24678 was in use, auto-assigned port 20000\n\
             ✓ STYXY: Port 24678 was in use, auto-assigned port 20002\n"
        );
    }

    #[test]
    fn what_was_announced_before_the_start_is_not_told_again() {
        let (teller, said) = teller(false);
        teller.tell([bound(8080, 3000)]);
        assert_eq!(*said.lock().unwrap(), "");
        // It is not where it was said to go.
        teller.tell([bound(8080, 20000)]);
        assert_eq!(said.lock().unwrap().lines().count(), 1);
    }

    #[test]
    fn entries_without_a_port_are_nothing_to_tell() {
        let (teller, said) = teller(true);
        teller.tell([bound(0, 3000), bound(3000, 0)]);
        assert_eq!(*said.lock().unwrap(), "");
    }

    #[test]
    fn the_service_is_on_the_leased_port_or_for_an_unknown_tool_on_any() {
        let (known, _) = teller(false);
        let (unknown, _) = teller(true);
        for (entry, is_service) in [
            (bound(3000, 3000), true),
            (bound(8080, 3000), true),
            (bound(3000, 20000), true),
            (bound(9229, 9229), false),
        ] {
            assert_eq!(known.service(&[entry]).is_some(), is_service, "{entry:?}");
            assert_eq!(unknown.service(&[entry]), Some(entry));
        }
        let both = [bound(9229, 9229), bound(3000, 3000)];
        assert_eq!(
            unknown.service(&both),
            Some(both[1]),
            "the leased one comes first"
        );
    }
}
