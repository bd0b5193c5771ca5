//! Operations other than claims: clock, settings, import, export to another store, repair, and closing while ids are
//! reserved.

use super::{BEHIND_MS_MAX, Place, Verdict, World, ttl_of};
use crate::ops::{Harm, KeyNo, Sway, id_bytes};
use crate::oracle::{End, Fact, visible};
use firstseen::disk::Disk;
use firstseen::{ErrorKind, ImportEntry, LostBytes, NamespaceOptions, RepairReport, Timestamp};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

/// Too far to be believed at once, from wherever the engine's own time is.
const FAR_MS: u64 = 3 * 3_600_000;
/// Longer than the step that the engine takes without judging the clocks.
const WEIGHED_MS: u64 = 1_001;

pub(super) fn name_of(ns: u8) -> String {
    if ns == 0 { "default".to_owned() } else { format!("ns-{ns}") }
}

impl World {
    /// Whether a repair of a sound store has found nothing wrong. Without the manifest, a segment that compaction
    /// removed from the middle of the log looks like a missing one: the segment before it names it, and only the
    /// manifest would say that nothing in it mattered. What was in it is checked after the next opening.
    pub(crate) fn lost_nothing(report: &RepairReport, lost_manifest: bool) -> bool {
        let removed = |lost: &LostBytes| {
            let missing = report.missing_segments.iter().find(|missing| missing.file == lost.file);
            lost_manifest && missing.is_some_and(|missing| missing.bytes.is_none())
        };
        report.lost.iter().all(removed)
    }

    /// Advances both clocks and makes the engine look.
    pub(super) fn pass(&mut self, ms: u64) {
        self.clock.advance(Duration::from_millis(ms));
        self.course.pass(ms);
        self.look_at_the_clock();
    }

    fn set_wall(&mut self, ms: u64) {
        self.clock.jump_to(Timestamp::from_millis(ms));
        self.course.set(ms);
        self.look_at_the_clock();
    }

    fn look_at_the_clock(&mut self) {
        if let Some(store) = &self.store {
            store.stats();
        }
    }

    /// `stats` reports by how much the wall clock is held back.
    pub(super) fn clock_is_reported(&self) -> Verdict {
        let (held, want) = (self.store().stats().clock_held_ms, self.course.held_ms());
        if held == want { Ok(()) } else { Err(format!("held {held} ms, expected {want} ms")) }
    }

    pub(super) fn jump_back(&mut self, ms: u64) {
        let (time, wall) = (self.now(), self.course.wall_ms());
        if self.course.is_followed() && time - wall + ms <= BEHIND_MS_MAX {
            self.set_wall(wall - ms);
        }
    }

    /// Sets the wall clock far ahead or back, or right again if it is off.
    pub(super) fn sway(&mut self, sway: Sway) -> Verdict {
        if !self.course.is_followed() {
            self.set_wall(self.course.time());
        } else if self.course.is_right() {
            self.pass(WEIGHED_MS);
            let time = self.course.time();
            self.set_wall(match sway {
                Sway::Ahead => time + FAR_MS,
                Sway::Back => time - FAR_MS,
                Sway::LittleAhead => time + 600_000,
            });
        }
        self.clock_is_reported()
    }

    /// Changes settings: those of a namespace at once, those of the store at its next opening.
    pub(super) fn set(&mut self, ns: u8, ttl_ms: u64, sliding: bool) -> Verdict {
        if ns == 0 {
            self.next_default = (ttl_ms, sliding);
            return Ok(());
        }
        let options = NamespaceOptions::new().ttl(ttl_of(ttl_ms)).sliding(sliding);
        match self.store().namespace_with(&name_of(ns), options) {
            Ok(_) => {
                self.spaces_are[usize::from(ns)] = (ttl_ms, sliding);
                Ok(())
            }
            Err(e) => self.fault(&e, false).map(drop),
        }
    }

    /// Imports some claims of the last export again, with their times changed by `skew`.
    pub(super) fn import(&mut self, ns: u8, skew: u8) -> Verdict {
        let mut entries: Vec<(KeyNo, u64, u64)> =
            self.exported.iter().filter(|(key, ..)| key.0 == ns).copied().take(8).collect();
        for (_, first_seen, deadline) in &mut entries {
            match skew {
                1 => *first_seen += 10_000_000,
                2 => *deadline = (*first_seen + 3_000).min(*deadline),
                _ => {}
            }
            if *deadline <= *first_seen {
                return Ok(());
            }
        }
        if self.is_held(entries.iter().map(|(key, ..)| *key)) {
            return Ok(());
        }
        let give = |(key, first_seen, deadline): &(KeyNo, u64, u64)| {
            ImportEntry::new(
                id_bytes(key.1),
                Timestamp::from_millis(*first_seen),
                Timestamp::from_millis(*deadline),
            )
        };
        let given: Vec<ImportEntry> = entries.iter().map(give).collect();
        let mut first = true;
        let mut imported = self.store().import(&name_of(ns), &given);
        if imported.as_ref().is_err_and(|e| e.kind() == ErrorKind::Retry) {
            first = false;
            let flushed = self.store().run_background();
            imported = flushed.and_then(|()| self.store().import(&name_of(ns), &given));
        }
        let now = self.now();
        let mut added = 0;
        // Each claim is its own record, in this order.
        for (key, first_seen, deadline) in entries {
            self.oracle.touched.insert(key);
            if self.oracle.seen(key, now).is_some() || deadline <= now {
                continue;
            }
            let known = self.oracle.fact(key).map_or(0, |fact| fact.first_seen);
            let first_seen = first_seen.min(now).max(known);
            let fact = Fact { first_seen, deadline, grave: false };
            let landed = match &imported {
                Ok(_) => true,
                // The claims before the refused one were entered.
                Err(_) => self.look(key).map_or(true, |seen| seen == visible(Some(&fact), now)),
            };
            if landed {
                added += 1;
                self.oracle.enter(vec![(key, fact)]);
            }
        }
        match imported {
            Ok(count) if first && count != added => {
                Err(format!("import adds {count}, expected {added}"))
            }
            Ok(_) => {
                let level = self.setup.level;
                // What is live here is as durable as a claim would be (I6), whoever made it.
                for (key, ..) in self.exported.iter().filter(|(key, ..)| key.0 == ns).take(8) {
                    if self.oracle.seen(*key, now).is_some() {
                        self.oracle.acknowledge_key(*key, level);
                    }
                }
                Ok(())
            }
            Err(e) => self.fault(&e, false).map(drop),
        }
    }

