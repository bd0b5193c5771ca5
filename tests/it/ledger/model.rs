//! Random calls and transactions against an oracle that knows the rules and nothing of rows, with kills, power cuts,
//! background work and time. The fuzzer runs the same files (fuzz/fuzz_targets/ledger_model.rs).

mod calls;
mod oracle;
mod run;

use crate::support::scaled;
use calls::Bytes;

/// SplitMix64, so that a seed is a sequence of bytes.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn bytes(mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.next() as u8).collect()
    }
}

const CALLS: usize = 80;

#[test]
fn i8_random_calls_are_answered_as_an_oracle_says() {
    let seed = std::env::var("FIRSTSEEN_LEDGER_SEED").ok().and_then(|seed| seed.parse().ok());
    let seeds = seed.map_or(0..scaled(600), |seed| seed..seed + 1);
    for seed in seeds {
        let bytes = Chance(seed).bytes(CALLS * 5);
        let (setup, policies, calls) = Bytes::new(&bytes).list(CALLS);
        let world = run::World::new(setup, policies);
        if let Err(what) = world.and_then(|world| world.run(&calls)) {
            panic!("FIRSTSEEN_LEDGER_SEED={seed}: {what}\n{setup:?}\n{policies:#?}\n{calls:#?}");
        }
    }
}
