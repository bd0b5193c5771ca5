//! Judges a damaged store: its results are correct, or it reports the damage, or only unsynced claims are gone.
//! Anything else is a silent loss.

use super::kinds::Damage;
use super::layout::{Record, SEGMENT_HEAD};
use super::station::Station;
use crate::ops::{Harm, KeyNo, ROWS, is_row};
use crate::oracle::{End, Fact, Seen, visible};
use crate::run::{Verdict, World};
use firstseen::{Error, RepairReport};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Outcome {
    /// The store did not open and named the damaged file and offset; repair was checked too.
    Noticed,
    /// Results were correct; `verify` named the damage, and repair was checked.
    ByVerify,
    /// Results were correct; a rebuild without the blocks, which hid the damage, reports it.
    ByRebuild,
    /// Results were correct, with and without blocks.
    Harmless,
    /// Unsynced claims are gone, as after a power cut; all synced ones are there.
    TornTail,
}

type Changed = BTreeMap<PathBuf, Option<Vec<u8>>>;

struct Case<'a> {
    station: &'a Station,
    damage: &'a Damage,
    changed: Changed,
}

pub(super) fn check(station: &Station, damage: &Damage) -> Verdict<Outcome> {
    let case = Case { station, damage, changed: damage.changed(station) };
    let mut world = station.with(&case.changed, Harm::Spared);
    if let Err(e) = world.open() {
        case.names_the_damage(&e)?;
        drop(world);
        case.repaired()?;
        return Ok(Outcome::Noticed);
    }
    let (tail, unread) = case.answers(&mut world)?;
    let report = world.store().verify().map_err(|e| format!("verify: {e}"))?;
    world.drop_store();
    // Again from the log alone: damage that the blocks hid must not pass unnoticed once they are gone.
    let mut bare = station.with(&case.changed, Harm::Dropped);
    let bare_noticed = match bare.open() {
        Err(e) => case.names_the_damage(&e).map(|()| true)?,
        // What reads the whole log has read every value.
        Ok(()) => match case.answers(&mut bare).map_err(|e| format!("rebuilt: {e}"))? {
            (_, true) => return Err("rebuilt: a value that cannot be read was not noticed".into()),
            (_, false) => false,
        },
    };
    if unread && report.is_sound() {
        return Err("a value cannot be read, and verify found nothing".to_owned());
    }
    if bare_noticed || !report.is_sound() {
        case.repaired()?;
    }
    Ok(match (tail, report.is_sound(), bare_noticed) {
        (true, true, false) => Outcome::TornTail,
        (_, false, _) => Outcome::ByVerify,
        (_, true, true) => Outcome::ByRebuild,
        (false, true, false) => Outcome::Harmless,
    })
}

