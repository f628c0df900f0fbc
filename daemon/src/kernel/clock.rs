//! The two clocks: one that goes on during suspend and never jumps, one for people.

use std::mem::MaybeUninit;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Time since boot, suspend included (`CLOCK_BOOTTIME`). Every limit is measured with it: it survives a
/// restart of the daemon and does not care about changes of the wall clock.
#[expect(
    unsafe_code,
    reason = "nix has clock_gettime only with a feature that nothing else needs"
)]
pub fn boot_time() -> Duration {
    let mut time = MaybeUninit::<libc::timespec>::uninit();
    // SAFETY: the pointer is to memory of the right size and alignment that lives until the call returns.
    let result = unsafe { libc::clock_gettime(libc::CLOCK_BOOTTIME, time.as_mut_ptr()) };
    if result != 0 {
        // Linux has this clock since 2.6.39; a sandbox that forbids it stops time rather than the daemon.
        return Duration::ZERO;
    }
    // SAFETY: clock_gettime returned 0 and has thus written the whole structure.
    let time = unsafe { time.assume_init() };
    Duration::new(
        u64::try_from(time.tv_sec).unwrap_or(0),
        u32::try_from(time.tv_nsec).unwrap_or(0),
    )
}

/// Seconds since 1970, for display only.
pub fn wall_clock() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_since_boot_goes_forward_from_more_than_zero() {
        let before = boot_time();
        assert!(before > Duration::ZERO);
        assert!(boot_time() >= before);
    }
}
