//! Sources that keep their events: a folder of NDJSON files, and the loop that feeds a scope.

use super::World;
use firstseen::Timestamp;
use firstseen::replay::{DriveError, NdjsonError, NdjsonSegments, RetainedSource, StartAt, drive};
use std::fs;
use std::io::Write;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

/// Partitions.
const P: u32 = 3;
const Q: u32 = 10;

fn event(n: u64, at: u64) -> String {
    format!(r#"{{"id":"evt-{n}","at":{at}}}"#)
}

/// A hundred events in files of about ten, one each second.
fn filled() -> (tempfile::TempDir, NdjsonSegments) {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let source = NdjsonSegments::new(dir.path()).time_field("at").segment_bytes(300);
    for n in 0..100 {
        let offsets = source.append(P, &[event(n, 1_000 * n)]).expect("appends");
        assert_eq!(offsets, n..n + 1);
    }
    (dir, source)
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut files = crate::support::files(dir);
    files.sort();
    files
}

fn read(source: &NdjsonSegments, from: u64) -> Result<Vec<(u64, Option<Timestamp>)>, NdjsonError> {
    let mut read = Vec::new();
    source.read(P, from, &mut |event| {
        read.push((event.offset, event.time));
        ControlFlow::Continue(())
    })?;
    Ok(read)
}

#[test]
fn events_are_read_from_any_offset_over_files_and_stop_where_asked() {
    let (dir, source) = filled();
    assert!(files(dir.path()).len() > 5);
    assert_eq!(source.partitions().expect("lists"), [P]);
    assert_eq!(source.bounds(P).expect("reads"), (0, 100));
    for from in [0, 1, 9, 10, 55, 99, 100] {
        let read = read(&source, from).expect("reads");
        let expected: Vec<_> =
            (from..100).map(|n| (n, Some(Timestamp::from_millis(1_000 * n)))).collect();
        assert_eq!(read, expected, "from {from}");
    }
    let mut seen = Vec::new();
    let next = source.read(P, 7, &mut |event| {
        assert_eq!(
            (event.partition, event.bytes),
            (P, self::event(event.offset, 1_000 * event.offset).as_bytes())
        );
        seen.push(event.offset);
        if event.offset == 42 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    assert_eq!((next.expect("reads"), seen), (43, (7..43).collect()));
    // Files that are removed from the front take their events along, and nothing else.
    let first = files(dir.path()).remove(0);
    fs::remove_file(first).expect("removes");
    let (begin, end) = source.bounds(P).expect("reads");
    assert!(begin > 0 && end == 100);
    assert_eq!(read(&source, begin).expect("reads").len() as u64, 100 - begin);
}

#[test]
fn a_time_is_found_in_whatever_file_it_is() {
    let (dir, source) = filled();
    let at = |source: &NdjsonSegments, ms| {
        source.offset_at(P, Timestamp::from_millis(ms)).expect("reads")
    };
    for n in 0..100 {
        assert_eq!(at(&source, 1_000 * n), Some(n));
        assert_eq!(at(&source, 1_000 * n + 1), Some(n + 1), "the next one, or the end");
    }
    assert_eq!(at(&source, 0), Some(0));
    assert_eq!(at(&source.clone().segment_bytes(1), u64::MAX), Some(100));
    assert_eq!(source.offset_at(9, Timestamp::from_millis(0)).expect("reads"), Some(0));
    assert_eq!(at(&NdjsonSegments::new(dir.path()), 5), None, "it does not know times");
}

#[test]
fn times_are_numbers_or_text_and_a_line_without_one_is_an_error_that_names_it() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let source = NdjsonSegments::new(dir.path()).time_field("at");
    let good = [r#"{"at":5}"#, r#"{"at":"1970-01-01T00:00:00.007Z","x":{"at":1}}"#];
    source.append(P, &good).expect("appends");
    let times: Vec<_> = read(&source, 0).expect("reads").into_iter().map(|(_, at)| at).collect();
    assert_eq!(times, [5, 7].map(|ms| Some(Timestamp::from_millis(ms))));
    for bad in [r#"{"x":1}"#, r#"{"at":-1}"#, r#"{"at":1.5}"#, r#"{"at":"noon"}"#, r#"{"at":null}"#]
    {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let source = NdjsonSegments::new(dir.path()).time_field("at");
        source.append(P, &[good[0], bad]).expect("it is a JSON object");
        match read(&source, 0) {
            Err(NdjsonError::Line { path, line, .. }) => {
                assert_eq!((path, line), (files(dir.path()).remove(0), 2), "{bad}");
            }
            other => panic!("{bad}: {other:?}"),
        }
        assert_eq!(read(&NdjsonSegments::new(dir.path()), 0).expect("no times").len(), 2);
    }
    for not_one_line in ["", "{}\n{}", "[1]", "{", "{} "] {
        let appended = source.append(P, &[not_one_line]);
        let is_fine = not_one_line == "{} ";
        assert_eq!(appended.is_ok(), is_fine, "{not_one_line:?}");
    }
}

#[test]
fn a_torn_last_line_is_no_event_and_is_cut_off_by_the_next_append() {
    let (dir, source) = filled();
    let last = files(dir.path()).pop().expect("there are files");
    let mut file = fs::OpenOptions::new().append(true).open(&last).expect("opens");
    file.write_all(br#"{"id":"torn","at":100"#).expect("writes");
    assert_eq!(source.bounds(P).expect("reads"), (0, 100));
    assert_eq!(read(&source, 90).expect("reads").len(), 10);
    // The writer was only slow.
    file.write_all(b"000}\n{\"id\":\"torn").expect("writes");
    assert_eq!(read(&source, 90).expect("reads").len(), 11);
    assert_eq!(source.append(P, &[event(101, 101_000)]).expect("appends"), 101..102);
    let tail = read(&source, 100).expect("reads");
    assert_eq!(
        tail,
        [
            (100, Some(Timestamp::from_millis(100_000))),
            (101, Some(Timestamp::from_millis(101_000)))
        ]
    );
}

#[test]
fn a_torn_last_line_is_cut_off_also_where_the_next_append_begins_another_file() {
    let (dir, source) = filled();
    let last = files(dir.path()).pop().expect("there are files");
    let mut file = fs::OpenOptions::new().append(true).open(&last).expect("opens");
    // Killed in the middle of many: the file is full and ends in half a line.
    let many: String = (100..120).map(|n| event(n, 1_000 * n) + "\n").collect();
    file.write_all(many.as_bytes()).expect("writes");
    file.write_all(br#"{"id":"torn""#).expect("writes");
    assert_eq!(source.append(P, &[event(120, 120_000)]).expect("appends"), 120..121);
    assert!(files(dir.path()).pop().expect("there are files") > last, "another file");
    assert_eq!(read(&source, 0).expect("reads").len(), 121);
}

#[test]
fn damaged_lines_and_files_that_do_not_fit_are_errors_that_name_them() {
    // A line that is no JSON any more.
    let (dir, source) = filled();
    let second = files(dir.path()).remove(1);
    let bytes = fs::read(&second).expect("reads");
    let mut damaged = bytes.clone();
    let line = bytes.iter().position(|b| *b == b'\n').expect("has lines") + 1;
    damaged[line] = b'x';
    fs::write(&second, &damaged).expect("writes");
    match read(&source, 0) {
        Err(NdjsonError::Line { path, line: 2, .. }) => assert_eq!(path, second),
        other => panic!("{other:?}"),
    }
    // A file that has lost its end.
    fs::write(&second, &bytes[..bytes.len() - 3]).expect("writes");
    assert!(matches!(read(&source, 0), Err(NdjsonError::Line { path, .. }) if path == second));
    // A file that has lost a line.
    fs::write(&second, &bytes[line..]).expect("writes");
    assert!(matches!(read(&source, 0), Err(NdjsonError::Gap { path, .. }) if path == second));
    // A file that is gone from the middle.
    fs::remove_file(&second).expect("removes");
    let first = files(dir.path()).remove(0);
    assert!(matches!(read(&source, 0), Err(NdjsonError::Gap { path, .. }) if path == first));
    fs::write(dir.path().join("3/notes.txt"), "not a segment").expect("writes");
    fs::write(dir.path().join("7"), "not a partition").expect("writes");
    fs::create_dir(dir.path().join("03")).expect("creates");
    assert_eq!(source.partitions().expect("lists"), [P]);
}

#[test]
fn a_scope_is_fed_from_an_offset_or_a_time_and_goes_on_where_it_failed() {
    let (_dir, source) = filled();
    source.append(Q, &[event(500, 90_000), event(501, 96_000)]).expect("appends");
    let world = World::new();
    let store = world.open();
    let scope = store.replay("s").expect("begins");
    let seen = scope.namespace("events").expect("opens");
    let claim = |bytes: &[u8]| seen.claim(bytes).map(|claim| assert!(claim.is_first_seen()));
    // By time, in each partition.
    let from = |_: u32| StartAt::Time(Timestamp::from_millis(95_000));
    let driven = drive(&source, from, |event| claim(event.bytes)).expect("reads");
    assert_eq!((driven.events, driven.next[&P], driven.next[&Q]), (6, 100, 2));
    // It fails, and goes on from there.
    let mut budget = 30;
    let failed = drive(
        &source,
        |_| StartAt::Beginning,
        |event| {
            budget -= 1;
            if budget == 0 {
                return Err("the sink is down");
            }
            seen.claim(event.bytes).map(drop).map_err(|_| "cannot claim")
        },
    );
    let Err(DriveError::Event { partition, offset: 29, error: "the sink is down" }) = failed else {
        panic!("{failed:?}")
    };
    assert_eq!(partition, P);
    let start = |p: u32| if p == P { StartAt::Offset(29) } else { StartAt::Beginning };
    drive(&source, start, |event| seen.claim(event.bytes).map(drop)).expect("reads");
    assert_eq!(scope.count().expect("counts").ids(), 102);
}

#[test]
fn what_a_source_has_no_more_is_not_passed_over_in_silence() {
    let (dir, source) = filled();
    fs::remove_file(files(dir.path()).remove(0)).expect("removes");
    let (first, _) = source.bounds(P).expect("reads");
    let start = |_: u32| StartAt::Offset(first - 1);
    let driven = drive(&source, start, |_| Ok::<(), String>(()));
    assert!(
        matches!(driven, Err(DriveError::Gone { asked, first: begins, .. }) if asked + 1 == begins)
    );
    let untimed = NdjsonSegments::new(dir.path());
    let driven =
        drive(&untimed, |_| StartAt::Time(Timestamp::from_millis(0)), |_| Ok::<(), String>(()));
    assert!(matches!(driven, Err(DriveError::NoTimes { .. })));
}
