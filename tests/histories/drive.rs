//! Worker threads on a store, and the events they record.

use crate::record::{Event, FOREVER, Id, Level, Want, What};
use firstseen::testing::{Committed, Expect, Table, TableRow, TableWrite};
use firstseen::{
    BatchReservation, Claim, ClaimOptions, Clock, Durability, ErrorKind, ManualClock, Reserved,
    Store, Ttl,
};
use std::sync::Barrier;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// Random numbers from a seed (splitmix64), which decides everything but the timing.
#[derive(Debug, Clone)]
pub(crate) struct Rng(pub(crate) u64);

impl Rng {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    pub(crate) fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize]
    }
}

pub(crate) fn id_bytes(id: Id) -> [u8; 24] {
    let mut bytes = [b'-'; 24];
    bytes[..4].copy_from_slice(&id.to_le_bytes());
    bytes
}

pub(crate) fn durability(level: Level) -> Durability {
    match level {
        Level::Buffered => Durability::Buffered,
        Level::Process => Durability::Process,
        Level::Disk => Durability::Disk,
    }
}

fn ttl_of(ms: u64) -> Ttl {
    if ms == FOREVER { Ttl::FOREVER } else { Ttl::from_millis(ms) }
}

/// Shared by all threads of one opening.
#[derive(Debug)]
pub(crate) struct Stage {
    pub(crate) store: Store,
    pub(crate) clock: ManualClock,
    pub(crate) stamps: AtomicU64,
    pub(crate) holders: AtomicU32,
    /// The stamp at which the last acknowledged sync was called.
    pub(crate) synced: AtomicU64,
    pub(crate) level: Level,
    pub(crate) ttls: Vec<u64>,
    pub(crate) ids: Vec<Id>,
    pub(crate) rows: Vec<Id>,
    /// Numbers the writes of rows; each value names its write.
    pub(crate) writes: AtomicU64,
    /// Whether the store may stop during calls, because it is killed or closed.
    pub(crate) may_stop: bool,
    /// For threads of a crowd: all of them begin at once, and claim and forget, and nothing else.
    pub(crate) crowd: Option<Barrier>,
}

/// The interval in which a call took effect.
#[derive(Debug, Clone, Copy)]
struct Span {
    called: u64,
    answered: u64,
    clock: (u64, u64),
}

struct Held {
    reservation: BatchReservation,
    holder: u32,
    ids: Vec<Id>,
    ttl: u64,
    level: Level,
}

pub(crate) struct Worker<'a> {
    stage: &'a Stage,
    thread: u32,
    rng: Rng,
    held: Vec<Held>,
    events: Vec<Event>,
    /// Sequences of rows that were read, to expect them in a later write.
    known: Vec<(Id, u64)>,
}

/// The store was killed or closed.
struct Stopped;

impl<'a> Worker<'a> {
    pub(crate) fn new(stage: &'a Stage, thread: u32, rng: Rng) -> Self {
        Self { stage, thread, rng, held: Vec::new(), events: Vec::new(), known: Vec::new() }
    }

    /// Makes up to `calls` calls, until the store stops. Returns the events.
    pub(crate) fn work(mut self, calls: u64) -> Vec<Event> {
        if let Some(barrier) = &self.stage.crowd {
            barrier.wait();
        }
        for _ in 0..calls {
            let step = if self.stage.crowd.is_some() { Self::crowd_step } else { Self::step };
            if step(&mut self).is_err() {
                break;
            }
        }
        while !self.held.is_empty() {
            self.release(0, true);
        }
        self.events
    }

    fn step(&mut self) -> Result<(), Stopped> {
        match self.rng.below(38) {
            0..12 => self.claim(),
            12..18 => self.batch(),
            18..22 => self.question(),
            22..25 => self.forget(),
            25..28 => self.reserve(),
            28..31 if self.held.is_empty() => self.reserve(),
            28..30 => self.confirm(),
            30 => {
                self.release(0, true);
                Ok(())
            }
            31 => self.sync(),
            32 | 33 => self.read_row(),
            _ => self.write_rows(),
        }
    }

