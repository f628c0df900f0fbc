//! The socket address of a `bind()` call: read once from the caller's memory, judged, copied with another port.
//!
//! Invariant: everything but the port survives the copy (flow label, scope id, address), and the caller's
//! memory is never written.

use core::ffi::c_void;

/// `AF_INET` of `<sys/socket.h>` on Linux.
pub const AF_INET: u16 = 2;
/// `AF_INET6` of `<sys/socket.h>` on Linux.
pub const AF_INET6: u16 = 10;

/// The kernel accepts an IPv6 address without its scope id (`SIN6_LEN_RFC2133`).
const V6_LEN_WITHOUT_SCOPE: u32 = 24;
/// The kernel refuses anything longer than `sockaddr_storage`.
const MAX_LEN: u32 = 128;

/// Ports that debuggers are told to connect to by number (Node, Chrome, JVM, debugpy, rdbg): never moved.
pub const DEBUGGER_PORTS: [u16; 5] = [9229, 9222, 5005, 5678, 2345];

/// Why a call goes to the kernel untouched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PassThrough {
    /// No address, or fewer bytes than its family needs, or more than the kernel takes.
    Malformed,
    /// Neither IPv4 nor IPv6.
    OtherFamily,
    /// Port 0: the kernel chooses one that is free.
    AnyPort,
    /// Below 1024: a service with a number that the world knows.
    Privileged,
    /// A debugger would look for it in vain elsewhere.
    Debugger,
}

/// Who can reach a listener on an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// A loopback or wildcard address: it is what `localhost` leads to.
    Local,
    /// One particular address of this machine.
    Specific,
}

/// `struct sockaddr_in`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct V4 {
    family: u16,
    port: [u8; 2],
    address: [u8; 4],
    zero: [u8; 8],
}

/// `struct sockaddr_in6` without its scope id.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct V6Head {
    family: u16,
    port: [u8; 2],
    flow_info: [u8; 4],
    address: [u8; 16],
}

/// `struct sockaddr_in6`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct V6 {
    head: V6Head,
    scope_id: [u8; 4],
}

/// An address of one of the two families, in the kernel's form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Address {
    /// IPv4.
    V4(V4),
    /// IPv6, with or without (24 bytes) its scope id.
    V6 {
        /// The address; the scope id is 0 where the caller gave none.
        bytes: V6,
        /// How much of it the caller gave: 24 or 28 bytes.
        len: u32,
    },
}

impl Address {
    /// `0.0.0.0` with this port.
    pub const fn any_v4(port: u16) -> Self {
        Self::V4(V4 {
            family: AF_INET,
            port: port.to_be_bytes(),
            address: [0; 4],
            zero: [0; 8],
        })
    }

    /// `[::]` with this port.
    pub const fn any_v6(port: u16) -> Self {
        Self::V6 {
            bytes: V6 {
                head: V6Head {
                    family: AF_INET6,
                    port: port.to_be_bytes(),
                    flow_info: [0; 4],
                    address: [0; 16],
                },
                scope_id: [0; 4],
            },
            len: size_of_u32::<V6>(),
        }
    }

    /// Copies the address out of the memory that a program passes to `bind()`.
    ///
    /// # Safety
    /// `address` is null or points to `len` readable bytes, as `bind()` itself demands.
    #[expect(unsafe_code, reason = "reads what the caller of bind() points to")]
    pub unsafe fn read(address: *const c_void, len: u32) -> Result<Self, PassThrough> {
        if address.is_null() || !(2..=MAX_LEN).contains(&len) {
            return Err(PassThrough::Malformed);
        }
        // SAFETY: not null, and at least 2 bytes are readable by the contract above.
        let family = unsafe { address.cast::<u16>().read_unaligned() };
        match (family, len) {
            (AF_INET, 16..) => {
                // SAFETY: at least 16 bytes are readable, which is the size of `V4`; every bit pattern is one.
                Ok(Self::V4(unsafe { address.cast::<V4>().read_unaligned() }))
            }
            (AF_INET6, 28..) => {
                // SAFETY: at least 28 bytes are readable, which is the size of `V6`; every bit pattern is one.
                let bytes = unsafe { address.cast::<V6>().read_unaligned() };
                Ok(Self::V6 {
                    bytes,
                    len: size_of_u32::<V6>(),
                })
            }
            (AF_INET6, V6_LEN_WITHOUT_SCOPE..) => {
                // SAFETY: at least 24 bytes are readable, the size of `V6Head`; every bit pattern is one.
                let head = unsafe { address.cast::<V6Head>().read_unaligned() };
                Ok(Self::V6 {
                    bytes: V6 {
                        head,
                        scope_id: [0; 4],
                    },
                    len: V6_LEN_WITHOUT_SCOPE,
                })
            }
            (AF_INET | AF_INET6, _) => Err(PassThrough::Malformed),
            _ => Err(PassThrough::OtherFamily),
        }
    }

    /// The port, 0 for "any".
    pub const fn port(&self) -> u16 {
        u16::from_be_bytes(match self {
            Self::V4(v4) => v4.port,
            Self::V6 { bytes, .. } => bytes.head.port,
        })
    }

    /// The same address with another port.
    #[must_use]
    pub const fn with_port(&self, port: u16) -> Self {
        let mut copy = *self;
        match &mut copy {
            Self::V4(v4) => v4.port = port.to_be_bytes(),
            Self::V6 { bytes, .. } => bytes.head.port = port.to_be_bytes(),
        }
        copy
    }

    /// Whether a listener here answers on `localhost`. An IPv4 address inside IPv6 counts by its IPv4 part.
    pub const fn scope(&self) -> Scope {
        let v4 = match self {
            Self::V4(v4) => v4.address,
            Self::V6 { bytes, .. } => match bytes.head.address {
                [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0 | 1] => return Scope::Local,
                [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, a, b, c, d] => [a, b, c, d],
                _ => return Scope::Specific,
            },
        };
        match v4 {
            [0, 0, 0, 0] | [127, ..] => Scope::Local,
            _ => Scope::Specific,
        }
    }

    /// Whether styxy has a say in this port at all.
    pub fn check_port(&self) -> Result<(), PassThrough> {
        match self.port() {
            0 => Err(PassThrough::AnyPort),
            1..=1023 => Err(PassThrough::Privileged),
            port if DEBUGGER_PORTS.contains(&port) => Err(PassThrough::Debugger),
            _ => Ok(()),
        }
    }

    /// The address as `bind()` takes it: where it starts and how many bytes it has.
    pub const fn as_raw(&self) -> (*const c_void, u32) {
        match self {
            Self::V4(v4) => ((&raw const *v4).cast(), size_of_u32::<V4>()),
            Self::V6 { bytes, len } => ((&raw const *bytes).cast(), *len),
        }
    }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "the sizes of the two address structures, 16 and 28"
)]
const fn size_of_u32<T>() -> u32 {
    size_of::<T>() as u32
}

#[cfg(test)]
mod tests;
