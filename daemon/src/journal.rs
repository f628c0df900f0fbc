//! What the daemon remembers across restarts: its records, appended to one file in the order they were made.
//!
//! Written before the client gets its answer and not synced: leases die with the boot anyway, and a killed
//! daemon loses nothing that it has written. Invariant: the file never holds less than what was acknowledged,
//! except while [`Journal::degraded`] says why it cannot be written; requests are then served from memory.

mod frame;

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::allocator::Record;
use frame::Damage;

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
    pub(crate) records: Vec<Record>,
    /// What was not as it should be, for the log.
    pub(crate) remarks: Vec<String>,
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
        let records = match journal.load(&mut remarks) {
            Ok(records) => records,
            Err(error) => {
                remarks.push(format!("cannot use `{}`: {error}", path.display()));
                journal.set_aside(&mut remarks);
                Vec::new()
            }
        };
        Loaded {
            journal,
            records,
            remarks,
        }
    }

    /// Appends these records. Where that is impossible, or the file has grown too big, writes a new file
    /// with what `snapshot` says, which includes them.
    pub(crate) fn append(
        &mut self,
        records: &[Record],
        now: Duration,
        snapshot: impl FnOnce() -> Vec<Record>,
    ) {
        if records.is_empty()
            || self
                .fault
                .as_ref()
                .is_some_and(|fault| now < fault.retry_at)
        {
            return;
        }
        let too_big = self.len > COMPACT_ABOVE && self.len > self.compact_len * COMPACT_FACTOR;
        let appended = if self.file.is_some() && self.fault.is_none() && !too_big {
            self.write(&frame::encode(records))
        } else {
            Err(io::ErrorKind::Other.into())
        };
        let saved = appended.or_else(|_| self.rewrite(&snapshot()));
        self.fault = saved.err().map(|error| Fault {
            reason: format!("cannot write `{}`: {error}", self.path.display()),
            retry_at: now + RETRY_AFTER,
        });
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

    fn load(&mut self, remarks: &mut Vec<String>) -> io::Result<Vec<Record>> {
        let mut file = private_file()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&self.path)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        let decoded = frame::decode(&bytes);
        match decoded.damage {
            Damage::None => {}
            Damage::TornTail => remarks.push("the journal ended in a torn record".to_owned()),
            Damage::Inside => {
                remarks.push("the journal is damaged".to_owned());
                self.set_aside(remarks);
                return Ok(decoded.records);
            }
        }
        self.len = decoded.whole_len;
        self.compact_len = decoded.whole_len;
        file.set_len(self.len)?;
        file.seek(SeekFrom::End(0))?;
        self.file = Some(file);
        Ok(decoded.records)
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

    /// Replaces the file by one with these records; the old one stays whole until the new one is.
    fn rewrite(&mut self, records: &[Record]) -> io::Result<()> {
        let bytes = frame::encode(records);
        let fresh_path = self.path.with_extension("new");
        let mut fresh = private_file()
            .write(true)
            .create(true)
            .truncate(true)
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

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use styxy_protocol::Port;

    use super::*;
    use crate::allocator::LeaseId;

    const NOW: Duration = Duration::from_secs(100);

    fn records(count: u128) -> Vec<Record> {
        (0..count)
            .map(|n| Record::Ended(LeaseId::from_random(n << 80)))
            .collect()
    }

    fn never() -> Vec<Record> {
        panic!("no snapshot is needed")
    }

    fn reopened(path: &Path) -> Vec<Record> {
        let loaded = Journal::open(path);
        assert_eq!(loaded.journal.degraded(), None);
        loaded.records
    }

    #[test]
    fn what_was_appended_is_there_after_a_restart_for_the_owner_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        let mut loaded = Journal::open(&path);
        assert_eq!(loaded.records, []);
        loaded.journal.append(&records(2), NOW, never);
        drop(loaded);
        let mut loaded = Journal::open(&path);
        assert_eq!(loaded.records, records(2));
        loaded.journal.append(&records(1), NOW, never);
        assert_eq!(reopened(&path), [records(2), records(1)].concat());
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_journal_cut_at_any_length_loses_only_what_was_cut_and_goes_on() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        let whole = frame::encode(&records(8));
        let ends: Vec<usize> = (0..=8).map(|n| frame::encode(&records(n)).len()).collect();
        for length in 0..=whole.len() {
            fs::write(&path, &whole[..length]).unwrap();
            let mut loaded = Journal::open(&path);
            let expected = ends.iter().filter(|end| **end <= length).count() - 1;
            assert_eq!(loaded.records.len(), expected, "{length}");
            loaded.journal.append(&records(1), NOW, never);
            assert_eq!(reopened(&path).len(), expected + 1, "{length}");
            assert!(!path.with_extension("damaged").exists());
        }
    }

    #[test]
    fn a_damaged_journal_is_kept_aside_and_what_can_be_read_is_used() {
        let whole = frame::encode(&records(3));
        let line = whole.len() / 3;
        let mut bit = whole.clone();
        bit[line + 20] ^= 1;
        let mut lost_end_of_line = whole.clone();
        lost_end_of_line[line - 1] = b' ';
        let zeroes_in_front = [vec![0; 100], b"\n".to_vec(), whole.clone()].concat();
        for (name, bytes, expected) in [
            ("one bit", bit, 2),
            ("a line end", lost_end_of_line, 1),
            ("zeroes in front", zeroes_in_front, 3),
            ("another file", b"hello\nworld\n".to_vec(), 0),
            ("binary", [0xff, b'\n', 0, b'\n'].repeat(100), 0),
        ] {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("journal");
            fs::write(&path, &bytes).unwrap();
            let mut loaded = Journal::open(&path);
            assert_eq!(loaded.records.len(), expected, "{name}");
            assert_eq!(
                fs::read(path.with_extension("damaged")).unwrap(),
                bytes,
                "{name}"
            );
            let kept = loaded.records.clone();
            loaded
                .journal
                .append(&records(1), NOW, || [kept, records(1)].concat());
            assert_eq!(reopened(&path).len(), expected + 1, "{name}");
        }
    }

    #[test]
    fn a_directory_in_its_place_is_moved_aside() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        fs::create_dir(&path).unwrap();
        let mut loaded = Journal::open(&path);
        loaded.journal.append(&records(1), NOW, || records(1));
        assert_eq!(reopened(&path), records(1));
    }

    #[test]
    fn a_symbolic_link_in_its_place_is_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        let target = dir.path().join("precious");
        fs::write(&target, "x").unwrap();
        std::os::unix::fs::symlink(&target, &path).unwrap();
        let mut loaded = Journal::open(&path);
        loaded.journal.append(&records(1), NOW, || records(1));
        assert_eq!(fs::read(&target).unwrap(), b"x");
        assert_eq!(reopened(&path), records(1));
    }

    #[test]
    fn a_failed_write_degrades_until_a_later_one_saves_everything() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("gone/journal");
        let mut journal = Journal::open(&path).journal;
        journal.append(&records(1), NOW, || records(1));
        assert!(
            journal
                .degraded()
                .is_some_and(|reason| reason.contains("gone/journal"))
        );
        fs::create_dir(dir.path().join("gone")).unwrap();
        journal.append(&records(2), NOW, never);
        assert!(journal.degraded().is_some(), "not tried again so soon");
        journal.append(&records(3), NOW + RETRY_AFTER, || records(3));
        assert_eq!(journal.degraded(), None);
        assert_eq!(reopened(&path), records(3));
    }

    #[test]
    fn a_full_disk_leaves_whole_records_and_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        let mut journal = Journal::open(&path).journal;
        journal.append(&records(2), NOW, never);
        journal.file = Some(OpenOptions::new().write(true).open("/dev/full").unwrap());
        fs::create_dir(path.with_extension("new")).unwrap(); // no new file either
        journal.append(&records(1), NOW, || records(1));
        assert!(journal.degraded().is_some());
        assert_eq!(reopened(&path), records(2));
    }

    #[test]
    fn a_journal_that_has_grown_is_written_anew() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        let mut journal = Journal::open(&path).journal;
        let many = records(100);
        let mut written = 0;
        while written <= COMPACT_ABOVE {
            journal.append(&many, NOW, never);
            written += frame::encode(&many).len() as u64;
        }
        let last = Record::Sticky {
            identity: serde_json::from_str(r#"{"project_path":"/p","service_name":"web"}"#)
                .unwrap(),
            port: Port::new(3000).unwrap(),
        };
        let snapshot = vec![last.clone()];
        journal.append(&[last], NOW, || snapshot.clone());
        assert_eq!(reopened(&path), snapshot);
        journal.append(&records(1), NOW, never);
        assert_eq!(reopened(&path).len(), 2);
    }
}
