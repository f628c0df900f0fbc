//! The session directory of a run: what the preload library needs to find in every process of the tree.
//!
//! `<runtime dir>/s/<lease id>/` holds the library and the port table. The library's path, as the value of
//! `LD_PRELOAD`, is the only thing that the processes are told.
//!
//! Invariant: a library is offered to the loader only from a place where nobody but root and this user could have
//! put it, and under a name that the loader does not split. Otherwise there is an error that says so, and the
//! run goes on without interception.

mod directory;
mod error;
mod image;
mod trust;
mod variables;
mod watch;

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use styxy_protocol::Port;
use styxy_protocol::table::{Claim, Entry, LIBRARY_NAME, PortTable, STRICT};

pub use error::{SessionError, Unsafe};
pub use image::is_available as image_available;
pub use watch::TableWatcher;

use watch::WatchedTable;

/// A port that the run has leased, and the port that programs ask for to get it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pin {
    /// The port that programs ask for.
    pub requested: Port,
    /// The leased port that they get.
    pub real: Port,
}

impl From<Port> for Pin {
    /// A program that asks for the leased port itself.
    fn from(port: Port) -> Self {
        Self {
            requested: port,
            real: port,
        }
    }
}

/// What the port table says before the first program runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SessionPlan {
    /// Ports with a known answer, one for each requested port. At most 64, and each uses up one of the
    /// entries that unforeseen ports need as well.
    pub pinned: Vec<Pin>,
    /// Leased ports for listeners that nobody foresaw and whose port is taken. At most 16.
    pub spares: Vec<Port>,
    /// Ask the kernel for both address families before an unforeseen port is bound.
    pub strict: bool,
}

/// Whether the library may be loaded from a session in this runtime directory, which exists.
///
/// # Errors
/// Why a run there would have to do without interception.
pub fn can_intercept(runtime_dir: &Path) -> Result<(), SessionError> {
    if !image_available() {
        return Err(SessionError::NoLibrary);
    }
    let resolved = runtime_dir.canonicalize();
    trust::check(&resolved.map_err(SessionError::io("find", runtime_dir))?)
}

/// A session directory in place. Dropping it removes the directory.
///
/// Do that only when no process of the tree is left: the loader prints a line on stderr in every
/// program that starts with a library that is gone.
pub struct Session {
    directory: PathBuf,
    table: Arc<WatchedTable>,
    witness: Option<PathBuf>,
    on_drop: OnDrop,
}

enum OnDrop {
    Remove,
    Keep,
}

impl Session {
    /// Puts the library and a table filled from `plan` into `<runtime_dir>/s/<lease_id>/`.
    ///
    /// `runtime_dir` exists and belongs to this user. Whatever fails, nothing of the session is left behind.
    pub fn create(
        runtime_dir: &Path,
        lease_id: &str,
        plan: &SessionPlan,
    ) -> Result<Self, SessionError> {
        if !image_available() {
            return Err(SessionError::NoLibrary);
        }
        let place = directory::create(runtime_dir, lease_id)?;
        let file = place.create_table()?;
        let table = Arc::new(WatchedTable::map(&file, &place.table_path())?);
        fill(&table, plan)?;
        image::install(&place)?;
        Ok(Self {
            witness: image::install_witness(&place),
            directory: place.into_path(),
            table,
            on_drop: OnDrop::Remove,
        })
    }

    /// Where the session lies.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Where the program of the launcher's witness lies.
    pub(crate) fn witness(&self) -> Option<PathBuf> {
        self.witness.clone()
    }

    /// The value of `LD_PRELOAD` for the child: what the launcher inherited, without the libraries of
    /// other sessions, and then this session's library.
    pub fn preload_value(&self, inherited: Option<&OsStr>) -> OsString {
        variables::ld_preload(inherited, &self.directory.join(LIBRARY_NAME))
    }

    /// The value of `ASAN_OPTIONS` for the child. A program built with gcc's dynamic address sanitizer
    /// refuses to start when any library is loaded before the sanitizer's, unless it is told not to look.
    pub fn asan_options(&self, inherited: Option<&OsStr>) -> OsString {
        variables::asan_options(inherited)
    }

    /// The port table, shared with every process of the tree.
    pub fn table(&self) -> &PortTable {
        self.table.ports()
    }

    /// Tells of every port that the tree binds from now on.
    pub fn watch(&self) -> TableWatcher {
        TableWatcher::new(Arc::clone(&self.table))
    }

    /// Leaves the directory in place, for a tree that lives on. The daemon sweeps it when the tree is gone.
    pub fn keep(mut self) {
        self.on_drop = OnDrop::Keep;
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.table.close();
        match self.on_drop {
            OnDrop::Remove => directory::remove(&self.directory),
            OnDrop::Keep => {}
        }
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Session").field(&self.directory).finish()
    }
}

fn fill(table: &WatchedTable, plan: &SessionPlan) -> Result<(), SessionError> {
    let table = table.ports();
    table.initialise(if plan.strict { STRICT } else { 0 });
    for pin in &plan.pinned {
        let entry = Entry {
            requested: pin.requested.get(),
            real: pin.real.get(),
            pinned: true,
            bound: false,
            contested: false,
        };
        match table.claim(entry) {
            Claim::Won => {}
            Claim::Lost(first) if first == entry => {}
            Claim::Lost(_) => return Err(SessionError::PinnedTwice(pin.requested)),
            Claim::Full => return Err(SessionError::TooManyPorts),
        }
    }
    for spare in &plan.spares {
        if !table.add_spare(spare.get()) {
            return Err(SessionError::TooManyPorts);
        }
    }
    Ok(())
}

#[cfg(test)]
mod gates;
#[cfg(test)]
mod programs;
#[cfg(test)]
mod tests;
