//! Real processes and the real kernel: children that are killed, file systems that lose power or run full,
//! sled folders that are harmed under an open store, and two processes at one store.
//!
//! A child process (`worker.rs`) asks the store with several threads and reports every question before it is
//! asked and every answer after it was heard, through a pipe. The parent's oracle (`oracle.rs`) keeps apart
//! what was acknowledged, what was in flight and what was refused, and lives outside of the store. What is
//! tested is a `Subject`: firstseen, or plain sled, to show that the harness can fail (`plain_sled.rs`).
//!
//! How much is tried: `FIRSTSEEN_KILLS`, `FIRSTSEEN_POWER_CUTS`, `FIRSTSEEN_FULL_DISKS`,
//! `FIRSTSEEN_VANDALISM`, `FIRSTSEEN_RACES`, `FIRSTSEEN_SLED_CUTS`, `FIRSTSEEN_FOLDER_ROUNDS`; where to begin: `FIRSTSEEN_CRASH_SEED`.
//! Each test prints a line `proof | row | count | unit | details`, and each failure the line that replays it.
//! When processes are killed is up to the machine, so a replay tries the same things, not the same instants.

#![allow(clippy::disallowed_macros, reason = "a line of what was tried is printed")]

mod aim;
mod child;
mod dice;
mod folder;
mod full;
mod harm;
mod job;
mod kill;
mod mount;
mod oracle;
mod own;
mod plain_sled;
mod power;
mod report;
mod shutdown;
mod small;
mod subject;
mod two;
mod vandals;
mod wire;
mod worker;
