//! The daemon's own files in the runtime directory, and noticing when they are no longer there.
//!
//! Temporary directories are cleaned, `/run/user/UID` goes at log-out, people delete what looks stale. A daemon that
//! nobody can reach any more would keep its leases from the one that is started next. Invariant: what this daemon
//! removes it has made; another daemon's socket at the same path stays.

use std::fs;
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use tracing::warn;

use crate::Paths;
use crate::kernel;

/// The socket and the lock, as they were made.
#[derive(Debug)]
pub(crate) struct Place {
    runtime_dir: PathBuf,
    socket: Mine,
    lock: Mine,
}

/// A file that this daemon has made or locked.
#[derive(Debug)]
struct Mine {
    path: PathBuf,
    /// Device and inode.
    identity: (u64, u64),
}

impl Place {
    /// The place of a daemon that has just locked its lock and bound its socket.
    ///
    /// # Errors
    /// If either is gone already.
    pub(crate) fn of(paths: &Paths) -> io::Result<Self> {
        Ok(Self {
            runtime_dir: paths.runtime_dir.clone(),
            socket: Mine::at(paths.socket())?,
            lock: Mine::at(paths.lock())?,
        })
    }

    /// Waits until clients cannot find this daemon any more, or another one could be started beside it.
    pub(crate) async fn lost(&self) {
        if let Err(error) = self.watch().await {
            // No more watches to be had: the lock of the journal still keeps two daemons out of one file.
            warn!(%error, "cannot watch the runtime directory");
            std::future::pending::<()>().await;
        }
    }

    /// Removes the socket, if it is still ours.
    pub(crate) fn remove_socket(&self) {
        if self.socket.is_there() {
            fs::remove_file(&self.socket.path).ok();
        }
    }

    /// Whether the files are where clients and other daemons look for them.
    pub(crate) fn is_ours(&self) -> bool {
        self.socket.is_there() && self.lock.is_there()
    }

    async fn watch(&self) -> io::Result<()> {
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
        let of_entries =
            AddWatchFlags::IN_CREATE | AddWatchFlags::IN_DELETE | AddWatchFlags::IN_MOVE;
        let of_itself = AddWatchFlags::IN_DELETE_SELF | AddWatchFlags::IN_MOVE_SELF;
        inotify.add_watch(&self.runtime_dir, of_entries | of_itself)?;
        if let Some(parent) = self.runtime_dir.parent() {
            // It may be moved away with everything in it.
            inotify.add_watch(parent, of_itself)?;
        }
        let events = kernel::register(inotify.as_fd())?;
        while self.is_ours() {
            let mut ready = events.readable().await?;
            match inotify.read_events() {
                Ok(_) => {}
                Err(nix::errno::Errno::EAGAIN) => ready.clear_ready(),
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(())
    }
}

impl Mine {
    fn at(path: PathBuf) -> io::Result<Self> {
        let identity = identity(&path)?;
        Ok(Self { path, identity })
    }

    fn is_there(&self) -> bool {
        identity(&self.path).is_ok_and(|found| found == self.identity)
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let metadata = fs::symlink_metadata(path)?;
    Ok((metadata.dev(), metadata.ino()))
}
