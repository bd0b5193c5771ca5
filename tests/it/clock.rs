//! I5: time never runs backwards, and a jump is not believed at once.

use crate::support::*;
use firstseen::disk::Disk;
use firstseen::disk::sim::SimDisk;
use firstseen::{
    ClaimOptions, ManualClock, MemoryBlocks, NamespaceOptions, Reserve, Store, Timestamp, Ttl,
    days, hours, minutes,
};
use std::path::Path;
use std::time::Duration;

const DAY: u64 = 24 * 3_600_000;

#[test]
fn i5_a_clock_that_goes_back_changes_no_answer_and_ttls_go_on_ending() {
    for back in [1, 1_000, 3_599_000, 10 * DAY] {
        let (disk, clock) = (SimDisk::new(), clock());
        let store = sim(&disk, &clock).ttl(minutes(90)).open().unwrap();
        let _ = store.claim("a").unwrap();
        clock.jump_to(Timestamp::from_millis(NOW - back));
        assert!(store.claim("a").unwrap().is_duplicate());
        let _ = store.claim("b").unwrap();
        let seen = store.get("b").unwrap().unwrap();
        assert!(seen.first_seen >= Timestamp::from_millis(NOW), "time did not run backwards");
        // After a small step back, engine time waits for the clock; after a large one, it runs on at once.
        clock.advance(Duration::from_secs(90 * 60 + 3_600));
        assert!(!store.contains("a").unwrap(), "{back} ms back");
        assert!(!store.contains("b").unwrap(), "{back} ms back");
    }
}

#[test]
fn i5_a_clock_that_goes_back_while_the_store_is_closed_changes_no_answer() {
    let ways = [false, true].into_iter().flat_map(|crashed| {
        let back = [1_000, 30 * DAY].into_iter();
        back.flat_map(move |back| [false, true].map(|rebooted| (crashed, back, rebooted)))
    });
    for (crashed, back, rebooted) in ways {
        let (mut disk, clock) = (SimDisk::new(), clock());
        let store = sim(&disk, &clock).ttl(hours(1)).open().unwrap();
        let _ = store.claim("a").unwrap();
        clock.advance(Duration::from_secs(3_000));
        let _ = store.claim("b").unwrap();
        if crashed {
            disk = disk.kill();
        } else {
            store.close().unwrap();
        }
        clock.jump_to(Timestamp::from_millis(NOW + 3_000_000 - back));
        if rebooted {
            // After a reboot the age of the last manifest is unknown; the records still give a floor.
            clock.reboot();
        }
        let store = sim(&disk, &clock).ttl(hours(1)).open().unwrap();
        assert!(store.claim("a").unwrap().is_duplicate());
        let _ = store.claim("c").unwrap();
        let seen = store.get("c").unwrap().unwrap();
        let floor = Timestamp::from_millis(NOW + 3_000_000);
        assert!(seen.first_seen >= floor, "crashed {crashed}, {back} ms back, rebooted {rebooted}");
        clock.advance(Duration::from_secs(601));
        assert!(!store.contains("a").unwrap(), "its deadline still comes");
        assert!(store.contains("b").unwrap());
    }
}

#[test]
fn i5_a_jump_of_eight_days_expires_nothing_until_the_clock_has_stayed_there() {
    let (disk, clock) = (SimDisk::new(), clock());
    let store = sim(&disk, &clock).ttl(days(7)).open().unwrap();
    let _ = store.claim("a").unwrap();
    clock.jump_to(Timestamp::from_millis(NOW + 8 * DAY));
    assert!(store.claim("a").unwrap().is_duplicate(), "not believed at once");
    let stats = store.stats();
    assert_eq!((stats.clock_jumps, stats.clock_held_ms), (1, 8 * DAY));
    settle(&store);
    clock.jump_to(Timestamp::from_millis(NOW));
    assert!(store.claim("a").unwrap().is_duplicate(), "the jump was an error");
    assert_eq!(store.stats().clock_held_ms, 0);
    clock.jump_to(Timestamp::from_millis(NOW + 8 * DAY));
    assert!(store.contains("a").unwrap());
    clock.advance(Duration::from_secs(59));
    assert!(store.contains("a").unwrap());
    clock.advance(Duration::from_secs(2));
    assert!(!store.contains("a").unwrap(), "after a minute at the new time, it is believed");
    assert_eq!(store.stats().clock_held_ms, 0);
}

