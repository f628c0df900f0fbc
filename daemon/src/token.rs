//! The token that clients of the loopback port show: one file for its owner's eyes alone.
//!
//! Invariant: the token is in that file and in this process's memory, and nowhere else: no argument, no variable,
//! no log line, no answer carries it.

use std::fmt::{self, Write as _};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use subtle::ConstantTimeEq as _;

/// Random bytes of a new token; it has twice as many hexadecimal digits.
const RANDOM_BYTES: usize = 32;
/// A text of the user's that is shorter is no token.
const MIN_LENGTH: usize = 32;
/// And none that is longer, as it has to fit into the head of a request.
const MAX_LENGTH: u64 = 4096;

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TokenError {
    /// The file cannot be read or made.
    #[error("cannot use the token in `{}`: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Somebody else could have read or written it.
    #[error("the token in `{}` is not used: it {reason}; delete the file for a new one, or {remedy}", path.display())]
    Unsafe {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
        /// What would make it right.
        remedy: &'static str,
    },
    /// The system gives no random numbers.
    #[error("the system gives no random numbers for a token")]
    NoRandomness,
}

/// A secret text.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Token(String);

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

impl Token {
    /// The token in the file at `path`, which is made if there is none.
    ///
    /// # Errors
    /// If the file can be read or written by anybody but its owner, who is not us, or holds something else.
    pub(crate) fn load(path: &Path) -> Result<Self, TokenError> {
        match Self::read(path)? {
            Some(token) => Ok(token),
            None => match Self::create(path) {
                // Somebody else has made it in this moment.
                Err(TokenError::Io { source, .. })
                    if source.kind() == io::ErrorKind::AlreadyExists =>
                {
                    Self::read(path)?.ok_or_else(|| io_error(path)(io::ErrorKind::NotFound.into()))
                }
                created => created,
            },
        }
    }

    /// Puts a new token into the file at `path`, in one step, in place of what is there.
    ///
    /// # Errors
    /// As [`Self::load`]; the old file is then still there.
    pub(crate) fn rotate(path: &Path) -> Result<Self, TokenError> {
        let token = Self::random()?;
        let failed = io_error(path);
        let fresh = path.with_extension("token.new");
        match fs::remove_file(&fresh) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
        token.write(&fresh).map_err(&failed)?;
        fs::rename(&fresh, path).map_err(&failed)?;
        Ok(token)
    }

    /// Whether a client's text is the token. Takes as long for a text that is nearly right as for any other one of
    /// its length.
    pub(crate) fn is(&self, text: &[u8]) -> bool {
        self.0.as_bytes().ct_eq(text).into()
    }

    fn read(path: &Path) -> Result<Option<Self>, TokenError> {
        let failed = io_error(path);
        let opened = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
            .open(path);
        let unsafe_because = |reason: String, remedy| TokenError::Unsafe {
            path: path.to_owned(),
            reason,
            remedy,
        };
        let file = match opened {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) if error.raw_os_error() == Some(libc::ELOOP) => {
                let reason = "is a symbolic link".to_owned();
                return Err(unsafe_because(reason, "put the file itself there"));
            }
            opened => opened.map_err(&failed)?,
        };
        check(&file)
            .map_err(&failed)?
            .map_or(Ok(()), |(reason, remedy)| {
                Err(unsafe_because(reason, remedy))
            })?;
        let mut text = String::new();
        let mut file = file.take(MAX_LENGTH);
        file.read_to_string(&mut text).map_err(&failed)?;
        let text = text.trim();
        if text.len() < MIN_LENGTH || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            let reason = format!("is not at least {MIN_LENGTH} visible ASCII characters");
            return Err(unsafe_because(reason, "put a longer one into it"));
        }
        Ok(Some(Self(text.to_owned())))
    }

    fn create(path: &Path) -> Result<Self, TokenError> {
        let token = Self::random()?;
        token.write(path).map_err(io_error(path))?;
        Ok(token)
    }

    fn write(&self, path: &Path) -> io::Result<()> {
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW)
            .open(path)?;
        let written = file
            .write_all(format!("{}\n", self.0).as_bytes())
            .and_then(|()| file.sync_all());
        if written.is_err() {
            // Half a token would be in the way of a whole one.
            fs::remove_file(path).ok();
        }
        written
    }

    fn random() -> Result<Self, TokenError> {
        let mut bytes = [0; RANDOM_BYTES];
        getrandom::fill(&mut bytes).map_err(|_| TokenError::NoRandomness)?;
        let mut text = String::with_capacity(2 * RANDOM_BYTES);
        for byte in bytes {
            // Writing to a string cannot fail.
            write!(text, "{byte:02x}").ok();
        }
        Ok(Self(text))
    }
}

