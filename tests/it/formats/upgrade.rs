//! The upgrade to the version after this one, which exists in tests only.

use super::{check_more, contents, golden, segments, version, write_more};
use crate::support::{AT, assert_sound, clock, id, settle, sim_with};
use firstseen::disk::Disk;
use firstseen::disk::sim::{Fault, SimDisk};
use firstseen::testing::{Expect, Table, TableWrite};
use firstseen::{
    Builder, ClaimOptions, Durability, Error, ManualClock, MemoryBlocks, NamespaceOptions, Store,
    seconds,
};
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

const NOW: u16 = 2;
const NEXT: u16 = 3;

#[test]
fn i10_each_golden_folder_is_upgraded_with_every_answer() {
    for state in golden::STATES {
        for has_sled in [true, false] {
            let (_dir, path, answers, clock) = golden::copy(state);
            if !has_sled {
                fs::remove_dir_all(path.join("sled")).unwrap();
            }
            let at = format!("{state}, sled: {has_sled}");
            let open = || golden::builder(&path, &clock).next_format().open();
            let old = segments(&path);
            let store = open().unwrap();
            answers.check(&store, &at);
            answers.check_count(&store, &at);
            assert_sound(&store);
            assert_eq!(version(&fs::read(path.join("MANIFEST")).unwrap()), NEXT, "{at}");
            for segment in segments(&path) {
                assert!(old.contains(&segment), "{at}: {} is new", segment.display());
                assert_eq!(version(&fs::read(&segment).unwrap()), NOW, "{at}: stays as it is");
            }
            write_more(&store);
            answers.check(&store, &at);
            store.close().unwrap();
            let is_old = |file: &Path| old.iter().any(|old| old.as_path() == file);
            let versions: BTreeSet<_> = segments(&path)
                .iter()
                .map(|file| (is_old(file), version(&fs::read(file).unwrap())))
                .collect();
            assert!(versions.contains(&(false, NEXT)), "{at}: {versions:?}");
            // Numbers of removed spares are used again, so a file with an old name may be new.
            assert!(!versions.contains(&(false, NOW)), "{at}: {versions:?}");

            let before = contents(&path);
            let plain = || golden::builder(&path, &clock);
            let refusals =
                [plain().open().err(), plain().open_read_only().err(), plain().repair().err()];
            for error in refusals.into_iter().map(|error| error.expect("is refused")) {
                let newer = matches!(error, Error::FromTheFuture { found: NEXT, known: NOW, .. });
                assert!(newer, "{at}: {error}");
            }
            assert!(contents(&path) == before, "{at}: a refusal changes something");

            let read_only = plain().next_format().open_read_only().unwrap();
            assert!(read_only.verify().unwrap().is_sound(), "{at}");
            drop(read_only);
            let store = open().unwrap();
            answers.check(&store, &at);
            check_more(&store);
        }
    }
}

/// A store on a simulated disk, as a close or a kill has left it.
struct Base {
    disk: SimDisk,
    blocks: MemoryBlocks,
    clock: ManualClock,
    /// Whether [`Base::fill`] was done.
    is_full: bool,
}

const CLAIMS: u64 = 200;

impl Base {
    /// Runs `work` on a new disk, and keeps what is there when it ends, with the store still open if it is returned.
    fn after(is_full: bool, work: impl FnOnce(Builder, &SimDisk) -> Option<Store>) -> Self {
        let base =
            Self { disk: SimDisk::new(), blocks: MemoryBlocks::default(), clock: clock(), is_full };
        let store = work(base.builder(&base.disk, &base.blocks), &base.disk);
        let kept = Self { disk: base.disk.kill(), blocks: base.blocks.copy(), ..base };
        drop(store);
        kept
    }

    fn builder(&self, disk: &SimDisk, blocks: &MemoryBlocks) -> Builder {
        sim_with(disk, &self.clock, blocks).segment_bytes(64 << 10)
    }

