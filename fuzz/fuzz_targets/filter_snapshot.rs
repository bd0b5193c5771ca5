//! Filter files: read whole or rejected (I2).
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| firstseen::fuzzing::filter_snapshot(data));
