//! Manifests: decoded, and opened with a store around them (I11).
#![no_main]

use firstseen::disk::{Disk, sim::SimDisk};
use firstseen::{ManualClock, Store};
use std::path::Path;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let bytes = firstseen::fuzzing::manifest(data);
    let disk = SimDisk::new();
    let builder = || {
        Store::builder("/s")
            .disk(disk.clone())
            .clock(ManualClock::at_millis(1_700_000_000_000))
            .seed([7; 16])
            .segment_bytes(65_536)
            .background(false)
    };
    drop(builder().open().expect("a new store opens"));
    let path = Path::new("/s/MANIFEST");
    disk.remove(path).expect("the manifest");
    disk.create_new(path).and_then(|file| file.write_all_at(&bytes, 0)).expect("disk space");
    if let Ok(store) = builder().open() {
        let _ = store.claim(b"an id");
        let _ = store.run_background();
    }
});
