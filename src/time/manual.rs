//! A clock that tests move by hand.

use std::time::Duration;

use super::{Clock, Timestamp};
use crate::sync::{Arc, Mutex};

/// A clock that stands still until told to move, so that a test controls a store's time.
///
/// Clones share their time: keep one, give the other to the store.
///
/// ```
/// use firstseen::{Claim, ManualClock, Store, days};
/// use std::time::Duration;
///
/// # let dir = tempfile::tempdir()?;
/// # let path = dir.path().join("seen.db");
/// let clock = ManualClock::at_millis(1_700_000_000_000);
/// let store = Store::builder(path).ttl(days(7)).clock(clock.clone()).open()?;
/// assert!(matches!(store.claim(b"evt-1")?, Claim::FirstSeen { .. }));
///
/// clock.advance(Duration::from_secs(6 * 86_400));
/// assert!(matches!(store.claim(b"evt-1")?, Claim::Duplicate { .. }));
///
/// clock.advance(Duration::from_secs(2 * 86_400));
/// assert!(matches!(store.claim(b"evt-1")?, Claim::FirstSeen { .. }));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// Passing time ([`advance`](Self::advance)) and setting the clock ([`jump_to`](Self::jump_to)) differ: the store
/// believes the first at once and the second only after a while.
#[derive(Debug, Clone)]
pub struct ManualClock {
    hands: Arc<Mutex<Hands>>,
}

#[derive(Debug)]
struct Hands {
    wall_ms: u64,
    elapsed_ms: u64,
    boot_id: u128,
}

impl ManualClock {
    /// Creates a clock that shows `now`, on a machine that has just booted.
    pub fn new(now: Timestamp) -> Self {
        let hands = Hands { wall_ms: now.as_millis(), elapsed_ms: 0, boot_id: 1 };
        Self { hands: Arc::new(Mutex::new(hands)) }
    }

    /// Creates a clock that shows `ms` milliseconds since the Unix epoch.
    pub fn at_millis(ms: u64) -> Self {
        Self::new(Timestamp::from_millis(ms))
    }

    /// Lets time pass, in whole milliseconds: the wall clock and the elapsed time move together.
    pub fn advance(&self, by: Duration) {
        let ms = u64::try_from(by.as_millis()).unwrap_or(u64::MAX);
        let mut hands = self.hands.lock();
        hands.wall_ms = hands.wall_ms.saturating_add(ms);
        hands.elapsed_ms = hands.elapsed_ms.saturating_add(ms);
    }

    /// Sets the wall clock, forward or back, while no time passes.
    pub fn jump_to(&self, wall: Timestamp) {
        self.hands.lock().wall_ms = wall.as_millis();
    }

    /// Reboots the machine: elapsed time restarts at zero and cannot be compared with before.
    ///
    /// On a real machine no process lives through this: close the store first.
    pub fn reboot(&self) {
        let mut hands = self.hands.lock();
        hands.elapsed_ms = 0;
        hands.boot_id += 1;
    }
}

impl Clock for ManualClock {
    fn wall(&self) -> Timestamp {
        Timestamp::from_millis(self.hands.lock().wall_ms)
    }

    fn elapsed_ms(&self) -> u64 {
        self.hands.lock().elapsed_ms
    }

    fn boot_id(&self) -> u128 {
        self.hands.lock().boot_id
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(clock: &ManualClock) -> (u64, u64, u128) {
        (clock.wall().as_millis(), clock.elapsed_ms(), clock.boot_id())
    }

    #[test]
    fn passing_time_setting_the_clock_and_booting_differ() {
        let clock = ManualClock::at_millis(1_000);
        let other_hand = clock.clone();
        assert_eq!(read(&clock), (1_000, 0, 1));
        other_hand.advance(Duration::from_millis(500));
        assert_eq!(read(&clock), (1_500, 500, 1));
        other_hand.jump_to(Timestamp::from_millis(70));
        assert_eq!(read(&clock), (70, 500, 1));
        other_hand.reboot();
        assert_eq!(read(&clock), (70, 0, 2));
    }

    #[test]
    fn the_hands_stop_at_the_end_of_time() {
        let clock = ManualClock::at_millis(1_000);
        clock.advance(Duration::MAX);
        clock.advance(Duration::MAX);
        assert_eq!(read(&clock), (u64::MAX, u64::MAX, 1));
    }
}
