//! Where styxy keeps things: its home (configuration, state) and the runtime directory (socket, sessions).
//!
//! Invariant: a directory that is used belongs to this user and nobody else can write to it; one that does
//! not is passed over, never repaired. One home has one runtime directory, so two homes never share a daemon.

use std::fs::{self, DirBuilder, Metadata};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use crate::context::Context;
use crate::env_names;

/// The directories of one styxy home.
#[derive(Clone, Debug)]
pub(crate) struct Places {
    /// Configuration, recipes and state. May not exist and may not be writable.
    pub(crate) home: PathBuf,
    /// Socket, locks and session directories. Exists, belongs to us, mode 0700.
    pub(crate) runtime: PathBuf,
}

/// Why there is no directory to work in.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PlacesError {
    /// Neither `STYXY_HOME` nor `HOME` names a directory.
    #[error("neither `STYXY_HOME` nor `HOME` is an absolute path")]
    NoHome,
    /// No candidate for the runtime directory can be used; the last one's reason.
    #[error("no directory for the daemon's socket: `{}`: {source}", path.display())]
    NoRuntimeDir {
        /// The last candidate.
        path: PathBuf,
        /// Why it cannot be used.
        source: io::Error,
    },
}

impl Places {
    /// The file in the home whose content clients of the loopback port have to know.
    pub(crate) const TOKEN: &str = "auth.token";

    /// Finds, and creates where needed, the directories for this user.
    pub(crate) fn find(context: &Context) -> Result<Self, PlacesError> {
        let home = home(context).ok_or(PlacesError::NoHome)?;
        let leaf = directory_name(&home);
        let mut refused = None;
        for base in runtime_bases(context) {
            match private_dir(&base, context.uid).and_then(|()| {
                let runtime = base.join(&leaf);
                private_dir(&runtime, context.uid)?;
                fits_a_socket(&runtime)?;
                Ok(runtime)
            }) {
                Ok(runtime) => return Ok(Self { home, runtime }),
                Err(source) => refused = Some(PlacesError::NoRuntimeDir { path: base, source }),
            }
        }
        Err(refused.unwrap_or(PlacesError::NoHome))
    }

    /// The daemon's socket.
    pub(crate) fn socket(&self) -> PathBuf {
        self.runtime.join("sock")
    }

    /// The session directory of a lease.
    pub(crate) fn session(&self, lease_id: &str) -> PathBuf {
        self.runtime.join("s").join(lease_id)
    }

    /// The directory of the user's own recipes.
    pub(crate) fn recipes(home: &Path) -> PathBuf {
        home.join("recipes")
    }
}

/// `STYXY_HOME`, else `~/.styxy`.
pub(crate) fn home(context: &Context) -> Option<PathBuf> {
    context
        .path_var(env_names::HOME_DIR)
        .map(Path::to_owned)
        .or_else(|| {
            context
                .path_var(env_names::HOME)
                .map(|home| home.join(".styxy"))
        })
}

/// Where the runtime directory may be, best first. The parents must exist; the last component is ours to make.
fn runtime_bases(context: &Context) -> Vec<PathBuf> {
    let mut bases = Vec::new();
    if let Some(dir) = context.path_var(env_names::RUNTIME_DIR) {
        bases.push(dir.join("styxy"));
    }
    bases.push(PathBuf::from(format!("/run/user/{}/styxy", context.uid)));
    let temp = context
        .path_var(env_names::TEMP_DIR)
        .unwrap_or(Path::new("/tmp"));
    bases.push(temp.join(format!("styxy-{}", context.uid)));
    bases
}

/// Makes `path` a directory that only `uid` can enter, or says why it is not one.
fn private_dir(path: &Path, uid: u32) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    // No link is followed: somebody else could have put one into a shared temporary directory.
    let found = fs::symlink_metadata(path)?;
    refusal(&found, uid).map_or(Ok(()), |why| {
        Err(io::Error::new(io::ErrorKind::PermissionDenied, why))
    })
}

fn refusal(found: &Metadata, uid: u32) -> Option<&'static str> {
    if !found.is_dir() {
        Some("is not a directory")
    } else if found.uid() != uid {
        Some("belongs to another user")
    } else if found.mode() & 0o077 != 0 {
        Some("is open to other users (its mode has to be 0700)")
    } else {
        None
    }
}

/// The address of a Unix socket has room for 107 bytes of path (unix(7)).
fn fits_a_socket(runtime: &Path) -> io::Result<()> {
    let length = runtime.as_os_str().len() + "/sock".len();
    if length <= 107 {
        return Ok(());
    }
    Err(io::Error::new(
        io::ErrorKind::InvalidFilename,
        format!("is too long for a socket ({length} of 107 bytes)"),
    ))
}