#[test]
fn i5_a_jump_found_at_an_opening_is_held_as_well() {
    let (disk, clock) = (SimDisk::new(), clock());
    let store = sim(&disk, &clock).ttl(days(7)).open().unwrap();
    let _ = store.claim("a").unwrap();
    store.close().unwrap();
    clock.jump_to(Timestamp::from_millis(NOW + 8 * DAY));
    for _ in 0..3 {
        let store = sim(&disk, &clock).ttl(days(7)).open().unwrap();
        assert!(store.contains("a").unwrap());
        settle(&store);
        store.close().unwrap();
        clock.advance(Duration::from_secs(10));
    }
    clock.advance(Duration::from_secs(60));
    let store = sim(&disk, &clock).ttl(days(7)).open().unwrap();
    assert!(!store.contains("a").unwrap(), "short runs add up to one settling period");
}

/// A repair must carry the old manifest's time over into the new one.
#[test]
fn i5_a_jump_found_after_a_repair_is_held_as_well() {
    let (disk, clock) = (SimDisk::new(), clock());
    let store = sim(&disk, &clock).ttl(days(7)).open().unwrap();
    claim_all_first(&store, 0..100);
    store.sync().unwrap();
    let disk = disk.kill();
    let segment = disk.open(Path::new("/s/log/0000000001.seg")).unwrap();
    segment.write_all_at(&[0xff; 40], 4096 + 1000).unwrap();
    clock.jump_to(Timestamp::from_millis(NOW + 3 * 365 * DAY));
    let report = sim(&disk, &clock).repair().unwrap();
    assert!(!report.manifest_rebuilt && report.saved_records > 90, "{report}");
    let store = sim(&disk, &clock).ttl(days(7)).open().unwrap();
    assert_eq!(store.stats().clock_jumps, 1, "noticed, and not believed at once");
    assert_seen(&store, 0..20, true);
    clock.advance(Duration::from_secs(61));
    assert_seen(&store, 0..20, false);
}

#[test]
fn i5_time_that_passed_while_closed_is_believed_in_one_boot_and_after_another() {
    for reboot in [false, true] {
        let (disk, clock) = (SimDisk::new(), clock());
        let store = sim(&disk, &clock).ttl(hours(10)).open().unwrap();
        let _ = store.claim("a").unwrap();
        store.close().unwrap();
        clock.advance(Duration::from_secs(11 * 3600));
        if reboot {
            clock.reboot();
        }
        let store = sim(&disk, &clock).ttl(hours(10)).open().unwrap();
        assert!(!store.contains("a").unwrap(), "reboot: {reboot}");
    }
}

#[test]
fn i5_a_store_works_in_2040_and_when_brought_there() {
    const Y2040: u64 = 2_208_988_800_000;
    let disk = SimDisk::new();
    let clock = ManualClock::at_millis(NOW);
    let store = sim(&disk, &clock).ttl(days(7)).open().unwrap();
    let _ = store.claim("a").unwrap();
    store.close().unwrap();
    let clock = ManualClock::at_millis(Y2040);
    clock.reboot();
    let store = sim(&disk, &clock).ttl(days(7)).open().unwrap();
    assert!(store.claim("b").unwrap().is_first_seen(), "not frozen");
    clock.advance(Duration::from_secs(120));
    assert!(!store.contains("a").unwrap(), "sixteen years later");
    assert!(store.claim("c").unwrap().is_first_seen());
    assert_eq!(store.get("c").unwrap().unwrap().first_seen.as_millis(), Y2040 + 120_000);
    clock.advance(Duration::from_millis(7 * DAY));
    assert!(!store.contains("c").unwrap());
}

