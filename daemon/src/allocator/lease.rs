//! A lease, its parts, and the records that the state and its journal are made of.
//!
//! The serialised forms are the journal's format: fields may be added with a default, never renamed.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use styxy_protocol::api::{AllocateRequest, ListenerReport};
use styxy_protocol::{Port, ServiceType};

use crate::kernel::ProcessIdentity;

/// How long a lease without a process lives after its last heartbeat or listener.
pub(crate) const TTL: Duration = Duration::from_hours(24);
/// The same for a lease whose process exists but cannot be watched; its client sends heartbeats.
pub(crate) const UNWATCHED_TTL: Duration = Duration::from_mins(1);

/// The name of a lease: a random UUID (version 4), `lock_id` on the wire.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct LeaseId(u128);

impl LeaseId {
    /// The id made of these random bits, six of which the format fixes.
    pub(crate) fn from_random(bits: u128) -> Self {
        let version = 0x4 << 76;
        let variant = 0b10 << 62;
        Self(bits & !(0xf << 76) & !(0b11 << 62) | version | variant)
    }
}

impl fmt::Display for LeaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hex = format!("{:032x}", self.0);
        write!(
            f,
            "{}-{}-{}-{}-{}",
            &hex[..8],
            &hex[8..12],
            &hex[12..16],
            &hex[16..20],
            &hex[20..]
        )
    }
}

impl fmt::Debug for LeaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A text that is not the name of a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("lock_id must be a valid UUID v4")]
pub(crate) struct LeaseIdError;

impl FromStr for LeaseId {
    type Err = LeaseIdError;

    fn from_str(text: &str) -> Result<Self, LeaseIdError> {
        let bytes = text.as_bytes();
        let shape = bytes.len() == 36
            && bytes.iter().enumerate().all(|(at, byte)| match at {
                8 | 13 | 18 | 23 => *byte == b'-',
                14 => *byte == b'4',
                _ => byte.is_ascii_hexdigit(),
            });
        if !shape {
            return Err(LeaseIdError);
        }
        let id = u128::from_str_radix(&text.replace('-', ""), 16).map_err(|_| LeaseIdError)?;
        let id = Self(id);
        (id == Self::from_random(id.0))
            .then_some(id)
            .ok_or(LeaseIdError)
    }
}

impl TryFrom<String> for LeaseId {
    type Error = LeaseIdError;

    fn try_from(text: String) -> Result<Self, LeaseIdError> {
        text.parse()
    }
}

impl From<LeaseId> for String {
    fn from(id: LeaseId) -> Self {
        id.to_string()
    }
}

/// A lease as its clients name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LeaseName {
    /// By its id.
    Id(LeaseId),
    /// By one of its ports.
    Port(Port),
}

impl fmt::Display for LeaseName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Id(id) => id.fmt(f),
            Self::Port(port) => port.fmt(f),
        }
    }
}

impl FromStr for LeaseName {
    type Err = LeaseIdError;

    fn from_str(text: &str) -> Result<Self, LeaseIdError> {
        let port = text.parse().map(Self::Port);
        port.or_else(|_| text.parse().map(Self::Id))
    }
}

/// Whose share of a service type's range a lease takes up: who would keep others from it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Client {
    /// An instance, by its name.
    Instance(String),
    /// The processes of one session: a terminal, an agent's shell.
    Session(u32),
    /// All those who cannot be told apart.
    #[default]
    Unknown,
}

/// The process that a lease hangs on, of the boot that the lease names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Owner {
    /// Which process.
    pub(crate) process: ProcessIdentity,
    /// The session it was in when it took the lease. What it leaves behind in this session is its tree;
    /// descendants with a session of their own are deliberate daemons.
    pub(crate) session: u32,
    /// The process group it was in, which its command shares. Not known of leases that an earlier version made.
    #[serde(default)]
    pub(crate) group: Option<u32>,
}

/// What keeps a lease alive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Hold {
    /// A process, watched by pidfd.
    Owner(Owner),
    /// Heartbeats.
    Heartbeat {
        /// The process that the client named, for display, if it cannot be watched.
        pid: Option<u32>,
        /// Time between a heartbeat and the end.
        ttl: Duration,
        /// The end, as time since boot.
        deadline: Duration,
    },
    /// Nobody; it ends when nothing of its tree listens any more.
    Detached {
        /// The process that had it.
        owner: Option<Owner>,
        /// The owner ended without releasing it.
        was_killed: bool,
    },
}

impl Hold {
    /// The process that has the lease, as clients know it.
    pub(crate) fn pid(&self) -> Option<u32> {
        match self {
            Self::Owner(owner) => Some(owner.process.pid),
            Self::Heartbeat { pid, .. } => *pid,
            Self::Detached { .. } => None,
        }
    }
}