/// The home without symbolic links, as far as it exists: two names of one home have one daemon.
fn resolved(home: &Path) -> PathBuf {
    let in_parent = || Some(home.parent()?.canonicalize().ok()?.join(home.file_name()?));
    home.canonicalize()
        .ok()
        .or_else(in_parent)
        .unwrap_or_else(|| home.to_owned())
}

/// A name for the runtime directory of this home: 64-bit FNV-1a of its path, which is stable across builds.
fn directory_name(home: &Path) -> String {
    let hash = resolved(home)
        .as_os_str()
        .as_bytes()
        .iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, &byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
    format!("{hash:016x}")
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    fn context(env: &[(&str, &Path)]) -> Context {
        Context {
            build: crate::BUILD,
            env: env
                .iter()
                .map(|(key, value)| (OsString::from(key), value.as_os_str().to_owned()))
                .collect(),
            cwd: None,
            pid: 1,
            uid: nix::unistd::Uid::effective().as_raw(),
            is_watched: false,
        }
    }

    #[test]
    fn two_homes_never_share_a_runtime_directory() {
        let temp = tempfile::tempdir().unwrap();
        let one = Places::find(&context(&[
            ("STYXY_HOME", Path::new("/a")),
            ("XDG_RUNTIME_DIR", temp.path()),
        ]))
        .unwrap();
        let two = Places::find(&context(&[
            ("STYXY_HOME", Path::new("/b")),
            ("XDG_RUNTIME_DIR", temp.path()),
        ]))
        .unwrap();
        assert_ne!(one.runtime, two.runtime);
        assert!(one.runtime.starts_with(temp.path()) && one.runtime.is_dir());
        assert_eq!(fs::metadata(&one.runtime).unwrap().mode() & 0o777, 0o700);
    }

    #[test]
    fn two_names_of_one_home_have_one_runtime_directory() {
        let temp = tempfile::tempdir().unwrap();
        let (real, link) = (temp.path().join("real"), temp.path().join("link"));
        fs::create_dir(&real).unwrap();
        symlink(&real, &link).unwrap();
        let runtime = |home: &Path| {
            let env = [("HOME", home), ("XDG_RUNTIME_DIR", temp.path())];
            Places::find(&context(&env)).unwrap().runtime
        };
        let before = runtime(&real);
        assert_eq!(runtime(&link), before);
        // The first daemon makes it.
        fs::create_dir(real.join(".styxy")).unwrap();
        assert_eq!(runtime(&real), before);
        assert_eq!(runtime(&link), before);
    }

    #[test]
    fn a_directory_that_others_could_have_made_is_passed_over() {
        let temp = tempfile::tempdir().unwrap();
        let (open, safe) = (temp.path().join("open"), temp.path().join("safe"));
        fs::create_dir_all(open.join("styxy")).unwrap();
        fs::set_permissions(open.join("styxy"), fs::Permissions::from_mode(0o777)).unwrap();
        fs::create_dir(&safe).unwrap();
        let env = [
            ("HOME", temp.path()),
            ("XDG_RUNTIME_DIR", open.as_path()),
            ("TMPDIR", safe.as_path()),
        ];
        let found = Places::find(&context(&env)).unwrap();
        assert!(!found.runtime.starts_with(&open), "{found:?}");

        let linked = temp.path().join("linked");
        fs::create_dir(&linked).unwrap();
        symlink(&safe, linked.join("styxy")).unwrap();
        let error = private_dir(&linked.join("styxy"), context(&[]).uid).unwrap_err();
        assert_eq!(error.to_string(), "is not a directory");
    }

    #[test]
    fn without_a_home_there_is_no_place() {
        assert!(matches!(
            Places::find(&context(&[])),
            Err(PlacesError::NoHome)
        ));
        assert!(matches!(
            Places::find(&context(&[("HOME", Path::new("relative"))])),
            Err(PlacesError::NoHome)
        ));
    }

    #[test]
    fn a_path_too_long_for_a_socket_is_passed_over() {
        let temp = tempfile::tempdir().unwrap();
        let long = temp.path().join("x".repeat(90));
        fs::create_dir(&long).unwrap();
        let found = Places::find(&context(&[
            ("HOME", temp.path()),
            ("XDG_RUNTIME_DIR", &long),
            ("TMPDIR", temp.path()),
        ]));
        assert!(!found.unwrap().runtime.starts_with(&long));
    }
}
