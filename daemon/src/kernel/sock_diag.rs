//! The TCP sockets of this network namespace that have a port to themselves, by netlink (`sock_diag(7)`).
//!
//! One dump a family takes tens of microseconds; `/proc/net/tcp` walks the kernel's whole hash table and
//! takes milliseconds. Layouts are those of `linux/netlink.h` and `linux/inet_diag.h`, read byte by byte.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket,
};
use styxy_protocol::Port;

/// A TCP socket that listens, or that is bound and does not listen yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Socket {
    /// Its port.
    pub port: Port,
    /// The address it is bound to.
    pub address: IpAddr,
    /// Its inode, which `/proc/PID/fd` shows as `socket:[inode]`.
    pub inode: u32,
    /// The user who made it.
    pub uid: u32,
}

/// Every listening TCP socket, of both families.
///
/// # Errors
/// Where the kernel has no `sock_diag` or a sandbox forbids it.
pub fn listening() -> io::Result<Vec<Socket>> {
    dump(TCP_LISTEN, 0)
}

/// Every TCP socket that is bound and neither listens nor is connected, of both families. Empty before Linux 6.8,
/// which does not tell. Walks the kernel's table of connections, which takes up to milliseconds.
///
/// # Errors
/// As [`listening`].
pub fn bound() -> io::Result<Vec<Socket>> {
    dump(TCP_BOUND_INACTIVE, 0)
}

/// The sockets that listen on this port, of both families and on any address.
///
/// # Errors
/// As [`listening`].
pub fn listening_on(port: Port) -> io::Result<Vec<Socket>> {
    dump(TCP_LISTEN, port.get())
}

/// Whether anything listens on this port. Where the kernel does not tell, the answer is that of a bind.
pub fn is_listening(port: Port) -> bool {
    match listening_on(port) {
        Ok(sockets) => !sockets.is_empty(),
        Err(_) => !super::port_is_free(port),
    }
}

const SOCK_DIAG_BY_FAMILY: u16 = 20;
const NLM_F_REQUEST: u16 = 0x1;
const NLM_F_DUMP: u16 = 0x300;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLMSG_HEADER: usize = 16;
const REQUEST: usize = 72;
const TCP_LISTEN: u32 = 10;
const TCP_BOUND_INACTIVE: u32 = 13;
/// Offset of `inet_diag_msg` fields from its start.
const SOURCE_PORT: usize = 4;
const SOURCE_ADDRESS: usize = 8;
const UID: usize = 64;
const INODE: usize = 68;
const DIAG_MESSAGE: usize = 72;

fn dump(state: u32, port: u16) -> io::Result<Vec<Socket>> {
    let fd = socket(
        AddressFamily::Netlink,
        SockType::Datagram,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::NetlinkSockDiag,
    )?;
    let mut found = Vec::new();
    for family in [libc::AF_INET, libc::AF_INET6] {
        let request = request(u8::try_from(family).unwrap_or(0), state, port);
        match dump_family(&fd, request, port, &mut found) {
            // A kernel without IPv6 has no such sockets.
            Err(error)
                if family == libc::AF_INET6 && error.raw_os_error() == Some(libc::ENOENT) => {}
            other => other?,
        }
    }
    Ok(found)
}

fn dump_family(
    fd: &OwnedFd,
    request: [u8; REQUEST],
    port: u16,
    found: &mut Vec<Socket>,
) -> io::Result<()> {
    send(fd.as_raw_fd(), &request, MsgFlags::empty())?;
    let mut buffer = vec![0_u8; 32 * 1024];
    loop {
        let length = match recv(fd.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
            Err(Errno::EINTR) => continue,
            length => length?,
        };
        match read_messages(&buffer[..length], port, found)? {
            Dump::Done => return Ok(()),
            Dump::More => {}
        }
    }
}

