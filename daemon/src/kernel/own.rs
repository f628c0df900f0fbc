//! What this process takes of the machine.

use std::fs;
use std::time::Duration;

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeVal;

/// Bytes of memory that are resident, and how many of them are anonymous (`VmRSS` and `RssAnon` of
/// `/proc/self/status`). 0 where it cannot be read.
pub fn memory() -> (u64, u64) {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    (bytes_of("VmRSS:", &status), bytes_of("RssAnon:", &status))
}

/// Time on the processor: in the program, and in the kernel on its behalf.
pub fn processor_time() -> (Duration, Duration) {
    getrusage(UsageWho::RUSAGE_SELF).map_or((Duration::ZERO, Duration::ZERO), |usage| {
        (duration(usage.user_time()), duration(usage.system_time()))
    })
}

/// A line such as `VmRSS:     3280 kB`.
fn bytes_of(name: &str, status: &str) -> u64 {
    let value = status.lines().find_map(|line| line.strip_prefix(name));
    let kilobytes = value.and_then(|value| value.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    kilobytes.unwrap_or(0) * 1024
}

fn duration(time: TimeVal) -> Duration {
    let seconds = u64::try_from(time.tv_sec()).unwrap_or(0);
    let micros = u64::try_from(time.tv_usec()).unwrap_or(0);
    Duration::from_secs(seconds) + Duration::from_micros(micros)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_from_lines_of_kilobytes() {
        let status = "Name:\tx\nVmRSS:\t    3280 kB\nRssAnon:\t     216 kB\n";
        assert_eq!(bytes_of("VmRSS:", status), 3280 * 1024);
        assert_eq!(bytes_of("RssAnon:", status), 216 * 1024);
        for torn in ["", "VmRSS:", "VmRSS: x kB", "VmRSS: 1"] {
            assert_eq!(bytes_of("VmRSS:", torn), 0, "{torn:?}");
        }
    }

    #[test]
    fn a_running_process_has_memory_and_has_used_the_processor() {
        let (resident, anonymous) = memory();
        assert!(anonymous > 0 && resident > anonymous);
        let (user, system) = processor_time();
        assert!(user + system > Duration::ZERO);
    }
}
