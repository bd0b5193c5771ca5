//! Operations against the oracle, with kills and power cuts at any disk call, recovery included.
#![no_main]
#![allow(dead_code)]

#[path = "../../tests/model/ops.rs"]
mod ops;
#[path = "../../tests/model/oracle.rs"]
mod oracle;
#[path = "../../tests/model/run.rs"]
mod run;
#[path = "../../tests/crash/schedule.rs"]
mod schedule;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let schedule = schedule::Schedule::new(data);
    if let Err(what) = schedule.run() {
        panic!("{what}\n{schedule:#?}");
    }
});
