//! Whether a port can be bound: by binding it.
//!
//! On Linux only a dual-stack bind of `[::]` conflicts with every kind of holder; a bind of `127.0.0.1`
//! succeeds beside a listener on `::1` and the reverse. `SO_REUSEADDR` keeps connections that linger in
//! `TIME_WAIT` from counting; it never lets two listeners in. Without `SO_REUSEPORT`, which would.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddrV4, SocketAddrV6};
use std::ops::RangeInclusive;

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrIn, SockaddrIn6, SockaddrLike, bind, setsockopt,
    socket, sockopt,
};
use std::os::fd::{AsRawFd, OwnedFd};
use styxy_protocol::Port;

/// Whether nobody holds the port on any address of either family. An error counts as "not free".
/// Takes about 2 µs.
pub fn port_is_free(port: Port) -> bool {
    probe(port).unwrap_or(false)
}

/// As [`port_is_free`], but tells "taken" from "could not be found out".
///
/// # Errors
/// Those of `socket(2)` and `bind(2)` other than "in use", such as `EMFILE`, or `EACCES` below port 1024.
pub fn probe(port: Port) -> io::Result<bool> {
    let bound = match bind_dual_stack(port) {
        // No IPv6 at all, or none that can be bound: IPv4 is all there is to ask.
        Err(Errno::EAFNOSUPPORT | Errno::EADDRNOTAVAIL) => bind_ipv4(port),
        bound => bound,
    };
    match bound {
        Ok(()) => Ok(true),
        Err(Errno::EADDRINUSE) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// The ports that the kernel gives to outgoing connections and to `bind(0)`: `ip_local_port_range` of this
/// network namespace, or the kernel's default of 32768 to 60999 where it cannot be read.
pub fn ephemeral_range() -> RangeInclusive<u16> {
    let text = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range");
    text.ok()
        .and_then(|text| parse_range(&text))
        .unwrap_or(32768..=60999)
}

fn bind_dual_stack(port: Port) -> nix::Result<()> {
    let fd = stream_socket(AddressFamily::Inet6)?;
    setsockopt(&fd, sockopt::Ipv6V6Only, &false)?;
    let address = SocketAddrV6::new(Ipv6Addr::UNSPECIFIED, port.get(), 0, 0);
    reuse_and_bind(&fd, &SockaddrIn6::from(address))
}

fn bind_ipv4(port: Port) -> nix::Result<()> {
    let fd = stream_socket(AddressFamily::Inet)?;
    let address = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, port.get());
    reuse_and_bind(&fd, &SockaddrIn::from(address))
}

fn stream_socket(family: AddressFamily) -> nix::Result<OwnedFd> {
    socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)
}

fn reuse_and_bind(fd: &OwnedFd, address: &dyn SockaddrLike) -> nix::Result<()> {
    setsockopt(fd, sockopt::ReuseAddr, &true)?;
    bind(fd.as_raw_fd(), address)
}

fn parse_range(text: &str) -> Option<RangeInclusive<u16>> {
    let mut numbers = text.split_ascii_whitespace().map(str::parse::<u16>);
    let first = numbers.next()?.ok()?;
    let last = numbers.next()?.ok()?;
    (first <= last).then_some(first..=last)
}

#[cfg(test)]
mod tests {
    use std::net::{SocketAddr, TcpListener, TcpStream};

    use super::*;

    fn listener(address: &str) -> Option<(TcpListener, Port)> {
        let listener = TcpListener::bind(address).ok()?;
        let port = Port::new(listener.local_addr().ok()?.port())?;
        Some((listener, port))
    }

    #[test]
    fn a_listener_on_any_address_of_either_family_is_seen() {
        for address in [
            "127.0.0.1:0",
            "0.0.0.0:0",
            "127.0.0.2:0",
            "[::1]:0",
            "[::]:0",
        ] {
            // A machine without IPv6 has nothing to find there.
            let Some((held, port)) = listener(address) else {
                assert!(address.starts_with('['), "{address} can be bound");
                continue;
            };
            assert!(!port_is_free(port), "{address}");
            drop(held);
        }
    }

    #[test]
    fn a_listener_on_ipv6_alone_is_seen() {
        let Ok(fd) = stream_socket(AddressFamily::Inet6) else {
            return;
        };
        setsockopt(&fd, sockopt::Ipv6V6Only, &true).unwrap();
        let any = SocketAddrV6::new(Ipv6Addr::UNSPECIFIED, 0, 0, 0);
        bind(fd.as_raw_fd(), &SockaddrIn6::from(any)).unwrap();
        let held = TcpListener::from(fd);
        nix::sys::socket::listen(&held, nix::sys::socket::Backlog::new(1).unwrap()).unwrap();
        let port = Port::new(held.local_addr().unwrap().port()).unwrap();
        assert!(!port_is_free(port));
    }

    #[test]
    fn a_port_is_free_again_although_a_connection_lingers() {
        let (held, port) = listener("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(SocketAddr::from(([127, 0, 0, 1], port.get()))).unwrap();
        let (served, _) = held.accept().unwrap();
        drop(served); // the server closes first: its side goes to TIME_WAIT
        drop(client);
        drop(held);
        assert!(port_is_free(port));
    }

    #[test]
    fn the_ephemeral_range_is_read_from_two_numbers() {
        assert_eq!(parse_range("32768\t60999\n"), Some(32768..=60999));
        for text in ["", "1", "x y", "2 1", "1 70000"] {
            assert_eq!(parse_range(text), None, "{text:?}");
        }
        assert!(ephemeral_range().end() >= ephemeral_range().start());
    }
}