/// `nlmsghdr` and `inet_diag_req_v2`. The kernel compares a source port other than 0 itself.
fn request(family: u8, state: u32, port: u16) -> [u8; REQUEST] {
    let mut bytes = [0; REQUEST];
    bytes[0..4].copy_from_slice(&72_u32.to_ne_bytes());
    bytes[4..6].copy_from_slice(&SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    bytes[6..8].copy_from_slice(&(NLM_F_REQUEST | NLM_F_DUMP).to_ne_bytes());
    bytes[16] = family;
    bytes[17] = 6; // IPPROTO_TCP
    bytes[20..24].copy_from_slice(&(1_u32 << state).to_ne_bytes());
    bytes[24..26].copy_from_slice(&port.to_be_bytes());
    bytes
}

enum Dump {
    Done,
    More,
}

fn read_messages(mut rest: &[u8], port: u16, found: &mut Vec<Socket>) -> io::Result<Dump> {
    while let Some(length) = u32_at(rest, 0).and_then(|length| usize::try_from(length).ok()) {
        let Some(message) = rest.get(NLMSG_HEADER..length) else {
            return Err(io::ErrorKind::InvalidData.into());
        };
        match u16_at(rest, 4) {
            Some(NLMSG_DONE) => return Ok(Dump::Done),
            Some(NLMSG_ERROR) => {
                let code = u32_at(message, 0).unwrap_or(0).cast_signed();
                return Err(io::Error::from_raw_os_error(code.wrapping_neg()));
            }
            Some(SOCK_DIAG_BY_FAMILY) => {
                found.extend(read_socket(message).filter(|it| port == 0 || it.port.get() == port));
            }
            _ => {}
        }
        // Messages are padded to 4 bytes.
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or(&[]);
    }
    Ok(Dump::More)
}

fn read_socket(message: &[u8]) -> Option<Socket> {
    let message = message.get(..DIAG_MESSAGE)?;
    let port = u16::from_be_bytes(*message[SOURCE_PORT..].first_chunk()?);
    let address = &message[SOURCE_ADDRESS..];
    let address = if i32::from(message[0]) == libc::AF_INET6 {
        IpAddr::V6(Ipv6Addr::from(*address.first_chunk::<16>()?))
    } else {
        IpAddr::V4(Ipv4Addr::from(*address.first_chunk::<4>()?))
    };
    Some(Socket {
        port: Port::new(port)?,
        address,
        inode: u32_at(message, INODE)?,
        uid: u32_at(message, UID)?,
    })
}

fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    let bytes = bytes.get(offset..)?.first_chunk()?;
    Some(u32::from_ne_bytes(*bytes))
}

fn u16_at(bytes: &[u8], offset: usize) -> Option<u16> {
    let bytes = bytes.get(offset..)?.first_chunk()?;
    Some(u16::from_ne_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use std::net::{SocketAddrV4, TcpListener};
    use std::os::unix::fs::MetadataExt;

    use nix::sys::socket::{Backlog, SockaddrIn, bind, listen};

    use super::*;

    #[test]
    fn own_listeners_are_found_with_address_inode_and_user() {
        for address in ["127.0.0.1:0", "0.0.0.0:0", "[::1]:0", "[::]:0"] {
            let Ok(held) = TcpListener::bind(address) else {
                assert!(address.starts_with('['), "{address} can be bound");
                continue;
            };
            let local = held.local_addr().unwrap();
            let fd = format!("/proc/self/fd/{}", held.as_raw_fd());
            let inode = std::fs::metadata(fd).unwrap().ino();
            let port = Port::new(local.port()).unwrap();
            let expected = Socket {
                port,
                address: local.ip(),
                inode: u32::try_from(inode).unwrap(),
                uid: nix::unistd::geteuid().as_raw(),
            };
            assert!(listening().unwrap().contains(&expected), "{address}");
            assert_eq!(listening_on(port).unwrap(), [expected], "{address}");
            assert!(is_listening(port));
        }
    }

    #[test]
    fn a_port_that_nobody_listens_on_has_no_listeners() {
        let held = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = Port::new(held.local_addr().unwrap().port()).unwrap();
        drop(held);
        assert!(!is_listening(port));
    }

    #[test]
    fn a_bound_socket_is_found_until_it_listens() {
        let address = SockaddrIn::from(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0));
        let fd = socket(
            AddressFamily::Inet,
            SockType::Stream,
            SockFlag::SOCK_CLOEXEC,
            None,
        )
        .unwrap();
        bind(fd.as_raw_fd(), &address).unwrap();
        let held = TcpListener::from(fd);
        let port = Port::new(held.local_addr().unwrap().port()).unwrap();
        let is_there = || bound().unwrap().iter().any(|socket| socket.port == port);
        assert!(!is_listening(port));
        // Linux before 6.8 does not tell.
        if is_there() {
            listen(&held, Backlog::new(1).unwrap()).unwrap();
            assert!(is_listening(port) && !is_there());
        }
    }

    #[test]
    fn torn_and_hostile_answers_end_in_an_error_or_in_nothing() {
        let mut found = Vec::new();
        for length in 0..80_u32 {
            let mut bytes = vec![0xff; 79];
            bytes[0..4].copy_from_slice(&length.to_ne_bytes());
            bytes[4..6].copy_from_slice(&SOCK_DIAG_BY_FAMILY.to_ne_bytes());
            drop(read_messages(&bytes, 0, &mut found));
        }
        assert!(found.is_empty());
    }
}
