//! Why a run has to do without interception.

use std::io;
use std::path::{Path, PathBuf};

use styxy_protocol::Port;
use styxy_protocol::table::{ENTRIES, MAX_DIRECTORY_LEN, SPARES};

/// Why a session directory could not be put in place.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SessionError {
    /// This build of styxy embeds no library.
    #[error("there is no preload library for this system")]
    NoLibrary,
    /// A lease id that is no file name.
    #[error("`{0}` is not a lease id")]
    LeaseId(String),
    /// The loader would split the path or replace a part of it.
    #[error(
        "the loader cannot take a library from `{}`, which contains `{character}`; set `XDG_RUNTIME_DIR` to another directory",
        path.display()
    )]
    Unloadable {
        /// The session directory.
        path: PathBuf,
        /// The first character that stands in the way.
        character: char,
    },
    /// The path is longer than the library can remember.
    #[error(
        "`{}` is longer than {MAX_DIRECTORY_LEN} bytes; set `XDG_RUNTIME_DIR` to another directory",
        .0.display()
    )]
    TooLong(PathBuf),
    /// Nothing may be executed from there, so the loader would complain in every program.
    #[error(
        "`{}` is on a file system mounted `noexec`; set `XDG_RUNTIME_DIR` to another directory",
        .0.display()
    )]
    NoExec(PathBuf),
    /// Somebody else could replace the library.
    #[error("`{}` {reason}, so the preload library would not be safe there", path.display())]
    Untrusted {
        /// The directory, of the session or above it.
        path: PathBuf,
        /// What is wrong with it.
        reason: Unsafe,
    },
    /// The plan pins one requested port to two real ones.
    #[error("port {0} is pinned to two ports")]
    PinnedTwice(Port),
    /// More ports than the table holds.
    #[error("the port table holds {ENTRIES} ports and {SPARES} spares, and the plan has more")]
    TooManyPorts,
    /// The operating system refused.
    #[error("cannot {action} `{}`", path.display())]
    Io {
        /// What was being done.
        action: &'static str,
        /// To what.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
}

impl SessionError {
    /// An error of the operating system, for `map_err`.
    pub(super) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io {
            action,
            path: path.to_owned(),
            source,
        }
    }
}

/// What is wrong with a directory that a library would be loaded from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unsafe {
    /// Group or others may write, and the sticky bit does not protect what is in it.
    #[error("can be written by others (mode {0:04o})")]
    Writable(u32),
    /// It belongs neither to root nor to this user.
    #[error("belongs to another user (uid {0})")]
    Owner(u32),
}
