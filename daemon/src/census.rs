//! Which processes of the machine carry the id of which lease.
//!
//! One walk of `/proc` answers for all leases: when many launchers are killed at once, the questions about their
//! leftovers share the next walk. Invariant: an answer comes from a walk that began after the question.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use styxy_protocol::table::LIBRARY_NAME;
use tokio::sync::{mpsc, oneshot};
use tokio::task::spawn_blocking;

use crate::allocator::LeaseId;
use crate::kernel;

/// Length of an id as text.
const ID_LENGTH: usize = 36;

/// The processes by the leases that they belong to.
#[derive(Debug, Default)]
pub(crate) struct Census {
    marked: BTreeMap<LeaseId, BTreeSet<u32>>,
    users: BTreeMap<LeaseId, BTreeSet<u32>>,
}

/// What a walk has to look at.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Depth {
    /// Environments.
    Marks,
    /// Mapped files as well, which takes many times as long.
    Maps,
}

impl Census {
    /// Walks `/proc`.
    pub(crate) fn take(depth: Depth) -> Self {
        let mut census = Self::default();
        for pid in kernel::every_pid() {
            let marked = marks(pid);
            let mapped = match depth {
                Depth::Marks => BTreeSet::new(),
                Depth::Maps => mapped(pid),
            };
            for id in marked.union(&mapped) {
                census.users.entry(*id).or_default().insert(pid);
            }
            for id in marked {
                census.marked.entry(id).or_default().insert(pid);
            }
        }
        census
    }

    /// The processes that were started with this lease's id.
    pub(crate) fn marked(&self, id: LeaseId) -> impl Iterator<Item = u32> {
        self.marked.get(&id).into_iter().flatten().copied()
    }

    /// The same, and those that have a file of its session directory mapped.
    pub(crate) fn users(&self, id: LeaseId) -> impl Iterator<Item = u32> {
        self.users.get(&id).into_iter().flatten().copied()
    }
}

/// The way to the next walk, which finds a `T`. `who asks --where to send the answer--> walker`
#[derive(Debug)]
pub(crate) struct Walker<T> {
    question_tx: mpsc::UnboundedSender<oneshot::Sender<Arc<T>>>,
}

impl<T: Send + Sync + 'static> Walker<T> {
    /// Starts the task that walks; it ends with the handle.
    ///
    /// # Panics
    /// Outside an event loop.
    pub(crate) fn start(walk: impl Fn() -> T + Send + Sync + 'static) -> Self {
        let walk = Arc::new(walk);
        let (question_tx, mut question_rx) = mpsc::unbounded_channel::<oneshot::Sender<_>>();
        tokio::spawn(async move {
            while let Some(first) = question_rx.recv().await {
                let mut questions = vec![first];
                while let Ok(more) = question_rx.try_recv() {
                    questions.push(more);
                }
                // Who gets no answer knows that the walk has failed.
                let walk = Arc::clone(&walk);
                if let Ok(found) = spawn_blocking(move || walk()).await {
                    let found = Arc::new(found);
                    for answer_tx in questions {
                        answer_tx.send(Arc::clone(&found)).ok();
                    }
                }
            }
        });
        Self { question_tx }
    }

    /// What the next walk finds; `None` if it failed.
    pub(crate) async fn ask(&self) -> Option<Arc<T>> {
        let (answer_tx, answer_rx) = oneshot::channel();
        self.question_tx.send(answer_tx).ok()?;
        answer_rx.await.ok()
    }
}

/// The leases whose mark is in the environment of this process: the id under its own name, or, where a task runner
/// has cleared the rest, in the path of the preload library. The id anywhere else (a directory, a note) says nothing.
pub(crate) fn marks(pid: u32) -> BTreeSet<LeaseId> {
    kernel::environ(pid)
        .split(|byte| *byte == 0)
        .flat_map(ids_of_entry)
        .collect()
}

fn ids_of_entry(entry: &[u8]) -> Vec<LeaseId> {
    let Some((name, value)) = str::from_utf8(entry).ok().and_then(|it| it.split_once('=')) else {
        return Vec::new();
    };
    match name {
        crate::LEASE_VARIABLE => value.parse().into_iter().collect(),
        // The loader takes either as a separator (ld.so(8)).
        "LD_PRELOAD" => value.split([':', ' ']).filter_map(id_of_library).collect(),
        _ => Vec::new(),
    }
}

