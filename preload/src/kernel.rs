//! The kernel, called without libc: no `errno`, no cancellation point, no lock, nothing that another
//! library could have replaced.
//!
//! Linux on `x86_64` only; numbers from `asm/unistd_64.h` and the socket headers of that architecture.
#![expect(unsafe_code, reason = "system calls")]

use core::arch::asm;
use core::ffi::{c_char, c_void};

use styxy_protocol::table::{FILE_LEN, PortTable};

use crate::address::{AF_INET, AF_INET6, Address};
use crate::bind::{Errno, Kind, Probe, Socket};

const SYS_OPEN: usize = 2;
const SYS_CLOSE: usize = 3;
const SYS_LSEEK: usize = 8;
const SYS_MMAP: usize = 9;
const SYS_MUNMAP: usize = 11;
const SYS_SOCKET: usize = 41;
const SYS_BIND: usize = 49;
const SYS_SETSOCKOPT: usize = 54;
const SYS_GETSOCKOPT: usize = 55;
const SYS_FUTEX: usize = 202;

const O_RDWR: usize = 0o2;
const O_NOFOLLOW: usize = 0o400_000;
const O_CLOEXEC: usize = 0o2_000_000;
const SEEK_END: usize = 2;
const PROT_READ_WRITE: usize = 1 | 2;
const MAP_SHARED: usize = 1;
const FUTEX_WAKE: usize = 1;

const SOCK_STREAM: i32 = 1;
const SOCK_DGRAM: i32 = 2;
const SOCK_CLOEXEC: usize = 0o2_000_000;
const SOL_SOCKET: usize = 1;
const SO_REUSEADDR: usize = 2;
const SO_TYPE: usize = 3;
const IPPROTO_IPV6: usize = 41;
const IPV6_V6ONLY: usize = 26;

/// A descriptor that a program passed to `bind()`. It may be none.
#[derive(Clone, Copy, Debug)]
pub struct Descriptor(pub i32);

/// `bind()` as the kernel has it.
///
/// # Safety
/// `address` points to `len` readable bytes or to nothing at all; the kernel checks it.
pub unsafe fn bind(
    Descriptor(fd): Descriptor,
    address: *const c_void,
    len: u32,
) -> Result<(), Errno> {
    let arguments = [word(fd), address.expose_provenance(), len as usize, 0, 0, 0];
    // SAFETY: bind only reads memory, and answers EFAULT where it cannot.
    unsafe { call(SYS_BIND, arguments) }.map(drop)
}

/// Maps the table file at `path`. `None` if there is none or it is too short.
///
/// # Safety
/// `path` is a C string.
pub unsafe fn map_table(path: *const c_char) -> Option<*mut PortTable> {
    let flags = O_RDWR | O_NOFOLLOW | O_CLOEXEC;
    // SAFETY: open only reads the path, a C string by the contract above.
    let fd = unsafe { call(SYS_OPEN, [path.expose_provenance(), flags, 0, 0, 0, 0]) }.ok()?;
    // A pipe in the file's place has no end to seek to; a short file would be a SIGBUS later.
    // SAFETY: lseek touches no memory.
    let len = unsafe { call(SYS_LSEEK, [fd, 0, SEEK_END, 0, 0, 0]) };
    let mapped = len.ok().filter(|&len| len >= FILE_LEN).and_then(|_| {
        let arguments = [0, FILE_LEN, PROT_READ_WRITE, MAP_SHARED, fd, 0];
        // SAFETY: a new mapping where the kernel finds room; it replaces none.
        unsafe { call(SYS_MMAP, arguments) }.ok()
    });
    close(fd);
    Some(core::ptr::with_exposed_provenance_mut(mapped?))
}

/// Undoes [`map_table`].
///
/// # Safety
/// `table` came from [`map_table`] and nobody uses it any more.
pub unsafe fn unmap_table(table: *mut PortTable) {
    // SAFETY: the range is one whole mapping of our own that nobody uses, by the contract above.
    let unmapped = unsafe {
        call(
            SYS_MUNMAP,
            [table.expose_provenance(), FILE_LEN, 0, 0, 0, 0],
        )
    };
    debug_assert!(unmapped.is_ok());
}

impl Socket for Descriptor {
    fn bind(&self, address: &Address) -> Result<(), Errno> {
        let (start, len) = address.as_raw();
        // SAFETY: the pair describes a structure that `address` keeps alive.
        unsafe { bind(*self, start, len) }
    }

    fn kind(&self) -> Kind {
        match option(*self, SOL_SOCKET, SO_TYPE) {
            Ok(SOCK_STREAM) => Kind::Stream,
            Ok(SOCK_DGRAM) => Kind::Datagram,
            _ => Kind::Other,
        }
    }

