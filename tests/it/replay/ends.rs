//! The end of a scope, over crashes, damage, rebuilt blocks and repair: it was promoted or dropped, or it was not.

use super::{World, exported};
use crate::support::{AT, assert_sound, settle, sim};
use firstseen::disk::sim::{Fault, SimDisk};
use firstseen::ledger::Begin;
use firstseen::replay::ReplayState;
use firstseen::{MemoryBlocks, Store};

/// A world with something under each name on both sides, on disk.
fn prepared() -> (World, Store) {
    let world = World::new();
    let store = world.open();
    let scope = store.replay("s").expect("begins");
    for name in ["default", "n"] {
        assert!(
            store.namespace(name).expect("opens").claim("out").expect("claims").is_first_seen()
        );
        assert!(scope.namespace(name).expect("opens").claim("in").expect("claims").is_first_seen());
    }
    let fresh = scope.namespace("fresh").expect("opens");
    assert!(fresh.claim("in").expect("claims").is_first_seen());
    for ledger in [store.ledger("n").expect("opens"), scope.ledger("n").expect("opens")] {
        let Begin::Started(attempt) = ledger.begin("work").expect("begins") else { panic!("new") };
        attempt.complete(b"done").expect("completes");
    }
    store.sync().expect("syncs");
    (world, store)
}

/// What a store answers: outside and, while the scope is open, inside.
#[derive(Debug, PartialEq, Eq)]
struct Answers {
    state: Option<ReplayState>,
    outside: Vec<bool>,
    inside: Vec<bool>,
    exported: usize,
}

impl Answers {
    fn of(store: &Store) -> Self {
        let scope = store.find_replay("s");
        let state = scope.as_ref().map(firstseen::replay::ReplayScope::state);
        let mut outside = Vec::new();
        for name in ["default", "n"] {
            let ns = store.namespace(name).expect("opens");
            outside.extend(["out", "in"].map(|id| ns.contains(id).expect("reads")));
        }
        let fresh = store.find_namespace("fresh");
        outside.push(fresh.is_some_and(|ns| ns.contains("in").expect("reads")));
        let open = scope.filter(|scope| scope.state() == ReplayState::Open);
        let inside = open.map_or(Vec::new(), |scope| {
            ["default", "n", "fresh"]
                .map(|name| scope.namespace(name).expect("opens").contains("in").expect("reads"))
                .to_vec()
        });
        Self { state, outside, inside, exported: exported(store).len() }
    }

    fn before() -> Self {
        let (state, outside) = (Some(ReplayState::Open), vec![true, false, true, false, false]);
        Self { state, outside, inside: vec![true; 3], exported: 2 }
    }

    fn promoted() -> Self {
        let (state, outside) = (Some(ReplayState::Promoted), vec![false, true, false, true, true]);
        Self { state, outside, inside: Vec::new(), exported: 3 }
    }

    fn dropped() -> Self {
        let outside = vec![true, false, true, false, false];
        Self { state: None, outside, inside: Vec::new(), exported: 2 }
    }
}

fn end(store: &Store, promote: bool) -> firstseen::Result<bool> {
    let scope = store.replay("s")?;
    if promote { scope.promote() } else { scope.discard() }
}

fn after(promote: bool) -> Answers {
    if promote { Answers::promoted() } else { Answers::dropped() }
}

#[test]
fn i9_a_scope_is_promoted_or_dropped_as_a_whole_after_a_crash_at_any_step() {
    for promote in [true, false] {
        let mut outcomes = [0, 0];
        for at in 0.. {
            let (world, store) = prepared();
            let ops = world.disk.ops();
            world.disk.fail_at(ops + at, Fault::Crash, false);
            let told = end(&store, promote);
            // What comes after it may be cut off, too.
            let _ = store.run_background();
            let was_crashed = world.disk.ops() > ops + at;
            let store = world.on(world.disk.crash(at)).open();
            let answers = Answers::of(&store);
            let is_after = answers == after(promote);
            assert!(is_after || answers == Answers::before(), "crash at {at}: {answers:?}");
            if told.is_ok() {
                assert!(is_after, "crash at {at}: it was said to be on disk");
            }
            outcomes[usize::from(is_after)] += 1;
            // Asked for again, it is done.
            end(&store, promote).expect("ends");
            assert_eq!(Answers::of(&store), after(promote), "crash at {at}");
            settle(&store);
            assert_eq!(Answers::of(&store), after(promote), "crash at {at}");
            assert_sound(&store);
            if !was_crashed {
                break;
            }
        }
        assert!(outcomes[0] > 0 && outcomes[1] > 0, "{outcomes:?}");
    }
}

