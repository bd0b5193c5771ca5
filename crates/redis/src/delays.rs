//! Entries that were put off here, until they are due.

use crate::entry::{EntryId, RedisEntry};
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::time::Instant;

/// Entries that were put off, by the time at which they are due.
#[derive(Debug, Default)]
pub(crate) struct Delays(BTreeMap<(Instant, EntryId), Waiting>);

#[derive(Debug)]
enum Waiting {
    /// At the server it will have been idle for long enough when it is due, whatever becomes of this process.
    Set,
    /// It is due later than the server can be told: its idle time has to be set again and again until then.
    Far,
    /// It is gone from the stream, and only here.
    Held(Arc<RedisEntry>, u32),
}

/// What is due.
#[derive(Debug, Default)]
pub(crate) struct Due {
    pub(crate) ids: Vec<EntryId>,
    pub(crate) held: Vec<(Arc<RedisEntry>, u32)>,
}

/// An entry that is due later than the server can be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Far {
    pub(crate) due: Instant,
    pub(crate) id: EntryId,
}

impl Delays {
    pub(crate) fn put_off(&mut self, id: EntryId, due: Instant, is_far: bool) {
        let waiting = if is_far { Waiting::Far } else { Waiting::Set };
        self.0.insert((due, id), waiting);
    }

    pub(crate) fn hold(&mut self, entry: Arc<RedisEntry>, deliveries: u32, due: Instant) {
        self.0.insert((due, entry.id), Waiting::Held(entry, deliveries));
    }

    pub(crate) fn next_due(&self) -> Option<Instant> {
        self.0.keys().next().map(|(due, _)| *due)
    }

    /// Takes out what is due, at most so many.
    pub(crate) fn take_due(&mut self, now: Instant, most: usize) -> Due {
        let mut taken = Due::default();
        while taken.ids.len() + taken.held.len() < most
            && let Some(first) = self.0.first_entry()
            && first.key().0 <= now
        {
            let ((_, id), waiting) = first.remove_entry();
            match waiting {
                Waiting::Set | Waiting::Far => taken.ids.push(id),
                Waiting::Held(entry, deliveries) => taken.held.push((entry, deliveries)),
            }
        }
        taken
    }

    pub(crate) fn far(&self) -> Vec<Far> {
        let far = self.0.iter().filter(|(_, waiting)| matches!(waiting, Waiting::Far));
        far.map(|((due, id), _)| Far { due: *due, id: *id }).collect()
    }

    /// The server has been told when it is due, or nobody waits for it any more.
    pub(crate) fn settle(&mut self, far: Far, waits: bool) {
        let key = (far.due, far.id);
        if !waits {
            self.0.remove(&key);
        } else if let Some(waiting) = self.0.get_mut(&key) {
            *waiting = Waiting::Set;
        }
    }

    /// Takes out the entries that are only here.
    pub(crate) fn take_held(&mut self) -> Vec<EntryId> {
        let is_held = |waiting: &Waiting| matches!(waiting, Waiting::Held(..));
        let held = self.0.iter().filter(|(_, waiting)| is_held(waiting));
        let held = held.map(|((_, id), _)| *id).collect();
        self.0.retain(|_, waiting| !is_held(waiting));
        held
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn id(ms: u64) -> EntryId {
        EntryId { ms, seq: 0 }
    }

    #[tokio::test]
    async fn what_is_due_is_taken_in_the_order_in_which_it_is_due_and_no_more_than_is_wanted() {
        let (now, second) = (Instant::now(), Duration::from_secs(1));
        let mut delays = Delays::default();
        delays.put_off(id(1), now + second * 3, false);
        delays.put_off(id(2), now + second, true);
        delays.put_off(id(3), now + second * 2, false);
        assert_eq!(delays.next_due(), Some(now + second));
        assert_eq!(delays.take_due(now, 9).ids, []);
        assert_eq!(delays.take_due(now + second * 9, 2).ids, [id(2), id(3)]);
        assert_eq!(delays.take_due(now + second * 9, 2).ids, [id(1)]);
        assert_eq!(delays.next_due(), None);
    }

    #[tokio::test]
    async fn what_is_far_is_set_once_it_is_near_and_forgotten_when_nobody_waits_for_it() {
        let (now, second) = (Instant::now(), Duration::from_secs(1));
        let mut delays = Delays::default();
        delays.put_off(id(1), now + second, true);
        delays.put_off(id(2), now + second, true);
        delays.put_off(id(3), now + second, false);
        let far = delays.far();
        assert_eq!(far.iter().map(|far| far.id).collect::<Vec<_>>(), [id(1), id(2)]);
        delays.settle(far[0], true);
        delays.settle(far[1], false);
        assert_eq!(delays.far(), []);
        assert_eq!(delays.take_due(now + second, 9).ids, [id(1), id(3)]);
    }
}
