//! The state file of the program that styxy succeeds (`daemon.state`): read once, then kept under another name.
//!
//! It is JSON: `allocations` is a list of objects whose fields come in both spellings. An entry that makes no sense
//! is passed over; the file stays, so nothing is lost.

use std::fs::{self, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use serde_json::Value;
use styxy_protocol::{Port, ServiceType};
use tracing::warn;

use crate::allocator::{Identity, LeaseId};
use crate::authority::Authority;

/// No such file is bigger: it would have a hundred thousand entries.
const MAX_BYTES: u64 = 64 * 1024 * 1024;
/// Characters that a text of an entry may have.
const MAX_TEXT: usize = 4096;

/// What a state file says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Import {
    /// The services that had a port.
    pub(crate) services: Vec<FormerLease>,
    /// How many entries make no sense.
    pub(crate) passed_over: usize,
}

/// The lease that a service had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FormerLease {
    /// Its port.
    pub(crate) port: Port,
    /// The id of its lease, if that is one.
    pub(crate) id: Option<LeaseId>,
    /// Kind of service.
    pub(crate) service_type: ServiceType,
    /// Its name.
    pub(crate) service_name: Option<String>,
    /// Label of its client.
    pub(crate) instance_id: Option<String>,
    /// Its project.
    pub(crate) project_path: Option<String>,
    /// When it got the port, in seconds since 1970.
    pub(crate) allocated_at: Option<u64>,
}

impl FormerLease {
    /// What its last port is remembered by. `None` if it names no project.
    pub(crate) fn identity(&self) -> Option<Identity> {
        let name = self.service_name.as_deref();
        Identity::new(self.project_path.as_deref(), None, name, &self.service_type)
    }

    fn read(entry: &Value) -> Option<Self> {
        let text = |names: [&str; 2]| {
            let found = names.into_iter().find_map(|name| entry.get(name)?.as_str());
            let found = found.filter(|it| {
                !it.is_empty() && it.chars().count() <= MAX_TEXT && !it.contains('\0')
            });
            found.map(str::to_owned)
        };
        let port = entry.get("port")?.as_u64()?;
        let allocated_at = text(["allocated_at", "allocatedAt"]);
        let allocated_at = allocated_at.and_then(|time| humantime::parse_rfc3339(&time).ok());
        let allocated_at =
            allocated_at.and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok());
        Some(Self {
            port: Port::new(u16::try_from(port).ok()?)?,
            id: text(["lockId", "lock_id"]).and_then(|id| id.parse().ok()),
            service_type: text(["service_type", "serviceType"])?.parse().ok()?,
            service_name: text(["service_name", "serviceName"])
                .filter(|it| it != "unnamed-service"),
            instance_id: text(["instance_id", "instanceId"]),
            project_path: text(["project_path", "projectPath"]),
            allocated_at: allocated_at.map(|since| since.as_secs()),
        })
    }
}

/// Reads a state file.
///
/// # Errors
/// If it is not JSON or has no list of allocations.
fn parse(bytes: &[u8]) -> Result<Import, String> {
    let state: Value = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    let entries = state.get("allocations").and_then(Value::as_array);
    let entries = entries.ok_or("it has no list of `allocations`")?;
    let services: Vec<_> = entries.iter().filter_map(FormerLease::read).collect();
    Ok(Import {
        passed_over: entries.len() - services.len(),
        services,
    })
}

/// Takes the state file in this directory over, if there is one; a sentence about it for people.
pub(crate) fn take_over(state_dir: &Path, authority: &Authority) -> Option<String> {
    let path = state_dir.join("daemon.state");
    let read = match read(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
        Err(error) => Err(error.to_string()),
        Ok(bytes) => parse(&bytes),
    };
    let (verdict, suffix) = match read {
        Ok(import) if !authority.import(&import) => {
            return Some(format!(
                "`{}` is not taken over while nothing can be saved",
                path.display()
            ));
        }
        Ok(Import {
            services,
            passed_over,
        }) => {
            let count = services.len();
            let rest = match passed_over {
                0 => String::new(),
                rest => format!(", {rest} made no sense"),
            };
            (
                format!("{count} services of `{}` taken over{rest}", path.display()),
                "imported",
            )
        }
        Err(error) => (
            format!("cannot read `{}`: {error}", path.display()),
            "damaged",
        ),
    };
    let kept = free_name(&path, suffix);
    match fs::rename(&path, &kept) {
        Ok(()) => Some(format!("{verdict}; it is kept as `{}`", kept.display())),
        Err(error) => {
            warn!(%error, "cannot rename `{}`", path.display());
            Some(verdict)
        }
    }
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    // Not through a link, and not waiting for what is no file.
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is no file"));
    }
    let mut bytes = Vec::new();
    file.take(MAX_BYTES).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The first of `<path>.<suffix>`, `<path>.<suffix>.2`, … that does not exist.
fn free_name(path: &Path, suffix: &str) -> PathBuf {
    let name = |number: usize| {
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".{suffix}"));
        if number > 1 {
            name.push(format!(".{number}"));
        }
        PathBuf::from(name)
    };
    let mut names = (1..).map(name);
    let free = names.find(|name| fs::symlink_metadata(name).is_err());
    free.unwrap_or_else(|| name(1))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn either_spelling_is_read_and_what_makes_no_sense_is_passed_over() {
        let state = json!({
            "saved_at": "2025-10-11T00:00:00.000Z",
            "allocations": [
                {
                    "port": 3000,
                    "lockId": "00000000-0000-4000-8000-00000000002a",
                    "serviceType": "dev",
                    "serviceName": "web",
                    "instanceId": "agent-1",
                    "projectPath": "/p",
                    "allocated_at": "2025-10-11T12:00:00.000Z",
                    "process_id": 7,
                },
                { "port": 8000, "lockId": "7", "service_type": "api", "service_name": "unnamed-service" },
                { "port": 0, "service_type": "dev" },
                { "port": 70000, "service_type": "dev" },
                { "port": 3000, "service_type": "bad type!" },
                { "service_type": "dev" },
                17,
            ],
        });
        let import = parse(state.to_string().as_bytes()).unwrap();
        assert_eq!((import.services.len(), import.passed_over), (2, 5));
        let [web, api] = &import.services[..] else {
            panic!("two");
        };
        assert_eq!(web.allocated_at, Some(1_760_184_000));
        assert!(web.id.is_some() && web.identity().is_some());
        assert_eq!(
            (api.id, api.identity(), api.service_name.as_deref()),
            (None, None, None)
        );
    }

    #[test]
    fn another_file_is_none_of_these() {
        for bytes in [&b""[..], b"{", b"[]", b"{\"allocations\":{}}", b"\xff"] {
            assert!(parse(bytes).is_err());
        }
    }

    #[test]
    fn nothing_is_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("daemon.state");
        for expected in ["daemon.state.imported", "daemon.state.imported.2"] {
            let name = free_name(&path, "imported");
            assert_eq!(name, dir.path().join(expected));
            fs::write(name, "").unwrap();
        }
    }
}
