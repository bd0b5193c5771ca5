//! What idle stores cost, and what remains of dropped ones.

use crate::support::{alone, id, is_alone, place};
use firstseen::Store;
use std::path::Path;
use std::time::Duration;

/// Resources of this process.
#[derive(Debug, Clone, Copy)]
struct Taken {
    resident_kb: u64,
    threads: u64,
    descriptors: u64,
}

fn taken() -> Taken {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let field = |name: &str| -> u64 {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.split_whitespace().next().unwrap().parse().unwrap()
    };
    let descriptors = std::fs::read_dir("/proc/self/fd").unwrap().count() as u64;
    Taken { resident_kb: field("VmRSS:"), threads: field("Threads:"), descriptors }
}

fn open_all(dir: &Path, count: u64) -> Vec<Store> {
    (0..count).map(|n| Store::open(dir.join(n.to_string())).unwrap()).collect()
}

/// Long enough for background work to start and for idle threads to exit.
fn let_it_rest() {
    (0..40).for_each(|_| std::thread::park_timeout(Duration::from_millis(100)));
}

#[cfg(target_os = "linux")]
#[test]
fn a_hundred_idle_stores_cost_little_memory_few_threads_and_few_descriptors() {
    let Some(dir) = is_alone() else {
        let (dir, _) = place();
        let name = "idle::a_hundred_idle_stores_cost_little_memory_few_threads_and_few_descriptors";
        return alone(name, dir.path());
    };
    // sled's process-wide cost comes with the first store.
    let first = Store::open(dir.join("first")).unwrap();
    let_it_rest();
    let before = taken();
    let stores = open_all(&dir, 100);
    let_it_rest();
    let after = taken();
    assert!(after.resident_kb - before.resident_kb < 60 << 10, "{before:?} {after:?}");
    // A few are ours; sled has seven, and more for a while.
    assert!(after.threads <= 40, "{before:?} {after:?}");
    assert!(after.descriptors - before.descriptors <= 500, "{before:?} {after:?}");
    // They all work.
    for store in stores.iter().chain([&first]) {
        assert!(store.claim(id(1)).unwrap().is_first_seen());
    }
    let_it_rest();
    let used = taken();
    assert!(used.resident_kb - before.resident_kb < 100 << 10, "{before:?} {used:?}");
}

#[cfg(target_os = "linux")]
#[test]
fn what_was_dropped_is_given_back() {
    let Some(dir) = is_alone() else {
        let (dir, _) = place();
        return alone("idle::what_was_dropped_is_given_back", dir.path());
    };
    let mut rounds = Vec::new();
    for round in 0..6 {
        let stores = open_all(&dir, 40);
        for store in &stores {
            for n in 0..200 {
                assert!(store.claim(id(round * 200 + n)).unwrap().is_first_seen());
            }
        }
        let open = taken();
        drop(stores);
        rounds.push((open, taken()));
    }
    let (second, last) = (rounds[1], rounds[5]);
    // The memory of 40 open stores varies by half between rounds; it used to grow fivefold.
    assert!(last.0.resident_kb <= second.0.resident_kb * 2, "{rounds:?}");
    assert!(last.1.resident_kb <= second.1.resident_kb + (8 << 10), "{rounds:?}");
    assert!(last.1.resident_kb * 3 <= last.0.resident_kb.max(60 << 10), "{rounds:?}");
    assert!(last.1.descriptors <= second.1.descriptors, "{rounds:?}");
    assert!(last.1.threads <= second.1.threads + 8, "{rounds:?}");
}

/// Peak resident memory of this process.
fn peak_kb() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}

/// The limits are the peaks that docs/SCALING.md gives, plus a margin.
fn assert_peak_with(budget_mb: u64, peak_mb_max: u64, dir: &Path) {
    let budget = usize::try_from(budget_mb << 20).unwrap();
    let store = Store::builder(dir.join("seen")).memory_budget(budget).open().unwrap();
    for n in 0..2_000_000 {
        assert!(store.claim(id(n)).unwrap().is_first_seen());
    }
    let peak_mb = peak_kb() >> 10;
    assert!(peak_mb <= peak_mb_max, "with {budget_mb} MiB: {peak_mb} MB");
}

#[cfg(target_os = "linux")]
#[test]
fn the_peak_of_memory_with_the_smallest_budget_is_as_documented() {
    let Some(dir) = is_alone() else {
        let (dir, _) = place();
        let name = "idle::the_peak_of_memory_with_the_smallest_budget_is_as_documented";
        return alone(name, dir.path());
    };
    assert_peak_with(4, 90, &dir);
}

#[cfg(target_os = "linux")]
#[test]
fn the_peak_of_memory_with_a_small_budget_is_as_documented() {
    let Some(dir) = is_alone() else {
        let (dir, _) = place();
        let name = "idle::the_peak_of_memory_with_a_small_budget_is_as_documented";
        return alone(name, dir.path());
    };
    assert_peak_with(32, 140, &dir);
}
