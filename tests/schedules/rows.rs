//! Rows: writes that expect what others change, while memtables are flushed and segments rewritten.

use crate::explore::explore;
use crate::scene::{Scene, join, start};
use firstseen::testing::{Committed, Expect, Table, TableWrite};
use firstseen::{Durability, Store, Ttl};

fn add_one(table: &Table, id: &[u8], padding: usize) {
    loop {
        let row = table.get(id).expect("reads");
        let (count, expect) = match &row {
            None => (0, Expect::Absent),
            Some(row) => (row.value[0], Expect::Sequence(row.sequence)),
        };
        let mut value = vec![0; 1 + padding];
        value[0] = count + 1;
        let write = TableWrite { id, value: Some(&value), ttl: Ttl::FOREVER, expect };
        if let Committed::Done(_) = table.commit(&[write], Durability::Process).expect("commits") {
            return;
        }
    }
}

fn count(store: &Store, id: &[u8]) -> Option<u8> {
    Table::of(store, 1).get(id).expect("reads").map(|row| row.value[0])
}

#[test]
fn i13_two_writers_and_a_flush_lose_no_increment() {
    explore("i13_two_writers_and_a_flush_lose_no_increment", || {
        let scene = Scene::new();
        let store = scene.open();
        let writer = || {
            let table = Table::of(&store, 1);
            start(move || (0..2).for_each(|_| add_one(&table, b"counter", 0)))
        };
        let writers = [writer(), writer()];
        let flusher = {
            let store = store.clone();
            start(move || {
                store.freeze();
                store.run_background().expect("flushes");
            })
        };
        join(writers);
        join([flusher]);
        assert_eq!(count(&store, b"counter"), Some(4));
        drop(store);
        let reopened = Scene { disk: scene.disk.kill(), ..scene }.open();
        assert_eq!(count(&reopened, b"counter"), Some(4));
    });
}

/// What is overwritten fills segments. One that has a row in it which counts is rewritten while that row is read and
/// replaced.
#[test]
fn i13_a_row_is_moved_while_it_is_read_and_replaced() {
    explore("i13_a_row_is_moved_while_it_is_read_and_replaced", || {
        let scene = Scene::new();
        let store = scene.builder().segment_bytes(8 << 10).open().expect("opens");
        let table = Table::of(&store, 1);
        table.put(b"kept", &[7]).expect("puts");
        add_one(&table, b"moved", 0);
        // Three segments of which almost all is superseded.
        (0..8).for_each(|n| _ = table.put(b"hot", &[n; 1_500]).expect("puts"));
        store.freeze();
        let reader = {
            let store = store.clone();
            start(move || {
                assert_eq!(count(&store, b"kept"), Some(7));
                assert!(count(&store, b"moved").is_some());
            })
        };
        let writer = {
            let table = table.clone();
            start(move || add_one(&table, b"moved", 0))
        };
        let keeper = {
            let store = store.clone();
            start(move || store.run_background().expect("works"))
        };
        join([reader, writer, keeper]);
        assert!(store.stats().segments_removed > 0, "nothing was rewritten");
        assert_eq!((count(&store, b"kept"), count(&store, b"moved")), (Some(7), Some(2)));
        drop((table, store));
        let reopened = Scene { disk: scene.disk.kill(), ..scene }.open();
        assert_eq!((count(&reopened, b"kept"), count(&reopened, b"moved")), (Some(7), Some(2)));
    });
}

/// Each puts one row and deletes the other, which must not be there. Both cannot have found that.
#[test]
fn i13_two_commits_that_expect_what_the_other_puts_do_not_both_happen() {
    explore("i13_two_commits_that_expect_what_the_other_puts_do_not_both_happen", || {
        let scene = Scene::new();
        let store = scene.open();
        let commit = |put: &'static [u8], gone: &'static [u8]| {
            let table = Table::of(&store, 1);
            start(move || {
                let (ttl, expect) = (Ttl::FOREVER, Expect::Absent);
                let puts = TableWrite { id: put, value: Some(b"v"), ttl, expect };
                let deletes = TableWrite { id: gone, value: None, ttl, expect };
                table.commit(&[puts, deletes], Durability::Process).expect("commits")
            })
        };
        let done = join([commit(b"a", b"b"), commit(b"b", b"a")]);
        let made = done.iter().filter(|done| matches!(done, Committed::Done(_))).count();
        assert_eq!(made, 1, "{done:?}");
    });
}
