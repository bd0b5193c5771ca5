//! Generates the ids. Equal settings and seeds give equal ids in equal order, on every machine and for every store.
//!
//! With several threads, a duplicate may repeat an id that another thread has made or is about to make, so claims race
//! for ids. How many are first seen is known beforehand all the same: all threads make new ids at the same positions,
//! so an id that one thread may repeat is sure to be claimed by the thread that makes it.

use anyhow::{Result, ensure};
use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};

/// Which earlier ids are repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Repeats {
    /// Any earlier id, all equally often.
    Uniform,
    /// A few ids very often: the n-th id made is repeated in proportion to 1/n.
    Zipf,
    /// One of the last thousand: a redelivery shortly after.
    Recent,
    /// One of the oldest tenth: a partition that is reread.
    Old,
}

/// How far back a recent duplicate lies.
const RECENT_IDS: u64 = 1_000;

/// How often claims are synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Sync {
    /// Never during the run.
    Never,
    /// After every thousand claims of a thread.
    Thousand,
    /// Before each call returns, for one claim or one batch.
    Each,
}

/// What is claimed, and how.
#[derive(Debug, Clone, PartialEq, Eq, Args, Serialize, Deserialize)]
pub struct Workload {
    /// Claims in total.
    #[arg(long, default_value_t = 1_000_000)]
    pub claims: u64,
    #[arg(long, value_enum, default_value_t = Repeats::Uniform)]
    pub repeats: Repeats,
    /// Bytes of an id: 8, 16, 36 (a UUID as text) or 200.
    #[arg(long, default_value_t = 16)]
    pub id_bytes: usize,
    /// Percentage of claims that repeat an earlier id.
    #[arg(long, default_value_t = 20)]
    pub duplicates: u64,
    #[arg(long, default_value_t = 1)]
    pub threads: u64,
    #[arg(long, value_enum, default_value_t = Sync::Never)]
    pub sync: Sync,
    /// Ids per call: 1 is `claim`, more is `claim_batch`.
    #[arg(long, default_value_t = 1)]
    pub batch: u64,
    /// Ttl of claims in seconds; 0 is forever. Only firstseen and Redis support one.
    #[arg(long, default_value_t = 0)]
    pub ttl_s: u64,
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
}

impl Workload {
    pub fn check(&self) -> Result<()> {
        ensure!([8, 16, 36, 200].contains(&self.id_bytes), "ids have 8, 16, 36 or 200 bytes");
        ensure!(self.duplicates < 100, "somewhere there must be a first: 0 to 99 % duplicates");
        ensure!((1..=1_024).contains(&self.threads), "1 to 1,024 threads");
        ensure!((1..=10_000).contains(&self.batch), "1 to 10,000 ids in a batch");
        ensure!(self.batch == 1 || self.sync != Sync::Thousand, "a batch is synced each or never");
        ensure!(
            self.ttl_s == 0 || self.repeats == Repeats::Recent || self.duplicates == 0,
            "with a ttl only recent ids may be repeated, or the right answers would depend on the clock"
        );
        Ok(())
    }

    /// Claims per thread.
    pub fn claims_each(&self) -> u64 {
        (self.claims / self.threads).max(1)
    }

    /// New ids per thread.
    fn new_each(&self) -> u64 {
        let mut draw = self.draw(0);
        (0..self.claims_each()).for_each(|_| _ = draw.next_number());
        draw.new
    }

    /// The right number of first-seen results.
    pub fn first_seen(&self) -> u64 {
        self.new_each() * self.threads
    }

    pub fn draw(&self, thread: u64) -> Draw<'_> {
        let kinds = mix(self.seed);
        Draw { workload: self, thread, new: 0, kinds, picks: mix(kinds ^ (thread + 1)) }
    }
}

/// One thread's sequence of ids.
#[derive(Debug)]
pub struct Draw<'a> {
    workload: &'a Workload,
    thread: u64,
    /// New ids this thread has made; every other thread has made as many by this position.
    new: u64,
    /// Decides which positions are new: the same in all threads.
    kinds: u64,
    /// Decides which id is repeated: different in each thread.
    picks: u64,
}

