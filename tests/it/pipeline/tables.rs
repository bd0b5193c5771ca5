//! State tables whose values end, and the offsets of several partitions.

use super::*;
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};

#[test]
fn i4_a_value_of_a_table_ends_with_the_ttl_of_its_last_put() {
    let (disk, clock) = (SimDisk::new(), clock());
    let mut store = open(&disk, &clock);
    let mut disk = disk;
    let minute = Duration::from_secs(60);
    {
        let points: Table<u64> = store.table("points").expect("opens");
        let short = points.with_ttl(minute);
        points.put("lasts", &1).expect("puts");
        short.put("ends", &2).expect("puts");
        short.put("is put again", &3).expect("puts");
        points.put("is put again", &4).expect("puts");
        let mut transaction = store.transaction();
        transaction.claim("order-1").put(&short, "ends, too", &5).expect("puts");
        assert!(transaction.commit().expect("commits").is_committed());
    }
    let found = |store: &Store| {
        let points: Table<u64> = store.table("points").expect("opens");
        let mut found = BTreeMap::new();
        let visit = |key: &[u8], entry: Result<firstseen::table::Entry<u64>, Error>| {
            found.insert(String::from_utf8_lossy(key).into_owned(), entry.expect("is whole").value);
            ControlFlow::Continue(())
        };
        points.scan(visit).expect("scans");
        for key in ["lasts", "ends", "is put again", "ends, too"] {
            let got = points.get(key).expect("reads").map(|entry| entry.value);
            assert_eq!(got, found.get(key).copied(), "{key}");
        }
        found.into_values().collect::<Vec<_>>()
    };
    clock.advance(Duration::from_millis(59_999));
    assert_eq!(found(&store), [2, 5, 4, 1]);
    clock.advance(Duration::from_millis(1));
    assert_eq!(found(&store), [4, 1]);
    // What has ended is not there for those who expect something of it, nor after a crash.
    let points: Table<u64> = store.table("points").expect("opens");
    assert!(points.put_if("ends", None, &6).expect("answers").is_some());
    drop(points);
    drop(store);
    disk = disk.kill();
    store = open(&disk, &clock);
    assert_eq!(found(&store), [6, 4, 1]);
    assert_sound(&store);
}

#[test]
fn the_offsets_of_all_partitions_are_told_in_one_call_and_survive() {
    let (disk, clock) = (SimDisk::new(), clock());
    let store = open(&disk, &clock);
    let orders = store.source("orders").expect("opens");
    let other = store.source("others").expect("opens");
    let partitions = [0, 7, u32::MAX];
    for (n, partition) in partitions.into_iter().enumerate() {
        let mut transaction = store.transaction();
        transaction.claim(format!("order-{n}")).advance(&orders, partition, 10 + n as u64);
        transaction.advance(&other, partition, 99);
        assert!(transaction.commit().expect("commits").is_committed());
    }
    let expected: BTreeMap<u32, u64> = partitions.into_iter().zip(10..).collect();
    let told = |store: &Store| {
        let positions = store.source("orders").expect("opens").positions().expect("reads");
        let next =
            |(partition, position): (u32, firstseen::offsets::Position)| (partition, position.next);
        positions.into_iter().map(next).collect::<BTreeMap<_, _>>()
    };
    assert_eq!(told(&store), expected);
    drop((orders, other, store));
    assert_eq!(told(&open(&disk.kill(), &clock)), expected);
}

/// What a client has seen, such as the tag of an `If-Match`, beside what the transaction reads itself.
#[test]
fn i13_a_version_that_contradicts_what_the_transaction_has_read_rejects_it() {
    let store = open(&SimDisk::new(), &clock());
    let points: Table<u64> = store.table("points").expect("opens");
    let seen = points.put("anna", &1).expect("puts");
    let now = points.put("anna", &2).expect("puts");
    let ways: [fn(&mut Transaction, &Table<u64>, firstseen::table::Version); 3] = [
        |transaction, points, version| {
            transaction.put_if(points, "anna", Some(version), &3).expect("a value");
        },
        |transaction, points, version| {
            transaction.expect(points, "anna", Some(version)).expect("a key");
            transaction.put(points, "anna", &3).expect("a value");
        },
        |transaction, points, version| {
            transaction.delete_if(points, "anna", version).expect("a key");
        },
    ];
    for way in ways {
        for reads_first in [true, false] {
            let mut transaction = store.transaction();
            if reads_first {
                assert_eq!(transaction.get(&points, "anna").expect("reads"), Some(2));
            }
            way(&mut transaction, &points, seen);
            if !reads_first {
                transaction.expect(&points, "anna", Some(now)).expect("a key");
            }
            let reasons = rejections(&transaction);
            assert!(matches!(&reasons[..], [Rejection::Moved { .. }]), "{reasons:?}");
            assert_eq!(points.get("anna").expect("reads").map(|entry| entry.value), Some(2));
        }
    }
    // The same version twice is no contradiction.
    let mut transaction = store.transaction();
    assert_eq!(transaction.get(&points, "anna").expect("reads"), Some(2));
    transaction.put_if(&points, "anna", Some(now), &3).expect("a value");
    assert!(transaction.commit().expect("commits").is_committed());
}

/// GUARANTEES, Transactions: whoever reads sees all of it or nothing.
#[test]
fn i1_positions_show_a_transaction_that_advances_many_partitions_wholly_or_not_at_all() {
    let (disk, clock) = (SimDisk::new(), clock());
    let store = sim(&disk, &clock).shards(16).open().expect("opens");
    let orders = store.source("orders").expect("opens");
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for next in 1..=1_000 {
                let mut transaction = store.transaction();
                for partition in 0..64 {
                    transaction.advance(&orders, partition, next);
                }
                assert!(transaction.commit().expect("commits").is_committed());
            }
            is_over.store(true, Ordering::Relaxed);
        });
        let mut reads = 0;
        while !is_over.load(Ordering::Relaxed) {
            let positions = orders.positions().expect("reads");
            let next: BTreeSet<u64> = positions.values().map(|position| position.next).collect();
            assert!(positions.is_empty() || positions.len() == 64, "{} of 64", positions.len());
            assert!(next.len() <= 1, "read {reads}: {next:?}");
            reads += 1;
        }
    });
}

#[test]
fn i6_positions_told_at_disk_survive_a_power_cut() {
    let (disk, clock) = (SimDisk::new(), clock());
    let store = sim(&disk, &clock).durability(Durability::Disk).open().expect("opens");
    let orders = store.source("orders").expect("opens");
    let mut transaction = store.transaction();
    transaction.durability(Durability::Buffered).advance(&orders, 3, 18);
    assert!(transaction.commit().expect("commits").is_committed());
    let told = orders.positions().expect("reads");
    assert_eq!(told.get(&3).map(|position| position.next), Some(18));
    let store = open(&disk.lose_unsynced(), &clock);
    let orders = store.source("orders").expect("opens");
    assert_eq!(orders.positions().expect("reads"), told);
}
