//! The preload library's bytes, and how they get into a session directory; the program of the witness beside it.
//!
//! Both are written once per version, under a name made of their content, and the library is linked into every session: the
//! page cache then holds it once for all programs of all runs.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process;

use super::directory::Place;
use super::error::SessionError;
use crate::sys::witness::PROGRAM;

/// The shared object that the build script made; empty where there is none.
pub(super) static IMAGE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/styxy.so"));

/// Whether this build of styxy has a library to load.
pub fn is_available() -> bool {
    !IMAGE.is_empty()
}

/// Puts the library into the session directory.
pub(super) fn install(place: &Place) -> Result<(), SessionError> {
    let target = place.library_path();
    let shared = write_once(place.library_directory(), "styxy", ".so", IMAGE);
    let linked = shared.and_then(|shared| fs::hard_link(shared, &target));
    linked
        // A file system without links, or with a limit on them.
        .or_else(|_| write(&target, IMAGE))
        .map_err(SessionError::io("write", &target))
}

/// The program of the witness, beside the library.
pub(super) fn install_witness(place: &Place) -> Option<PathBuf> {
    write_once(place.library_directory(), "signal-witness", "", PROGRAM).ok()
}

/// A file in the shared directory, which is written if it is not there whole.
fn write_once(
    directory: &Path,
    stem: &str,
    extension: &str,
    content: &[u8],
) -> io::Result<PathBuf> {
    let name = format!("{stem}-{:016x}", fingerprint(content));
    let path = directory.join(format!("{name}{extension}"));
    if fs::read(&path).is_ok_and(|found| found == content) {
        return Ok(path);
    }
    let draft = directory.join(format!(".{name}.{}", process::id()));
    // Left behind by a launcher of this number that was killed while it wrote.
    drop(fs::remove_file(&draft));
    write(&draft, content)?;
    fs::rename(&draft, &path)?;
    Ok(path)
}

fn write(path: &Path, content: &[u8]) -> io::Result<()> {
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o500)
        .open(path)?
        .write_all(content)
}

/// FNV-1a. It tells versions apart; it proves nothing, which is why the content is compared as well.
const fn fingerprint(bytes: &[u8]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let mut index = 0;
    while index < bytes.len() {
        hash = (hash ^ bytes[index] as u64).wrapping_mul(0x0100_0000_01b3);
        index += 1;
    }
    hash
}
