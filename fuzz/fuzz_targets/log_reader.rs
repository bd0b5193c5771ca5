//! Log segments: read, salvaged, and opened as the log of a store (I11).
#![no_main]

use firstseen::disk::{Disk, sim::SimDisk};
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
