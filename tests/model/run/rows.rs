//! Rows: what the oracle knows of each is the number of the write that put it, which its value tells, and its deadline.
//! The sequence that the store gave to a write is kept beside it.

use super::{Verdict, World, durability, ttl_of};
use crate::ops::{FOREVER, IDS_OF_ROWS, KeyNo, Level, ROWS, RowPut, Want, id_bytes, is_row};
use crate::oracle::{Change, Fact, Seen};
use firstseen::testing::{Committed, Expect, Table, TableRow, TableWrite, recount_files, validate};
use std::collections::BTreeMap;

/// A value that nobody wrote to this row.
const WRONG_VALUE: u64 = u64::MAX;
/// A value under another sequence than that of its write.
const WRONG_SEQUENCE: u64 = u64::MAX - 1;

/// A write of a commit, and what it makes of its row.
struct Planned {
    id: Vec<u8>,
    value: Option<Vec<u8>>,
    expect: Expect,
    fact: Option<Fact>,
}

/// The value of a write: it names row and write, and its length depends on the write. Some do not fit into a segment.
pub(super) fn value_of(row: KeyNo, write: u64) -> Vec<u8> {
    let more: u64 = match write % 64 {
        63 => 7_000,
        n => [0, 2, 30, 200, 800][n as usize % 5],
    };
    let mut value = write.to_le_bytes().to_vec();
    value.extend([row.0, row.1]);
    value.extend((0..more).map(|n| (n as u8).wrapping_mul(31) ^ write as u8));
    value
}

impl World {
    pub(crate) fn table(&self, family: u8) -> Table {
        Table::of(self.store(), family - ROWS)
    }

    /// The write that put this row.
    fn write_in(&self, row: KeyNo, found: &TableRow) -> u64 {
        let Some(head) = found.value.first_chunk() else { return WRONG_VALUE };
        let write = u64::from_le_bytes(*head);
        match self.oracle.sequence(write) {
            _ if found.value != value_of(row, write) => WRONG_VALUE,
            Some(known) if known != found.sequence => WRONG_SEQUENCE,
            _ => write,
        }
    }

    pub(super) fn look_at_row(&mut self, row: KeyNo) -> firstseen::Result<Seen> {
        let found = self.table(row.0).get(&id_bytes(row.1))?;
        Ok(found.map(|found| {
            let write = self.write_in(row, &found);
            // That of a commit that failed half-way is heard here first.
            self.oracle.learn(write, found.sequence);
            (write, found.deadline.as_millis())
        }))
    }

    /// Commits several rows: all or nothing.
    pub(super) fn put_rows(
        &mut self,
        puts: &[RowPut],
        ttl: Option<u64>,
        level: Option<Level>,
    ) -> Verdict {
        let now = self.now();
        let ttl = ttl.unwrap_or(FOREVER);
        let mut planned = Vec::new();
        let (mut change, mut moved) = (Change::new(), Vec::new());
        for (n, RowPut { row, want, delete }) in puts.iter().enumerate() {
            self.oracle.touched.insert(*row);
            // The claim of the same id is another thing.
            self.oracle.touched.insert((0, row.1));
            let live = self.oracle.seen(*row, now);
            if live.is_some_and(|(write, _)| self.oracle.sequence(write).is_none()) {
                self.get(*row)?;
                if self.stopped {
                    return Ok(());
                }
            }
            let known = live.and_then(|(write, _)| self.oracle.sequence(write));
            if live.is_some() != known.is_some() {
                // The disk failed as planned when it was asked for the sequence.
                return Ok(());
            }
            let expect = match (want, known) {
                (Want::Anything, _) => Expect::Anything,
                (Want::Current, None) | (Want::Absent, _) => Expect::Absent,
                (Want::Current, Some(sequence)) => Expect::Sequence(sequence),
                (Want::Stale, sequence) => Expect::Sequence(sequence.map_or(1, |s| s - 1)),
            };
            let holds = match expect {
                Expect::Anything => true,
                Expect::Absent => known.is_none(),
                Expect::Sequence(sequence) => known == Some(sequence),
                Expect::Ahead { sequence, .. } => known == sequence,
            };
            if !holds {
                moved.push((n, known));
            }
            self.writes += 1;
            let fact = match (delete, live) {
                (false, _) => Some(Fact::claim(self.writes, self.course.latest(), ttl)),
                (true, Some((_, deadline))) => {
                    Some(Fact { first_seen: self.writes, deadline, grave: true })
                }
                (true, None) => None,
            };
            let value = (!delete).then(|| value_of(*row, self.writes));
            planned.push(Planned { id: id_bytes(row.1), value, expect, fact });
            change.extend(fact.map(|fact| (*row, fact)));
        }
        self.commit_rows(puts, &planned, ttl, level, (change, moved))
    }