    fn crowd_step(&mut self) -> Result<(), Stopped> {
        match self.rng.below(20) {
            0..9 => self.claim(),
            9..14 => self.batch(),
            14..18 => self.forget(),
            18 => self.question(),
            _ => self.sync(),
        }
    }

    fn call<T>(
        &self,
        call: impl FnOnce(&Store) -> firstseen::Result<T>,
    ) -> (Span, firstseen::Result<T>) {
        let clock = || self.stage.clock.wall().as_millis();
        let stamp = || self.stage.stamps.fetch_add(1, Ordering::SeqCst);
        let (from, called) = (clock(), stamp());
        let answer = call(&self.stage.store);
        let answered = stamp();
        (Span { called, answered, clock: (from, clock()) }, answer)
    }

    fn note(&mut self, span: Span, id: Id, what: What, sure: bool, level: Level) {
        let Span { called, answered, clock } = span;
        self.events.push(Event {
            id,
            thread: self.thread,
            what,
            called,
            answered,
            clock,
            sure,
            level,
        });
    }

    /// Records what a failed call may have done. "Retry" promises that it did nothing.
    fn failed(
        &mut self,
        span: Span,
        error: &firstseen::Error,
        level: Level,
        maybe: impl IntoIterator<Item = (Id, What)>,
    ) -> Result<(), Stopped> {
        match error.kind() {
            ErrorKind::Retry => Ok(()),
            ErrorKind::Reopen | ErrorKind::Environment if self.stage.may_stop => {
                for (id, what) in maybe {
                    self.note(span, id, what, false, level);
                }
                Err(Stopped)
            }
            _ => panic!("an error that nothing calls for: {error}"),
        }
    }

    fn id(&mut self) -> Id {
        self.rng.pick(&self.stage.ids)
    }

    /// Distinct ids, in any order.
    fn several(&mut self, most: u64) -> Vec<Id> {
        let mut ids: Vec<Id> = (0..=self.rng.below(most)).map(|_| self.id()).collect();
        let mut known = Vec::new();
        ids.retain(|id| {
            !known.contains(id) && {
                known.push(*id);
                true
            }
        });
        ids
    }

    fn options(&mut self) -> (u64, Level, ClaimOptions) {
        let ttl = self.rng.pick(&self.stage.ttls);
        let level = match self.rng.below(8) {
            0 => Level::Disk,
            1 => Level::Process,
            2 => Level::Buffered,
            _ => self.stage.level,
        };
        (ttl, level, ClaimOptions::new().ttl(ttl_of(ttl)).durability(durability(level)))
    }

    fn claim(&mut self) -> Result<(), Stopped> {
        let (ttl, level, options) = self.options();
        let id = self.id();
        let (span, answer) = self.call(|store| store.claim_with(id_bytes(id), options));
        match answer {
            Ok(claim) => self.note(span, id, heard(claim, ttl), true, level),
            Err(e) => return self.failed(span, &e, level, [(id, What::First { ttl })]),
        }
        Ok(())
    }

    fn batch(&mut self) -> Result<(), Stopped> {
        let (ttl, level, options) = self.options();
        let ids = self.several(6);
        let bytes: Vec<_> = ids.iter().copied().map(id_bytes).collect();
        let (span, answer) =
            self.call(|store| store.default_namespace().claim_batch_with(&bytes, options));
        match answer {
            Ok(claims) => {
                for (id, claim) in ids.into_iter().zip(claims) {
                    self.note(span, id, heard(claim, ttl), true, level);
                }
                Ok(())
            }
            Err(e) => {
                let maybe = ids.into_iter().map(|id| (id, What::First { ttl }));
                self.failed(span, &e, level, maybe)
            }
        }
    }