/// The background takes the space back, step by step.
#[test]
fn i10_what_a_scope_left_behind_stays_gone_after_a_crash_at_any_step_of_taking_its_space_back() {
    for promote in [true, false] {
        for at in (0..).step_by(3) {
            let (world, store) = prepared();
            end(&store, promote).expect("ends");
            store.freeze();
            let ops = world.disk.ops();
            world.disk.fail_at(ops + at, Fault::Crash, false);
            let _ = store.run_background();
            let was_crashed = world.disk.ops() > ops + at;
            let store = world.on(world.disk.crash(at)).open();
            assert_eq!(Answers::of(&store), after(promote), "crash at {at}");
            settle(&store);
            assert_eq!(Answers::of(&store), after(promote), "crash at {at}");
            assert_sound(&store);
            if !was_crashed {
                break;
            }
        }
    }
}

#[test]
fn i10_an_ended_scope_stays_so_when_everything_is_built_again_from_the_log() {
    for promote in [true, false] {
        for is_settled in [true, false] {
            let (world, store) = prepared();
            end(&store, promote).expect("ends");
            store.freeze();
            if is_settled {
                settle(&store);
            }
            store.close().expect("closes");
            // The block store is lost, and so is what was swept from it.
            let store = sim(&world.disk, &world.clock)
                .block_memory(&MemoryBlocks::default())
                .open()
                .expect("opens");
            assert_eq!(store.stats().rebuilds, u64::from(is_settled));
            assert_eq!(Answers::of(&store), after(promote));
            settle(&store);
            assert_eq!(Answers::of(&store), after(promote));
            assert_sound(&store);
        }
    }
}

/// A damaged block is healed from a log that holds less than the block did.
#[test]
fn i10_blocks_that_are_healed_after_a_drop_bring_nothing_back() {
    let (world, store) = prepared();
    store.freeze();
    settle(&store);
    end(&store, false).expect("drops");
    settle(&store);
    world.blocks.damage(|_| true);
    assert_eq!(Answers::of(&store), Answers::dropped());
    settle(&store);
    store.close().expect("closes");
    let store = world.open();
    world.blocks.damage(|_| true);
    assert_eq!(Answers::of(&store), Answers::dropped());
    assert_sound(&store);
}

#[test]
fn i11_a_repair_keeps_scopes_and_how_they_ended() {
    for end_by in [None, Some(true), Some(false)] {
        let (world, store) = prepared();
        if let Some(promote) = end_by {
            end(&store, promote).expect("ends");
        }
        store.freeze();
        settle(&store);
        store.close().expect("closes");
        // The manifest is lost: everything comes from the log.
        let disk = world.disk.clone();
        firstseen::disk::Disk::remove(&disk, &std::path::Path::new(AT).join("MANIFEST"))
            .expect("removes");
        let report = world.builder().repair().expect("repairs");
        assert!(report.lost.is_empty(), "{report:?}");
        let store = world.open();
        assert_eq!(Answers::of(&store), end_by.map_or(Answers::before(), after), "{end_by:?}");
        settle(&store);
        assert_eq!(Answers::of(&store), end_by.map_or(Answers::before(), after), "{end_by:?}");
        assert_sound(&store);
    }
}

#[test]
fn i11_an_end_that_cannot_be_read_is_damage_and_not_an_open_scope() {
    let (world, store) = prepared();
    end(&store, false).expect("drops");
    store.freeze();
    settle(&store);
    store.close().expect("closes");
    let flipped = flip_in_log(&world.disk, b"fresh");
    assert!(flipped > 0, "the mark names what was inside");
    let opened = world.builder().open();
    assert_eq!(opened.expect_err("it is damaged").kind(), firstseen::ErrorKind::Repair);
}

