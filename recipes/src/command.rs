//! What the caller knows: the command and the project around it. The only window to the outside world.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::Package;

/// The command as the user typed it after `styxy run --`.
#[derive(Clone, Copy)]
pub struct Command<'a> {
    /// Program and arguments; any bytes.
    pub argv: &'a [OsString],
    /// Where it is run; absolute.
    pub cwd: &'a Path,
    /// The environment that it would get without styxy.
    pub env: &'a dyn Fn(&str) -> Option<OsString>,
}

impl std::fmt::Debug for Command<'_> {
    // The environment is left out: it holds secrets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Command")
            .field("argv", &self.argv)
            .field("cwd", &self.cwd)
            .finish_non_exhaustive()
    }
}

/// Facts about files, asked for one by one so that a command that needs none costs none.
///
/// Implementations cap the size of what they read and answer "absent" for what they cannot read.
pub trait Project {
    /// The `package.json` in exactly this directory.
    fn package(&self, dir: &Path) -> Option<Package>;

    /// Whether there is a file or directory at this path.
    fn exists(&self, path: &Path) -> bool;

    /// The text of a small file, such as a `.env`.
    fn text(&self, path: &Path) -> Option<String>;

    /// The directory of the package called `name` (its name, or its path relative to `root`) in the
    /// workspace whose root package is in `root`.
    fn workspace_package(&self, root: &Path, name: &str) -> Option<PathBuf>;
}
