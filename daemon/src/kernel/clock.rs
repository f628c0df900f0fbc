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

/// Milliseconds since 1970, for display only.
pub fn wall_clock_millis() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(0))
}

/// The time since boot that the kernel counts in its clock ticks (`proc_pid_stat(5)`).
#[expect(
    unsafe_code,
    reason = "nix has sysconf only with a feature that nothing else needs"
)]
pub fn from_ticks(ticks: u64) -> Duration {
    // SAFETY: the call takes an integer and touches no memory of ours.
    let per_second = unsafe { libc::sysconf(libc::_SC_CLK_TCK) };
    // It is 100 wherever it was not chosen otherwise when the kernel was built.
    let per_second = u64::try_from(per_second).ok().filter(|&it| it > 0);
    let per_second = per_second.unwrap_or(100);
    let rest = (ticks % per_second) * 1000 / per_second;
    Duration::from_secs(ticks / per_second) + Duration::from_millis(rest)
}

/// A time in seconds since 1970 as RFC 3339 says it, in UTC.
pub fn rfc3339(seconds: u64) -> String {
    // Times behind the year 9999 cannot be said and come from no clock.
    let time = UNIX_EPOCH + Duration::from_secs(seconds.min(253_402_300_799));
    humantime::format_rfc3339_seconds(time).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_said_in_utc() {
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00Z");
        assert_eq!(rfc3339(1_790_000_000), "2026-09-21T14:13:20Z");
        assert_eq!(rfc3339(u64::MAX), "9999-12-31T23:59:59Z");
    }

    #[test]
    fn time_since_boot_goes_forward_from_more_than_zero() {
        let before = boot_time();
        assert!(before > Duration::ZERO);
        assert!(boot_time() >= before);
    }

    #[test]
    fn a_process_has_started_after_boot_and_before_now() {
        let identity = crate::kernel::process_identity(std::process::id()).unwrap();
        let started = from_ticks(identity.start_time);
        assert!(started > Duration::ZERO && started <= boot_time());
    }
}
