//! Paths in the repository that this program was built in.

use std::path::{Path, PathBuf};

fn manifest() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

pub fn repository() -> PathBuf {
    manifest().join("../..")
}

/// What builds and runs leave here, not kept in the repository.
pub fn target() -> PathBuf {
    manifest().join("target")
}

pub fn results() -> PathBuf {
    target().join("results.jsonl")
}

/// Results of the last run of `compare threads`.
pub fn results_by_threads() -> PathBuf {
    target().join("threads.jsonl")
}

/// Our binary, as `cargo build --release` leaves it.
pub fn binary() -> PathBuf {
    repository().join("target/release/firstseen")
}

pub fn docs() -> PathBuf {
    repository().join("docs")
}
