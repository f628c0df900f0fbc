//! What a witness runs: a program of its own, so small that it fits into a page or two, because it lies in memory beside
//! every run. The build script compiles it; nothing of it is linked into styxy. What it does is told in `witness.rs`.
//!
//! It finds all signals blocked and its end of the socket pair as descriptor 0.
#![no_std]
#![no_main]
#![deny(unsafe_op_in_unsafe_fn)]

use core::arch::{asm, global_asm};
use core::panic::PanicInfo;

#[cfg(target_arch = "x86_64")]
mod number {
    pub(crate) const READ: usize = 0;
    pub(crate) const SENDTO: usize = 44;
    pub(crate) const PRCTL: usize = 157;
    pub(crate) const RT_SIGTIMEDWAIT: usize = 128;
    pub(crate) const EXIT_GROUP: usize = 231;
    pub(crate) const CLOSE_RANGE: usize = 436;
}

#[cfg(target_arch = "aarch64")]
mod number {
    pub(crate) const READ: usize = 63;
    pub(crate) const SENDTO: usize = 206;
    pub(crate) const PRCTL: usize = 167;
    pub(crate) const RT_SIGTIMEDWAIT: usize = 137;
    pub(crate) const EXIT_GROUP: usize = 94;
    pub(crate) const CLOSE_RANGE: usize = 436;
}

const SOCKET: usize = 0;
const PR_SET_NAME: usize = 15;
const MSG_NOSIGNAL: usize = 0x4000;
/// What `ps` shows.
const NAME: &[u8; 15] = b"signal-witness\0";
/// All but 32 and 33, which are glibc's own and which nobody blocks.
const SIGNALS: u64 = !(0b11 << 31);

// The stack pointer is aligned as a function expects it before a call.
#[cfg(target_arch = "x86_64")]
global_asm!(".globl _start", "_start:", "and rsp, -16", "call {}", "ud2", sym witness);
#[cfg(target_arch = "aarch64")]
global_asm!(".globl _start", "_start:", "b {}", sym witness);

extern "C" fn witness() -> ! {
    // Whatever the launcher has open (the user's pipes above all) must not stay open because of a witness.
    call(number::CLOSE_RANGE, [SOCKET + 1, u32::MAX as usize, 0, 0]);
    call(number::PRCTL, [PR_SET_NAME, NAME.as_ptr().addr(), 0, 0]);
    let mut question = 0_u8;
    // Until the launcher has closed its end.
    while call(
        number::READ,
        [SOCKET, (&raw mut question).expose_provenance(), 1, 0],
    ) == 1
    {
        let seen = pending();
        call(
            number::SENDTO,
            [
                SOCKET,
                (&raw const seen).expose_provenance(),
                8,
                MSG_NOSIGNAL,
            ],
        );
    }
    loop {
        call(number::EXIT_GROUP, [0; 4]);
    }
}

/// Takes all pending signals: signal n is bit n - 1.
fn pending() -> u64 {
    let no_time = [0_u64; 2];
    let mut taken = 0;
    loop {
        let set = SIGNALS;
        let (set, time) = (&raw const set, &raw const no_time);
        let arguments = [set.expose_provenance(), 0, time.expose_provenance(), 8];
        match call(number::RT_SIGTIMEDWAIT, arguments) {
            signal @ 1..=64 => taken |= 1 << (signal - 1),
            _ => return taken,
        }
    }
}

/// A system call. Those with more than four arguments get zeros for the rest.
#[cfg(target_arch = "x86_64")]
fn call(number: usize, [a, b, c, d]: [usize; 4]) -> isize {
    let result;
    // SAFETY: the kernel reads and writes only what the callers above point to, which lives until it returns.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") number => result,
            in("rdi") a, in("rsi") b, in("rdx") c, in("r10") d, in("r8") 0, in("r9") 0,
            lateout("rcx") _, lateout("r11") _,
            options(nostack),
        );
    }
    result
}

/// A system call. Those with more than four arguments get zeros for the rest.
#[cfg(target_arch = "aarch64")]
fn call(number: usize, [a, b, c, d]: [usize; 4]) -> isize {
    let result;
    // SAFETY: the kernel reads and writes only what the callers above point to, which lives until it returns.
    unsafe {
        asm!(
            "svc 0",
            in("x8") number,
            inlateout("x0") a => result, in("x1") b, in("x2") c, in("x3") d, in("x4") 0, in("x5") 0,
            options(nostack),
        );
    }
    result
}

#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    loop {
        call(number::EXIT_GROUP, [1, 0, 0, 0]);
    }
}
