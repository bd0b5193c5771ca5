//! Random transactions beside an oracle.
//!
//! `FIRSTSEEN_PIPELINE_CASES` sets how many lists of calls, `FIRSTSEEN_CRASH_SEED` the first seed.

use super::world::{Dice, World};
use crate::support::assert_sound;

#[test]
fn i1_random_transactions_do_what_an_oracle_says_over_kills_and_power_cuts() {
    let number = |name: &str, default| {
        std::env::var(name).ok().map_or(default, |text| text.parse().expect("a number"))
    };
    let cases = number("FIRSTSEEN_PIPELINE_CASES", 60);
    let first: u64 = number("FIRSTSEEN_CRASH_SEED", 1);
    for seed in first..first + cases {
        let mut world = World::new(Dice::Seed(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15)));
        world.run(80).unwrap_or_else(|what| panic!("seed {seed}, {what}"));
        assert_sound(world.store());
    }
}
