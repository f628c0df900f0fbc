//! The daemon's log: a file that never takes more than 10 MB of disk, or stderr, or nothing.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use tracing::subscriber::{DefaultGuard, set_default};

use crate::LogTarget;

/// Size at which a log file becomes the older one of two.
const MAX_BYTES: u64 = 5 * 1024 * 1024;

/// Sends what this thread logs to the target until the guard is dropped.
///
/// # Errors
/// If the file cannot be opened.
pub(crate) fn start(target: &LogTarget) -> io::Result<Option<DefaultGuard>> {
    let format = tracing_subscriber::fmt()
        .with_ansi(false)
        .with_target(false);
    Ok(match target {
        LogTarget::Discard => None,
        LogTarget::Stderr => Some(set_default(format.with_writer(io::stderr).finish())),
        LogTarget::File(path) => {
            let file = BoundedFile::open(path, MAX_BYTES)?;
            Some(set_default(format.with_writer(Mutex::new(file)).finish()))
        }
    })
}

/// A file that is renamed to `<name>.1`, replacing an older one, when it has reached its limit.
#[derive(Debug)]
struct BoundedFile {
    path: PathBuf,
    file: File,
    len: u64,
    limit: u64,
}

impl BoundedFile {
    fn open(path: &Path, limit: u64) -> io::Result<Self> {
        let file = append_private(path)?;
        Ok(Self {
            path: path.to_owned(),
            len: file.metadata()?.len(),
            file,
            limit,
        })
    }

    fn rotate(&mut self) -> io::Result<()> {
        let mut older = self.path.clone().into_os_string();
        older.push(".1");
        fs::rename(&self.path, older)?;
        self.file = append_private(&self.path)?;
        self.len = 0;
        Ok(())
    }
}

impl Write for BoundedFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.len + bytes.len() as u64 > self.limit {
            // Where it cannot be rotated, nothing more is written rather than too much.
            self.rotate()?;
        }
        let written = self.file.write(bytes)?;
        self.len += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn append_private(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW)
        .open(path)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn two_files_for_the_owner_alone_hold_the_newest_lines() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let mut log = BoundedFile::open(&path, 100).unwrap();
        for n in 0..50 {
            writeln!(log, "line {n:04}").unwrap();
        }
        let older = dir.path().join("log.1");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
        for file in [&path, &older] {
            let metadata = fs::metadata(file).unwrap();
            assert!(metadata.len() <= 100);
            assert_eq!(metadata.permissions().mode() & 0o777, 0o600);
        }
        assert!(fs::read_to_string(&path).unwrap().ends_with("line 0049\n"));
        assert_eq!(BoundedFile::open(&path, 100).unwrap().len, log.len);
    }
}