    /// Imports the last export into another store, which must then hold exactly that.
    pub(super) fn carry(&mut self) -> Verdict {
        let Place::Simulated { .. } = self.place else { return Ok(()) };
        let now = self.now();
        let failed = |e: firstseen::Error| format!("another store: {e}");
        let clock = firstseen::ManualClock::at_millis(now);
        let other = firstseen::Store::builder("/b")
            .disk(firstseen::disk::sim::SimDisk::new())
            .background(false)
            .memory_budget(4 << 20)
            .clock(clock)
            .open()
            .map_err(failed)?;
        let mut want = BTreeMap::new();
        for (key, first_seen, deadline) in &self.exported {
            let id = id_bytes(key.1);
            let (from, to) =
                (Timestamp::from_millis(*first_seen), Timestamp::from_millis(*deadline));
            let entry = ImportEntry::new(id.clone(), from, to);
            let added = other.import(&name_of(key.0), &[entry]).map_err(failed)?;
            if added != u64::from(*deadline > now) {
                return Err(format!("another store adds {added} of {key:?}"));
            }
            if added == 1 {
                want.insert((name_of(key.0), id), (*first_seen, *deadline));
            }
        }
        let mut got = BTreeMap::new();
        let visit = |entry: firstseen::ExportEntry<'_>| {
            let times = (entry.first_seen.as_millis(), entry.deadline.as_millis());
            got.insert((entry.namespace.to_owned(), entry.id.to_vec()), times);
            Ok(())
        };
        other.export(visit).map_err(failed)?;
        if got == want { Ok(()) } else { Err(format!("another store has {got:?}, not {want:?}")) }
    }

    /// Closes the store while ids are reserved: the remaining handles return errors, and nothing was claimed.
    pub(super) fn close_while_held(&mut self) -> Verdict {
        let mut slots = std::mem::take(&mut self.slots);
        let spaces = std::mem::take(&mut self.spaces);
        let clone = self.store().clone();
        self.close()?;
        for held in slots.iter_mut().flatten() {
            match held.reservation.confirm() {
                Err(e) if e.kind() == ErrorKind::Reopen => {}
                other => return Err(format!("confirmed in a closed store: {other:?}")),
            }
        }
        for space in &spaces {
            match space.claim("x") {
                Err(e) if e.kind() == ErrorKind::Reopen => {}
                other => return Err(format!("claimed in a closed store: {other:?}")),
            }
        }
        drop((slots, spaces, clone));
        self.oracle.held.clear();
        self.reopen_closed(Harm::Spared)
    }

    /// Repairs a closed store that is sound or has lost its manifest.
    pub(super) fn repair(&mut self, lose_manifest: bool) -> Verdict {
        if lose_manifest && !self.course.is_right() {
            // Without the manifest the engine's time is known only from the claims, so first set the clock right.
            self.set_wall(self.course.time());
        }
        self.close()?;
        if self.stopped {
            return Ok(());
        }
        self.repairing = true;
        if let Place::Simulated { disk, .. } = &self.place
            && lose_manifest
            && disk.remove(&Path::new(super::SIMULATED_DIR).join("MANIFEST")).is_ok()
        {
            // The manifest held the time, and the list of the runs whose blocks are now unreachable.
            self.course.forgotten();
            self.oracle.forget_sequences();
            self.harm(Harm::Dropped);
        }
        match self.builder().repair() {
            Ok(report) if Self::lost_nothing(&report, lose_manifest) => {
                self.repairing = false;
                self.reopen_closed(Harm::Spared)
            }
            Ok(report) => Err(format!("a sound store was repaired: {report}")),
            Err(e) => {
                self.fault(&e, false)?;
                self.stopped = true;
                Ok(())
            }
        }
    }

    /// Opens a store that was closed cleanly.
    pub(super) fn reopen_closed(&mut self, harm: Harm) -> Verdict {
        if self.stopped {
            return Ok(());
        }
        self.harm(harm);
        self.settings_are_kept = true;
        let opened = self.open();
        self.settings_are_kept = false;
        match opened {
            Ok(()) => self.settle(End::Closed),
            Err(e) => {
                self.fault(&e, false)?;
                self.stopped = true;
                Ok(())
            }
        }
    }
}
