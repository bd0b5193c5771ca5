//! Tests with real processes and the real kernel: killed children, power cuts, full disks, a damaged sled folder under
//! an open store, and several processes at one store.
//!
//! A child process (`worker.rs`) calls the store from several threads and reports every call, before it is made and
//! after it has returned, through a pipe or in memory that outlives it (`notebook.rs`). The parent's oracle (`oracle.rs`) is independent of the store and tells apart
//! what was acknowledged, in flight and refused. The store under test is a `Subject`: firstseen, or plain sled, to
//! prove that the harness can fail (`plain_sled.rs`). The ledger has its own child and oracle (`ledger`).
//!
//! `FIRSTSEEN_KILLS`, `FIRSTSEEN_CROWD_KILLS` (with `FIRSTSEEN_CROWD_THREADS`), `FIRSTSEEN_POWER_CUTS`, `FIRSTSEEN_FULL_DISKS`, `FIRSTSEEN_VANDALISM`, `FIRSTSEEN_RACES`,
//! `FIRSTSEEN_SLED_CUTS`, `FIRSTSEEN_FOLDER_ROUNDS` and `FIRSTSEEN_LEDGER_KILLS` set how much is tried,
//! `FIRSTSEEN_CRASH_SEED` the first seed.
//! Each test prints a line `proof | row | count | unit | details`, and each failure the command that replays it. The
//! timing of kills depends on the machine, so a replay repeats the calls, not the moments.

#![allow(clippy::disallowed_macros, reason = "a line of what was tried is printed")]

mod aim;
mod child;
mod crowd;
mod dice;
mod folder;
mod freeze;
mod full;
mod harm;
mod job;
mod kill;
mod ledger;
mod mount;
mod notebook;
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
