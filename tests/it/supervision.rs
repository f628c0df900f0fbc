//! The supervisor against the bare command: each case runs with nothing in front and with a wrapper in front, and compares.
//!
//! Invariant: no test waits for time to pass. Probes say `ready`, and a *fence* (a signal that the probe reports, sent after the ones under
//! test) shows that everything before it has arrived.

#![cfg(test)]

mod end;
mod given;
mod process;
mod signals;
mod terminal;
mod tree;

use std::ffi::OsString;
use std::path::Path;

/// What stands in front of the command.
#[derive(Debug, Clone)]
struct Front {
    argv: Vec<OsString>,
    wraps: bool,
}

impl Front {
    fn bare() -> Self {
        Self {
            argv: Vec::new(),
            wraps: false,
        }
    }

    fn wrapper() -> Self {
        Self::wrapper_with(&[])
    }

    /// A wrapper with options of its own before the command.
    fn wrapper_with(options: &[&str]) -> Self {
        let program = OsString::from(env!("CARGO_BIN_EXE_supervise-under-test"));
        let argv = std::iter::once(program)
            .chain(options.iter().map(OsString::from))
            .collect();
        Self { argv, wraps: true }
    }

    /// The full command line: the words of `before`, the front, the command.
    fn command(&self, before: &[&str], command: &[&str]) -> Vec<OsString> {
        let before = before.iter().map(OsString::from);
        before
            .chain(self.argv.iter().cloned())
            .chain(command.iter().map(OsString::from))
            .collect()
    }
}

/// Runs a case bare and wrapped, and wants the same from both.
fn compare<T: PartialEq + std::fmt::Debug>(what: &str, case: impl Fn(&Front) -> T) {
    let bare = case(&Front::bare());
    let wrapped = case(&Front::wrapper());
    assert_eq!(
        wrapped, bare,
        "{what}: wrapped (left) is not like bare (right)"
    );
}

const PROBE: &str = env!("CARGO_BIN_EXE_signal-probe");

/// A file of this name in the test's directory, as an argument.
fn file(dir: &tempfile::TempDir, name: &str) -> String {
    path_text(&dir.path().join(name))
}

fn path_text(path: &Path) -> String {
    path.to_str().expect("a temporary path is text").to_owned()
}
