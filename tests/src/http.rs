//! One HTTP request as a browser's `localhost` makes it: `::1` first, then `127.0.0.1`.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::os::fd::AsRawFd;
use std::time::Duration;

use nix::sys::socket::{SockaddrStorage, connect};

use crate::namespace::{Network, Request};

/// An answer.
#[derive(Clone, Debug)]
pub struct Page {
    /// The status code.
    pub status: u16,
    /// The body, decoded as far as text goes; chunk sizes are left in.
    pub body: String,
    /// The address that answered.
    pub from: IpAddr,
}

/// `GET http://localhost:PORT/PATH`, over the first address that accepts.
pub(crate) fn get(network: &Network, port: u16, path: &str) -> io::Result<Page> {
    let (mut stream, from) = connect_localhost(network, port)?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: localhost:{port}\r\nConnection: close\r\nAccept: text/html\r\n\r\n"
    )?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let answer = String::from_utf8_lossy(&answer);
    let (head, body) = answer
        .split_once("\r\n\r\n")
        .ok_or_else(|| io::Error::other(format!("not HTTP: {answer:?}")))?;
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok());
    Ok(Page {
        status: status.ok_or_else(|| io::Error::other(format!("no status: {head:?}")))?,
        body: body.to_owned(),
        from,
    })
}

fn connect_localhost(network: &Network, port: u16) -> io::Result<(TcpStream, IpAddr)> {
    let ipv6 = (Request::Ipv6Socket, IpAddr::V6(Ipv6Addr::LOCALHOST));
    let ipv4 = (Request::Ipv4Socket, IpAddr::V4(Ipv4Addr::LOCALHOST));
    let mut last = None;
    for (request, address) in [ipv6, ipv4] {
        let socket = network.socket(request)?;
        let peer = SockaddrStorage::from(SocketAddr::new(address, port));
        match connect(socket.as_raw_fd(), &peer) {
            Ok(()) => return Ok((socket.into(), address)),
            Err(error) => last = Some(error),
        }
    }
    Err(last.map_or_else(|| io::Error::other("no address"), Into::into))
}
