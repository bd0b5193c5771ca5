//! Partitions that move between three processes, each partition with a store of its own: a snapshot is what moves.
//!
//! What this pattern promises: **the outside record has the effect of every id once**, whatever owner is asked to hand over,
//! is killed, or wakes up after it was replaced.
//!
//! - A planned move loses nothing and repeats nothing: the last snapshot is taken when the old owner has stopped.
//! - After a kill, the new owner goes on from the newest snapshot. **What the dead owner did after it is done again**: the
//!   input is read from the offset in the snapshot, and claims made since are first seen again. Their messages have the ids
//!   that they had, and the record takes a message once. An effect outside that has no such id would happen twice.
//! - An owner that was replaced and does not know it is refused by its epoch, at the record and at the place of the
//!   snapshots. It may grant ids in its own store; nobody hears of it.
//!
//! ```sh
//! cargo run --release --package firstseen-snapshot --example moving_partitions
//! ```

#![allow(clippy::disallowed_macros, reason = "a program that prints")]

mod coordinator;
mod drive;
mod record;
mod worker;

use std::error::Error;
use std::path::Path;
use std::process::Command;

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().collect();
    if let [_, dir, name] = &args[..] {
        return worker::work(Path::new(dir), name);
    }
    let (dir, program) = (std::env::temp_dir(), std::env::current_exe()?);
    let dir = dir.join(format!("firstseen-moving-partitions-{}", std::process::id()));
    std::fs::create_dir_all(&dir)?;
    let start = |name: &str| {
        let mut command = Command::new(&program);
        command.arg(&dir).arg(name);
        command
    };
    let told = drive::run(&dir, 6, &start)?;
    println!("{told}");
    std::fs::remove_dir_all(dir)?;
    Ok(())
}
