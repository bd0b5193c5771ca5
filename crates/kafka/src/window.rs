//! What is open of a partition: delivered, and not behind the committed offset.
//!
//! Kafka knows one number for each partition and group, so what is done behind something open stays here until that is
//! done, too. What is to be delivered again is kept here as well: a consumer cannot give one record back.

use crate::record::Record;
use firstseen_consumer::Message;
use std::collections::{BTreeMap, BTreeSet};
use tokio::time::Instant;

/// A record that is delivered and not done, with what it is for the loop.
#[derive(Debug, Clone)]
pub(crate) struct Held {
    pub(crate) record: Record,
    pub(crate) message: Message,
}

#[derive(Debug)]
struct Open {
    held: Held,
    /// When it is delivered again.
    at: Instant,
    /// Somebody works on it, as far as is known here.
    is_out: bool,
}

/// The open records of a partition.
#[derive(Debug, Default)]
pub(crate) struct Window {
    /// By offset, from the first that is not done; `None`: done.
    entries: BTreeMap<i64, Option<Open>>,
    /// When each open record is delivered again.
    alarms: BTreeSet<(Instant, i64)>,
    /// Behind the last that was taken.
    next: Option<i64>,
    out: usize,
    bytes: usize,
}

impl Window {
    /// Adds a record that is delivered for the first time here. It is delivered again at `again_at`.
    pub(crate) fn take(&mut self, held: Held, again_at: Instant) {
        let offset = held.record.place.offset;
        self.bytes += held.record.bytes();
        self.out += 1;
        self.alarms.insert((again_at, offset));
        self.next = self.next.max(Some(offset + 1));
        self.entries.insert(offset, Some(Open { held, at: again_at, is_out: true }));
    }

    /// Returns a record that is due to be delivered again, and lets it out until `again_at`.
    pub(crate) fn take_due(&mut self, now: Instant, again_at: Instant) -> Option<Held> {
        let (_, offset) = self.alarms.first().copied().filter(|(at, _)| *at <= now)?;
        self.set(offset, again_at, true);
        self.entries.get(&offset)?.as_ref().map(|open| open.held.clone())
    }

