//! Lists of ledger calls against the oracle of the ledger's model test, on a simulated disk.
#![no_main]
#![allow(dead_code)]

#[path = "../../tests/it/ledger/model/calls.rs"]
mod calls;
#[path = "../../tests/it/ledger/model/oracle.rs"]
mod oracle;
#[path = "../../tests/it/ledger/model/run.rs"]
mod run;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let (setup, policies, calls) = calls::Bytes::new(data).list(200);
    let world = run::World::new(setup, policies);
    if let Err(what) = world.and_then(|world| world.run(&calls)) {
        panic!("{what}\n{setup:?}\n{policies:#?}\n{calls:#?}");
    }
});
