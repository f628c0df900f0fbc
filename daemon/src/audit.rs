//! What was decided for the user without asking, and what was turned on or off: one JSON object a line, in
//! `audit.log` of the home, kept across restarts.
//!
//! Invariant: nothing that is done depends on its being recorded; what cannot be written is told once in the log.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use serde_json::Value;
use styxy_protocol::api::{AuditEvent, AuditResponse};
use tracing::warn;

use crate::kernel;

/// Days after which a file that is no longer written to is deleted.
const RETENTION_DAYS: u32 = 30;
const RETENTION: Duration = Duration::from_hours(24 * RETENTION_DAYS as u64);
/// Size at which a file is put aside.
const MAX_BYTES: u64 = 10 * 1024 * 1024;
/// How many files that were put aside are kept.
const KEPT: usize = 5;
/// How many entries are shown.
const SHOWN: usize = 50;
/// Bytes of a file's end that are read for them; no entry has more than a few hundred.
const SHOWN_BYTES: u64 = 256 * 1024;

/// The audit log of one home.
#[derive(Debug)]
pub(crate) struct Audit {
    path: PathBuf,
    max_bytes: u64,
    /// Whether the last entry could not be written. Held while one is.
    is_failing: Mutex<bool>,
}

impl Audit {
    /// The log of this home. Files that are too old are deleted.
    pub(crate) fn open(home: &Path) -> Self {
        let audit = Self {
            path: home.join("audit.log"),
            max_bytes: MAX_BYTES,
            is_failing: Mutex::new(false),
        };
        audit.forget_old(SystemTime::now());
        audit
    }

    /// Adds an entry. `details` is an object; anything else adds none.
    pub(crate) fn record(&self, action: &str, details: Value) {
        let details = match details {
            Value::Object(details) => details.into_iter().collect(),
            _ => std::collections::BTreeMap::new(),
        };
        let event = AuditEvent {
            timestamp: kernel::rfc3339(kernel::wall_clock()),
            action: action.to_owned(),
            details,
        };
        let mut is_failing = self
            .is_failing
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let written = serde_json::to_string(&event)
            .map_err(io::Error::from)
            .and_then(|line| self.append(&line));
        if let (Err(error), false) = (&written, *is_failing) {
            warn!(path = %self.path.display(), %error, "cannot write the audit log");
        }
        *is_failing = written.is_err();
    }

    /// The newest entries, and where they are.
    pub(crate) fn newest(&self) -> AuditResponse {
        let is_failing = self
            .is_failing
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let mut events = newest_of(&self.path);
        if events.len() < SHOWN
            && let Some((_, older)) = self.put_aside().pop()
        {
            let mut all = newest_of(&older);
            all.append(&mut events);
            events = all;
        }
        events.drain(..events.len().saturating_sub(SHOWN));
        AuditResponse {
            enabled: !*is_failing,
            log_location: self.path.display().to_string(),
            retention_days: RETENTION_DAYS,
            recent_events: events,
        }
    }

    fn append(&self, line: &str) -> io::Result<()> {
        let mut file = self.open_file()?;
        if file.metadata()?.len() + line.len() as u64 >= self.max_bytes {
            self.rotate()?;
            file = self.open_file()?;
        }
        // In one piece, so that no reader sees half an entry.
        file.write_all(format!("{line}\n").as_bytes())
    }

    fn open_file(&self) -> io::Result<File> {
        let file = OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
            .open(&self.path)?;
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(io::Error::other("it is not a file"));
        }
        if metadata.permissions().mode() & 0o077 != 0 {
            file.set_permissions(fs::Permissions::from_mode(0o600))?;
        }
        Ok(file)
    }

    fn rotate(&self) -> io::Result<()> {
        let now = SystemTime::now();
        let stamp = humantime::format_rfc3339_micros(now).to_string();
        let mut aside = self.path.clone().into_os_string();
        aside.push(format!(".{}", stamp.replace([':', '.'], "-")));
        fs::rename(&self.path, aside)?;
        self.forget_old(now);
        Ok(())
    }

    /// Deletes files that were put aside too long ago, and all but the newest few.
    fn forget_old(&self, now: SystemTime) {
        let aside = self.put_aside();
        let surplus = aside.len().saturating_sub(KEPT);
        let is_old =
            |written: SystemTime| now.duration_since(written).is_ok_and(|age| age > RETENTION);
        for (position, (written, path)) in aside.into_iter().enumerate() {
            if position < surplus || is_old(written) {
                fs::remove_file(path).ok();
            }
        }
    }

    /// The files that were put aside, with the time of their last entry, the newest last.
    fn put_aside(&self) -> Vec<(SystemTime, PathBuf)> {
        let entries = self.path.parent().map(fs::read_dir);
        let entries = entries.and_then(Result::ok).into_iter().flatten().flatten();
        let is_ours = |path: &PathBuf| {
            let name = path.file_name().and_then(|name| name.to_str());
            name.is_some_and(|name| name.starts_with("audit.log."))
        };
        let paths = entries.map(|entry| entry.path()).filter(is_ours);
        let mut found: Vec<_> = paths
            .filter_map(|path| {
                let metadata = fs::symlink_metadata(&path).ok()?;
                let written = metadata.modified().ok()?;
                metadata.is_file().then_some((written, path))
            })
            .collect();
        found.sort();
        found
    }
}