    fn question(&mut self) -> Result<(), Stopped> {
        let id = self.id();
        let (span, answer) = self.call(|store| store.get(id_bytes(id)));
        let what = match answer {
            Ok(None) => What::Unseen,
            Ok(Some(seen)) => What::Seen {
                first_seen: seen.first_seen.as_millis(),
                deadline: seen.deadline.as_millis(),
            },
            Err(e) => return self.failed(span, &e, self.stage.level, []),
        };
        self.note(span, id, what, true, self.stage.level);
        Ok(())
    }

    fn forget(&mut self) -> Result<(), Stopped> {
        let id = self.id();
        let (span, answer) = self.call(|store| store.forget(id_bytes(id)));
        let level = self.stage.level;
        match answer {
            Ok(forgotten) => {
                let what = if forgotten { What::Forgotten } else { What::Unseen };
                self.note(span, id, what, true, level);
                Ok(())
            }
            Err(e) => self.failed(span, &e, level, [(id, What::Forgotten)]),
        }
    }

    fn reserve(&mut self) -> Result<(), Stopped> {
        let (ttl, level, options) = self.options();
        let ids = self.several(3);
        let bytes: Vec<_> = ids.iter().copied().map(id_bytes).collect();
        let holder = self.stage.holders.fetch_add(1, Ordering::Relaxed);
        let (span, answer) =
            self.call(|store| store.default_namespace().reserve_batch_with(&bytes, options));
        let reservation = match answer {
            Ok(reservation) => reservation,
            Err(e) => {
                // It may have reserved some of them for a while.
                for id in ids {
                    self.note(span, id, What::Held { holder }, false, level);
                    self.note(span, id, What::Released { holder }, false, level);
                }
                return self.failed(span, &e, level, []);
            }
        };
        let mut held = Vec::new();
        for (id, answer) in ids.into_iter().zip(reservation.answers().to_vec()) {
            let what = match answer {
                Reserved::FirstSeen => {
                    held.push(id);
                    What::Held { holder }
                }
                Reserved::Duplicate { first_seen } => {
                    What::Duplicate { first_seen: first_seen.as_millis() }
                }
                Reserved::InProgress => What::InProgress,
                Reserved::SameBatch => panic!("no id stands twice in the batch"),
            };
            self.note(span, id, what, true, level);
        }
        self.held.push(Held { reservation, holder, ids: held, ttl, level });
        Ok(())
    }

    fn confirm(&mut self) -> Result<(), Stopped> {
        let mut held = self.held.remove(0);
        let (span, answer) = self.call(|_| held.reservation.confirm());
        let what = What::Confirmed { holder: held.holder, ttl: held.ttl };
        let (ids, level) = (held.ids.clone(), held.level);
        match answer {
            Ok(()) => {
                for id in ids {
                    self.note(span, id, what, true, level);
                }
                Ok(())
            }
            Err(e) => {
                self.held.insert(0, held);
                let stopped = self.failed(span, &e, level, ids.into_iter().map(|id| (id, what)));
                // After a claim that may have been made, there may be no reservation left to release.
                self.release(0, stopped.is_ok());
                stopped
            }
        }
    }

    fn release(&mut self, number: usize, sure: bool) {
        let Held { reservation, holder, ids, level, .. } = self.held.remove(number);
        let (span, _) = self.call(|_| {
            drop(reservation);
            Ok(())
        });
        for id in ids {
            self.note(span, id, What::Released { holder }, sure, level);
        }
    }

    fn row(&mut self) -> Id {
        self.rng.pick(&self.stage.rows)
    }

    fn read_row(&mut self) -> Result<(), Stopped> {
        let id = self.row();
        let (span, answer) = self.call(|store| Table::of(store, 1).get(&id_bytes(id)));
        let what = match answer {
            Ok(None) => What::NoRow,
            Ok(Some(row)) => {
                self.known.retain(|(other, _)| *other != id);
                self.known.push((id, row.sequence));
                What::Row { write: write_of(&row), sequence: row.sequence }
            }
            Err(e) => return self.failed(span, &e, self.stage.level, []),
        };
        self.note(span, id, what, true, self.stage.level);
        Ok(())
    }