    /// Returns when something is due to be delivered again.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        self.alarms.first().map(|(at, _)| *at)
    }

    /// Has a record delivered again at this time and not before; `is_out`: somebody works on it until then. Does nothing if
    /// it is done.
    pub(crate) fn set(&mut self, offset: i64, at: Instant, is_out: bool) {
        let Some(Some(open)) = self.entries.get_mut(&offset) else { return };
        self.alarms.remove(&(open.at, offset));
        self.alarms.insert((at, offset));
        self.out -= usize::from(open.is_out);
        self.out += usize::from(is_out);
        (open.at, open.is_out) = (at, is_out);
    }

    /// Marks a record as done, for good. Twice is no harm.
    pub(crate) fn done(&mut self, offset: i64) {
        let Some(entry) = self.entries.get_mut(&offset) else { return };
        if let Some(open) = entry.take() {
            self.alarms.remove(&(open.at, offset));
            self.out -= usize::from(open.is_out);
            self.bytes -= open.held.record.bytes();
        }
        while let Some(first) = self.entries.first_entry()
            && first.get().is_none()
        {
            first.remove();
        }
    }

    /// Returns an open record.
    pub(crate) fn get(&self, offset: i64) -> Option<&Held> {
        self.entries.get(&offset)?.as_ref().map(|open| &open.held)
    }

    /// Returns the offset that may be committed: behind the last record before which all are done (rule 88). `None` if
    /// nothing was taken yet.
    pub(crate) fn position(&self) -> Option<i64> {
        self.entries.first_key_value().map(|(first, _)| *first).or(self.next)
    }

    /// Returns the offset behind the last record that was taken.
    pub(crate) fn next(&self) -> Option<i64> {
        self.next
    }

    /// Returns how many offsets are kept: open ones, and those that are done behind them.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Returns how many are worked on.
    pub(crate) fn out(&self) -> usize {
        self.out
    }

    /// Returns about how many bytes the open records take.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Place;
    use bytes::Bytes;
    use firstseen_consumer::testkit::Dice;
    use std::time::Duration;

    fn held(offset: i64) -> Held {
        let place = Place { topic: "orders".into(), partition: 0, offset };
        let payload = Bytes::from_static(b"12345678");
        let record = Record {
            place,
            key: None,
            payload: Some(payload.clone()),
            headers: [].into(),
            timestamp: None,
        };
        Held { record, message: Message::new(offset.to_string(), payload) }
    }

    fn window(offsets: impl Iterator<Item = i64>) -> (Window, Instant) {
        let (mut window, now) = (Window::default(), Instant::now());
        for offset in offsets {
            window.take(held(offset), now + Duration::from_secs(30));
        }
        (window, now)
    }

    #[test]
    fn rule_88_the_position_is_behind_the_last_record_before_which_all_are_done() {
        let (mut window, _) = window([10, 11, 12, 15, 16].into_iter());
        assert_eq!(Window::default().position(), None);
        assert_eq!(window.position(), Some(10), "nothing is done");
        window.done(11);
        window.done(15);
        assert_eq!(
            window.position(),
            Some(10),
            "what is done behind something open is not committed"
        );
        window.done(10);
        assert_eq!(window.position(), Some(12));
        window.done(12);
        // 13 and 14 never come: compacted away, or marks of transactions.
        assert_eq!(window.position(), Some(16));
        window.done(16);
        assert_eq!((window.position(), window.len(), window.bytes()), (Some(17), 0, 0));
    }

    #[test]
    fn a_record_that_is_put_off_is_due_at_its_time_and_holds_the_position_until_it_is_done() {
        let (mut window, now) = window(0..3);
        let second = |n| now + Duration::from_secs(n);
        window.set(0, second(5), false);
        assert_eq!(window.out(), 2, "nobody works on it");
        assert!(window.take_due(second(4), second(60)).is_none());
        assert_eq!(window.next_due(), Some(second(5)));
        let again = window.take_due(second(5), second(60)).unwrap();
        assert_eq!((again.record.place.offset, window.out()), (0, 3));
        assert!(window.take_due(second(5), second(60)).is_none(), "it came twice");
        window.done(1);
        window.done(2);
        assert_eq!(window.position(), Some(0));
        window.done(0);
        assert_eq!((window.position(), window.next_due()), (Some(3), None));
    }

    #[test]
    fn what_is_done_stays_done_whatever_another_delivery_of_it_says() {
        let (mut window, now) = window(0..2);
        window.done(1);
        window.set(1, now, false);
        assert!(window.take_due(now, now).is_none());
        window.done(1);
        assert_eq!((window.position(), window.out()), (Some(0), 1));
    }

    /// Against a plain list.
    #[test]
    fn any_order_of_answers_gives_the_position_that_a_plain_list_gives() {
        for seed in 0..200 {
            let mut dice = Dice::new(seed);
            let mut window = Window::default();
            let (mut now, mut model, mut next) = (Instant::now(), BTreeMap::new(), 0);
            for _ in 0..200 {
                let some = |dice: &mut Dice, next: i64| {
                    dice.below(next.max(1).cast_unsigned()).cast_signed()
                };
                match dice.below(5) {
                    0 | 1 => {
                        next += 1 + dice.below(2).cast_signed();
                        window.take(held(next), now + Duration::from_secs(30));
                        model.insert(next, Some((now + Duration::from_secs(30), true)));
                    }
                    2 => {
                        let offset = some(&mut dice, next + 1);
                        window.done(offset);
                        model.entry(offset).and_modify(|entry| *entry = None);
                    }
                    3 => {
                        let (offset, at) =
                            (some(&mut dice, next + 1), now + Duration::from_secs(5));
                        window.set(offset, at, false);
                        if let Some(Some(entry)) = model.get_mut(&offset) {
                            *entry = (at, false);
                        }
                    }
                    _ => {
                        now += Duration::from_secs(dice.below(10));
                        let again_at = now + Duration::from_secs(30);
                        while let Some(due) = window.take_due(now, again_at) {
                            let entry = model.get_mut(&due.record.place.offset).unwrap();
                            assert!(entry.unwrap().0 <= now, "seed {seed}: it came too early");
                            *entry = Some((again_at, true));
                        }
                    }
                }
                let open = || model.iter().filter_map(|(offset, entry)| Some((offset, (*entry)?)));
                let position = open().map(|(offset, _)| *offset).next();
                let position = position.or(model.keys().last().map(|last| last + 1));
                assert_eq!(window.position(), position, "seed {seed}");
                assert_eq!(window.out(), open().filter(|(_, (_, is_out))| *is_out).count());
                assert_eq!(window.next_due(), open().map(|(_, (at, _))| at).min(), "seed {seed}");
                assert_eq!(window.bytes(), open().count() * 8, "seed {seed}");
            }
        }
    }
}
