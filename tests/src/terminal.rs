//! A terminal for one program: what a person types and sees.
//!
//! Closing the window must close every descriptor of the terminal's master side, also the one that a thread is
//! reading from; so the reader waits for the window as well.

use std::fs::File;
use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::process::ChildStdin;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::pty::{grantpt, posix_openpt, ptsname_r, unlockpt};
use nix::sys::stat::Mode;

/// A new pseudo-terminal, taken apart.
pub(crate) struct Terminal {
    /// The program's side, in `/dev/pts`.
    pub(crate) path: PathBuf,
    /// That side, open: with nobody there, the screen would read as closed.
    pub(crate) user: File,
    /// What is displayed.
    pub(crate) screen: Screen,
    /// What is typed.
    pub(crate) keyboard: Keyboard,
}

/// The output of the programs at a terminal.
pub(crate) struct Screen {
    master: File,
    window: PipeReader,
}

/// What is typed; dropping it closes the window, or ends the input.
pub(crate) enum Keyboard {
    /// At a terminal.
    Terminal {
        /// Its other side.
        master: File,
        /// Tells the screen when it is closed.
        _window: PipeWriter,
    },
    /// Into a pipe.
    Pipe(ChildStdin),
}

impl Terminal {
    pub(crate) fn open() -> io::Result<Self> {
        let master = posix_openpt(OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC)?;
        grantpt(&master)?;
        unlockpt(&master)?;
        let path = PathBuf::from(ptsname_r(&master)?);
        let flags = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
        let user = open(&path, flags, Mode::empty())?;
        let master = File::from(OwnedFd::from(master));
        let (reader, writer) = io::pipe()?;
        Ok(Self {
            path,
            user: File::from(user),
            keyboard: Keyboard::Terminal {
                master: master.try_clone()?,
                _window: writer,
            },
            screen: Screen {
                master,
                window: reader,
            },
        })
    }
}

impl Keyboard {
    pub(crate) fn type_keys(&mut self, keys: &str) -> io::Result<()> {
        match self {
            Self::Terminal { master, .. } => master.write_all(keys.as_bytes()),
            Self::Pipe(pipe) => pipe.write_all(keys.as_bytes()),
        }
    }
}

impl Read for Screen {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let mut either = [
                PollFd::new(self.master.as_fd(), PollFlags::POLLIN),
                PollFd::new(self.window.as_fd(), PollFlags::POLLIN),
            ];
            match poll(&mut either, PollTimeout::NONE) {
                Ok(_) => {}
                Err(Errno::EINTR) => continue,
                Err(error) => return Err(error.into()),
            }
            if either[0].any() == Some(true) {
                return self.master.read(buffer);
            }
            if either[1].any() == Some(true) {
                return Ok(0);
            }
        }
    }
}
