//! Ports of a sandbox: who holds one on which address, and whether it is free.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::os::fd::OwnedFd;

use nix::sys::socket::{Backlog, SockaddrStorage, bind, listen, setsockopt, sockopt};

use crate::namespace::{Network, Request};

/// The addresses on which a process listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Host {
    /// `127.0.0.1`.
    Ipv4Loopback,
    /// `0.0.0.0`.
    Ipv4Any,
    /// `::1`.
    Ipv6Loopback,
    /// `::` for IPv6 alone.
    Ipv6Any,
    /// `::` for both families, as Node listens.
    Dual,
}

impl Host {
    /// The three that a run has to stay out of the way of, each for another reason.
    pub const TYPICAL: [Self; 3] = [Self::Ipv4Loopback, Self::Ipv4Any, Self::Ipv6Loopback];

    fn address(self, port: u16) -> SocketAddr {
        match self {
            Self::Ipv4Loopback => (Ipv4Addr::LOCALHOST, port).into(),
            Self::Ipv4Any => (Ipv4Addr::UNSPECIFIED, port).into(),
            Self::Ipv6Loopback => (Ipv6Addr::LOCALHOST, port).into(),
            Self::Ipv6Any | Self::Dual => (Ipv6Addr::UNSPECIFIED, port).into(),
        }
    }
}

/// How a process asks for a port that somebody may have bound already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manners {
    /// With `SO_REUSEADDR`, as most servers do: succeeds beside a socket that has it too and does not listen.
    ReuseAddress,
    /// Without.
    Plain,
}

/// A process that styxy knows nothing of and that listens on a port: the test itself. It answers nobody.
#[must_use = "the port is free again when this is dropped"]
#[derive(Debug)]
pub struct Squatter {
    /// The port.
    pub port: u16,
    listener: TcpListener,
}

impl Squatter {
    /// Listens on the port, if the kernel lets it.
    pub(crate) fn new(
        network: &Network,
        host: Host,
        port: u16,
        manners: Manners,
    ) -> io::Result<Self> {
        let socket = bound(network, host, port, manners)?;
        listen(&socket, Backlog::new(16)?)?;
        Ok(Self {
            port,
            listener: socket.into(),
        })
    }

    /// Whether somebody has connected to it: whoever did took it for somebody else.
    pub fn was_visited(&self) -> bool {
        let quiet = self.listener.set_nonblocking(true);
        quiet.is_ok() && self.listener.accept().is_ok()
    }
}

/// Whether a server could listen on the port, on any address of any family.
pub(crate) fn is_free(network: &Network, port: u16) -> bool {
    // Only a socket of both families conflicts with every listener.
    // Connections that linger from a server that is gone must not count.
    bound(network, Host::Dual, port, Manners::ReuseAddress).is_ok()
}

fn bound(network: &Network, host: Host, port: u16, manners: Manners) -> io::Result<OwnedFd> {
    let address = host.address(port);
    let socket = network.socket(match address {
        SocketAddr::V4(_) => Request::Ipv4Socket,
        SocketAddr::V6(_) => Request::Ipv6Socket,
    })?;
    if address.is_ipv6() {
        setsockopt(&socket, sockopt::Ipv6V6Only, &(host != Host::Dual))?;
    }
    setsockopt(
        &socket,
        sockopt::ReuseAddr,
        &(manners == Manners::ReuseAddress),
    )?;
    bind(
        std::os::fd::AsRawFd::as_raw_fd(&socket),
        &SockaddrStorage::from(address),
    )?;
    Ok(socket)
}
