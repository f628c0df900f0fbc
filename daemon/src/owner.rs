//! Which process a new lease hangs on, and whether it can be watched.

use crate::allocator::{Client, Owner, OwnerKind};
use crate::kernel::{self, Pidfd, Stat};

/// The client at the other end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Peer {
    /// At the Unix socket, as the kernel vouches for it (`SO_PEERCRED`).
    Socket {
        /// Its user.
        uid: u32,
        /// Its pid in our pid namespace; `None` if it has none there.
        pid: Option<u32>,
    },
    /// At the loopback port. Nothing is known about its process.
    Port {
        /// The user whose token it is: ours.
        uid: u32,
        /// Whether it has shown the token. Without it a client learns whether the daemon runs and nothing else.
        has_token: bool,
    },
}

impl Peer {
    /// The user for whom the client acts.
    fn uid(self) -> u32 {
        match self {
            Self::Socket { uid, .. } | Self::Port { uid, .. } => uid,
        }
    }

    /// Its process, where the kernel tells.
    pub(crate) fn pid(self) -> Option<u32> {
        match self {
            Self::Socket { pid, .. } => pid,
            Self::Port { .. } => None,
        }
    }

    /// Whether the number that the client has for a process is ours.
    fn counts_pids_as_we_do(self) -> bool {
        match self {
            Self::Socket { pid, .. } => pid.is_some_and(kernel::same_pid_namespace),
            // The kernel does not tell; a client elsewhere names a process that is not there, or leaves it out.
            Self::Port { .. } => true,
        }
    }
}

/// Why a lease cannot hang on the process that the client names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OwnerRefusal {
    /// There is no such process.
    NotThere(u32),
    /// It is another user's.
    Foreign(u32),
}

/// Finds the process that the lease shall hang on, with a handle to watch it.
pub(crate) fn identify(
    pid: Option<u32>,
    peer: Peer,
) -> Result<(OwnerKind, Option<Pidfd>), OwnerRefusal> {
    let Some(pid) = pid else {
        return Ok((OwnerKind::Nobody, None));
    };
    let is_peer = matches!(peer, Peer::Socket { pid: Some(own), .. } if own == pid);
    if !is_peer && !peer.counts_pids_as_we_do() {
        // The number means another process to the client than it does to us.
        return Ok((OwnerKind::Unwatched(pid), None));
    }
    let pidfd = match Pidfd::open(pid) {
        Ok(pidfd) => pidfd,
        Err(error) if matches!(error.raw_os_error(), Some(libc::ESRCH | libc::EINVAL)) => {
            return Err(OwnerRefusal::NotThere(pid));
        }
        Err(_) => return Ok((OwnerKind::Unwatched(pid), None)),
    };
    let stat = Stat::of(pid).filter(|stat| stat.alive);
    let stat = stat.ok_or(OwnerRefusal::NotThere(pid))?;
    if !is_peer && kernel::uid_of(pid) != Some(peer.uid()) {
        return Err(OwnerRefusal::Foreign(pid));
    }
    if pidfd.has_ended() {
        return Err(OwnerRefusal::NotThere(pid));
    }
    let owner = Owner {
        process: stat.identity,
        session: stat.session,
        group: Some(stat.group),
    };
    Ok((OwnerKind::Watched(owner), Some(pidfd)))
}

/// What instances are called that have not said who they are: this says nothing about whose lease it is.
const NAMELESS: [&str; 2] = ["default", "cli"];

/// Whose share of a range a lease takes up: that of the instance that the client says it is, else that of the
/// session that the owner or the peer is in.
pub(crate) fn client(instance_id: Option<&str>, owner: OwnerKind, peer: Peer) -> Client {
    if let Some(name) = instance_id.filter(|name| !NAMELESS.contains(name)) {
        return Client::Instance(name.to_owned());
    }
    let session = match owner {
        OwnerKind::Watched(owner) => Some(owner.session),
        OwnerKind::Unwatched(_) | OwnerKind::Nobody => peer.pid().and_then(kernel::session_id),
    };
    session.map_or(Client::Unknown, Client::Session)
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    fn uid() -> u32 {
        nix::unistd::geteuid().as_raw()
    }

    fn us() -> Peer {
        Peer::Socket {
            uid: uid(),
            pid: Some(std::process::id()),
        }
    }

    fn at_the_port() -> Peer {
        Peer::Port {
            uid: uid(),
            has_token: true,
        }
    }

    #[test]
    fn a_living_process_of_the_peers_user_is_watched() {
        let own = std::process::id();
        for peer in [us(), at_the_port()] {
            let (kind, pidfd) = identify(Some(own), peer).unwrap();
            let OwnerKind::Watched(owner) = kind else {
                panic!("{kind:?}");
            };
            assert_eq!(Some(owner.process), kernel::process_identity(own));
            assert!(pidfd.is_some_and(|pidfd| !pidfd.has_ended()));
        }
    }

    #[test]
    fn no_process_dead_processes_and_those_of_others_are_not() {
        assert_eq!(identify(None, us()).unwrap().0, OwnerKind::Nobody);
        let mut child = Command::new("true").spawn().unwrap();
        let dead = child.id();
        child.wait().unwrap();
        assert_eq!(
            identify(Some(dead), us()).unwrap_err(),
            OwnerRefusal::NotThere(dead)
        );
        assert_eq!(
            identify(Some(0), us()).unwrap_err(),
            OwnerRefusal::NotThere(0)
        );
        let strangers = [
            Peer::Socket {
                uid: uid() + 1,
                pid: Some(std::process::id()),
            },
            Peer::Port {
                uid: uid() + 1,
                has_token: true,
            },
        ];
        // Pid 1 is the peer's as little as ours is, whoever runs this test.
        let parent = nix::unistd::getppid().as_raw().cast_unsigned();
        for stranger in strangers {
            assert_eq!(
                identify(Some(parent), stranger).unwrap_err(),
                OwnerRefusal::Foreign(parent)
            );
        }
    }

    #[test]
    fn a_client_is_known_by_its_name_then_by_its_session() {
        let session = kernel::session_id(std::process::id()).unwrap();
        let of = |name, peer| client(name, OwnerKind::Nobody, peer);
        let agent = Client::Instance("agent-1".to_owned());
        assert_eq!(of(Some("agent-1"), us()), agent);
        for name in [None, Some("default"), Some("cli")] {
            assert_eq!(of(name, us()), Client::Session(session));
            let hidden = Peer::Socket {
                uid: uid(),
                pid: None,
            };
            assert_eq!(of(name, hidden), Client::Unknown);
        }
    }

    #[test]
    fn a_client_that_counts_pids_in_its_own_way_is_not_believed() {
        let hidden = Peer::Socket {
            uid: uid(),
            pid: None,
        };
        assert_eq!(
            identify(Some(7), hidden).unwrap().0,
            OwnerKind::Unwatched(7)
        );
    }
}
