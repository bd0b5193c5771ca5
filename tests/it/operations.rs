//! docs/OPERATIONS.md explains every field of `Stats` and every kind of error.

use crate::support::*;
use firstseen::disk::sim::SimDisk;
use std::path::Path;

fn page() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/OPERATIONS.md");
    std::fs::read_to_string(path).unwrap()
}

/// Without merges each entry is written once, and a merge of four runs writes theirs once more.
#[test]
fn stats_count_what_flushes_and_merges_write() {
    let store = sim(&SimDisk::new(), &clock()).shards(1).open().unwrap();
    let mut written = 0;
    for run in 1..=4 {
        claim_all_first(&store, run * 500..(run + 1) * 500);
        store.freeze();
        store.run_background().unwrap();
        let stats = store.stats();
        assert_eq!((stats.runs_flushed, stats.entries_flushed), (run, run * 500));
        assert!(stats.manifests_written >= run, "{stats:?}");
        if run == 3 {
            assert_eq!((stats.entries_merged, stats.runs_merged, stats.bytes_merged), (0, 0, 0));
            assert_eq!(stats.blocks_removed, 0);
            written = stats.blocks_written;
            // An id of 16 bytes has a few bytes beside it in its block, and two and a half in a filter.
            let bytes = stats.block_bytes_written;
            assert!((1_500 * 16..1_500 * 24).contains(&bytes), "{bytes}");
            assert!((bytes + 3_000..bytes + 9_000).contains(&stats.bytes_flushed), "{stats:?}");
        }
    }
    let stats = store.stats();
    assert_eq!((stats.merges, stats.runs_merged, stats.entries_merged), (1, 4, 2_000));
    assert!(stats.blocks_written >= written + 2_000 / 200, "those of the merged run, too");
    assert!(stats.bytes_merged > 2_000 * 16, "{}", stats.bytes_merged);
    assert!(stats.blocks_removed >= written, "those of the four runs");
    assert_eq!(stats.runs, 1);
}

#[test]
fn each_field_of_stats_and_each_kind_of_error_is_explained() {
    let page = page();
    let store = sim(&SimDisk::new(), &clock()).open().unwrap();
    let stats = serde_json::to_value(store.stats()).unwrap();
    let fields: Vec<&String> = stats.as_object().unwrap().keys().collect();
    assert!(fields.len() > 30, "{fields:?}");
    let rows: Vec<&str> = page.lines().filter(|line| line.starts_with("| `")).collect();
    let named = |name: &str| {
        let quoted = format!("`{name}`");
        rows.iter().any(|row| row.split('|').nth(1).is_some_and(|cell| cell.contains(&quoted)))
    };
    for field in fields {
        assert!(named(field), "no row for the field {field} of Stats");
    }
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/error.rs");
    let source = std::fs::read_to_string(source).unwrap();
    let kinds = source.split("pub enum ErrorKind {").nth(1).unwrap().split('}').next().unwrap();
    let kinds = kinds.lines().map(str::trim).filter(|line| !line.starts_with("//"));
    for kind in kinds.filter_map(|line| line.strip_suffix(',')) {
        assert!(named(kind), "no row for the kind {kind} of errors");
    }
}