fn mapped(pid: u32) -> BTreeSet<LeaseId> {
    let maps = kernel::maps(pid);
    let lines = maps.split(|byte| *byte == b'\n');
    lines
        .filter_map(|line| {
            // A file that was deleted has a remark behind its path.
            let line = str::from_utf8(line).ok()?;
            id_of_library(line.strip_suffix(" (deleted)").unwrap_or(line))
        })
        .collect()
}

/// The lease that this library was put in place for.
fn id_of_library(path: &str) -> Option<LeaseId> {
    let directory = path.strip_suffix(LIBRARY_NAME)?.strip_suffix('/')?;
    let at = directory.len().checked_sub(ID_LENGTH)?;
    let (above, id) = (directory.get(..at)?, directory.get(at..)?);
    id.parse().ok().filter(|_| above.ends_with('/'))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    const ID: &str = "00000000-0000-4000-8000-00000000002a";

    fn ids(entry: &str) -> Vec<String> {
        let ids = ids_of_entry(&entry.replace("ID", ID).into_bytes());
        ids.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_lease_is_known_by_its_variable_and_by_its_library_alone() {
        assert_eq!(ids("STYXY_LEASE=ID"), [ID]);
        assert_eq!(ids("LD_PRELOAD=/run/s/ID/styxy.so"), [ID]);
        assert_eq!(ids("LD_PRELOAD=/lib/a.so:/run/s/ID/styxy.so b.so"), [ID]);
        for other in [
            "STYXY_LEASE=",
            "STYXY_LEASE=ID ",
            "OTHER_STYXY_LEASE=ID",
            "PWD=/run/s/ID",
            "PRELOAD=/run/s/ID/styxy.so",
            "LD_PRELOAD=/run/s/xID/styxy.so",
            "LD_PRELOAD=/run/s/ID/other.so",
            "LD_PRELOAD=styxy.so",
            "ID",
        ] {
            assert_eq!(ids(other), Vec::<String>::new(), "{other}");
        }
        assert_eq!(ids_of_entry(b"STYXY_LEASE=\xff"), []);
    }

    #[tokio::test]
    async fn questions_that_come_during_a_walk_share_the_next_one() {
        let (begun_tx, mut begun_rx) = mpsc::unbounded_channel();
        let (release_tx, release_rx) = std::sync::mpsc::channel();
        let (release_rx, walks) = (std::sync::Mutex::new(release_rx), AtomicUsize::new(0));
        let walker = Walker::start(move || {
            begun_tx.send(()).unwrap();
            release_rx.lock().unwrap().recv().unwrap();
            walks.fetch_add(1, Ordering::Relaxed) + 1
        });
        let later = async {
            begun_rx.recv().await.unwrap();
            let ask = async { tokio::join!(walker.ask(), walker.ask(), walker.ask()) };
            let release = async {
                release_tx.send(()).unwrap();
                release_tx.send(()).unwrap();
            };
            tokio::join!(ask, release).0
        };
        let (first, (a, b, c)) = tokio::join!(walker.ask(), later);
        assert_eq!(first.as_deref(), Some(&1));
        for later in [a, b, c] {
            assert_eq!(later.as_deref(), Some(&2));
        }
    }

    #[tokio::test]
    async fn a_walk_that_fails_answers_nothing_and_the_next_one_is_made() {
        let walks = AtomicUsize::new(0);
        let walker = Walker::start(move || {
            assert_ne!(walks.fetch_add(1, Ordering::Relaxed), 0, "on purpose");
        });
        assert_eq!(walker.ask().await, None);
        assert!(walker.ask().await.is_some());
    }

    #[test]
    fn a_mapped_library_is_its_leases_even_when_it_was_deleted() {
        let line = format!("7f00-7f01 r-xp 0000 00:01 7   /run/s/{ID}/styxy.so");
        assert_eq!(
            id_of_library(&line).map(|id| id.to_string()).as_deref(),
            Some(ID)
        );
        assert_eq!(id_of_library("7f00-7f01 r-xp 0000 00:00 0"), None);
    }
}
