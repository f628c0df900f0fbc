//! Descriptors in the event loop.

use std::io;
use std::os::fd::BorrowedFd;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Makes the running event loop notice when this descriptor becomes readable.
///
/// # Errors
/// If the kernel has no more room for watches.
///
/// # Panics
/// Outside an event loop.
#[expect(
    unsafe_code,
    reason = "registering a descriptor needs a promise that it stays open"
)]
pub(crate) fn register(fd: BorrowedFd<'_>) -> io::Result<AsyncFd<BorrowedFd<'_>>> {
    // SAFETY: the descriptor stays open and stays this one while it is borrowed, which is as long as the
    // registration lives.
    let registered = unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) };
    registered.map_err(|error| error.into_parts().1)
}
