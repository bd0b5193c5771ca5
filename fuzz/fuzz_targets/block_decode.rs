//! Blocks of ids: decoded or rejected, never a panic (I10).
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| firstseen::fuzzing::block_decode(data));