/// The newest entries of a file, the newest last. Lines that are none are left out.
fn newest_of(path: &Path) -> Vec<AuditEvent> {
    let tail = read_end(path).unwrap_or_default();
    let tail = String::from_utf8_lossy(&tail);
    let lines = tail.lines().rev();
    let mut events: Vec<AuditEvent> = lines
        .filter_map(|line| serde_json::from_str(line).ok())
        .take(SHOWN)
        .collect();
    events.reverse();
    events
}

fn read_end(path: &Path) -> io::Result<Vec<u8>> {
    let mut file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(path)?;
    let len = file.metadata()?.len();
    file.seek(SeekFrom::Start(len.saturating_sub(SHOWN_BYTES)))?;
    let mut bytes = Vec::new();
    file.take(SHOWN_BYTES).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn actions(audit: &Audit) -> Vec<String> {
        let newest = audit.newest().recent_events;
        newest.into_iter().map(|event| event.action).collect()
    }

    #[test]
    fn entries_outlive_the_daemon_and_the_newest_fifty_are_shown() {
        let home = tempfile::tempdir().unwrap();
        fs::write(home.path().join("audit.log"), "rubbish\n").unwrap();
        let audit = Audit::open(home.path());
        audit.record(
            "FIRST",
            json!({ "service_type": "x", "port_range": [1, 2] }),
        );
        drop(audit);
        let audit = Audit::open(home.path());
        let shown = audit.newest();
        assert!(shown.enabled);
        assert_eq!(
            shown.log_location,
            home.path().join("audit.log").display().to_string()
        );
        assert_eq!(shown.recent_events[0].details["port_range"], json!([1, 2]));
        for n in 0..60 {
            audit.record(&format!("N{n}"), json!({}));
        }
        let actions = actions(&audit);
        assert_eq!(
            (actions.len(), actions[0].as_str(), actions[49].as_str()),
            (50, "N10", "N59")
        );
        let text = fs::read_to_string(&audit.path).unwrap();
        let line: Value = serde_json::from_str(text.lines().nth(1).unwrap()).unwrap();
        assert_eq!(
            (line["action"].as_str(), line["service_type"].as_str()),
            (Some("FIRST"), Some("x"))
        );
        let mode = fs::metadata(&audit.path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_full_file_is_put_aside_and_old_ones_are_deleted() {
        let home = tempfile::tempdir().unwrap();
        let mut audit = Audit::open(home.path());
        audit.max_bytes = 300;
        let old = home.path().join("audit.log.2020-01-01T00-00-00Z");
        fs::write(&old, "").unwrap();
        let long_ago = SystemTime::now() - RETENTION - Duration::from_secs(1);
        File::options()
            .write(true)
            .open(&old)
            .unwrap()
            .set_modified(long_ago)
            .unwrap();
        for n in 0..40 {
            audit.record(
                &format!("N{n}"),
                json!({ "text": "some text of some length" }),
            );
        }
        assert!(!old.exists());
        assert_eq!(audit.put_aside().len(), KEPT);
        assert_eq!(fs::read_dir(home.path()).unwrap().count(), KEPT + 1);
        assert_eq!(actions(&audit).last().unwrap(), "N39");
        let young = home.path().join("audit.log.young");
        fs::write(&young, "").unwrap();
        fs::write(&old, "").unwrap();
        File::options()
            .write(true)
            .open(&old)
            .unwrap()
            .set_modified(long_ago)
            .unwrap();
        let audit = Audit::open(home.path());
        assert!(young.exists() && !old.exists());
        drop(audit);
    }

    #[test]
    fn where_nothing_can_be_written_nothing_fails() {
        let home = tempfile::tempdir().unwrap();
        let elsewhere = home.path().join("elsewhere");
        std::os::unix::fs::symlink(&elsewhere, home.path().join("audit.log")).unwrap();
        let audit = Audit::open(home.path());
        audit.record("X", json!({}));
        assert!(!audit.newest().enabled);
        assert!(!elsewhere.exists(), "no writing through a link");
        fs::remove_file(home.path().join("audit.log")).unwrap();
        audit.record("Y", json!({}));
        assert!(audit.newest().enabled);
        assert_eq!(actions(&audit), ["Y"]);
        let nowhere = Audit::open(&home.path().join("no/such"));
        nowhere.record("X", json!({}));
        assert!(nowhere.newest().recent_events.is_empty());
    }
}
