//! Namespaces: part of the key, with their own settings and counters, in the same files.

use crate::support::*;
use firstseen::disk::Disk;
use firstseen::disk::sim::SimDisk;
use firstseen::{MemoryBlocks, NamespaceOptions, Store, hours, minutes};
use std::path::Path;
use std::time::Duration;

/// The ttl of a namespace, taken from a claim.
fn ttl_ms(store: &Store, name: &str) -> u64 {
    let namespace = store.namespace(name).expect("a valid name");
    let _ = namespace.claim("probe").expect("claims");
    let seen = namespace.get("probe").expect("reads").expect("just claimed");
    assert!(namespace.forget("probe").expect("forgets"));
    seen.deadline.as_millis() - seen.first_seen.as_millis()
}

#[test]
fn equal_ids_in_different_namespaces_have_nothing_to_do_with_each_other() {
    let (disk, clock, blocks) = (SimDisk::new(), clock(), MemoryBlocks::default());
    let names: Vec<String> = (0..200).map(|n| format!("tenant-{n}")).collect();
    for round in 0..3 {
        let store = sim_with(&disk, &clock, &blocks).open().unwrap();
        for name in &names {
            let namespace = store.namespace(name).unwrap();
            assert_eq!(namespace.name(), name);
            for n in 0..30 {
                assert_eq!(namespace.claim(id(n)).unwrap().is_first_seen(), round == 0);
            }
            settle(&store);
        }
        assert_eq!(store.contains(id(1)).unwrap(), round > 0);
        let _ = store.claim(id(1)).unwrap();
        assert!(store.namespace("default").unwrap().contains(id(1)).unwrap(), "the default one");
        assert_sound(&store);
    }
}

#[test]
fn settings_of_namespaces_survive_reopen_kill_rebuild_and_compaction() {
    let (mut disk, clock, blocks) = (SimDisk::new(), clock(), MemoryBlocks::default());
    let open = |disk: &SimDisk| {
        let builder = sim_with(disk, &clock, &blocks).segment_bytes(32 << 10);
        builder.ttl(minutes(1)).open().unwrap()
    };
    let store = open(&disk);
    store.namespace_with("long", NamespaceOptions::new().ttl(hours(7))).unwrap();
    store.namespace_with("other", NamespaceOptions::new().ttl(hours(1))).unwrap();
    store.namespace_with("other", NamespaceOptions::new().ttl(hours(2))).unwrap();
    store.namespace("plain").unwrap().claim("a").map(drop).unwrap();
    let expected = [("long", 7 * 3_600_000), ("other", 2 * 3_600_000), ("plain", 60_000)];
    let check = |store: &Store, what: &str| {
        for (name, ttl) in expected {
            assert_eq!(ttl_ms(store, name), ttl, "{name}, {what}");
        }
    };
    check(&store, "new");
    // Enough to compact the segments with the namespace records.
    for n in 0..30_000 {
        let _ = store.claim(id(n)).unwrap();
        if n % 500 == 0 {
            clock.advance(Duration::from_secs(5));
            settle(&store);
        }
    }
    assert!(store.stats().segments_removed > 3, "{}", store.stats());
    check(&store, "compacted");
    disk = disk.kill();
    check(&open(&disk), "killed");
    let store = open(&disk);
    store.close().unwrap();
    check(&open(&disk), "closed");
    let rebuilt = sim(&disk, &clock).segment_bytes(32 << 10).ttl(minutes(1)).open().unwrap();
    check(&rebuilt, "rebuilt");
    rebuilt.close().unwrap();
    // Compaction removed their first records; repair has only the log to go by.
    disk.remove(&Path::new(AT).join("MANIFEST")).unwrap();
    sim(&disk, &clock).repair().unwrap();
    let repaired = sim(&disk, &clock).segment_bytes(32 << 10).ttl(minutes(1)).open().unwrap();
    check(&repaired, "repaired without a manifest");
}

/// Its number must not be reused: the next namespace would get its ids.
#[test]
fn i3_i4_a_namespace_that_only_the_log_knows_of_is_itself_after_a_kill() {
    let (disk, clock) = (SimDisk::new(), clock());
    let store = sim(&disk, &clock).open().unwrap();
    let first = store.namespace_with("first", NamespaceOptions::new().ttl(hours(7))).unwrap();
    assert!(first.claim("a").unwrap().is_first_seen());
    let store = sim(&disk.kill(), &clock).open().unwrap();
    let second = store.namespace("second").unwrap();
    assert!(!second.contains("a").unwrap());
    assert_eq!(ttl_ms(&store, "first"), 7 * 3_600_000);
    assert!(store.namespace("first").unwrap().contains("a").unwrap());
}

#[test]
fn each_namespace_counts_its_own_answers() {
    let (disk, clock) = (SimDisk::new(), clock());
    let store = sim(&disk, &clock).open().unwrap();
    let a = store.namespace("a").unwrap();
    let _ = a.claim_batch(&["1", "2", "1"]).unwrap();
    let _ = a.claim("1").unwrap();
    let mut held = a.reserve_batch(&["3", "1"]).unwrap();
    held.confirm().unwrap();
    let _ = store.claim("1").unwrap();
    let counts: Vec<_> = (store.stats().namespaces.into_iter())
        .map(|ns| (ns.name, ns.first_seen, ns.duplicates))
        .collect();
    assert_eq!(counts, [("default".to_owned(), 1, 0), ("a".to_owned(), 3, 3)]);
    assert_eq!((store.stats().first_seen, store.stats().duplicates), (4, 3));
}

/// CPU seconds that this thread spends on `work`; other load does not count.
#[cfg(target_os = "linux")]
fn time_of(work: impl FnOnce()) -> f64 {
    let now = || {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
        now.tv_sec as f64 + now.tv_nsec as f64 / 1e9
    };
    let began = now();
    work();
    now() - began
}

/// Numbering a namespace used to scan all others: 100,000 took 23 s.
#[cfg(target_os = "linux")]
#[test]
fn four_times_the_namespaces_take_four_times_the_time() {
    let make = |count: u32| {
        let (disk, clock) = (SimDisk::new(), clock());
        let builder = sim(&disk, &clock).segment_bytes(16 << 20).shards(1);
        let store = builder.open().unwrap();
        let made = time_of(|| {
            for n in 0..count {
                let _ = store.namespace(&format!("tenant-{n}")).unwrap();
            }
        });
        assert_eq!(store.stats().namespaces.len(), count as usize + 1);
        made
    };
    let mut ratios = (0..5).map(|_| make(32_000) / make(8_000));
    let least = ratios.find(|ratio| *ratio < 8.0);
    assert!(least.is_some(), "each try took at least eight times as long");
}
