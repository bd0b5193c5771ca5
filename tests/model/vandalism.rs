//! Damages the sled folder of a closed store on a real disk (I10): no result may change.

use crate::ops::{Harm, Op, Rng, generate};
use crate::run::{Verdict, World};
use crate::{OPS_MAX, env};
use std::path::{Path, PathBuf};

/// All files below a folder.
fn files(dir: &Path) -> Vec<PathBuf> {
    let Ok(list) = std::fs::read_dir(dir) else { return Vec::new() };
    let mut all = Vec::new();
    for entry in list.flatten().map(|entry| entry.path()) {
        if entry.is_dir() { all.extend(files(&entry)) } else { all.push(entry) }
    }
    all.sort();
    all
}

/// Deletes the folder or a file, or truncates, zeroes or flips part of a file.
fn vandalise(sled: &Path, rng: &mut Rng) -> std::io::Result<()> {
    let all = files(sled);
    if all.is_empty() || rng.below(5) == 0 {
        return std::fs::remove_dir_all(sled).or(Ok(()));
    }
    let file = &all[rng.below(all.len() as u64) as usize];
    let mut bytes = std::fs::read(file)?;
    let at = rng.below(bytes.len() as u64 + 1) as usize;
    match rng.below(4) {
        0 => return std::fs::remove_file(file),
        1 => bytes.truncate(at),
        2 => {
            let end = bytes.len().min(at + 4096);
            bytes[at..end].fill(0);
        }
        // Flip a byte that is in use; most of sled's file is zeros.
        _ => {
            let written = bytes.iter().skip(at).position(|byte| *byte != 0).map(|n| n + at);
            if let Some(byte) = written.and_then(|at| bytes.get_mut(at)) {
                *byte ^= 1 << rng.below(8);
            }
        }
    }
    std::fs::write(file, bytes)
}

fn one(seed: u64) -> Verdict<u64> {
    let (setup, ops) = generate(seed, OPS_MAX);
    let dir = tempfile::tempdir().map_err(|e| e.to_string())?;
    let mut world = World::real(setup, dir.path().to_owned());
    let mut rng = Rng(seed);
    let mut harmed = 0;
    world.open().map_err(|e| format!("first open: {e}"))?;
    for (number, op) in ops.iter().enumerate() {
        if matches!(op, Op::Kill | Op::PowerCut { .. } | Op::Reopen { .. }) {
            // Flush first, so that there is a run to damage.
            world.step(&Op::Flush)?;
            world.close()?;
            vandalise(&dir.path().join("store.db/sled"), &mut rng).map_err(|e| e.to_string())?;
            harmed += 1;
        }
        let shards = match op {
            Op::Reopen { shards, .. } => *shards,
            _ => None,
        };
        let op = match op {
            Op::Kill | Op::PowerCut { .. } | Op::Reopen { .. } => {
                &Op::Reopen { shards, harm: Harm::Spared }
            }
            other => other,
        };
        world.step(op).map_err(|what| format!("op {number} {op:?}: {what}"))?;
    }
    world.finish().map_err(|what| format!("at the end: {what}"))?;
    Ok(harmed)
}

#[test]
fn i10_a_harmed_sled_folder_changes_no_answer() {
    let (first, enough) = (env("FIRSTSEEN_MODEL_SEED", 1), env("FIRSTSEEN_VANDALISM", 500));
    let (mut harmed, mut seed) = (0, first);
    while harmed < enough {
        harmed += one(seed).unwrap_or_else(|what| {
            panic!(
                "seed {seed}: {what}\nreplay: FIRSTSEEN_MODEL_SEED={seed} FIRSTSEEN_VANDALISM=1 cargo \
                 test --no-default-features --test model -- i10_a_harmed"
            )
        });
        seed += 1;
    }
    println!(
        "| vandalised sled folder | {harmed} times, {} stores | 0 answers changed |",
        seed - first
    );
}