/// Found by review: only records carried time across a kill. If nothing was claimed for hours and the clock was then
/// set back, expired claims were live again.
#[test]
fn i5_time_fell_back_when_a_store_that_only_answered_was_killed() {
    let (disk, clock) = (SimDisk::new(), clock());
    let store = sim(&disk, &clock).ttl(Ttl::from_millis(3_600_000)).open().unwrap();
    let _ = store.claim("a").unwrap();
    // Most of the memtable never expires, so nothing is flushed and no manifest is written for that.
    let forever = ClaimOptions::new().ttl(Ttl::FOREVER);
    for n in 0..10 {
        let _ = store.default_namespace().claim_with(id(n), forever).unwrap();
    }
    clock.advance(Duration::from_secs(2 * 3600));
    assert!(!store.contains("a").unwrap(), "expired");
    store.run_background().unwrap();
    let killed = disk.kill();
    drop(store);
    let back = ManualClock::at_millis(NOW + 60_000);
    let store = sim(&killed, &back).open().unwrap();
    assert!(!store.contains("a").unwrap(), "not live again");
}

/// What happens to a store between a claim and the check that it is live.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Then {
    StayedOpen,
    Flushed,
    Reopened,
    Killed,
    Rebuilt,
    Repaired,
}

const THEN: [Then; 6] =
    [Then::StayedOpen, Then::Flushed, Then::Reopened, Then::Killed, Then::Rebuilt, Then::Repaired];

/// Claims with a ttl of an hour while a jump of three days is in doubt, and checks after it has settled: each claim
/// must live for an hour of the new time, to the millisecond.
fn whole_ttl_in_doubt(ids: &[&str], claim: impl Fn(&Store)) {
    for then in THEN {
        for rebooted in [false, true] {
            let (mut disk, clock, blocks) = (SimDisk::new(), clock(), MemoryBlocks::default());
            let open = |disk: &SimDisk| sim_with(disk, &clock, &blocks).ttl(hours(1));
            open(&disk).open().unwrap().close().unwrap();
            clock.jump_to(Timestamp::from_millis(NOW + 3 * DAY));
            if rebooted {
                clock.reboot();
            }
            let mut store = open(&disk).open().unwrap();
            assert_eq!(store.stats().clock_held_ms, 3 * DAY);
            claim(&store);
            clock.advance(Duration::from_secs(10));
            match then {
                Then::StayedOpen => {}
                Then::Flushed => {
                    store.freeze();
                    settle(&store);
                }
                Then::Killed => {
                    disk = disk.kill();
                    store = open(&disk).open().unwrap();
                }
                Then::Reopened | Then::Rebuilt | Then::Repaired => {
                    store.freeze();
                    settle(&store);
                    store.close().unwrap();
                    if then == Then::Rebuilt {
                        blocks.clear();
                    } else if then == Then::Repaired {
                        disk.remove(Path::new("/s/MANIFEST")).unwrap();
                        open(&disk).repair().unwrap();
                    }
                    store = open(&disk).open().unwrap();
                }
            }
            clock.advance(Duration::from_secs(60));
            store.stats();
            clock.advance(Duration::from_secs(3_530) - Duration::from_millis(1));
            assert_eq!(store.stats().clock_held_ms, 0);
            settle(&store);
            for id in ids {
                let space = store.namespace("n").unwrap();
                let here = if id.starts_with("ns") { &space } else { &store.default_namespace() };
                let seen = here.get(id).unwrap();
                let seen = seen.unwrap_or_else(|| panic!("{id} ended early: {then:?} {rebooted}"));
                let second = Timestamp::from_millis(NOW + 1_000);
                assert!(seen.first_seen <= second, "{id}: first seen is engine time");
                assert_eq!(seen.deadline, Timestamp::from_millis(NOW + 3 * DAY + 3_600_000));
            }
            clock.advance(Duration::from_millis(1));
            for id in ids {
                assert!(!store.contains(id).unwrap(), "{id} lives too long: {then:?} {rebooted}");
            }
        }
    }
}