impl Case<'_> {
    /// Offset of the last changed byte; if the length has changed, the shorter of both lengths.
    fn changed_at(&self, file: &Path) -> Option<usize> {
        let new = self.changed.get(file)?.as_deref().unwrap_or(&[]);
        let old = self.station.files.get(file).map_or(&[][..], Vec::as_slice);
        let shorter = old.len().min(new.len());
        if old.len() == new.len() {
            (0..shorter).rfind(|at| old[*at] != new[*at])
        } else {
            Some(shorter)
        }
    }

    /// An intact but outdated manifest names segments that have since been deleted. That it is outdated cannot be
    /// detected; that they are missing can. Without a manifest, so does the end mark of the segment before one that
    /// compaction removed.
    fn is_missed(&self, file: &Path) -> bool {
        let manifest = self.changed.keys().any(|file| file.ends_with("MANIFEST"));
        manifest && Station::segment_no(file).is_some() && !self.station.files.contains_key(file)
    }

    /// The error must blame a changed file, at or before its last change.
    fn names_the_damage(&self, error: &Error) -> Verdict {
        let Error::Corrupt { path, offset, .. } = error else {
            return Err(format!("not an error of damage: {error}"));
        };
        if self.is_missed(path) {
            return Ok(());
        }
        let Some(last) = self.changed_at(path) else {
            return Err(format!("blames a file that is as it was: {error}"));
        };
        if *offset as usize > last {
            return Err(format!("blames what is behind the last change at {last}: {error}"));
        }
        Ok(())
    }

    /// Whether the damage reaches bytes that were never acknowledged as durable.
    fn reaches_the_tail(&self) -> bool {
        self.station.end != End::Closed
            && self.changed.iter().any(|(file, new)| {
                let Some(number) = Station::segment_no(file) else { return false };
                let Some(old) = self.station.files.get(file) else { return false };
                let new = new.as_deref().unwrap_or(&[]);
                let same = |at: &usize| old.get(*at) == new.get(*at);
                let changed = (0..old.len()).rfind(|at| !same(at));
                changed.is_some_and(|at| (number, at as u32) >= self.station.durable)
            })
    }

    /// Compares all results with the oracle; returns whether an unsynced tail is gone, and whether the value of a row
    /// cannot be read: that must be an error that names the damage, never another value or an absent row.
    fn answers(&self, world: &mut World) -> Verdict<(bool, bool)> {
        let now = world.now();
        let mut observed = BTreeMap::new();
        let mut unread = false;
        for key in self.station.world.oracle.touched.clone() {
            match world.look(key) {
                Ok(seen) => drop(observed.insert(key, seen)),
                Err(e) if is_row(key) => {
                    self.names_the_damage(&e)?;
                    unread = true;
                }
                Err(e) => return Err(format!("get {key:?}: {e}")),
            }
        }
        if !unread {
            [ROWS + 1, ROWS + 2]
                .into_iter()
                .try_for_each(|family| Self::listed(world, family, &observed))?;
        }
        let oracle = &self.station.world.oracle;
        let whole = oracle.check(self.station.end, now, &observed);
        let Err(silent) = whole else { return Ok((false, unread)) };
        if !self.reaches_the_tail() {
            return Err(format!("SILENT: {silent}"));
        }
        oracle.check(End::PowerCut, now, &observed).map_err(|e| format!("SILENT: {e}"))?;
        Ok((true, unread))
    }

    /// A list has the rows that are there one by one.
    fn listed(world: &World, family: u8, observed: &BTreeMap<KeyNo, Seen>) -> Verdict {
        let listed = world.table(family).list().map_err(|e| format!("list of {family}: {e}"))?;
        let live = observed.iter().filter(|(key, seen)| key.0 == family && seen.is_some());
        let count = live.count();
        if listed.len() == count {
            return Ok(());
        }
        Err(format!("SILENT: a list of {family} has {} rows, and {count} are there", listed.len()))
    }

    /// Repairs the store and checks that every intact record is still there.
    fn repaired(&self) -> Verdict {
        let world = self.station.with(&self.changed, Harm::Spared);
        let report = world.builder().repair().map_err(|e| format!("repair: {e}"))?;
        self.reported(&report).map_err(|what| format!("{what}\n{report}"))?;
        let mut world = world.after(world.disk().kill(), Harm::Spared);
        world.open().map_err(|e| format!("open after repair: {e}\n{report}"))?;
        let now = world.now();
        let observed = world.observe()?.ok_or("a disk that fails")?;
        let keys = |record: &Record| record.keys.clone();
        let broken: BTreeSet<KeyNo> = self.broken().flat_map(keys).collect();
        let baseless: BTreeSet<KeyNo> = self.baseless().flat_map(keys).collect();
        for (key, seen) in &observed {
            let facts = self.station.facts.get(key).map_or(&[][..], Vec::as_slice);
            let whole = self.station.world.oracle.seen(*key, now);
            let could_be = |seen: &Seen| {
                seen.is_none() || facts.iter().any(|fact| visible(Some(fact), now) == *seen)
            };
            // Without its base time, a claim may appear older than it is, never newer.
            let older = |seen: &Seen| {
                let Some((first_seen, deadline)) = *seen else { return true };
                let before = |fact: &Fact| {
                    !fact.grave && first_seen <= fact.first_seen && deadline <= fact.deadline
                };
                facts.iter().any(before)
            };
            let good = if baseless.contains(key) {
                older(seen)
            } else if broken.contains(key) {
                could_be(seen)
            } else {
                *seen == whole
            };
            if !good {
                return Err(format!(
                    "after repair {key:?} is {seen:?}, was {whole:?} (broken: {})\n{report}",
                    broken.contains(key)
                ));
            }
        }
        let verified = world.store().verify().map_err(|e| format!("verify: {e}"))?;
        if !verified.is_sound() {
            return Err(format!("after repair: {verified}"));
        }
        world.close()?;
        let again = world.builder().repair().map_err(|e| format!("second repair: {e}"))?;
        let once = again.lost.is_empty() && again.old_log.is_none();
        if once { Ok(()) } else { Err(format!("a second repair finds: {again}")) }
    }

    fn broken(&self) -> impl Iterator<Item = &Record> {
        self.station.records.iter().filter(|record| !self.is_intact(record))
    }

    fn is_intact(&self, record: &Record) -> bool {
        let Record { file, at, end, .. } = record;
        Damage::is_intact(&self.changed, self.station, file, *at..*end)
    }

    /// Records that are intact but have lost their base time: more than one bit of their segment's header has changed.
    fn baseless(&self) -> impl Iterator<Item = &Record> {
        let restored = matches!(self.damage, Damage::Flip { .. });
        self.station.records.iter().filter(move |record| {
            let head =
                Damage::is_intact(&self.changed, self.station, &record.file, 0..SEGMENT_HEAD);
            record.needs_base && !restored && !head
        })
    }

    /// Repair reports exactly the broken records as lost.
    fn reported(&self, report: &RepairReport) -> Verdict {
        let damaged_manifest = self.changed.keys().any(|file| file.ends_with("MANIFEST"));
        if report.lost.is_empty() && !report.manifest_rebuilt && !damaged_manifest {
            return Err("the store did not open, and repair found nothing".to_owned());
        }
        let says = |record: &Record| {
            report.lost.iter().any(|lost| {
                let new = self.changed.get(&record.file).and_then(Option::as_ref);
                let end = new.map_or(0, |new| new.len().min(record.end));
                lost.file == record.file
                    && lost.offset as usize <= record.at
                    && (lost.offset + lost.bytes) as usize >= end
            })
        };
        if let Some(record) = self.broken().find(|r| self.station.is_durable(r) && !says(r)) {
            return Err(format!("repair does not say that it lost {record:?}"));
        }
        for lost in &report.lost {
            let range = lost.offset as usize..(lost.offset + lost.bytes) as usize;
            let within = |record: &&Record| {
                record.file == lost.file && record.at < range.end && range.start < record.end
            };
            let whole = self.station.records.iter().filter(within).find(|r| self.is_intact(r));
            if let Some(record) = whole {
                return Err(format!("repair says that it lost {record:?}, which is whole"));
            }
            if self.changed_at(&lost.file).is_none() && !self.is_missed(&lost.file) {
                return Err(format!("repair blames {}, which is as it was", lost.file.display()));
            }
        }
        Ok(())
    }
}
