//! What the daemon remembers across restarts: its records, appended to one file in the order they were made.
//!
//! Written before the client gets its answer and not synced: leases die with the boot anyway, and a killed
//! daemon loses nothing that it has written. Invariant: the file never holds less than what was acknowledged,
//! except while [`Journal::degraded`] says why it cannot be written; requests are then served from memory.

mod frame;
#[cfg(test)]
mod tests;

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{allocator, instances};
use frame::Damage;

pub(crate) use frame::{decode, encode};

/// A smaller journal is not worth rewriting.
const COMPACT_ABOVE: u64 = 256 * 1024;
/// How much bigger than its content a journal may become.
const COMPACT_FACTOR: u64 = 4;
/// How long after a failed write the next attempt is made.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// The open journal.
#[derive(Debug)]
pub(crate) struct Journal {
    path: PathBuf,
    /// `None` when it has to be written anew before anything can be appended.
    file: Option<File>,
    /// Bytes of the file that hold whole records.
    len: u64,
    /// Bytes that it had when it was last written anew.
    compact_len: u64,
    fault: Option<Fault>,
}

/// One line of the journal: a change of one of the states that it keeps. A line of a later version, which is neither,
/// is passed over, so new kinds of changes may be added.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum Entry {
    /// Of leases and sticky ports.
    Lease(allocator::Record),
    /// Of instances.
    Instance(instances::Record),
}

impl From<allocator::Record> for Entry {
    fn from(record: allocator::Record) -> Self {
        Self::Lease(record)
    }
}

impl From<instances::Record> for Entry {
    fn from(record: instances::Record) -> Self {
        Self::Instance(record)
    }
}

/// Why nothing is being saved.
#[derive(Debug)]
struct Fault {
    reason: String,
    retry_at: Duration,
}

/// What was found where a journal should be.
#[derive(Debug)]
pub(crate) struct Loaded {
    /// Open for appending.
    pub(crate) journal: Journal,
    /// Every record that could be read.
    pub(crate) records: Vec<Entry>,
    /// What was not as it should be, a sentence each.
    pub(crate) remarks: Vec<String>,
    /// How many lines could not be read.
    pub(crate) dropped: usize,
}

impl Journal {
    /// Reads the journal at `path`, or begins one. Never fails: damage costs the damaged records, a file that
    /// is damaged elsewhere than at its end is kept aside, and where nothing can be written the journal is degraded.
    pub(crate) fn open(path: &Path) -> Loaded {
        let mut remarks = Vec::new();
        let mut journal = Self {
            path: path.to_owned(),
            file: None,
            len: 0,
            compact_len: 0,
            fault: None,
        };
        let (records, dropped) = match journal.load(&mut remarks) {
            Ok(loaded) => loaded,
            Err(error) => {
                remarks.push(format!("cannot use `{}`: {error}", path.display()));
                journal.set_aside(&mut remarks);
                (Vec::new(), 1)
            }
        };
        Loaded {
            journal,
            records,
            remarks,
            dropped,
        }
    }

    /// A journal that is never written to, because of this.
    pub(crate) fn none(path: &Path, reason: String) -> Loaded {
        let journal = Self {
            path: path.to_owned(),
            file: None,
            len: 0,
            compact_len: 0,
            fault: Some(Fault {
                reason,
                retry_at: Duration::MAX,
            }),
        };
        Loaded {
            journal,
            records: Vec::new(),
            remarks: Vec::new(),
            dropped: 0,
        }
    }

    /// Appends these records. Where that is impossible, or the file has grown too big, writes a new file
    /// with what `snapshot` says, which includes them.
    pub(crate) fn append(
        &mut self,
        records: &[Entry],
        now: Duration,
        snapshot: impl FnOnce() -> Vec<Entry>,
    ) {
        let is_too_soon = |fault: &Fault| now < fault.retry_at;
        if records.is_empty() || self.fault.as_ref().is_some_and(is_too_soon) {
            return;
        }
        // Records that were not written while there was a fault are in the snapshot alone.
        let is_whole = self.fault.is_none() && self.is_in_place();
        let too_big = self.len > COMPACT_ABOVE && self.len > self.compact_len * COMPACT_FACTOR;
        let saved = if is_whole && !too_big {
            self.write(&encode(records))
                .or_else(|_| self.rewrite(&snapshot()))
        } else {
            let rewritten = self.rewrite(&snapshot());
            // No room for a second file is no reason not to go on with the first.
            rewritten.or_else(|error| {
                if is_whole {
                    self.write(&encode(records))
                } else {
                    Err(error)
                }
            })
        };
        self.fault = saved.err().map(|error| Fault {
            reason: format!("cannot write `{}`: {error}", self.path.display()),
            retry_at: now + RETRY_AFTER,
        });
    }

