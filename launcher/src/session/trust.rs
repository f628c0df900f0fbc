//! Whether a directory is a place from which a library may be loaded into the user's programs.
//!
//! The same demand that ssh makes of the way to its keys: the directory and every one above it belongs to root
//! or to the user, and nobody else may write there. A sticky directory (`/tmp`) is fine above it, since
//! nobody can replace what belongs to somebody else in it.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::sys::statvfs::{FsFlags, statvfs};
use nix::unistd::geteuid;
use styxy_protocol::table::MAX_DIRECTORY_LEN;

use super::error::{SessionError, Unsafe};

const OTHERS_WRITE: u32 = 0o022;
const STICKY: u32 = 0o1000;

/// Checks `directory`, an absolute path without symbolic links, and everything above it.
pub(super) fn check(directory: &Path) -> Result<(), SessionError> {
    check_loadable(directory)?;
    let trusted = [0, owner_of_everything(), geteuid().as_raw()];
    directory
        .ancestors()
        .try_for_each(|path| check_alone(path, &trusted))?;
    let flags = statvfs(directory)
        .map_err(|errno| SessionError::io("inspect", directory)(errno.into()))?
        .flags();
    if flags.contains(FsFlags::ST_NOEXEC) {
        return Err(SessionError::NoExec(directory.to_owned()));
    }
    Ok(())
}

/// Checks a directory of this user's in one that is checked already.
pub(super) fn check_below(directory: &Path) -> Result<(), SessionError> {
    check_loadable(directory)?;
    check_alone(directory, &[geteuid().as_raw()])
}

fn check_alone(path: &Path, trusted: &[u32]) -> Result<(), SessionError> {
    let metadata = fs::metadata(path).map_err(SessionError::io("inspect", path))?;
    let sound = judge(metadata.uid(), metadata.mode(), trusted);
    sound.map_err(|reason| SessionError::Untrusted {
        path: path.to_owned(),
        reason,
    })
}

/// The loader splits `LD_PRELOAD` at spaces and colons and expands `$ORIGIN` and the like in it.
fn check_loadable(directory: &Path) -> Result<(), SessionError> {
    let bytes = directory.as_os_str().as_bytes();
    if let Some(&byte) = bytes.iter().find(|byte| b" :$".contains(byte)) {
        return Err(SessionError::Unloadable {
            path: directory.to_owned(),
            character: char::from(byte),
        });
    }
    if bytes.len() > MAX_DIRECTORY_LEN {
        return Err(SessionError::TooLong(directory.to_owned()));
    }
    Ok(())
}

/// Who owns `/`, which is root. A user namespace without a number for root (a sandbox's, a rootless container's) shows
/// root as the overflow user, and other users without a number there as well (`user_namespaces(7)`); what is ours
/// lies below root's directories alone unless our own environment says otherwise.
fn owner_of_everything() -> u32 {
    fs::metadata("/").map_or(0, |metadata| metadata.uid())
}

fn judge(owner: u32, mode: u32, trusted: &[u32]) -> Result<(), Unsafe> {
    if !trusted.contains(&owner) {
        return Err(Unsafe::Owner(owner));
    }
    if mode & OTHERS_WRITE != 0 && mode & STICKY == 0 {
        return Err(Unsafe::Writable(mode & 0o7777));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_trusted_if_only_root_and_the_user_can_change_it() {
        for (owner, mode, expected) in [
            (1000, 0o40700, Ok(())),
            (0, 0o40755, Ok(())),
            (0, 0o41777, Ok(())),
            (1000, 0o40770, Err(Unsafe::Writable(0o770))),
            (1000, 0o40702, Err(Unsafe::Writable(0o702))),
            (0, 0o40777, Err(Unsafe::Writable(0o777))),
            (1001, 0o40700, Err(Unsafe::Owner(1001))),
            (1001, 0o41777, Err(Unsafe::Owner(1001))),
        ] {
            assert_eq!(judge(owner, mode, &[0, 1000]), expected, "{owner} {mode:o}");
        }
    }

    #[test]
    fn the_loader_would_split_some_paths() {
        let long = format!("/{}", "x".repeat(MAX_DIRECTORY_LEN));
        for (path, fine) in [
            ("/run/user/1000/styxy/s/1", true),
            ("/home/ä/styxy", true),
            ("/home/a b/styxy", false),
            ("/home/a:b/styxy", false),
            ("/home/$LIB/styxy", false),
            (long.as_str(), false),
        ] {
            assert_eq!(check_loadable(Path::new(path)).is_ok(), fine, "{path}");
        }
    }
}
