//! docs/OPERATIONS.md explains every field of `Stats` and every kind of error.

use crate::support::*;
use firstseen::disk::sim::SimDisk;
use std::path::Path;

fn page() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/OPERATIONS.md");
    std::fs::read_to_string(path).unwrap()
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
