//! The only clock of the harness: how long a wait may take before the test fails.
//!
//! Deadlines are far above what anything takes on a loaded two-core machine; a test that passes never reaches one.

use std::time::{Duration, Instant};

/// A point in time until which something may be waited for.
#[derive(Clone, Copy, Debug)]
pub struct Deadline {
    start: Instant,
    limit: Duration,
}

impl Deadline {
    /// For what takes milliseconds: 30 seconds.
    pub fn short() -> Self {
        Self::after(Duration::from_secs(30))
    }

    /// For bundlers, browsers and frameworks that start: two minutes.
    pub fn long() -> Self {
        Self::after(Duration::from_mins(2))
    }

    /// For package managers that fetch: ten minutes.
    pub fn install() -> Self {
        Self::after(Duration::from_mins(10))
    }

    /// In `limit` from now.
    pub fn after(limit: Duration) -> Self {
        Self {
            start: now(),
            limit,
        }
    }

    /// What is left of it, zero when it has passed.
    pub fn left(&self) -> Duration {
        self.limit.saturating_sub(self.elapsed())
    }

    /// The time since it was set.
    pub fn elapsed(&self) -> Duration {
        now().duration_since(self.start)
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the harness reads the clock here and nowhere else"
)]
fn now() -> Instant {
    Instant::now()
}

/// Asks `probe` until it answers `Some`, or gives up at the deadline with `None`.
///
/// For states of other processes that announce themselves in no way; where there is a line or an exit to wait for,
/// wait for that.
pub fn eventually<T>(deadline: Deadline, mut probe: impl FnMut() -> Option<T>) -> Option<T> {
    loop {
        if let Some(answer) = probe() {
            return Some(answer);
        }
        if deadline.left().is_zero() {
            return None;
        }
        pause();
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the pace of `eventually`; nothing depends on its length"
)]
fn pause() {
    std::thread::sleep(Duration::from_millis(10));
}
