//! The daemon's API, spoken by hand over its socket: what a client of any language could send.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

/// How long the daemon may take for one answer; far more than it ever does.
const PATIENCE: Duration = Duration::from_secs(30);

/// The way to the daemon of one runtime directory.
#[derive(Clone, Debug)]
pub struct Api {
    socket: PathBuf,
}

impl Api {
    /// Of the only daemon, running or not, whose socket is below this `XDG_RUNTIME_DIR`.
    ///
    /// # Panics
    /// When there never was one, or there are several.
    pub fn below(runtime_dir: &Path) -> Self {
        let entries = fs::read_dir(runtime_dir.join("styxy")).expect("a runtime directory");
        let dirs: Vec<_> = entries.map(|entry| entry.expect("entry").path()).collect();
        let [dir] = dirs.as_slice() else {
            panic!("one daemon's directory: {dirs:?}");
        };
        Self {
            socket: dir.join("sock"),
        }
    }

    /// Status and body of the answer. An answer that breaks off is an error, like a daemon that is not there.
    ///
    /// # Errors
    /// Those of the socket.
    pub fn send(&self, method: &str, path: &str, body: &str) -> io::Result<(u16, Value)> {
        let mut stream = UnixStream::connect(&self.socket)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let length = body.len();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: styxy\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n"
        );
        stream.write_all(format!("{head}{body}").as_bytes())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let whole = || {
            let (head, body) = answer.split_once("\r\n\r\n")?;
            let status = head.get(9..12)?.parse().ok()?;
            Some((status, serde_json::from_str(body).ok()?))
        };
        whole().ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }
}
