//! Lists of transactions against the oracle of their model test, on a simulated disk.
#![no_main]
#![allow(dead_code)]

#[path = "../../tests/it/pipeline/oracle.rs"]
mod oracle;
#[path = "../../tests/it/pipeline/world.rs"]
mod world;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let dice = world::Dice::Bytes(data.iter().copied().collect());
    if let Err(what) = world::World::new(dice).run(100) {
        panic!("{what}");
    }
});
