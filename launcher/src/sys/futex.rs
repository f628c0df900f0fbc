//! Waiting for a word that other processes change.
#![expect(unsafe_code, reason = "futex has no wrapper")]

use std::io;
use std::ptr;
use std::sync::atomic::AtomicU32;

/// Blocks while `word` is `seen`. Comes back when somebody wakes its waiters, when the word is something
/// else already, and now and then for no reason.
pub(crate) fn wait(word: &AtomicU32, seen: u32) -> io::Result<()> {
    // SAFETY: the word outlives the call, the kernel only reads it, and no time-out is passed.
    let result = unsafe {
        libc::syscall(
            libc::SYS_futex,
            word.as_ptr(),
            libc::FUTEX_WAIT,
            seen,
            ptr::null::<libc::timespec>(),
        )
    };
    if result == 0 {
        return Ok(());
    }
    let error = io::Error::last_os_error();
    match error.raw_os_error() {
        Some(libc::EAGAIN | libc::EINTR) => Ok(()),
        _ => Err(error),
    }
}

/// Wakes everybody who waits for `word`.
pub(crate) fn wake_all(word: &AtomicU32) {
    // SAFETY: waking touches no memory.
    unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAKE, i32::MAX) };
}
