//! Lists of operations against the oracle of the model test, on a simulated disk.
#![no_main]
#![allow(dead_code)]

#[path = "../../tests/model/ops.rs"]
mod ops;
#[path = "../../tests/model/oracle.rs"]
mod oracle;
#[path = "../../tests/model/run.rs"]
mod run;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let (setup, list) = ops::Bytes::new(data).list(200);
    if let Err(what) = run::run(run::World::simulated(setup), &list) {
        panic!("{what}\n{setup:?}\n{list:#?}");
    }
});
