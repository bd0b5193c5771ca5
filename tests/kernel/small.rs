//! A file system smaller than a segment of default size.

use crate::mount::{Tmpfs, is_possible};
use firstseen::Store;

#[test]
fn a_disk_of_twelve_mebibytes_holds_a_store() {
    if !is_possible() {
        return;
    }
    let disk = Tmpfs::new("small", 12).expect("mounts");
    let path = disk.path().join("seen.db");
    let store = Store::open(&path).expect("a small disk is enough");
    for n in 0..20_000_u64 {
        assert!(store.claim(n.to_le_bytes()).expect("there is room").is_first_seen());
    }
    store.close().expect("closes");
    let store = Store::open(&path).expect("opens again");
    for n in 0..20_000_u64 {
        assert!(store.claim(n.to_le_bytes()).expect("reads").is_duplicate());
    }
}
