//! The promises of docs/GUARANTEES.md, one test each, checked as a user would: through the public interface.

use firstseen::disk::sim::SimDisk;
use firstseen::{
    Builder, Claim, ClaimOptions, Durability, Error, ErrorKind, ManualClock, Reserve, Store,
    Timestamp, Ttl, days, hours, seconds,
};
use std::time::Duration;

const START_MS: u64 = 1_767_225_600_000;

fn clock() -> ManualClock {
    ManualClock::at_millis(START_MS)
}

fn builder(disk: &SimDisk, clock: &ManualClock) -> Builder {
    Store::builder("store").disk(disk.clone()).clock(clock.clone()).background(false)
}

fn with_ttl(ttl: Ttl) -> ClaimOptions {
    ClaimOptions::new().ttl(ttl)
}

#[test]
fn i6_a_duplicate_at_disk_puts_the_first_claim_on_disk() {
    for duplicate_asks in [Durability::Process, Durability::Disk] {
        let (disk, clock) = (SimDisk::new(), clock());
        let store = builder(&disk, &clock).open().unwrap();
        assert!(store.claim("a").unwrap().is_first_seen());
        let options = ClaimOptions::new().durability(duplicate_asks);
        assert!(store.claim_with("a", options).unwrap().is_duplicate());
        let after_power_cut = disk.lose_unsynced();
        drop(store);
        let store = builder(&after_power_cut, &clock).open().unwrap();
        let kept = store.contains("a").unwrap();
        assert_eq!(kept, duplicate_asks == Durability::Disk, "{duplicate_asks:?}");
    }
}

#[test]
fn i6_sync_lifts_what_came_before_and_nothing_else() {
    let (disk, clock) = (SimDisk::new(), clock());
    let store = builder(&disk, &clock).open().unwrap();
    assert!(store.claim("before").unwrap().is_first_seen());
    store.sync().unwrap();
    assert!(store.claim("after").unwrap().is_first_seen());
    let after_power_cut = disk.lose_unsynced();
    drop(store);
    let store = builder(&after_power_cut, &clock).open().unwrap();
    assert!(store.contains("before").unwrap());
    assert!(!store.contains("after").unwrap(), "the simulated disk loses all it may");
}

#[test]
fn i4_a_ttl_is_fixed_when_the_id_is_claimed() {
    let (disk, clock) = (SimDisk::new(), clock());
    let open = |ttl: Ttl| builder(&disk, &clock).ttl(ttl).open().unwrap();
    let store = open(days(7));
    assert!(store.claim("a").unwrap().is_first_seen());
    drop(store);
    let store = open(seconds(1));
    assert!(store.claim("b").unwrap().is_first_seen());
    assert!(store.claim_with("a", with_ttl(seconds(1))).unwrap().is_duplicate());
    clock.advance(Duration::from_secs(2));
    assert!(store.claim("a").unwrap().is_duplicate(), "claimed for a week");
    assert!(store.claim("b").unwrap().is_first_seen(), "claimed for a second");
    clock.advance(Duration::from_millis(7 * 86_400_000 - 2_001));
    assert!(store.contains("a").unwrap(), "to the millisecond");
    clock.advance(Duration::from_millis(1));
    assert!(!store.contains("a").unwrap());
}

#[test]
fn i5_a_wrong_clock_does_not_end_claims_and_the_right_one_is_followed() {
    let (disk, clock) = (SimDisk::new(), clock());
    let store = builder(&disk, &clock).ttl(days(7)).open().unwrap();
    assert!(store.claim("a").unwrap().is_first_seen());
    clock.jump_to(Timestamp::from_millis(START_MS + 14 * 365 * 86_400_000));
    assert!(store.claim("a").unwrap().is_duplicate());
    assert_eq!(store.stats().clock_jumps, 1);
    assert!(store.stats().clock_held_ms > 0);
    drop(store);
    // A restart does not change that.
    let store = builder(&disk, &clock).ttl(days(7)).open().unwrap();
    assert!(store.claim("a").unwrap().is_duplicate());
    // Back at the right time, time moves on.
    clock.jump_to(Timestamp::from_millis(START_MS));
    clock.advance(Duration::from_secs(7 * 86_400 + 1));
    assert!(store.claim("a").unwrap().is_first_seen());
}