impl Draw<'_> {
    /// Writes the next id to `id`, which has the length of the workload's ids.
    #[inline]
    pub fn next(&mut self, id: &mut [u8]) {
        let number = self.next_number();
        write_id(number ^ (self.workload.seed << 48), id);
    }

    #[inline]
    fn next_number(&mut self) -> u64 {
        let threads = self.workload.threads;
        let is_repeat = step(&mut self.kinds) % 100 < self.workload.duplicates;
        if !is_repeat || self.new == 0 {
            self.new += 1;
            return (self.new - 1) * threads + self.thread;
        }
        let made = self.new * threads;
        let random = step(&mut self.picks);
        match self.workload.repeats {
            Repeats::Uniform => random % made,
            Repeats::Zipf => {
                // The inverse distribution function of 1/x between 1 and `made`.
                let unit = (random >> 11) as f64 / (1u64 << 53) as f64;
                ((made as f64).powf(unit) as u64).min(made) - 1
            }
            Repeats::Recent => made - 1 - random % made.min(RECENT_IDS),
            Repeats::Old => random % made.div_ceil(10),
        }
    }
}

/// Different numbers give different ids.
fn write_id(number: u64, id: &mut [u8]) {
    if id.len() == 36 {
        write_uuid(number, id);
        return;
    }
    let mut word = mix(number + 1);
    for part in id.chunks_mut(8) {
        part.copy_from_slice(&word.to_le_bytes()[..part.len()]);
        word = mix(word ^ number);
    }
}

fn write_uuid(number: u64, id: &mut [u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut bytes = [0; 16];
    write_id(number, &mut bytes);
    let mut at = 0;
    for (n, byte) in bytes.iter().enumerate() {
        if [4, 6, 8, 10].contains(&n) {
            id[at] = b'-';
            at += 1;
        }
        id[at] = DIGITS[usize::from(byte >> 4)];
        id[at + 1] = DIGITS[usize::from(byte & 15)];
        at += 2;
    }
}

/// The next number of splitmix64.
#[inline]
fn step(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mix(*state)
}

/// The finalizer of splitmix64: different numbers stay different.
#[inline]
fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    fn workload(repeats: Repeats, id_bytes: usize, duplicates: u64, threads: u64) -> Workload {
        Workload {
            claims: 20_000,
            repeats,
            id_bytes,
            duplicates,
            threads,
            sync: Sync::Never,
            batch: 1,
            ttl_s: 0,
            seed: 1,
        }
    }

    fn distinct(workload: &Workload) -> u64 {
        let mut seen = HashSet::new();
        let mut id = vec![0; workload.id_bytes];
        for thread in 0..workload.threads {
            let mut draw = workload.draw(thread);
            for _ in 0..workload.claims_each() {
                draw.next(&mut id);
                seen.insert(id.clone());
            }
        }
        seen.len() as u64
    }

    #[test]
    fn the_number_of_firsts_is_known_beforehand() {
        for repeats in [Repeats::Uniform, Repeats::Zipf, Repeats::Recent, Repeats::Old] {
            for id_bytes in [8, 16, 36, 200] {
                for duplicates in [0, 20, 90] {
                    for threads in [1, 4] {
                        let workload = workload(repeats, id_bytes, duplicates, threads);
                        assert_eq!(distinct(&workload), workload.first_seen(), "{workload:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn as_many_are_repeated_as_was_asked() {
        let firsts = workload(Repeats::Uniform, 16, 20, 1).first_seen();
        assert!((15_700..16_300).contains(&firsts), "{firsts} of 20,000");
    }

    #[test]
    fn a_uuid_reads_as_one() {
        let mut id = [0; 36];
        write_id(7, &mut id);
        let text = std::str::from_utf8(&id).unwrap();
        let lengths: Vec<_> = text.split('-').map(str::len).collect();
        assert_eq!(lengths, [8, 4, 4, 4, 12]);
    }

    #[test]
    fn another_seed_gives_other_ids() {
        let ids = |seed| {
            let workload = Workload { seed, ..workload(Repeats::Uniform, 16, 0, 1) };
            let mut id = [0; 16];
            workload.draw(0).next(&mut id);
            id
        };
        assert_ne!(ids(1), ids(2));
    }
}
