//! What happens to a lease when nobody has it any more: leftovers of a killed run are ended, the ports are
//! kept while anything of the tree listens, the session directory is removed when nobody uses it.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use nix::sys::signal::Signal;
use styxy_protocol::Port;
use tokio::task::spawn_blocking;
use tokio::time::timeout;
use tracing::{info, warn};

use super::Authority;
use crate::allocator::{Hold, LeaseId};
use crate::kernel::{self, Pidfd};
use crate::timers::{self, Backoff};
use crate::tree::Tree;

/// How long leftovers have between SIGTERM and SIGKILL.
const GRACE: Duration = Duration::from_millis(500);
/// How long an exec may leave a process without environment.
const EXEC_TIME: Duration = Duration::from_millis(20);
/// How long a killed process may take to be gone before the next look.
const KILL_WAIT: Duration = Duration::from_millis(200);
/// How often leftovers are looked for: a process that forks while it is being killed needs a second time.
const KILL_ROUNDS: usize = 5;
/// The longest time between two looks at a port whose listener is watched anyway.
const LONGEST_LOOK: Duration = Duration::from_secs(30);
/// Session directories younger than this may belong to a launcher that is about to use them.
const YOUNG_SESSION: Duration = Duration::from_mins(1);

impl Authority {
    /// Takes up the leases that the journal remembered, and the session directories that nobody has.
    pub(crate) fn resume(self: &Arc<Self>) {
        let leases: Vec<_> = {
            let core = self.lock();
            core.allocator
                .leases()
                .map(|lease| (lease.id, lease.hold))
                .collect()
        };
        for (id, hold) in leases {
            match hold {
                Hold::Owner(owner) => match Pidfd::open(owner.process.pid) {
                    Ok(pidfd)
                        if kernel::process_identity(owner.process.pid) == Some(owner.process) =>
                    {
                        self.watch(id, pidfd);
                    }
                    _ => {
                        self.owner_ended(id);
                        tokio::spawn(Arc::clone(self).bury(id));
                    }
                },
                Hold::Detached { .. } => drop(tokio::spawn(Arc::clone(self).bury(id))),
                Hold::Heartbeat { .. } => {}
            }
        }
        let authority = Arc::clone(self);
        tokio::spawn(async move {
            Arc::clone(&authority).adopt().await;
            for id in authority.unknown_sessions(is_old) {
                tokio::spawn(Arc::clone(&authority).sweep_session(Tree { id, owner: None }));
            }
        });
    }

    /// Ends a lease that nobody has any more, as soon as nothing of its tree listens.
    pub(super) async fn bury(self: Arc<Self>, id: LeaseId) {
        let Some((tree, ports, was_killed)) = self.remains(id) else {
            return;
        };
        let left_on_purpose = self
            .sessions
            .join(id.to_string())
            .join(crate::RELEASED_MARK)
            .exists();
        if was_killed && !left_on_purpose {
            self.end_leftovers(tree, ports.clone()).await;
        }
        let mut backoff = Backoff::new(Duration::from_millis(50), LONGEST_LOOK);
        loop {
            let looked_at = ports.clone();
            let listeners = spawn_blocking(move || tree.listeners(&looked_at)).await;
            match listeners.unwrap_or_default().first() {
                None => break,
                // A listener may close its socket and live on, hence not for ever.
                Some(listener) => {
                    timeout(backoff.step(), timers::process_end(listener))
                        .await
                        .ok();
                }
            }
        }
        let mut core = self.lock();
        if let Some(record) = core.allocator.tree_ended(id) {
            self.end(&mut core, id, record);
            drop(core);
            info!(%id, was_killed, "ended");
        }
    }

    /// Ends what a killed launcher has left behind in its session: asks, and after the grace period kills.
    async fn end_leftovers(&self, tree: Tree, ports: BTreeSet<Port>) {
        let look = || async move {
            let census = self.marks.ask().await;
            census.map_or_else(Vec::new, |census| tree.leftovers(&census))
        };
        let mut found = look().await;
        if found.is_empty() {
            // In the moment of an exec a process has no environment to be known by.
            timers::pause(EXEC_TIME).await;
            found = look().await;
        }
        terminate(&found);
        let nameless = spawn_blocking(move || tree.nameless_leftovers(&ports)).await;
        let nameless = nameless.unwrap_or_default();
        terminate(&nameless);
        let count = found.len() + nameless.len();
        if count == 0 {
            return;
        }
        info!(id = %tree.id, count, "ending what a killed run left behind");
        let all_gone = async {
            timers::every_end(&found).await;
            timers::every_end(&nameless).await;
        };
        timeout(GRACE, all_gone).await.ok();
        for _ in 0..KILL_ROUNDS {
            let rest = look().await;
            let nameless = nameless.iter().filter(|process| !process.has_ended());
            let rest: Vec<&Pidfd> = rest.iter().chain(nameless).collect();
            if rest.is_empty() {
                return;
            }
            for process in &rest {
                process.send_signal(Signal::SIGKILL).ok();
            }
            timeout(KILL_WAIT, timers::every_end(rest)).await.ok();
        }
        warn!(id = %tree.id, "some of it cannot be killed");
    }

    /// Removes a session directory once no process uses it.
    pub(super) async fn sweep_session(self: Arc<Self>, tree: Tree) {
        let dir = self.sessions.join(tree.id.to_string());
        if !dir.exists() {
            return;
        }
        // A failed walk has seen nothing, and then the directory stays.
        while let Some(census) = self.maps.ask().await {
            let users = tree.users(&census);
            if users.is_empty() {
                let removed = spawn_blocking(move || fs::remove_dir_all(dir)).await;
                // A launcher that lives removes it as well.
                if let Ok(Err(error)) = removed
                    && error.kind() != io::ErrorKind::NotFound
                {
                    warn!(id = %tree.id, %error, "cannot remove session directory");
                }
                return;
            }
            timers::every_end(&users).await;
        }
    }

    fn remains(&self, id: LeaseId) -> Option<(Tree, BTreeSet<Port>, bool)> {
        let core = self.lock();
        let lease = core.allocator.lease(id)?;
        let Hold::Detached { owner, was_killed } = lease.hold else {
            return None;
        };
        Some((Tree { id, owner }, lease.ports().collect(), was_killed))
    }

    /// The leases that there is a session directory of, but nothing else; those whose directory `is_meant`.
    pub(super) fn unknown_sessions(
        &self,
        is_meant: impl Fn(&fs::DirEntry) -> bool,
    ) -> Vec<LeaseId> {
        let Ok(entries) = fs::read_dir(&self.sessions) else {
            return Vec::new();
        };
        let core = self.lock();
        entries
            .flatten()
            .filter(is_meant)
            .filter_map(|entry| entry.file_name().to_str()?.parse::<LeaseId>().ok())
            .filter(|id| core.allocator.lease(*id).is_none())
            .collect()
    }
}

/// Whether nobody can be about to use this session directory.
fn is_old(entry: &fs::DirEntry) -> bool {
    let modified = entry.metadata().and_then(|metadata| metadata.modified());
    let age = modified
        .ok()
        .and_then(|time| SystemTime::now().duration_since(time).ok());
    age.is_some_and(|age| age > YOUNG_SESSION)
}

fn terminate(processes: &[Pidfd]) {
    for process in processes {
        process.send_signal(Signal::SIGTERM).ok();
        // A stopped process takes the signal only when it goes on.
        process.send_signal(Signal::SIGCONT).ok();
    }
}