#[test]
fn i4_i5_a_claim_made_while_a_jump_is_in_doubt_lives_its_whole_ttl() {
    whole_ttl_in_doubt(&["a", "option", "ns"], |store| {
        assert!(store.claim("a").unwrap().is_first_seen());
        let minute = ClaimOptions::new().ttl(minutes(60));
        assert!(store.claim_with("option", minute).unwrap().is_first_seen());
        let space = store.namespace_with("n", NamespaceOptions::new().ttl(hours(1))).unwrap();
        assert!(space.claim("ns").unwrap().is_first_seen());
    });
}

#[test]
fn i4_i5_a_batch_made_while_a_jump_is_in_doubt_lives_its_whole_ttl() {
    whole_ttl_in_doubt(&["a", "b"], |store| {
        assert!(store.claim_batch(&["a", "b", "a"]).unwrap()[0].is_first_seen());
    });
}

#[test]
fn i4_i5_a_reservation_confirmed_while_a_jump_is_in_doubt_lives_its_whole_ttl() {
    whole_ttl_in_doubt(&["a", "b", "c"], |store| {
        let Reserve::FirstSeen(mut held) = store.reserve("a").unwrap() else { panic!("not new") };
        held.confirm().unwrap();
        store.reserve_batch(&["b", "c"]).unwrap().confirm().unwrap();
    });
}

#[test]
fn i4_i5_a_sliding_claim_extended_while_a_jump_is_in_doubt_lives_its_whole_ttl() {
    for batch in [false, true] {
        let (disk, clock) = (SimDisk::new(), clock());
        let open = || sim(&disk, &clock).ttl(hours(1)).sliding(true).open().unwrap();
        let store = open();
        let _ = store.claim("a").unwrap();
        clock.jump_to(Timestamp::from_millis(NOW + 3 * DAY));
        let again =
            if batch { store.claim_batch(&["a"]).unwrap()[0] } else { store.claim("a").unwrap() };
        assert!(again.is_duplicate());
        store.close().unwrap();
        let store = open();
        clock.advance(Duration::from_secs(61));
        assert_eq!(store.stats().clock_held_ms, 0);
        clock.advance(Duration::from_secs(3_600 - 61) - Duration::from_millis(1));
        assert!(store.contains("a").unwrap(), "batch: {batch}");
        clock.advance(Duration::from_millis(1));
        assert!(!store.contains("a").unwrap(), "batch: {batch}");
    }
}

/// The cost: a claim made under a wrong clock lives until the wrong deadline, and only `forget` ends it sooner.
#[test]
fn i5_a_claim_made_under_a_false_year_lives_until_then() {
    let (disk, clock) = (SimDisk::new(), clock());
    let store = sim(&disk, &clock).ttl(hours(1)).open().unwrap();
    let _ = store.claim("before").unwrap();
    clock.jump_to(Timestamp::from_millis(NOW + 5_000 * DAY));
    let _ = store.claim("doubt").unwrap();
    clock.jump_to(Timestamp::from_millis(NOW));
    let _ = store.claim("after").unwrap();
    clock.advance(Duration::from_secs(4_000 * DAY / 1_000));
    assert_eq!(
        ["before", "doubt", "after"].map(|id| store.contains(id).unwrap()),
        [false, true, false]
    );
    assert!(store.forget("doubt").unwrap());
    assert!(store.claim("doubt").unwrap().is_first_seen());
    clock.advance(Duration::from_secs(3_600));
    assert!(!store.contains("doubt").unwrap());
}

#[test]
fn i5_small_jumps_add_up() {
    for reopened in [false, true] {
        let (disk, clock) = (SimDisk::new(), clock());
        let mut store = sim(&disk, &clock).ttl(hours(2)).open().unwrap();
        let _ = store.claim("a").unwrap();
        for n in 1..=3 {
            clock.jump_to(Timestamp::from_millis(NOW + n * 59 * 60_000));
            assert!(store.claim("a").unwrap().is_duplicate(), "step {n}, reopened: {reopened}");
            if reopened {
                store.close().unwrap();
                store = sim(&disk, &clock).ttl(hours(2)).open().unwrap();
            }
        }
        assert!(store.stats().clock_held_ms > 0);
        clock.advance(Duration::from_secs(121));
        assert!(!store.contains("a").unwrap(), "the clock stayed there, so it is believed");
    }
}
