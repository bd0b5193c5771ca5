//! The shortest full path: claim, flush, close, open, verify, on a real disk with real threads.

use firstseen::*;

#[test]
fn claims_survive_reopen() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let n = 300_000u64;
    for round in 0..3 {
        let store = Store::builder(&path).memory_budget(8 << 20).open().unwrap();
        for i in 0..n {
            let first = store.claim(i.to_le_bytes()).unwrap().is_first_seen();
            assert_eq!(first, round == 0, "{round} {i}");
        }
        let report = store.verify().unwrap();
        assert!(report.is_sound(), "{report}");
        store.close().unwrap();
    }
}