#[test]
fn i5_a_clock_set_back_makes_claims_live_longer_never_shorter() {
    let (disk, clock) = (SimDisk::new(), clock());
    let store = builder(&disk, &clock).ttl(hours(1)).open().unwrap();
    let Claim::FirstSeen = store.claim("a").unwrap() else { panic!("not new") };
    clock.jump_to(Timestamp::from_millis(START_MS - 30 * 60_000));
    let seen = store.get("a").unwrap().expect("live");
    assert_eq!(seen.first_seen, Timestamp::from_millis(START_MS));
    assert!(store.claim("b").unwrap().is_first_seen());
    let later = store.get("b").unwrap().expect("live");
    assert!(later.first_seen >= seen.first_seen, "time does not run backwards");
    clock.advance(Duration::from_secs(3_600));
    assert!(store.contains("a").unwrap(), "half an hour to go by the wall clock");
    clock.advance(Duration::from_secs(1_800));
    assert!(!store.contains("a").unwrap());
}

#[test]
fn i8_a_reservation_is_given_back_by_its_own_holder_only() {
    let (disk, clock) = (SimDisk::new(), clock());
    let store = builder(&disk, &clock).open().unwrap();
    let Reserve::FirstSeen(mut first) = store.reserve("a").unwrap() else { panic!("not new") };
    first.confirm().unwrap();
    assert!(store.forget("a").unwrap());
    let Reserve::FirstSeen(mut second) = store.reserve("a").unwrap() else { panic!("forgotten") };
    // The first reservation is over: confirming it again or dropping it must not touch the second.
    first.confirm().unwrap();
    drop(first);
    assert!(matches!(store.reserve("a").unwrap(), Reserve::InProgress));
    assert!(!store.contains("a").unwrap(), "held, not claimed");
    second.confirm().unwrap();
    assert!(matches!(store.reserve("a").unwrap(), Reserve::Duplicate { .. }));
}

#[test]
fn a_crash_releases_what_is_reserved() {
    let (disk, clock) = (SimDisk::new(), clock());
    let store = builder(&disk, &clock).open().unwrap();
    let held = store.reserve_batch(&["a", "b"]).unwrap();
    let after_kill = disk.kill();
    drop(held);
    drop(store);
    let store = builder(&after_kill, &clock).open().unwrap();
    assert!(store.claim_batch(&["a", "b"]).unwrap().iter().all(|claim| claim.is_first_seen()));
}

#[test]
fn i9_code_of_the_user_runs_under_no_lock() {
    let (disk, clock) = (SimDisk::new(), clock());
    let store = builder(&disk, &clock).open().unwrap();
    let ids: Vec<String> = (0..100).map(|n| format!("id-{n}")).collect();
    assert!(store.claim_batch(&ids).unwrap().iter().all(|claim| claim.is_first_seen()));
    let exported = store.export(|entry| {
        // Would deadlock if the shard's lock were held.
        assert!(store.claim(entry.id).expect("claims").is_duplicate());
        Ok(())
    });
    assert_eq!(exported.unwrap(), 100);
}

#[test]
fn i12_a_wait_for_a_reservation_ends_at_its_deadline() {
    let (disk, clock) = (SimDisk::new(), clock());
    let store = builder(&disk, &clock).wait_max(Duration::from_millis(20)).open().unwrap();
    let Reserve::FirstSeen(held) = store.reserve("a").unwrap() else { panic!("not new") };
    let error = store.claim("a").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Retry, "{error}");
    assert_eq!(store.forget("a").unwrap_err().kind(), ErrorKind::Retry);
    assert_eq!(store.claim_batch(&["b", "a"]).unwrap_err().kind(), ErrorKind::Retry);
    assert!(!store.contains("b").unwrap(), "all or nothing (I9)");
    drop(held);
    assert!(store.claim("a").unwrap().is_first_seen());
}

#[test]
fn i12_a_wait_for_a_reservation_ends_when_the_store_is_closed() {
    let (disk, clock) = (SimDisk::new(), clock());
    let store = builder(&disk, &clock).wait_max(Duration::from_secs(600)).open().unwrap();
    let Reserve::FirstSeen(held) = store.reserve("a").unwrap() else { panic!("not new") };
    let waiting = {
        let store = store.clone();
        std::thread::spawn(move || store.claim("a"))
    };
    store.close().unwrap();
    // It gets the error whether it began to wait before or after the close.
    let answer = waiting.join().expect("no panic");
    assert!(matches!(answer, Err(Error::Closed)), "{answer:?}");
    drop(held);
}
