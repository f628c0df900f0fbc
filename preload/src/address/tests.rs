//! Addresses as a C program would pass them, and what is made of them.

use super::*;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};

/// The bytes that a C program would pass for this address.
fn raw(address: SocketAddr) -> Vec<u8> {
    match address {
        SocketAddr::V4(v4) => {
            let mut bytes = AF_INET.to_ne_bytes().to_vec();
            bytes.extend(v4.port().to_be_bytes());
            bytes.extend(v4.ip().octets());
            bytes.extend([0; 8]);
            bytes
        }
        SocketAddr::V6(v6) => {
            let mut bytes = AF_INET6.to_ne_bytes().to_vec();
            bytes.extend(v6.port().to_be_bytes());
            bytes.extend(v6.flowinfo().to_ne_bytes());
            bytes.extend(v6.ip().octets());
            bytes.extend(v6.scope_id().to_ne_bytes());
            bytes
        }
    }
}

#[expect(unsafe_code, reason = "the function under test takes a pointer")]
fn read(bytes: &[u8]) -> Result<Address, PassThrough> {
    let len = u32::try_from(bytes.len()).unwrap();
    // SAFETY: the pointer and the length are those of one slice.
    unsafe { Address::read(bytes.as_ptr().cast(), len) }
}

#[expect(unsafe_code, reason = "reads an address back as the kernel would")]
fn bytes_of(address: &Address) -> Vec<u8> {
    let (start, len) = address.as_raw();
    // SAFETY: `as_raw` gives the start and the size of a structure that `address` keeps alive.
    unsafe { core::slice::from_raw_parts(start.cast::<u8>(), len as usize) }.to_vec()
}

#[test]
fn the_length_decides_what_is_read() {
    let v4 = raw("127.0.0.1:8000".parse().unwrap());
    let v6 = raw("[::1]:8000".parse().unwrap());
    let long = |bytes: &[u8], len: usize| {
        let mut bytes = bytes.to_vec();
        bytes.resize(len, 0xee);
        bytes
    };
    let unix = long(&1u16.to_ne_bytes(), 28);
    for (bytes, expected) in [
        (v4[..0].to_vec(), Err(PassThrough::Malformed)),
        (v4[..1].to_vec(), Err(PassThrough::Malformed)),
        (v4[..15].to_vec(), Err(PassThrough::Malformed)),
        (v4.clone(), Ok(16)),
        (long(&v4, 128), Ok(16)),
        (long(&v4, 129), Err(PassThrough::Malformed)),
        (v6[..23].to_vec(), Err(PassThrough::Malformed)),
        (v6[..24].to_vec(), Ok(24)),
        (v6[..27].to_vec(), Ok(24)),
        (v6.clone(), Ok(28)),
        (long(&v6, 128), Ok(28)),
        (unix, Err(PassThrough::OtherFamily)),
        (0u16.to_ne_bytes().to_vec(), Err(PassThrough::OtherFamily)),
    ] {
        assert_eq!(
            read(&bytes).map(|read| read.as_raw().1),
            expected,
            "{bytes:?}"
        );
    }
}

#[test]
#[expect(unsafe_code, reason = "the function under test takes a pointer")]
fn a_null_address_is_malformed_whatever_its_length() {
    for len in [0, 16, 28] {
        // SAFETY: null is allowed.
        let read = unsafe { Address::read(core::ptr::null(), len) };
        assert_eq!(read, Err(PassThrough::Malformed));
    }
}

#[test]
fn a_moved_address_differs_in_its_port_alone() {
    let v6 = SocketAddrV6::new(Ipv6Addr::new(0xfe80, 0, 0, 0, 1, 2, 3, 4), 8000, 0x1234, 7);
    for (address, moved) in [
        (
            raw("10.1.2.3:8000".parse().unwrap()),
            raw("10.1.2.3:20001".parse().unwrap()),
        ),
        (
            raw(v6.into()),
            raw(SocketAddrV6::new(*v6.ip(), 20001, 0x1234, 7).into()),
        ),
    ] {
        let before = address.clone();
        let read = read(&address).unwrap();
        assert_eq!(bytes_of(&read), address);
        assert_eq!(bytes_of(&read.with_port(20001)), moved);
        assert_eq!(address, before);
    }
}

#[test]
fn localhost_leads_to_loopback_and_wildcard_addresses() {
    let v4 = |a, b, c, d| SocketAddr::from((Ipv4Addr::new(a, b, c, d), 8000));
    let v6 = |text: &str| SocketAddr::from((text.parse::<Ipv6Addr>().unwrap(), 8000));
    for (address, scope) in [
        (v4(0, 0, 0, 0), Scope::Local),
        (v4(127, 0, 0, 1), Scope::Local),
        (v4(127, 9, 8, 7), Scope::Local),
        (v4(10, 0, 0, 1), Scope::Specific),
        (v4(0, 0, 0, 1), Scope::Specific),
        (v6("::"), Scope::Local),
        (v6("::1"), Scope::Local),
        (v6("::2"), Scope::Specific),
        (v6("fe80::1"), Scope::Specific),
        (v6("::ffff:0.0.0.0"), Scope::Local),
        (v6("::ffff:127.0.0.1"), Scope::Local),
        (v6("::ffff:10.0.0.1"), Scope::Specific),
    ] {
        assert_eq!(read(&raw(address)).unwrap().scope(), scope, "{address}");
    }
    assert_eq!(Address::any_v4(8000), read(&raw(v4(0, 0, 0, 0))).unwrap());
    assert_eq!(Address::any_v6(8000), read(&raw(v6("::"))).unwrap());
}

#[test]
fn some_ports_are_none_of_our_business() {
    for (port, expected) in [
        (0, Err(PassThrough::AnyPort)),
        (1, Err(PassThrough::Privileged)),
        (80, Err(PassThrough::Privileged)),
        (1023, Err(PassThrough::Privileged)),
        (1024, Ok(())),
        (9229, Err(PassThrough::Debugger)),
        (9222, Err(PassThrough::Debugger)),
        (5005, Err(PassThrough::Debugger)),
        (5678, Err(PassThrough::Debugger)),
        (2345, Err(PassThrough::Debugger)),
        (8000, Ok(())),
        (65535, Ok(())),
    ] {
        assert_eq!(Address::any_v6(port).check_port(), expected, "{port}");
    }
}
