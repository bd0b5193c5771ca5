//! What is older or newer than this release reads is refused, by a message that says what to do, and left as it is.

use super::{contents, golden, segments};
use crate::support::assert_sound;
use firstseen::{Error, ErrorKind};
use std::fs;
use std::path::{Path, PathBuf};

const HEAD_BYTES: usize = 24;

/// Frames the body of a manifest, as `src/codec/envelope.rs` says.
fn manifest(version: u16, body: &[u8]) -> Vec<u8> {
    let mut out = b"FSMF".to_vec();
    out.extend_from_slice(&version.to_le_bytes());
    out.extend_from_slice(&[0; 2]);
    out.extend_from_slice(&(body.len() as u64).to_le_bytes());
    out.extend_from_slice(&crc32c::crc32c(body).to_le_bytes());
    let head = crc32c::crc32c(&out);
    out.extend_from_slice(&head.to_le_bytes());
    out.extend_from_slice(body);
    out
}

fn section(tag: u16, bytes: &[u8]) -> Vec<u8> {
    [&tag.to_le_bytes()[..], &(bytes.len() as u64).to_le_bytes(), bytes].concat()
}

/// Gives the header of a segment another version. Version 1 had 44 bytes and no boot id.
fn with_version(segment: &[u8], version: u16) -> Vec<u8> {
    let mut bytes = segment.to_vec();
    bytes[4..6].copy_from_slice(&version.to_le_bytes());
    let end = if version == 1 { 40 } else { 56 };
    let crc = crc32c::crc32c(&bytes[..end]);
    bytes[end..60].fill(0);
    bytes[end..end + 4].copy_from_slice(&crc.to_le_bytes());
    bytes
}

/// Checks that opening, reading and repairing refuse this file and change nothing.
fn assert_refused(path: &Path, clock: &firstseen::ManualClock, file: &Path, found: u16, at: &str) {
    let before = contents(path);
    let builder = || golden::builder(path, clock);
    let refusals = [
        ("open", builder().open().err()),
        ("open_read_only", builder().open_read_only().err()),
        ("repair", builder().repair().err()),
    ];
    for (call, error) in refusals {
        let error = error.unwrap_or_else(|| panic!("{at}: {call} takes it"));
        assert_eq!(error.kind(), ErrorKind::FixCall, "{at}: {call}: {error}");
        let (named, version, advice) = match &error {
            Error::FromThePast { path, found, oldest: 2 } => (path, *found, "export the store"),
            Error::FromTheFuture { path, found, known: 2 } => (path, *found, "a newer firstseen"),
            other => panic!("{at}: {call}: {other}"),
        };
        assert_eq!((named.as_path(), version), (file, found), "{at}: {call}");
        let text = error.to_string();
        assert!(text.contains(&format!("format version {found}")), "{at}: {text}");
        assert!(text.contains(advice), "{at}: {text}");
        assert!(contents(path) == before, "{at}: {call} changes something");
    }
}

#[test]
fn a_manifest_of_another_version_is_refused_and_nothing_changes() {
    for state in golden::STATES {
        for version in [0, 1, 3, 9] {
            let (_dir, path, answers, clock) = golden::copy(state);
            let file = path.join("MANIFEST");
            let good = fs::read(&file).unwrap();
            fs::write(&file, manifest(version, &good[HEAD_BYTES..])).unwrap();
            let at = format!("{state}, version {version}");
            assert_refused(&path, &clock, &file, version, &at);
            fs::write(&file, &good).unwrap();
            answers.check(&golden::builder(&path, &clock).open().unwrap(), &at);
        }
    }
}

/// Any segment: one that opening reads, and one whose ids are all flushed.
#[test]
fn a_segment_of_another_version_is_refused_and_nothing_changes() {
    for state in golden::STATES {
        for version in [1, 3, 9] {
            let (_dir, path, answers, clock) = golden::copy(state);
            let all = segments(&path);
            // A spare is no part of the log yet.
            let ours = |file: &PathBuf| fs::read(file).unwrap()[4096..].iter().any(|b| *b != 0);
            for file in all.into_iter().filter(ours) {
                let good = fs::read(&file).unwrap();
                fs::write(&file, with_version(&good, version)).unwrap();
                let at = format!("{state}, version {version}, {}", file.display());
                assert_refused(&path, &clock, &file, version, &at);
                fs::write(&file, &good).unwrap();
            }
            answers.check(&golden::builder(&path, &clock).open().unwrap(), state);
        }
    }
}

#[test]
fn a_section_that_may_be_left_out_is_left_out_and_another_is_refused_by_its_number() {
    for state in golden::STATES {
        let (_dir, path, answers, clock) = golden::copy(state);
        let file = path.join("MANIFEST");
        let good = fs::read(&file).unwrap();
        let body = &good[HEAD_BYTES..];
        let with = |tag| manifest(2, &[&section(tag, b"of a later release"), body].concat());

        fs::write(&file, with(99)).unwrap();
        let before = contents(&path);
        let errors = [
            golden::builder(&path, &clock).open().expect_err("is refused"),
            golden::builder(&path, &clock).open_read_only().expect_err("is refused"),
            golden::builder(&path, &clock).repair().expect_err("is refused"),
        ];
        for error in errors {
            let named = matches!(&error, Error::NewerContent { path, .. } if *path == file);
            assert!(named && error.to_string().contains("section 99"), "{state}: {error}");
            assert_eq!(error.kind(), ErrorKind::FixCall);
        }
        assert!(contents(&path) == before, "{state}: a refusal changes something");

        fs::write(&file, with(1 << 15 | 0x63)).unwrap();
        let store = golden::builder(&path, &clock).open_read_only().unwrap();
        answers.check_read_only(&store, state);
        drop(store);
        let store = golden::builder(&path, &clock).open().unwrap();
        answers.check(&store, state);
        answers.check_count(&store, state);
        assert_sound(&store);
    }
}
