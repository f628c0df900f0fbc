//! Noticing that a configuration file has changed. Nothing runs while none does.

use std::fs;
use std::io;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, InotifyEvent, WatchDescriptor};

use super::{JSON, TOML};
use crate::kernel;

/// Watches the files of one home.
#[derive(Debug)]
pub(crate) struct Watch {
    home: PathBuf,
    inotify: Inotify,
    of_home: WatchDescriptor,
}

impl Watch {
    /// Watches from now on.
    ///
    /// # Errors
    /// If there is no such directory, or there are no more watches to be had.
    pub(crate) fn of(home: &Path) -> io::Result<Self> {
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
        let of_home = inotify.add_watch(home, events())?;
        let watch = Self {
            home: home.to_owned(),
            inotify,
            of_home,
        };
        watch.follow_links();
        Ok(watch)
    }

    /// Calls `changed` whenever one of the files may have changed.
    ///
    /// # Errors
    /// If the directory is no longer there.
    pub(crate) async fn run(self, changed: impl Fn()) -> io::Result<()> {
        let readable = kernel::register(self.inotify.as_fd())?;
        // What came between the reading of the files and the watch.
        changed();
        loop {
            let mut ready = readable.readable().await?;
            match self.inotify.read_events() {
                Ok(events) => {
                    if events.iter().any(|event| self.is_of_a_file(event)) {
                        self.follow_links();
                        changed();
                    }
                    if events.iter().any(|event| self.is_the_end(event)) {
                        return Err(io::ErrorKind::NotFound.into());
                    }
                }
                Err(Errno::EAGAIN) => ready.clear_ready(),
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    fn is_of_a_file(&self, event: &InotifyEvent) -> bool {
        if event.mask.contains(AddWatchFlags::IN_Q_OVERFLOW) {
            return true;
        }
        let Some(name) = &event.name else {
            return false;
        };
        if event.wd != self.of_home {
            return true;
        }
        // A file that has just been made is empty until whoever writes it closes it; a link is there at once.
        let is_ours = name == JSON || name == TOML;
        is_ours && (event.mask != AddWatchFlags::IN_CREATE || self.home.join(name).is_symlink())
    }

    fn is_the_end(&self, event: &InotifyEvent) -> bool {
        let gone = AddWatchFlags::IN_IGNORED | AddWatchFlags::IN_MOVE_SELF;
        event.wd == self.of_home && event.mask.intersects(gone)
    }

    /// A link does not change when the file behind it does.
    fn follow_links(&self) {
        for name in [JSON, TOML] {
            let path = self.home.join(name);
            if path.is_symlink()
                && let Ok(target) = fs::canonicalize(&path)
                && let Some(dir) = target.parent()
            {
                // Without it the change is seen when a range is needed, or with the next one here.
                self.inotify.add_watch(dir, events()).ok();
            }
        }
    }
}

/// Not of writing itself: the journal beside the files is written to all the time.
fn events() -> AddWatchFlags {
    AddWatchFlags::IN_CLOSE_WRITE
        | AddWatchFlags::IN_MOVE
        | AddWatchFlags::IN_CREATE
        | AddWatchFlags::IN_DELETE
        | AddWatchFlags::IN_ATTRIB
        | AddWatchFlags::IN_MOVE_SELF
        | AddWatchFlags::IN_ONLYDIR
}
