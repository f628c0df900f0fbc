//! Everything that waits for time to pass. Nothing here runs while there is nothing to wait for.

use std::io;
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::time::Duration;

use styxy_protocol::Port;
use tokio::sync::watch;

use crate::authority::Authority;
use crate::kernel::{self, Pidfd};

/// Waits this long.
#[expect(clippy::disallowed_methods, reason = "this is the timers module")]
pub(crate) async fn pause(duration: Duration) {
    tokio::time::sleep(duration).await;
}

/// Growing pauses between looks at something that tells nobody when it changes.
#[derive(Debug)]
pub(crate) struct Backoff {
    next: Duration,
    longest: Duration,
}

impl Backoff {
    /// Begins with `shortest` and doubles until `longest`.
    pub(crate) fn new(shortest: Duration, longest: Duration) -> Self {
        Self {
            next: shortest,
            longest,
        }
    }

    /// The next pause.
    pub(crate) fn step(&mut self) -> Duration {
        let now = self.next;
        self.next = (now * 2).min(self.longest);
        now
    }
}

/// Waits until this process has ended.
pub(crate) async fn process_end(pidfd: &Pidfd) {
    if wait_readable(pidfd).await.is_ok() {
        return;
    }
    // No more epoll watches to be had: look now and then instead.
    let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));
    while !pidfd.has_ended() {
        pause(backoff.step()).await;
    }
}

/// Waits until every one of these processes has ended.
pub(crate) async fn every_end(pidfds: impl IntoIterator<Item = &Pidfd>) {
    for pidfd in pidfds {
        process_end(pidfd).await;
    }
}

/// Ends leases and instances whose time is up, for ever. Sleeps until the earliest deadline, or until that changes.
pub(crate) async fn expire(authority: Arc<Authority>) {
    loop {
        let deadline = authority.expire(kernel::boot_time());
        let changed = authority.deadline_moved();
        match deadline {
            // The clock that tokio sleeps by stands still during suspend, so the pause may be too long by that.
            Some(deadline) => {
                let rest = deadline.saturating_sub(kernel::boot_time());
                tokio::select! {
                    () = pause(rest) => {}
                    () = changed => {}
                }
            }
            None => changed.await,
        }
    }
}

/// Waits until nothing has been in use, and no port open, for this long. For ever, if there is no limit.
pub(crate) async fn idle(
    limit: Option<Duration>,
    mut uses: watch::Receiver<usize>,
    mut port: watch::Receiver<Option<Port>>,
) {
    let Some(limit) = limit else {
        return std::future::pending().await;
    };
    loop {
        let idle = *uses.borrow_and_update() == 0 && port.borrow_and_update().is_none();
        tokio::select! {
            () = pause(limit), if idle => return,
            // The senders live as long as the daemon.
            _ = uses.changed() => {}
            _ = port.changed() => {}
        }
    }
}

async fn wait_readable(pidfd: &Pidfd) -> io::Result<()> {
    let fd = kernel::register(pidfd.as_fd())?;
    drop(fd.readable().await?);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest() {
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(5));
        let steps: Vec<_> = (0..5).map(|_| backoff.step().as_secs()).collect();
        assert_eq!(steps, [1, 2, 4, 5, 5]);
    }
}
