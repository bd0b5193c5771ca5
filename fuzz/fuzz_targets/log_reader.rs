//! Log segments: read, salvaged, and opened as the log of a store (I11).
#![no_main]

use firstseen::disk::{Disk, sim::SimDisk};
use firstseen::testing::{Committed, Table};
use firstseen::{ManualClock, Store};
use std::path::Path;

fn builder(disk: &SimDisk) -> firstseen::Builder {
    Store::builder("/s")
        .disk(disk.clone())
        .clock(ManualClock::at_millis(1_700_000_000_000))
        .seed([7; 16])
        .shards(1)
        .segment_bytes(65_536)
        .memtable_bytes(4_000)
        .background(false)
}

/// Rows that were forged are read or refused, and a new one ranks above what was there.
fn use_rows(store: &Store) {
    for family in [1, 2, 31] {
        let table = Table::of(store, family);
        let mut ids = vec![b"an id".to_vec()];
        if let Ok(rows) = table.list() {
            ids.extend(rows.into_iter().map(|(id, _)| id));
        }
        for id in ids.iter().rev().take(3) {
            let before = table.get(id).ok().flatten().map_or(0, |row| row.sequence);
            if let Ok(Committed::Done(sequences)) = table.put(id, b"value") {
                assert!(sequences[0] > Some(before), "a row in the log outranks a new one");
                let after = table.get(id).expect("just written").expect("is there");
                assert_eq!((after.value, Some(after.sequence)), (b"value".to_vec(), sequences[0]));
            }
        }
        let _ = table.delete(b"an id");
    }
}

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    firstseen::fuzzing::log_reader(data);
    let disk = SimDisk::new();
    drop(builder(&disk).open().expect("a new store opens"));
    let path = Path::new("/s/log/0000000001.seg");
    disk.remove(path).expect("the first segment");
    let file = disk.create_new(path).expect("the name is free");
    file.write_all_at(&firstseen::fuzzing::log_segment(data), 0).expect("the disk has space");
    // Opens or returns a typed error; what opens also works, and reopens.
    if let Ok(store) = builder(&disk).open() {
        let _ = store.claim(b"an id");
        use_rows(&store);
        store.freeze();
        let _ = store.run_background();
        let _ = store.verify();
        drop(store);
        let _ = builder(&disk).open();
    } else {
        let _ = builder(&disk).repair();
        let _ = builder(&disk).open();
    }
});