/// What makes this file no place for a secret, and what would mend it.
fn check(file: &File) -> io::Result<Option<(String, &'static str)>> {
    let metadata = file.metadata()?;
    let mode = metadata.mode() & 0o7777;
    Ok(if !metadata.is_file() {
        Some(("is not a file".to_owned(), "put it elsewhere"))
    } else if metadata.uid() != nix::unistd::geteuid().as_raw() {
        Some(("belongs to another user".to_owned(), "make it your own"))
    } else if mode & 0o077 != 0 {
        let reason = format!("is open to other users (its mode is {mode:04o})");
        Some((reason, "`chmod 600` it if nobody has read it"))
    } else {
        None
    })
}

fn io_error(path: &Path) -> impl Fn(io::Error) -> TokenError {
    move |source| TokenError::Io {
        path: path.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    fn place() -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("auth.token");
        (dir, path)
    }

    fn put(path: &Path, text: &str, mode: u32) {
        fs::write(path, text).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn a_new_token_is_64_digits_in_a_file_for_its_owner_and_is_kept() {
        let (_dir, path) = place();
        let token = Token::load(&path).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(text.trim_end().len(), 64);
        assert!(text.trim_end().bytes().all(|byte| byte.is_ascii_hexdigit()));
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert_eq!(Token::load(&path).unwrap(), token);
        assert!(token.is(text.trim_end().as_bytes()) && !token.is(text.as_bytes()));
        assert!(!token.is(b"") && !token.is(&text.as_bytes()[..63]));
        assert!(!format!("{token:?}").contains(text.trim_end()));
    }

    #[test]
    fn a_token_of_the_users_is_kept_without_its_line_end() {
        let (_dir, path) = place();
        put(&path, &format!(" {}\n\n", "x".repeat(32)), 0o600);
        assert!(Token::load(&path).unwrap().is("x".repeat(32).as_bytes()));
        for text in ["", "\n", "short", &"é".repeat(40), &"a b".repeat(20)] {
            put(&path, text, 0o600);
            let error = Token::load(&path).unwrap_err();
            assert!(error.to_string().contains("visible ASCII"), "{error}");
            assert_eq!(fs::read_to_string(&path).unwrap(), text, "left as it is");
        }
    }

    #[test]
    fn a_file_that_others_could_have_seen_or_made_is_refused() {
        let (dir, path) = place();
        for mode in [0o644, 0o660, 0o602] {
            put(&path, &"x".repeat(64), mode);
            let error = Token::load(&path).unwrap_err().to_string();
            assert!(error.contains(&format!("{mode:04o}")), "{error}");
        }
        let (target, link) = (dir.path().join("target"), dir.path().join("link"));
        put(&target, &"x".repeat(64), 0o600);
        symlink(&target, &link).unwrap();
        let error = Token::load(&link).unwrap_err().to_string();
        assert!(error.contains("is a symbolic link"), "{error}");
        assert!(Token::load(dir.path()).is_err(), "a directory");
    }

    #[test]
    fn a_link_that_points_to_nothing_is_not_followed_when_a_token_is_made() {
        let (dir, path) = place();
        let target = dir.path().join("target");
        symlink(&target, &path).unwrap();
        Token::load(&path).unwrap_err();
        assert!(!target.exists());
    }

    #[test]
    fn a_rotated_token_takes_the_old_ones_place() {
        let (dir, path) = place();
        let old = Token::load(&path).unwrap();
        fs::write(dir.path().join("auth.token.new"), "left over").unwrap();
        let new = Token::rotate(&path).unwrap();
        assert_ne!(old, new);
        assert_eq!(Token::load(&path).unwrap(), new);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
