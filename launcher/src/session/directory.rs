//! Making and removing the session directory.
//!
//! `<runtime dir>/s/<lease id>/` is the session's own; `<runtime dir>/lib/` is shared by all sessions of this user.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use styxy_protocol::table::{FILE_LEN, FILE_NAME, LIBRARY_NAME};

use super::error::SessionError;
use super::trust;

/// A new session directory that is removed again unless the session comes about.
pub(super) struct Place {
    directory: PathBuf,
    library_directory: PathBuf,
    complete: bool,
}

/// Makes the directory and checks that a library may be loaded from it.
pub(super) fn create(runtime_dir: &Path, lease_id: &str) -> Result<Place, SessionError> {
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    if lease_id.is_empty() || !lease_id.bytes().all(is_name) {
        return Err(SessionError::LeaseId(lease_id.to_owned()));
    }
    let runtime_dir = runtime_dir
        .canonicalize()
        .map_err(SessionError::io("find", runtime_dir))?;
    let library_directory = runtime_dir.join("lib");
    make_shared(&library_directory)?;
    trust::check(&library_directory)?;
    let sessions = runtime_dir.join("s");
    make_shared(&sessions)?;
    trust::check_below(&sessions)?;
    let directory = sessions.join(lease_id);
    make(&directory).map_err(SessionError::io("create", &directory))?;
    let place = Place {
        directory,
        library_directory,
        complete: false,
    };
    trust::check_below(&place.directory)?;
    Ok(place)
}

/// Removes a session directory, as far as it is there.
pub(super) fn remove(directory: &Path) {
    for name in [FILE_NAME, LIBRARY_NAME] {
        // What cannot be removed is swept by the daemon later.
        drop(fs::remove_file(directory.join(name)));
    }
    drop(fs::remove_dir(directory));
}

impl Place {
    pub(super) fn table_path(&self) -> PathBuf {
        self.directory.join(FILE_NAME)
    }

    pub(super) fn library_path(&self) -> PathBuf {
        self.directory.join(LIBRARY_NAME)
    }

    /// Where the library lies once for all sessions.
    pub(super) fn library_directory(&self) -> &Path {
        &self.library_directory
    }

    /// Creates the table's file, zeroed.
    pub(super) fn create_table(&self) -> Result<File, SessionError> {
        let path = self.table_path();
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .map_err(SessionError::io("create", &path))?;
        file.set_len(FILE_LEN as u64)
            .map_err(SessionError::io("size", &path))?;
        Ok(file)
    }

    /// The session has come about and owns the directory from here on.
    pub(super) fn into_path(mut self) -> PathBuf {
        self.complete = true;
        std::mem::take(&mut self.directory)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if !self.complete {
            remove(&self.directory);
        }
    }
}

fn make(path: &Path) -> io::Result<()> {
    DirBuilder::new().mode(0o700).create(path)
}

/// Makes a directory that others of this user's launchers make as well.
fn make_shared(path: &Path) -> Result<(), SessionError> {
    let made = match make(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            // A symbolic link in its place would lead out of the checked tree.
            match fs::symlink_metadata(path) {
                Ok(metadata) if metadata.is_dir() => Ok(()),
                Ok(_) => Err(error),
                Err(error) => Err(error),
            }
        }
        other => other,
    };
    made.map_err(SessionError::io("create", path))
}
