//! Damaged files (I11): every kind of damage to every file of a small store, except sled's. A store that opens must
//! return correct results; one that does not must say where it is damaged; repair must keep what is intact and report
//! what is not.
//!
//! `FIRSTSEEN_DAMAGES` sets how many of all damages are tried (`all` for every one), `FIRSTSEEN_DAMAGE_SEED` which. A
//! failure prints the command that replays it, with `FIRSTSEEN_DAMAGE` naming the one damage.

mod check;
mod kinds;
mod layout;
mod station;

use crate::env;
use check::{Outcome, check};
use kinds::{Damage, KINDS, sample};
use station::stations;
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::RecvTimeoutError;
use std::time::Duration;

/// Checking a store of a few kilobytes never takes longer, unless it hangs (I12).
const LONGEST: Duration = Duration::from_secs(60);

/// The case being tried, so that a hang can be reported.
type Watched = Mutex<Option<usize>>;

#[test]
fn i11_no_damage_is_silent_and_repair_keeps_what_is_whole() {
    let seed = env("FIRSTSEEN_DAMAGE_SEED", 1);
    let enough = match std::env::var("FIRSTSEEN_DAMAGES").as_deref() {
        Ok("all") => usize::MAX,
        _ => env("FIRSTSEEN_DAMAGES", 2_000) as usize,
    };
    let stations = stations(seed).expect("an undamaged store works");
    let mut cases = sample(&stations, enough, seed);
    if let Ok(only) = std::env::var("FIRSTSEEN_DAMAGE") {
        let named = |case: &(usize, usize, Damage)| name(case) == only;
        cases = sample(&stations, usize::MAX, seed).into_iter().filter(named).collect();
        assert!(!cases.is_empty(), "there is no damage {only} with seed {seed}");
    }
    let failed = |case, what: &str| {
        let name = name(case);
        format!(
            "seed {seed}, a store that was {}, {name}: {what}\nreplay: FIRSTSEEN_DAMAGE_SEED={seed} \
             FIRSTSEEN_DAMAGE='{name}' cargo test --no-default-features --test crash -- i11_no_damage",
            stations[case.0].name
        )
    };

    let next = AtomicUsize::new(0);
    let counts: Mutex<BTreeMap<(usize, Outcome), usize>> = Mutex::default();
    let failure: Mutex<Option<String>> = Mutex::default();
    let watched: [Watched; 2] = Default::default();
    let (progress, heard) = std::sync::mpsc::channel();
    let work = |watched: &Watched, progress: std::sync::mpsc::Sender<()>| loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        let Some(case) = cases.get(number) else { return };
        if failure.lock().expect("nobody panics under it").is_some() {
            return;
        }
        *watched.lock().expect("nobody panics under it") = Some(number);
        let (station, kind, damage) = (&stations[case.0], case.1, &case.2);
        let caught =
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| check(station, damage)));
        match caught.unwrap_or_else(|_| Err("panicked (see above)".to_owned())) {
            Ok(outcome) => {
                let mut counts = counts.lock().expect("nobody panics under it");
                *counts.entry((kind, outcome)).or_default() += 1;
            }
            Err(what) => {
                *failure.lock().expect("nobody panics under it") = Some(failed(case, &what));
            }
        }
        *watched.lock().expect("nobody panics under it") = None;
        progress.send(()).ok();
    };
    std::thread::scope(|scope| {
        let work = &work;
        for watched in &watched {
            let progress = progress.clone();
            scope.spawn(move || work(watched, progress));
        }
        drop(progress);
        // Ends when the last worker has, or when none has made progress for too long.
        loop {
            match heard.recv_timeout(LONGEST) {
                Ok(()) => {}
                Err(RecvTimeoutError::Disconnected) => return,
                Err(RecvTimeoutError::Timeout) => break,
            }
        }
        for number in watched.iter().filter_map(|w| *w.lock().expect("nobody panics under it")) {
            eprintln!("{}", failed(&cases[number], "it hangs"));
        }
        // A thread cannot be killed, and the scope would wait for it.
        std::process::exit(1);
    });
    if let Some(what) = failure.into_inner().expect("nobody panics under it") {
        panic!("{what}");
    }
    let counts = counts.into_inner().expect("nobody panics under it");
    print(cases.len(), &counts);
}

/// The name of a damage, as `FIRSTSEEN_DAMAGE` takes it.
fn name((station, _, damage): &(usize, usize, Damage)) -> String {
    let text = format!("{station} {damage:?}");
    let short = text.replace(crate::run::SIMULATED_DIR, "").replace(['"', '\'', ' '], "");
    short.replace("file:", "")
}

fn print(tried: usize, counts: &BTreeMap<(usize, Outcome), usize>) {
    let of = |outcome| -> usize {
        counts.iter().filter(|((_, o), _)| *o == outcome).map(|(_, count)| count).sum()
    };
    for (kind, name) in KINDS.iter().enumerate() {
        let row: Vec<String> = counts
            .iter()
            .filter(|((k, _), _)| *k == kind)
            .map(|((_, outcome), count)| format!("{outcome:?} {count}"))
            .collect();
        println!("  {name}: {}", row.join(", "));
    }
    println!(
        "proof | damaged files | {tried} | damages | noticed {}, by verify {}, by a rebuild {}, \
         harmless {}, unsynced tail cut {}; 0 silent",
        of(Outcome::Noticed),
        of(Outcome::ByVerify),
        of(Outcome::ByRebuild),
        of(Outcome::Harmless),
        of(Outcome::TornTail)
    );
}