    fn reuses_address(&self) -> bool {
        option(*self, SOL_SOCKET, SO_REUSEADDR).is_ok_and(|value| value != 0)
    }

    fn reuse_address(&self, on: bool) {
        // A socket that does not take the option will say so when it is bound.
        let _ = set_option(*self, SOL_SOCKET, SO_REUSEADDR, i32::from(on));
    }

    fn probe(&self, port: u16) -> Probe {
        match probe(AF_INET6, &Address::any_v6(port)) {
            Probe::Unknown => probe(AF_INET, &Address::any_v4(port)),
            known => known,
        }
    }

    fn wake_watcher(&self, table: &PortTable) {
        let everybody = i32::MAX as usize;
        let word = core::ptr::from_ref(table.doorbell());
        // SAFETY: waking touches no memory.
        let _ = unsafe {
            call(
                SYS_FUTEX,
                [word.expose_provenance(), FUTEX_WAKE, everybody, 0, 0, 0],
            )
        };
    }
}

/// Whether `address`, a wildcard, can be bound. Of all addresses only the dual-stack `[::]` conflicts
/// with every listener; with `SO_REUSEADDR`, connections that linger and ports that are merely held do not.
fn probe(family: u16, address: &Address) -> Probe {
    let arguments = [
        usize::from(family),
        SOCK_STREAM as usize | SOCK_CLOEXEC,
        0,
        0,
        0,
        0,
    ];
    // SAFETY: socket touches no memory.
    let Ok(fd) = (unsafe { call(SYS_SOCKET, arguments) }) else {
        return Probe::Unknown;
    };
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_possible_wrap,
        reason = "the kernel's descriptors are non-negative ints"
    )]
    let socket = Descriptor(fd as i32);
    let ready = (family == AF_INET || set_option(socket, IPPROTO_IPV6, IPV6_V6ONLY, 0).is_ok())
        && set_option(socket, SOL_SOCKET, SO_REUSEADDR, 1).is_ok();
    let probe = match ready.then(|| socket.bind(address)) {
        Some(Ok(())) => Probe::Free,
        Some(Err(Errno::ADDRESS_IN_USE)) => Probe::Taken,
        Some(Err(_)) | None => Probe::Unknown,
    };
    close(fd);
    probe
}

fn option(Descriptor(fd): Descriptor, level: usize, name: usize) -> Result<i32, Errno> {
    let mut value = 0_i32;
    let mut len = size_of::<i32>();
    let arguments = [
        word(fd),
        level,
        name,
        (&raw mut value).expose_provenance(),
        (&raw mut len).expose_provenance(),
        0,
    ];
    // SAFETY: the kernel writes at most `len` bytes to `value`, and its length (4 bytes) to `len`.
    unsafe { call(SYS_GETSOCKOPT, arguments) }?;
    Ok(value)
}

fn set_option(
    Descriptor(fd): Descriptor,
    level: usize,
    name: usize,
    value: i32,
) -> Result<(), Errno> {
    let arguments = [
        word(fd),
        level,
        name,
        (&raw const value).expose_provenance(),
        size_of::<i32>(),
        0,
    ];
    // SAFETY: the kernel only reads the four bytes of `value`.
    unsafe { call(SYS_SETSOCKOPT, arguments) }.map(drop)
}

fn close(fd: usize) {
    // SAFETY: every caller closes a descriptor that it has just opened itself.
    let _ = unsafe { call(SYS_CLOSE, [fd, 0, 0, 0, 0, 0]) };
}

/// An `int` as a system call takes it: sign-extended.
#[expect(clippy::cast_sign_loss, reason = "the kernel takes the low half back")]
const fn word(int: i32) -> usize {
    int as isize as usize
}

/// One system call.
///
/// # Safety
/// As the call demands of its arguments.
#[inline]
unsafe fn call(number: usize, [a0, a1, a2, a3, a4, a5]: [usize; 6]) -> Result<usize, Errno> {
    let result: isize;
    // SAFETY: the calling convention of x86_64 Linux: these registers in, rax out, rcx and r11 destroyed.
    // What the kernel does to memory is the caller's promise.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") number => result,
            in("rdi") a0,
            in("rsi") a1,
            in("rdx") a2,
            in("r10") a3,
            in("r8") a4,
            in("r9") a5,
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack),
        );
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "error numbers are -4095 to -1, results anything else"
    )]
    match result {
        -4095..=-1 => Err(Errno(result.wrapping_neg() as i32)),
        _ => Ok(result as usize),
    }
}
