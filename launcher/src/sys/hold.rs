//! Holding a leased port until a process of the run binds it.
//!
//! The placeholder is a TCP socket that is bound on every address and never listens. It has `SO_REUSEADDR`, so that
//! a child that sets it too (nearly every server does, and the preload library does it for the rest) can bind
//! beside it, and everybody else cannot. It accepts no connections and dies with the launcher.
//!
//! It does not keep a second placeholder away: that no two runs have one port is the affair of their leases.

#![expect(unsafe_code, reason = "system calls that have no safe wrapper")]

use std::io;
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, setsockopt, socket, sockopt};
use styxy_protocol::Port;

/// A held port. Dropping it lets the port go.
#[derive(Debug)]
pub(crate) struct Hold {
    _socket: OwnedFd,
}

impl Hold {
    /// Binds the port on all addresses of both families, or of IPv4 where there is no IPv6.
    ///
    /// Errors with `EADDRINUSE` when somebody else has it.
    pub(crate) fn take(port: Port) -> io::Result<Self> {
        let held = match bound(AddressFamily::Inet6, port) {
            Err(Errno::EAFNOSUPPORT | Errno::EADDRNOTAVAIL) => bound(AddressFamily::Inet, port),
            result => result,
        };
        Ok(Self { _socket: held? })
    }
}

fn bound(family: AddressFamily, port: Port) -> Result<OwnedFd, Errno> {
    let socket = socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    if family == AddressFamily::Inet6 {
        setsockopt(&socket, sockopt::Ipv6V6Only, &false)?;
    }
    setsockopt(&socket, sockopt::ReuseAddr, &true)?;
    bind_any(&socket, family, port)?;
    Ok(socket)
}

/// `bind` past the C library: when styxy runs inside styxy, the library's `bind` is the outer run's and would
/// put the placeholder elsewhere.
fn bind_any(socket: &impl AsFd, family: AddressFamily, port: Port) -> Result<(), Errno> {
    let fd = socket.as_fd().as_raw_fd();
    let result = if family == AddressFamily::Inet6 {
        let address = libc::sockaddr_in6 {
            sin6_family: family as libc::sa_family_t,
            sin6_port: port.get().to_be(),
            sin6_flowinfo: 0,
            sin6_addr: libc::in6_addr { s6_addr: [0; 16] },
            sin6_scope_id: 0,
        };
        // SAFETY: the kernel reads one sockaddr_in6, which lives until the call returns.
        unsafe {
            libc::syscall(
                libc::SYS_bind,
                fd,
                &raw const address,
                size_of_val(&address),
            )
        }
    } else {
        let address = libc::sockaddr_in {
            sin_family: family as libc::sa_family_t,
            sin_port: port.get().to_be(),
            sin_addr: libc::in_addr { s_addr: 0 },
            sin_zero: [0; 8],
        };
        // SAFETY: the kernel reads one sockaddr_in, which lives until the call returns.
        unsafe {
            libc::syscall(
                libc::SYS_bind,
                fd,
                &raw const address,
                size_of_val(&address),
            )
        }
    };
    Errno::result(result).map(drop)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    fn free_port() -> Port {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        Port::new(listener.local_addr().unwrap().port()).unwrap()
    }

    #[test]
    fn a_held_port_is_open_to_a_server_that_reuses_addresses_and_closed_to_others() {
        let port = free_port();
        let _hold = Hold::take(port).unwrap();
        let plain = socket(
            AddressFamily::Inet,
            SockType::Stream,
            SockFlag::empty(),
            None,
        )
        .unwrap();
        assert_eq!(
            bind_any(&plain, AddressFamily::Inet, port),
            Err(Errno::EADDRINUSE)
        );
        // The standard library sets SO_REUSEADDR, as nearly every server does.
        let _server = TcpListener::bind(("127.0.0.1", port.get())).unwrap();
    }

    #[test]
    fn a_hold_does_not_keep_another_one_away() {
        let port = free_port();
        let _one = Hold::take(port).unwrap();
        let _other = Hold::take(port).unwrap();
    }

    #[test]
    fn a_port_that_somebody_listens_on_cannot_be_held() {
        for address in ["127.0.0.1:0", "0.0.0.0:0", "[::1]:0", "[::]:0"] {
            let listener = TcpListener::bind(address).unwrap();
            let port = Port::new(listener.local_addr().unwrap().port()).unwrap();
            assert_eq!(
                Hold::take(port).unwrap_err().raw_os_error(),
                Some(libc::EADDRINUSE),
                "{address}"
            );
        }
    }
}