/// The right of one service to its ports.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Lease {
    /// Its name.
    pub(crate) id: LeaseId,
    /// The port of the service.
    pub(crate) port: Port,
    /// Ports for listeners that nobody foresaw.
    pub(crate) spares: Vec<Port>,
    /// What its tree has bound, as reported. Ports that are neither `port` nor a spare belong to the lease too.
    pub(crate) reports: Vec<ListenerReport>,
    /// What keeps it.
    pub(crate) hold: Hold,
    /// The boot that `hold` is about.
    pub(crate) boot: String,
    /// Wall clock time of its beginning, seconds since 1970, for display.
    pub(crate) allocated_at: u64,
    /// Kind of service.
    pub(crate) service_type: ServiceType,
    /// Name of the service.
    pub(crate) service_name: Option<String>,
    /// Label of the client.
    pub(crate) instance_id: Option<String>,
    /// Worktree.
    pub(crate) project_path: Option<String>,
    /// Package directory.
    pub(crate) package_dir: Option<String>,
    /// The command.
    pub(crate) command: Option<String>,
    /// Whose share of a range it takes up. Not known of leases that an earlier version made.
    #[serde(default)]
    pub(crate) client: Client,
    /// What the client called itself, for display.
    #[serde(default)]
    pub(crate) user_agent: Option<String>,
    /// One of its ports has been listened on. Only known of leases that hang on no process.
    #[serde(default)]
    pub(crate) listened: bool,
}

impl Lease {
    /// Every port that belongs to it, each once.
    pub(crate) fn ports(&self) -> impl Iterator<Item = Port> {
        let own = std::iter::once(self.port).chain(self.spares.iter().copied());
        let reported = self.reports.iter().enumerate().filter_map(|(at, report)| {
            let port = report.port;
            let known = port == self.port
                || self.spares.contains(&port)
                || self.reports[..at]
                    .iter()
                    .any(|earlier| earlier.port == port);
            (!known).then_some(port)
        });
        own.chain(reported)
    }

    /// Whether nothing but time and its listeners can end it: no process that it hangs on, none that was named.
    pub(crate) fn is_unowned(&self) -> bool {
        matches!(self.hold, Hold::Heartbeat { pid: None, .. })
    }

    /// Which service it is for. `None` if the client named no project.
    pub(crate) fn identity(&self) -> Option<Identity> {
        Identity::new(
            self.project_path.as_deref(),
            self.package_dir.as_deref(),
            self.service_name.as_deref(),
            &self.service_type,
        )
    }
}

/// Which service it is, across runs: what its sticky port hangs on.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Identity {
    project_path: String,
    package_dir: Option<String>,
    service_name: String,
}

impl Identity {
    /// The service that a request is for. A service without a name is known by its type.
    pub(crate) fn of(request: &AllocateRequest) -> Option<Self> {
        Self::new(
            request.project_path.as_deref(),
            request.package_dir.as_deref(),
            request.service_name.as_deref(),
            &request.service_type,
        )
    }

    /// The service of this name. A service without a name is known by its type, one without a project not at all.
    pub(crate) fn new(
        project_path: Option<&str>,
        package_dir: Option<&str>,
        service_name: Option<&str>,
        service_type: &ServiceType,
    ) -> Option<Self> {
        Some(Self {
            project_path: project_path?.to_owned(),
            package_dir: package_dir.map(str::to_owned),
            service_name: service_name.unwrap_or(service_type.as_str()).to_owned(),
        })
    }
}

/// One change of the state. A line of the journal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Record {
    /// This lease is there, in this form, in place of any form it had before.
    Leased(Box<Lease>),
    /// This lease is gone.
    Ended(LeaseId),
    /// This service had this port last.
    Sticky {
        /// Which service.
        identity: Identity,
        /// Which port.
        port: Port,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_a_uuid_of_version_4_and_reads_back() {
        for bits in [0, u128::MAX, 0x0123_4567_89ab_cdef_0123_4567_89ab_cdef] {
            let text = LeaseId::from_random(bits).to_string();
            assert_eq!(text.len(), 36);
            assert_eq!(&text[14..15], "4");
            assert!(matches!(&text[19..20], "8" | "9" | "a" | "b"), "{text}");
            assert_eq!(text.parse(), Ok(LeaseId::from_random(bits)));
        }
    }

    #[test]
    fn a_lease_is_named_by_its_id_or_a_port() {
        let id = LeaseId::from_random(7);
        assert_eq!(id.to_string().parse(), Ok(LeaseName::Id(id)));
        let port = Port::new(3000).unwrap();
        assert_eq!("3000".parse(), Ok(LeaseName::Port(port)));
        for text in ["0", "65536", "3000x", "-1", ""] {
            assert_eq!(text.parse::<LeaseName>(), Err(LeaseIdError), "{text}");
        }
    }

    #[test]
    fn other_texts_are_no_ids() {
        for text in [
            "",
            "x",
            "00000000-0000-0000-0000-000000000000",
            "00000000-0000-4000-c000-000000000000",
            "00000000-0000-4000-8000-00000000000",
            "00000000-0000-4000-8000-00000000000g",
            "../../../../etc/passwd-aaaaaaaaaaaaaa",
            "00000000x0000-4000-8000-000000000000",
            "+0000000-0000-4000-8000-000000000000",
        ] {
            assert_eq!(text.parse::<LeaseId>(), Err(LeaseIdError), "{text}");
        }
    }
}