    /// Writes one row or two at once: mostly what replaces the row that was read last, and then it must still be there.
    fn write_rows(&mut self) -> Result<(), Stopped> {
        let level =
            self.rng.pick(&[self.stage.level, self.stage.level, Level::Process, Level::Disk]);
        let mut ids = vec![self.row(), self.row()];
        ids.truncate(1 + self.rng.below(2) as usize);
        ids.dedup();
        let mut writes = Vec::new();
        for id in ids {
            let known = self.known.iter().find(|(other, _)| *other == id).map(|(_, s)| *s);
            let expect = match self.rng.below(8) {
                0 => Want::Anything,
                1 => Want::Absent,
                _ => known.map_or(Want::Absent, Want::Sequence),
            };
            let write = self.stage.writes.fetch_add(1, Ordering::Relaxed);
            writes.push((id, write, expect, self.rng.below(6) == 0));
        }
        let values: Vec<_> = (writes.iter())
            .map(|(id, write, expect, deletes)| {
                (id_bytes(*id), (!deletes).then(|| value_of(*write)), expect_of(*expect))
            })
            .collect();
        let given: Vec<TableWrite<'_>> = (values.iter())
            .map(|(id, value, expect)| TableWrite {
                id,
                value: value.as_deref(),
                ttl: Ttl::FOREVER,
                expect: *expect,
            })
            .collect();
        let (span, answer) =
            self.call(|store| Table::of(store, 1).commit(&given, durability(level)));
        let what = |(_, write, expect, deletes): (Id, u64, Want, bool), sequence| {
            if deletes {
                What::Deleted { sequence, expect }
            } else {
                What::Put { write, sequence, expect }
            }
        };
        match answer {
            Ok(Committed::Done(sequences)) => {
                for (write, sequence) in writes.into_iter().zip(sequences) {
                    let what = if sequence.is_none() { What::NoRow } else { what(write, sequence) };
                    self.note(span, write.0, what, true, level);
                }
                Ok(())
            }
            Ok(Committed::Moved(moved)) => {
                for (n, found) in moved {
                    let (id, _, expect, _) = writes[n];
                    self.note(span, id, What::Moved { expect, found }, true, level);
                }
                Ok(())
            }
            Err(e) => {
                let maybe = writes.into_iter().map(|write| (write.0, what(write, None)));
                self.failed(span, &e, level, maybe)
            }
        }
    }

    fn sync(&mut self) -> Result<(), Stopped> {
        let (span, answer) = self.call(Store::sync);
        match answer {
            Ok(()) => {
                self.stage.synced.fetch_max(span.called, Ordering::SeqCst);
                Ok(())
            }
            Err(e) => self.failed(span, &e, Level::Disk, []),
        }
    }
}

/// A value that names its write.
fn value_of(write: u64) -> Vec<u8> {
    write.to_le_bytes().repeat(1 + write as usize % 60)
}

/// The write of a row; all ones if the value is that of no write.
pub(crate) fn write_of(row: &TableRow) -> u64 {
    let write = row.value.first_chunk().map_or(u64::MAX, |head| u64::from_le_bytes(*head));
    if row.value == value_of(write % u64::MAX) { write } else { u64::MAX }
}

fn expect_of(want: Want) -> Expect {
    match want {
        Want::Anything => Expect::Anything,
        Want::Absent => Expect::Absent,
        Want::Sequence(sequence) => Expect::Sequence(sequence),
    }
}

fn heard(claim: Claim, ttl: u64) -> What {
    match claim {
        Claim::FirstSeen => What::First { ttl },
        Claim::Duplicate { first_seen } => What::Duplicate { first_seen: first_seen.as_millis() },
    }
}
