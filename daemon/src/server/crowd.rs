//! How many clients there may be at one door, and who has to leave when there are too many.
//!
//! Clients that ask nothing cost a descriptor and some memory each. When there is no room left, the one that has
//! been asking nothing for the longest time makes room; who is being answered stays. Invariant: as long as one
//! client is idle for longer than [`GRACE`], the next one does not wait for longer than that.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tracing::debug;

use crate::kernel;

/// A client that has just come, or has just been answered, is not sent away for this long: its next request may be
/// on its way.
const GRACE: Duration = Duration::from_millis(200);
/// Instead of a time: the client is being answered.
const BUSY: u64 = u64::MAX;

/// The clients at one door.
#[derive(Debug)]
pub(super) struct Crowd {
    limit: u32,
    slots: Arc<Semaphore>,
    guests: Arc<Mutex<Guests>>,
}

#[derive(Debug, Default)]
struct Guests {
    next: u64,
    by_number: BTreeMap<u64, Arc<Activity>>,
}

/// What one client is doing.
#[derive(Debug)]
pub(super) struct Activity {
    /// Since when it has been idle, in milliseconds since boot, or [`BUSY`].
    idle_since: AtomicU64,
    has_to_leave: Notify,
}

/// A client's place; free again when dropped.
#[derive(Debug)]
pub(super) struct Place {
    number: u64,
    activity: Arc<Activity>,
    guests: Arc<Mutex<Guests>>,
    _slot: OwnedSemaphorePermit,
}

impl Crowd {
    /// Nobody yet, and never more than `limit`.
    pub(super) fn new(limit: u32) -> Self {
        Self {
            limit,
            slots: Arc::new(Semaphore::new(limit as usize)),
            guests: Arc::default(),
        }
    }

    /// Waits until there is room for another client.
    pub(super) async fn room(&self) -> OwnedSemaphorePermit {
        loop {
            if self.slots.available_permits() == 0 {
                self.make_room();
            }
            let slot = Arc::clone(&self.slots).acquire_owned();
            if let Ok(Ok(slot)) = tokio::time::timeout(GRACE, slot).await {
                return slot;
            }
        }
    }

    /// Sends the client away that has been idle for longest, if that is long enough. Whether there was one.
    pub(super) fn make_room(&self) -> bool {
        lock(&self.guests).send_away_one(now())
    }

    /// Takes a new client in.
    pub(super) fn admit(&self, slot: OwnedSemaphorePermit) -> Place {
        let activity = Arc::new(Activity {
            idle_since: AtomicU64::new(now()),
            has_to_leave: Notify::new(),
        });
        let mut guests = lock(&self.guests);
        let number = guests.next;
        guests.next += 1;
        guests.by_number.insert(number, Arc::clone(&activity));
        drop(guests);
        Place {
            number,
            activity,
            guests: Arc::clone(&self.guests),
            _slot: slot,
        }
    }

    /// Waits until everybody has left, at most this long.
    pub(super) async fn empty(&self, patience: Duration) {
        let everybody = self.slots.acquire_many(self.limit);
        let everybody = tokio::time::timeout(patience, everybody).await;
        drop(everybody);
    }
}

impl Guests {
    /// Tells the client that has been idle for longest to leave, if that is long enough. Whether there was one.
    fn send_away_one(&mut self, now: u64) -> bool {
        let idle_since = |activity: &Activity| activity.idle_since.load(Ordering::Relaxed);
        let longest = self
            .by_number
            .iter()
            .map(|(number, activity)| (idle_since(activity), *number))
            .min();
        let grace = u64::try_from(GRACE.as_millis()).unwrap_or(u64::MAX);
        let Some((_, number)) = longest.filter(|(since, _)| since.saturating_add(grace) <= now)
        else {
            return false;
        };
        // Nobody is told twice.
        if let Some(activity) = self.by_number.remove(&number) {
            debug!("an idle client makes room for another one");
            activity.has_to_leave.notify_one();
        }
        true
    }
}

impl Place {
    /// What this client is doing.
    pub(super) fn activity(&self) -> Arc<Activity> {
        Arc::clone(&self.activity)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        lock(&self.guests).by_number.remove(&self.number);
    }
}

impl Activity {
    /// A request has come.
    pub(super) fn begins(&self) {
        self.idle_since.store(BUSY, Ordering::Relaxed);
    }

    /// It has been answered.
    pub(super) fn ends(&self) {
        self.idle_since.store(now(), Ordering::Relaxed);
    }

    /// Resolves when the client has to make room.
    pub(super) async fn has_to_leave(&self) {
        self.has_to_leave.notified().await;
    }
}

fn now() -> u64 {
    u64::try_from(kernel::boot_time().as_millis()).unwrap_or(0)
}

fn lock(guests: &Mutex<Guests>) -> MutexGuard<'_, Guests> {
    guests.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_client_that_has_been_idle_for_longest_makes_room_and_who_is_busy_stays() {
        let crowd = Crowd::new(3);
        let mut places = Vec::new();
        for _ in 0..3 {
            places.push(crowd.admit(crowd.room().await));
        }
        places[0].activity.begins();
        places[1].activity.idle_since.store(2, Ordering::Relaxed);
        places[2].activity.idle_since.store(1, Ordering::Relaxed);
        let second = places.pop().unwrap();
        let leaves = tokio::spawn(async move {
            second.activity.has_to_leave().await;
        });
        let next = crowd.admit(crowd.room().await);
        leaves.await.unwrap();
        assert!(crowd.make_room(), "one more has been idle for long");
        // The one that has just come, and the busy one, are let be.
        assert!(!crowd.make_room());
        let left = lock(&crowd.guests);
        let numbers: Vec<_> = left.by_number.keys().copied().collect();
        assert_eq!(numbers, [places[0].number, next.number]);
    }
}