/// Flips a bit of each row in the log that holds these bytes. The names of namespaces are left as they are.
fn flip_in_log(disk: &SimDisk, needle: &[u8]) -> usize {
    use firstseen::disk::Disk;
    let dir = std::path::Path::new(AT).join("log");
    let mut flipped = 0;
    for name in disk.list(&dir).expect("lists") {
        let bytes = disk.read(&dir.join(&name)).expect("reads");
        let file = disk.open(&dir.join(&name)).expect("opens");
        for at in 8..bytes.len().saturating_sub(needle.len()) {
            // In a mark its length stands before a name; a name in the registry follows a zero byte.
            if &bytes[at..at + needle.len()] == needle && bytes[at - 1] == needle.len() as u8 {
                file.write_all_at(&[bytes[at] ^ 1], at as u64).expect("writes");
                flipped += 1;
            }
        }
    }
    flipped
}

/// Without its mark a scope is open again: nothing that it holds is lost, and it can be ended again.
#[test]
fn a_scope_whose_end_is_lost_in_damage_is_open_again() {
    let (world, store) = prepared();
    end(&store, true).expect("promotes");
    store.close().expect("closes");
    assert!(flip_in_log(&world.disk, b"fresh") > 0);
    let report = world.builder().repair().expect("repairs");
    assert!(!report.lost.is_empty());
    let store = world.open();
    let scope = store.find_replay("s").expect("is there");
    assert_eq!(scope.state(), ReplayState::Open);
    assert!(scope.namespace("n").expect("opens").contains("in").expect("reads"));
    assert!(scope.promote().expect("promotes"));
    assert!(store.namespace("n").expect("opens").contains("in").expect("reads"));
    assert_sound(&store);
}

#[test]
fn a_read_only_store_answers_as_the_store_does() {
    for end_by in [None, Some(true), Some(false)] {
        for is_settled in [true, false] {
            let (world, store) = prepared();
            if let Some(promote) = end_by {
                end(&store, promote).expect("ends");
            }
            if is_settled {
                store.freeze();
                settle(&store);
            }
            let (expected, names) = (Answers::of(&store), super::listed(&store));
            let entries = exported(&store);
            store.close().expect("closes");
            let reader = world.builder().open_read_only().expect("opens");
            let mut outside = Vec::new();
            for name in ["default", "n"] {
                outside
                    .extend(["out", "in"].map(|id| reader.get(name, id).expect("reads").is_some()));
            }
            outside.push(reader.get("fresh", "in").expect("reads").is_some());
            assert_eq!(outside, expected.outside, "{end_by:?}");
            let mut all = Vec::new();
            reader
                .export(|entry| {
                    all.push((entry.namespace.to_owned(), entry.id.to_vec()));
                    Ok(())
                })
                .expect("exports");
            all.sort();
            assert_eq!(all, entries, "{end_by:?}");
            let summary = reader.summary().expect("reads");
            let listed: Vec<_> = summary.namespaces.iter().map(|ns| ns.name.clone()).collect();
            assert_eq!(listed, names, "{end_by:?}");
            assert!(reader.verify().expect("reads").is_sound());
        }
    }
}

#[test]
fn i7_a_promotion_on_a_full_disk_is_refused_and_changes_nothing() {
    let (world, store) = prepared();
    let mut filled = 0u64;
    world.disk.set_capacity(Some(world.disk.used()));
    let full = loop {
        match store.namespace("filler").and_then(|ns| ns.claim(filled.to_le_bytes())) {
            Ok(_) => filled += 1,
            Err(error) => break error,
        }
        if filled.is_multiple_of(500) {
            let _ = store.run_background();
        }
    };
    assert_eq!(full.kind(), firstseen::ErrorKind::StorageFull);
    let refused = end(&store, true);
    if let Err(error) = refused {
        assert_eq!(error.kind(), firstseen::ErrorKind::StorageFull, "{error}");
        assert_eq!(Answers::of(&store).state, Some(ReplayState::Open));
        world.disk.set_capacity(None);
        assert!(end(&store, true).expect("there is room again"));
    }
    assert_eq!(Answers::of(&store).state, Some(ReplayState::Promoted));
}