    /// Claims, names and rows, flushed and not.
    fn fill(store: &Store) {
        let table = Table::of(store, 1);
        let named = NamespaceOptions::new().ttl(seconds(3_600));
        let named = store.namespace_with("named", named).unwrap();
        for n in 0..CLAIMS {
            if n == CLAIMS / 2 {
                store.freeze();
                settle(store);
            }
            assert!(store.claim(id(n)).unwrap().is_first_seen());
            assert!(named.claim(id(n)).unwrap().is_first_seen());
            table.put(&id(n), b"old").unwrap();
            let (key, value, ttl) = (id(n), n.to_le_bytes(), seconds(7_200));
            let row = TableWrite { id: &key, value: Some(&value), ttl, expect: Expect::Anything };
            table.commit(&[row], Durability::Process).unwrap();
        }
        table.delete(&id(0)).unwrap();
        store.sync().unwrap();
    }

    fn check(&self, store: &Store, at: &str) {
        assert!(!store.contains("never").unwrap(), "{at}");
        assert_sound(store);
        if !self.is_full {
            return;
        }
        let table = Table::of(store, 1);
        let named = store.find_namespace("named").unwrap_or_else(|| panic!("{at}: no namespace"));
        let now = crate::support::NOW;
        for n in 0..CLAIMS {
            let seen = store.get(id(n)).unwrap().unwrap_or_else(|| panic!("{at}: id {n}"));
            assert_eq!(seen.first_seen.as_millis(), now, "{at}: id {n}");
            let seen = named.get(id(n)).unwrap().unwrap_or_else(|| panic!("{at}: named id {n}"));
            assert_eq!(seen.deadline.as_millis(), now + 3_600_000, "{at}: named id {n}");
            let row = table.get(&id(n)).unwrap();
            let row = row.map(|row| (row.value, row.deadline.as_millis()));
            let wanted = (n > 0).then(|| (n.to_le_bytes().to_vec(), now + 7_200_000));
            assert_eq!(row, wanted, "{at}: row {n}");
        }
    }

    /// Upgrades the store and makes the first writes after that, up to a crash.
    fn upgrade(&self, disk: &SimDisk, blocks: &MemoryBlocks) -> Acknowledged {
        let mut done = Acknowledged::default();
        if let Ok(store) = self.builder(disk, blocks).next_format().open() {
            // An error is what the crash is seen by.
            let _ = done.write(&store);
        }
        done
    }

    /// The steps of the upgrade that can change what a crash leaves behind.
    fn steps(&self) -> Vec<u64> {
        let disk = self.disk.kill();
        disk.set_trace(true);
        let done = self.upgrade(&disk, &self.blocks.copy());
        assert_eq!(done.kept.len(), AFTER as usize, "without a fault all is written");
        let steps = disk.trace();
        steps.iter().filter(|step| step.changes).map(|step| step.number).collect()
    }

    /// Checks the store that a crash at this step leaves behind, by both formats where the old one still holds.
    fn check_crash(&self, number: u64, fault: Fault, cuts: u64, name: &str) -> Tried {
        let mut tried = Tried::default();
        let (disk, blocks) = (self.disk.kill(), self.blocks.copy());
        disk.fail_at(number, fault, false);
        let done = self.upgrade(&disk, &blocks);
        assert!(disk.is_dead(), "{name}: there is a step {number}");
        for cut in 0..=cuts {
            let next = if cut == 0 { disk.kill() } else { disk.crash(number * 31 + cut) };
            let at = format!("{name}: {fault:?} at {number}, cut {cut}");
            let wanted = if cut == 0 { &done.kept } else { &done.synced };
            let is_old = assert_versions(&next, &at);
            // Without blocks, everything flushed is built again.
            let blocks = if cut == 2 { MemoryBlocks::default() } else { blocks.copy() };
            if is_old {
                let plain = self.builder(&next.kill(), &blocks.copy()).open();
                let plain = plain.unwrap_or_else(|e| panic!("{at}: the format before: {e}"));
                self.check(&plain, &at);
                tried.plain += 1;
            }
            let store = self.builder(&next.kill(), &blocks.copy()).next_format().open();
            let store = store.unwrap_or_else(|e| panic!("{at}: {e}"));
            self.check(&store, &at);
            for id in wanted {
                assert!(store.contains(id).unwrap(), "{at}: {id} was acknowledged");
            }
            tried.states += 1;
        }
        tried.steps += 1;
        tried
    }
}

