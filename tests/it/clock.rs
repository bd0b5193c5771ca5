//! I5: time does not run backwards, and is not believed blindly.

use crate::support::*;
use firstseen::disk::sim::SimDisk;
use firstseen::{ManualClock, Timestamp, days, hours, minutes};
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
        // A little back: time stands until the clock has caught up. Far back: it goes on at once.
        clock.advance(Duration::from_secs(90 * 60 + 3_600));
        assert!(!store.contains("a").unwrap(), "{back} ms back");
        assert!(!store.contains("b").unwrap(), "{back} ms back");
    }
}

#[test]
fn i5_a_clock_that_goes_back_while_the_store_is_closed_changes_no_answer() {
    for crashed in [false, true] {
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
        clock.jump_to(Timestamp::from_millis(NOW - 30 * DAY));
        let store = sim(&disk, &clock).ttl(hours(1)).open().unwrap();
        assert!(store.claim("a").unwrap().is_duplicate());
        let _ = store.claim("c").unwrap();
        let seen = store.get("c").unwrap().unwrap();
        assert!(seen.first_seen >= Timestamp::from_millis(NOW + 3_000_000), "crashed: {crashed}");
        clock.advance(Duration::from_secs(601));
        assert!(!store.contains("a").unwrap(), "but its end comes all the same");
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
    assert!(store.claim("a").unwrap().is_duplicate(), "it was wrong and came back");
    assert_eq!(store.stats().clock_held_ms, 0);
    clock.jump_to(Timestamp::from_millis(NOW + 8 * DAY));
    assert!(store.contains("a").unwrap());
    clock.advance(Duration::from_secs(59));
    assert!(store.contains("a").unwrap());
    clock.advance(Duration::from_secs(2));
    assert!(!store.contains("a").unwrap(), "it stayed there for a minute, so it is right");
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
    assert!(!store.contains("a").unwrap(), "short runs add up to one settling");
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
