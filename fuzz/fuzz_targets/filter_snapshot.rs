//! Filter files: whole or not at all (I2).
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| firstseen::fuzzing::filter_snapshot(data));