/// What was tried.
#[derive(Debug, Default, Clone, Copy)]
struct Tried {
    steps: u64,
    states: u64,
    /// States that a release of the format before still opens.
    plain: u64,
}

impl std::ops::AddAssign for Tried {
    fn add_assign(&mut self, more: Self) {
        self.steps += more.steps;
        self.states += more.states;
        self.plain += more.plain;
    }
}

/// The first claims after an upgrade: enough to fill a segment.
const AFTER: u64 = 100;

/// Ids whose claims were acknowledged.
#[derive(Debug, Default)]
struct Acknowledged {
    kept: Vec<String>,
    /// Those that outlive a power cut.
    synced: Vec<String>,
}

impl Acknowledged {
    fn write(&mut self, store: &Store) -> firstseen::Result<()> {
        let table = Table::of(store, 1);
        for n in 0..AFTER {
            let id = format!("after-{n}-{}", "x".repeat(900));
            let is_synced = n % 25 == 5;
            let level = if is_synced { Durability::Disk } else { Durability::Process };
            let claim = store.claim_with(&id, ClaimOptions::new().durability(level))?;
            assert!(claim.is_first_seen(), "{id}");
            self.kept.push(id);
            if is_synced {
                self.synced.clone_from(&self.kept);
            }
            if n == 20 {
                table.put(b"after", b"a row")?;
                let _ = store.namespace("after")?;
            }
            if n == 50 {
                store.freeze();
                store.run_background()?;
            }
        }
        Ok(())
    }
}

/// Checks that no segment is newer than its manifest: a release of the manifest's version would refuse it. Returns
/// whether the manifest is of the format before.
fn assert_versions(disk: &SimDisk, at: &str) -> bool {
    let disk = disk.kill();
    let root = Path::new(AT);
    let Ok(manifest) = disk.read(&root.join("MANIFEST")) else { return false };
    let manifest = version(&manifest);
    let log = root.join("log");
    for name in disk.list(&log).unwrap_or_default() {
        let bytes = disk.read(&log.join(&name)).unwrap();
        // The name of a segment may be on disk before its header.
        if bytes.starts_with(b"FSLG") {
            let found = version(&bytes);
            assert!(found <= manifest, "{at}: {} is newer than its manifest", name.display());
        }
    }
    manifest == NOW
}

#[test]
fn i10_i11_an_upgrade_that_is_killed_at_any_step_loses_nothing() {
    let closed = Base::after(true, |builder, _| {
        let store = builder.open().unwrap();
        Base::fill(&store);
        store.close().unwrap();
        None
    });
    let open = Base::after(true, |builder, _| {
        let store = builder.open().unwrap();
        Base::fill(&store);
        // A tail that no sync has covered.
        assert!(store.claim("tail").unwrap().is_first_seen());
        Some(store)
    });
    let mut tried = Tried::default();
    for (name, base) in [("closed", closed), ("killed", open)] {
        for number in base.steps() {
            for fault in [Fault::Crash, Fault::CrashInWrite] {
                tried += base.check_crash(number, fault, 3, name);
            }
        }
    }
    assert!(tried.steps > 100 && tried.plain > 10, "{tried:?}");
}

/// A store whose maker was killed: there may be a manifest and no log yet, or half of one.
#[test]
fn i10_i11_an_upgrade_of_a_store_whose_maker_was_killed_can_be_killed_too() {
    let traced = SimDisk::new();
    traced.set_trace(true);
    drop(sim_with(&traced, &clock(), &MemoryBlocks::default()).open().unwrap());
    let making = traced.trace().into_iter().filter(|step| step.changes);
    let mut tried = Tried::default();
    for made in making.map(|step| step.number) {
        let base = Base::after(false, |builder, disk| {
            disk.fail_at(made, Fault::Crash, false);
            builder.open().ok()
        });
        let name = format!("making stopped at {made}");
        // What comes after the opening is the same as above.
        let disk = base.disk.kill();
        drop(base.builder(&disk, &base.blocks.copy()).next_format().open().unwrap());
        for number in base.steps().into_iter().filter(|number| *number < disk.ops()) {
            tried += base.check_crash(number, Fault::Crash, 2, &name);
        }
    }
    assert!(tried.steps > 100 && tried.plain > 10, "{tried:?}");
}