    fn commit_rows(
        &mut self,
        puts: &[RowPut],
        planned: &[Planned],
        ttl: u64,
        level: Option<Level>,
        (change, moved): (Change, Vec<(usize, Option<u64>)>),
    ) -> Verdict {
        let level = level.unwrap_or(self.setup.level);
        let Some(family) = puts.first().map(|put| put.row.0) else { return Ok(()) };
        let committed = self.call(false, |world| {
            let writes: Vec<TableWrite<'_>> = planned
                .iter()
                .map(|Planned { id, value, expect, .. }| TableWrite {
                    id,
                    value: value.as_deref(),
                    ttl: ttl_of(ttl),
                    expect: *expect,
                })
                .collect();
            world.table(family).commit(&writes, durability(level))
        });
        let refused = !moved.is_empty();
        match committed {
            Err(_) if refused && !self.faults => Err("a commit that expects wrongly failed".into()),
            Err(e) if refused => self.fault(&e, false).map(drop),
            Err(e) => self.failed(&e, false, vec![change]),
            Ok(Committed::Moved(got)) if got == moved && refused => Ok(()),
            Ok(Committed::Done(sequences)) if !refused => {
                for (sequence, Planned { fact, .. }) in sequences.iter().zip(planned) {
                    if sequence.is_some() != fact.is_some() {
                        return Err(format!("commit of {puts:?}: {sequences:?}"));
                    }
                    if let (Some(sequence), Some(fact)) = (sequence, fact) {
                        self.oracle.given(fact.first_seen, *sequence)?;
                    }
                }
                if !change.is_empty() {
                    self.oracle.enter(change);
                    self.oracle.acknowledge(level);
                }
                Ok(())
            }
            Ok(got) => Err(format!("commit of {puts:?}: {got:?}, expected moved: {moved:?}")),
        }
    }

    /// Puts one row again and again, so that segments fill with what is superseded.
    pub(super) fn churn(&mut self, row: KeyNo, times: u8) -> Verdict {
        for n in 0..times {
            // One more key now and then, which compaction has to carry over.
            let id = if n % 8 == 7 { (row.1 + n / 8) % IDS_OF_ROWS } else { row.1 };
            let put = RowPut { row: (row.0, id), want: Want::Current, delete: false };
            self.put_rows(&[put], None, None)?;
            if self.stopped {
                return Ok(());
            }
        }
        self.background()
    }

    pub(super) fn list_rows(&mut self, family: u8) -> Verdict {
        let now = self.now();
        let listed = match self.table(family).list() {
            Ok(listed) => listed,
            Err(e) => return self.fault(&e, false).map(drop),
        };
        let live = self.oracle.live_rows(family, now);
        let want: BTreeMap<_, _> =
            live.into_iter().map(|(row, seen)| (id_bytes(row.1), seen)).collect();
        let count = listed.len();
        let mut got = BTreeMap::new();
        for (id, found) in listed {
            let Some(no) = (0..IDS_OF_ROWS).find(|no| id_bytes(*no) == id) else {
                return Err(format!("a list of {family} has {id:?}, which nobody put"));
            };
            let write = self.write_in((family, no), &found);
            got.insert(id, (write, found.deadline.as_millis()));
        }
        if got == want && count == got.len() {
            Ok(())
        } else {
            Err(format!("list of {family} at {now}: {count} rows {got:?}, expected {want:?}"))
        }
    }

    /// Recounts what the store keeps twice; `thoroughly` also reads its files, which disk errors would spoil.
    pub(super) fn recount(&self, thoroughly: bool) -> Verdict {
        let Some(store) = self.store.as_ref().filter(|_| !self.stopped) else { return Ok(()) };
        let mut complaints = validate(store);
        if thoroughly && !self.faults {
            complaints.extend(recount_files(store).map_err(|e| format!("recount: {e}"))?);
        }
        if complaints.is_empty() { Ok(()) } else { Err(format!("validate: {complaints:#?}")) }
    }

    /// Reads all that is left of rows: each one, and each family as a list.
    pub(super) fn finish_rows(&mut self) -> Verdict {
        let rows = self.oracle.touched.iter().filter(|key| is_row(**key));
        let families: std::collections::BTreeSet<u8> = rows.map(|row| row.0).collect();
        families.into_iter().try_for_each(|family| self.list_rows(family))
    }
}
