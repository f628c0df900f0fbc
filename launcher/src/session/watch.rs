//! Hearing of the ports that the tree binds.
//!
//! The library wakes the waiters of the table's doorbell after every change that is worth telling. A
//! watcher compares the table with what it has told already, so a change that came without a wake is told with
//! the next one.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use styxy_protocol::table::{Entry, PortTable};

use super::error::SessionError;
use crate::sys::futex;
use crate::sys::shared_memory::SharedTable;

/// A mapped table whose watchers can be told that the session is over.
#[derive(Debug)]
pub(super) struct WatchedTable {
    table: SharedTable,
    closed: AtomicBool,
}

impl WatchedTable {
    pub(super) fn map(file: &File, path: &Path) -> Result<Self, SessionError> {
        Ok(Self {
            table: SharedTable::map(file).map_err(SessionError::io("map", path))?,
            closed: AtomicBool::new(false),
        })
    }

    pub(super) fn ports(&self) -> &PortTable {
        &self.table
    }

    /// Lets every watcher end.
    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::Release);
        // Another value, so that nobody who is about to wait for the old one falls asleep.
        self.table.doorbell().fetch_add(1, Ordering::AcqRel);
        futex::wake_all(self.table.doorbell());
    }
}

/// Tells which ports the tree has bound, each once for every port that it was bound to.
#[derive(Debug)]
pub struct TableWatcher {
    table: Arc<WatchedTable>,
    told: Vec<Entry>,
}

impl TableWatcher {
    pub(super) fn new(table: Arc<WatchedTable>) -> Self {
        let told = table.ports().entries().collect();
        Self { table, told }
    }

    /// Blocks until the tree has bound something new. `None` when the session is over.
    ///
    /// Every entry is `bound`; its `real` port differs from `requested` if the program was moved.
    pub fn wait(&mut self) -> Option<Vec<Entry>> {
        loop {
            let doorbell = self.table.ports().doorbell();
            let seen = doorbell.load(Ordering::Acquire);
            let news: Vec<Entry> = self
                .table
                .ports()
                .entries()
                .filter(|entry| entry.bound && !self.told.contains(entry))
                .collect();
            if !news.is_empty() {
                self.told.extend(&news);
                return Some(news);
            }
            if self.table.closed.load(Ordering::Acquire) || futex::wait(doorbell, seen).is_err() {
                return None;
            }
        }
    }
}