    /// Writes a new file with what `snapshot` says where the old one was set aside or cannot be appended to: what
    /// was read from it must not be lost with this process.
    pub(crate) fn settle(&mut self, now: Duration, snapshot: impl FnOnce() -> Vec<Entry>) {
        let may_write = self
            .fault
            .as_ref()
            .is_none_or(|fault| fault.retry_at <= now);
        if self.file.is_none() && may_write {
            self.fault = self.rewrite(&snapshot()).err().map(|error| Fault {
                reason: format!("cannot write `{}`: {error}", self.path.display()),
                retry_at: now + RETRY_AFTER,
            });
        }
    }

    /// Why nothing is being saved, if so.
    pub(crate) fn degraded(&self) -> Option<&str> {
        self.fault.as_ref().map(|fault| fault.reason.as_str())
    }

    /// Syncs what was written to disk, for sticky ports that shall survive a power cut. Takes milliseconds.
    pub(crate) fn sync(&self) {
        if let Some(file) = &self.file {
            // An error here costs at most preferences; the next write reports it if it lasts.
            file.sync_data().ok();
        }
    }

    fn load(&mut self, remarks: &mut Vec<String>) -> io::Result<(Vec<Entry>, usize)> {
        let mut file = private_file()
            .read(true)
            .append(true)
            .create(true)
            .open(&self.path)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        let decoded = decode(&bytes);
        match decoded.damage {
            Damage::None => {}
            Damage::TornTail => remarks.push("the journal ended in a torn record".to_owned()),
            Damage::Inside => {
                let lines = decoded.dropped;
                remarks.push(format!(
                    "the journal is damaged: {lines} lines cannot be read"
                ));
                self.set_aside(remarks);
                return Ok((decoded.records, decoded.dropped));
            }
        }
        self.len = decoded.whole_len;
        self.compact_len = decoded.whole_len;
        file.set_len(self.len)?;
        self.file = Some(file);
        Ok((decoded.records, decoded.dropped))
    }

    /// Keeps a file that cannot be trusted under another name. The next append begins a new one.
    fn set_aside(&mut self, remarks: &mut Vec<String>) {
        self.file = None;
        let aside = self.path.with_extension("damaged");
        match fs::rename(&self.path, &aside) {
            Ok(()) => remarks.push(format!("it is kept as `{}`", aside.display())),
            Err(error) => {
                self.fault = Some(Fault {
                    reason: format!("cannot use `{}`: {error}", self.path.display()),
                    retry_at: Duration::ZERO,
                });
            }
        }
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let Some(file) = &mut self.file else {
            return Err(io::ErrorKind::NotFound.into());
        };
        if let Err(error) = file.write_all(bytes) {
            // Half a record must not stay in front of whole ones. Should this fail as well, the file is
            // written anew before anything else is appended.
            file.set_len(self.len).ok();
            self.file = None;
            return Err(error);
        }
        self.len += bytes.len() as u64;
        Ok(())
    }

    /// Whether the open file is the one that the next daemon will find: somebody may have deleted it, or put
    /// another one in its place.
    fn is_in_place(&self) -> bool {
        let Some(open) = self.file.as_ref().and_then(|file| file.metadata().ok()) else {
            return false;
        };
        fs::symlink_metadata(&self.path)
            .is_ok_and(|found| (found.dev(), found.ino()) == (open.dev(), open.ino()))
    }

    /// Replaces the file by one with these records; the old one stays whole until the new one is.
    fn rewrite(&mut self, records: &[Entry]) -> io::Result<()> {
        let bytes = encode(records);
        let fresh_path = self.path.with_extension("new");
        if let Some(dir) = self.path.parent() {
            // If it is needed and cannot be made, opening the file says so.
            DirBuilder::new().mode(0o700).create(dir).ok();
        }
        // What a killed daemon left half written.
        fs::remove_file(&fresh_path).ok();
        let mut fresh = private_file()
            .append(true)
            .create_new(true)
            .open(&fresh_path)?;
        let written = fresh
            .write_all(&bytes)
            .and_then(|()| fs::rename(&fresh_path, &self.path));
        if let Err(error) = written {
            fs::remove_file(&fresh_path).ok();
            return Err(error);
        }
        self.file = Some(fresh);
        self.len = bytes.len() as u64;
        self.compact_len = self.len;
        Ok(())
    }
}

/// Readable for its owner alone, and never somebody else's file behind a symbolic link.
fn private_file() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.mode(0o600).custom_flags(libc::O_NOFOLLOW);
    options
}
