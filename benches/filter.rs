//! Our filter against the crate `bloomfilter`, at the same bits per id: the cost of a lookup of inserted and of new
//! ids, and the rate of false positives.
//!
//! `cargo bench --features fuzzing --bench filter`. Its effect on a whole claim: `scripts/bench.sh --filter`.

use bloomfilter::Bloom;
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use firstseen::fuzzing::{FILTER_BITS_PER_ID, Filter, FilterId};
use std::hint::black_box;

fn id(number: u64) -> [u8; 16] {
    let mut id = [0; 16];
    id[..8].copy_from_slice(&number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes());
    id[8..].copy_from_slice(&number.to_le_bytes());
    id
}

fn reference(ids: u64) -> Bloom<[u8]> {
    let bytes = (ids * FILTER_BITS_PER_ID).div_ceil(8) as usize;
    // The halves of the seed are the keys of two hashes and must differ.
    let seed = b"the first half, the second half.";
    Bloom::new_with_seed(bytes, ids as usize, seed).expect("sizes are not zero")
}

/// Both get ids that are already hashed, as in the store. `bloomfilter` hashes the sixteen bytes again, because it
/// takes nothing else.
#[expect(clippy::disallowed_macros, reason = "a benchmark prints")]
fn filters(c: &mut Criterion) {
    let mut group = c.benchmark_group("filter");
    for ids in [100_000, 10_000_000] {
        let hashed: Vec<FilterId> = (0..ids).map(|n| FilterId::new(&id(n))).collect();
        let other: Vec<FilterId> = (ids..ids + 1_000_000).map(|n| FilterId::new(&id(n))).collect();
        let ours = Filter::of(&hashed);
        let mut theirs = reference(ids);
        hashed.iter().for_each(|id| theirs.set(&id.bytes()));
        let maybe = |ask: &dyn Fn(&FilterId) -> bool| {
            other.iter().filter(|id| ask(id)).count() as f64 / other.len() as f64 * 100.0
        };
        println!(
            "{ids} ids: of 100 others, ours says maybe to {:.3}, bloomfilter to {:.3}",
            maybe(&|id| ours.may_contain(id)),
            maybe(&|id| theirs.check(&id.bytes()))
        );
        let mut at = 0;
        let mut next = move |of: &[FilterId]| {
            at = (at + 1_234_577) % of.len();
            at
        };
        group.bench_function(BenchmarkId::new("ours, inserted", ids), |b| {
            b.iter(|| black_box(ours.may_contain(&hashed[next(&hashed)])));
        });
        group.bench_function(BenchmarkId::new("bloomfilter, inserted", ids), |b| {
            b.iter(|| black_box(theirs.check(&hashed[next(&hashed)].bytes())));
        });
        group.bench_function(BenchmarkId::new("ours, new", ids), |b| {
            b.iter(|| black_box(ours.may_contain(&other[next(&other)])));
        });
        group.bench_function(BenchmarkId::new("bloomfilter, new", ids), |b| {
            b.iter(|| black_box(theirs.check(&other[next(&other)].bytes())));
        });
    }
}

criterion_group!(filter, filters);
criterion_main!(filter);
