//! The cost of each part of a claim, per id: first seen, duplicates by where they are found, batches, flushing, expiry,
//! opening, and shared syncs.
//!
//! `cargo bench --bench parts`; one part: `cargo bench --bench parts -- 'claim/'`. For a whole run of mixed claims, use
//! `cargo bench --bench claim`.

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use firstseen::{Builder, ClaimOptions, Durability, ManualClock, Store, Ttl};
use std::hint::black_box;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Ids of a store that is too large for the CPU caches.
const MANY: u64 = 2_000_000;
/// Ids that are flushed or swept at once.
const SOME: u64 = 200_000;
/// Claims per reading of the clock.
const AT_ONCE: u64 = 1_000;

#[expect(clippy::disallowed_methods, reason = "a benchmark measures time")]
fn now() -> Instant {
    Instant::now()
}

/// A unique 16-byte id for each number that does not look sequential.
fn id(number: u64) -> [u8; 16] {
    let mix = |mut z: u64| {
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    };
    let mut id = [0; 16];
    id[..8].copy_from_slice(&mix(number + 1).to_le_bytes());
    id[8..].copy_from_slice(&mix(!number).to_le_bytes());
    id
}

fn place() -> (TempDir, Builder) {
    let dir = tempfile::tempdir().expect("a folder");
    let builder = Store::builder(dir.path().join("seen.db"));
    (dir, builder)
}

fn fill(store: &Store, ids: std::ops::Range<u64>) {
    for first in ids.clone().step_by(1_000) {
        let batch: Vec<[u8; 16]> = (first..ids.end.min(first + 1_000)).map(id).collect();
        store.claim_batch(&batch).expect("claims");
    }
}

/// Times `claims` calls in groups, so that reading the clock does not count.
fn timed(claims: u64, mut one: impl FnMut()) -> Duration {
    let mut sum = Duration::ZERO;
    for at in (0..claims).step_by(AT_ONCE as usize) {
        let start = now();
        (at..claims.min(at + AT_ONCE)).for_each(|_| one());
        sum += start.elapsed();
    }
    sum
}

fn claims(c: &mut Criterion) {
    let mut group = c.benchmark_group("claim");
    let (_dir, builder) = place();
    let store = builder.open().expect("opens");
    fill(&store, 0..MANY);
    let mut next = MANY;
    group.bench_function("first", |b| {
        b.iter_custom(|claims| {
            timed(claims, || {
                next += 1;
                assert!(store.claim(id(next)).expect("claims").is_first_seen());
            })
        });
    });
    let mut back = 0;
    group.bench_function("recent duplicate", |b| {
        b.iter_custom(|claims| {
            timed(claims, || {
                back = (back + 1) % 1_000;
                assert!(store.claim(id(next - back)).expect("claims").is_duplicate());
            })
        });
    });
    store.freeze();
    store.run_background().expect("flushes");
    let mut old = 0;
    group.bench_function("flushed duplicate", |b| {
        b.iter_custom(|claims| {
            timed(claims, || {
                // A large stride coprime to the number of ids: visits all of them in scattered order.
                old = (old + 1_234_577) % MANY;
                assert!(store.claim(id(old)).expect("claims").is_duplicate());
            })
        });
    });
    group.bench_function("contains, never seen", |b| {
        b.iter_custom(|claims| {
            timed(claims, || {
                old += 1;
                assert!(!store.contains(id(u64::MAX / 2 + old)).expect("reads"));
            })
        });
    });
    group.throughput(Throughput::Elements(1_000));
    group.bench_function("first, batch of 1,000", |b| {
        b.iter_batched(
            || {
                next += 1_000;
                (next..next + 1_000).map(id).collect::<Vec<_>>()
            },
            |batch| black_box(store.claim_batch(&batch).expect("claims")),
            BatchSize::PerIteration,
        );
    });
    drop(store);
    group.throughput(Throughput::Elements(1));
    let beside = [
        ("flushed duplicate, mostly not in memory", None),
        ("flushed duplicate, mostly not in memory, read from sled", Some(u64::MAX)),
    ];
    for (name, locator_ids_min) in beside {
        let (_dir, builder) = place();
        let builder = builder.memory_budget(64 << 20);
        let builder = match locator_ids_min {
            Some(ids) => builder.locator_ids_min(ids),
            None => builder,
        };
        let store = builder.open().expect("opens");
        fill(&store, 0..4 * MANY);
        store.freeze();
        store.run_background().expect("flushes");
        group.bench_function(name, |b| {
            b.iter_custom(|claims| {
                timed(claims, || {
                    old = (old + 1_234_577) % (4 * MANY);
                    assert!(store.claim(id(old)).expect("claims").is_duplicate());
                })
            });
        });
    }
}

/// A store without background work, with `SOME` unflushed ids.
fn frozen(clock: &ManualClock, ttl: Ttl) -> (TempDir, Store) {
    let (dir, builder) = place();
    let builder = builder.background(false).clock(clock.clone()).ttl(ttl);
    let store = builder.memory_budget(1 << 30).open().expect("opens");
    fill(&store, 0..SOME);
    store.freeze();
    (dir, store)
}

fn background(c: &mut Criterion) {
    let mut group = c.benchmark_group("background");
    group.sample_size(10).throughput(Throughput::Elements(SOME));
    let clock = ManualClock::at_millis(1_767_225_600_000);
    group.bench_function("flush", |b| {
        b.iter_batched(
            || frozen(&clock, Ttl::FOREVER),
            |(dir, store)| {
                store.run_background().expect("flushes");
                (dir, store)
            },
            BatchSize::PerIteration,
        );
    });
    group.bench_function("expire", |b| {
        b.iter_batched(
            || {
                let (dir, store) = frozen(&clock, Ttl::from_millis(60_000));
                store.run_background().expect("flushes");
                // Past the end of the generation as well.
                clock.advance(Duration::from_secs(3_600));
                (dir, store)
            },
            |(dir, store)| {
                store.run_background().expect("sweeps");
                (dir, store)
            },
            BatchSize::PerIteration,
        );
    });
}

fn reopen(c: &mut Criterion) {
    let mut group = c.benchmark_group("open");
    group.sample_size(10);
    let (dir, builder) = place();
    let store = builder.open().expect("opens");
    fill(&store, 0..MANY);
    store.close().expect("closes");
    let path = dir.path().join("seen.db");
    group.bench_function("2 million ids, closed in order", |b| {
        b.iter_batched(|| (), |()| Store::open(&path).expect("opens"), BatchSize::PerIteration);
    });
}

fn group_commit(c: &mut Criterion) {
    let mut group = c.benchmark_group("claim at Disk");
    let (_dir, builder) = place();
    let store = builder.open().expect("opens");
    let next = std::sync::atomic::AtomicU64::new(0);
    for threads in [1, 16, 64] {
        group.bench_function(format!("{threads} threads"), |b| {
            b.iter_custom(|claims| {
                let each = claims.div_ceil(threads);
                let start = now();
                std::thread::scope(|scope| {
                    for _ in 0..threads {
                        scope.spawn(|| {
                            let options = ClaimOptions::new().durability(Durability::Disk);
                            for _ in 0..each {
                                let n = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                                let answer = store.claim_with(id(n), options).expect("claims");
                                assert!(answer.is_first_seen());
                            }
                        });
                    }
                });
                // Rounding up made more claims than requested; scale to those.
                start.elapsed().mul_f64(claims as f64 / (each * threads) as f64)
            });
        });
    }
}

criterion_group!(parts, claims, background, reopen, group_commit);
criterion_main!(parts);
