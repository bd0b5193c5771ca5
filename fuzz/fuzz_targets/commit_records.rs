//! Commit records: what is encoded comes back, whole and row by row; and rows of prepared transactions.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| firstseen::fuzzing::commit_records(data));
