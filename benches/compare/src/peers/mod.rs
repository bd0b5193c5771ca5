//! The subjects, one file each, set up for this job as their own documentation advises. That advice is at the top of
//! each file.

mod firstseen;
mod fjall;
mod limits;
mod lmdb;
mod postgres;
mod redb;
mod redis;
#[cfg(feature = "rocksdb")]
mod rocksdb;
mod sled;
mod sqlite;
mod striped;

use crate::store::{Settings, Store};
use anyhow::{Result, bail};

/// Kind of subject, for the plan and the report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// firstseen, at one of its levels.
    Ours,
    /// A library in this process.
    Embedded,
    /// A server on loopback.
    Server,
    /// An upper bound: it lacks something that a store needs.
    Limit,
}

/// A subject by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subject {
    pub name: &'static str,
    pub kind: Kind,
    /// Its name in the report.
    pub title: &'static str,
    /// What a kill may lose when nothing is synced, by its documentation.
    pub promise: &'static str,
    /// Whether it supports more than one thread.
    pub shared: bool,
}

const fn subject(
    name: &'static str,
    kind: Kind,
    title: &'static str,
    promise: &'static str,
    shared: bool,
) -> Subject {
    Subject { name, kind, title, promise, shared }
}

const NOTHING: &str = "nothing";
const GROUP: &str = "up to 1,000 claims";

/// All subjects. A name with `-group` keeps one transaction open over 1,000 claims: faster than a transaction per
/// claim, but it promises less than firstseen does.
pub const SUBJECTS: [Subject; 20] = [
    subject("firstseen", Kind::Ours, "firstseen", NOTHING, true),
    subject("firstseen-buffered", Kind::Ours, "firstseen, `Buffered`", "up to 100 ms", true),
    subject("sled", Kind::Embedded, "sled 0.34.7", "up to 500 ms", true),
    subject("sled-fsync", Kind::Embedded, "sled, and fdatasync by us", "up to 500 ms", true),
    subject("redb", Kind::Embedded, "redb 4", "all since the last sync", true),
    subject("redb-group", Kind::Embedded, "redb 4, grouped", "all since the last sync", false),
    subject("fjall", Kind::Embedded, "fjall 3", NOTHING, true),
    subject("lmdb", Kind::Embedded, "LMDB", NOTHING, true),
    subject("lmdb-group", Kind::Embedded, "LMDB, grouped", GROUP, false),
    subject("sqlite", Kind::Embedded, "SQLite", NOTHING, true),
    subject("sqlite-group", Kind::Embedded, "SQLite, grouped", GROUP, false),
    subject("sqlite-normal", Kind::Embedded, "SQLite, synchronous normal", NOTHING, true),
    subject("rocksdb", Kind::Embedded, "RocksDB 7.8", NOTHING, true),
    subject("redis", Kind::Server, "Redis 7", NOTHING, true),
    subject("postgres", Kind::Server, "Postgres 15", "up to 600 ms", true),
    subject("postgres-group", Kind::Server, "Postgres 15, grouped", GROUP, false),
    subject("hashset", Kind::Limit, "`std` HashSet", "all", true),
    subject("hashset-file", Kind::Limit, "`std` HashSet and a file", "up to 64 KB of ids", true),
    subject("log", Kind::Limit, "bare log, no answers", NOTHING, true),
    subject("log-group", Kind::Limit, "bare log, shared syncs", NOTHING, true),
];

/// How claiming threads share a subject.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sharing {
    pub name: &'static str,
    /// What each thread has.
    pub access: &'static str,
    /// Whether a claim is atomic, and by what.
    pub claim: &'static str,
    /// The same of a batch.
    pub batch: &'static str,
}

const fn shared(
    name: &'static str,
    access: &'static str,
    claim: &'static str,
    batch: &'static str,
) -> Sharing {
    Sharing { name, access, claim, batch }
}

const EACH_ID: &str = "no: each id by itself";
const ONE_TXN: &str = "yes: one transaction";

/// Of every subject that more than one thread is measured with.
const SHARING: [Sharing; 12] = [
    shared("firstseen", "the same store", "yes", "yes: all or nothing"),
    shared("sled", "the same tree", "yes: `compare_and_swap`", EACH_ID),
    shared("sled-fsync", "the same tree", "yes: `compare_and_swap`", EACH_ID),
    shared("redb", "a write transaction in turn", ONE_TXN, ONE_TXN),
    shared(
        "fjall",
        "the same keyspace",
        "by a lock of ours for the id",
        "by locks of ours for its ids",
    ),
    shared("lmdb", "a write transaction in turn", ONE_TXN, ONE_TXN),
    shared("sqlite", "one connection, in turn, by a lock of ours", "yes: one statement", ONE_TXN),
    shared(
        "rocksdb",
        "the same database",
        "by a lock of ours for the id",
        "by locks of ours for its ids",
    ),
    shared("redis", "a connection", "yes: `SET NX`", EACH_ID),
    shared(
        "postgres",
        "a connection, and a process of the server",
        "yes: one statement",
        "yes: one statement",
    ),
    shared("hashset", "the same set, in turn, by a lock", "by that lock", "by that lock"),
    shared(
        "log-group",
        "the same file, in turn, by a lock",
        "it does not answer",
        "it does not answer",
    ),
];

pub fn sharing(name: &str) -> Option<Sharing> {
    SHARING.iter().find(|sharing| sharing.name == name).copied()
}

pub fn find(name: &str) -> Result<Subject> {
    if let Some(subject) = SUBJECTS.iter().find(|subject| subject.name == name) {
        return Ok(*subject);
    }
    let names: Vec<_> = SUBJECTS.iter().map(|subject| subject.name).collect();
    bail!("there is no store {name}; there are {}", names.join(", "))
}

/// Whether this build and this machine provide the subject.
pub fn is_here(name: &str) -> bool {
    match name {
        "rocksdb" => cfg!(feature = "rocksdb"),
        "redis" => redis::is_here(),
        "postgres" | "postgres-group" => postgres::is_here(),
        _ => true,
    }
}

/// Whether the subject tells first-seen ids from duplicates.
pub fn decides(name: &str) -> bool {
    !name.starts_with("log")
}

pub fn open(name: &str, settings: &Settings) -> Result<Box<dyn Store>> {
    std::fs::create_dir_all(&settings.dir)?;
    let grouped = name.ends_with("-group");
    Ok(match name {
        "firstseen" => firstseen::open(settings, ::firstseen::Durability::Process)?,
        "firstseen-buffered" => firstseen::open(settings, ::firstseen::Durability::Buffered)?,
        "sled" => sled::open(settings, sled::Flush::AsItIs)?,
        "sled-fsync" => sled::open(settings, sled::Flush::AndFdatasync)?,
        "redb" | "redb-group" => redb::open(settings, grouped)?,
        "fjall" => fjall::open(settings)?,
        "lmdb" | "lmdb-group" => lmdb::open(settings, grouped)?,
        "sqlite" | "sqlite-group" => sqlite::open(settings, grouped, sqlite::Unsynced::Off)?,
        "sqlite-normal" => sqlite::open(settings, grouped, sqlite::Unsynced::Normal)?,
        #[cfg(feature = "rocksdb")]
        "rocksdb" => rocksdb::open(settings)?,
        "redis" => redis::open(settings)?,
        "postgres" | "postgres-group" => postgres::open(settings, grouped)?,
        "hashset" => limits::hash_set(settings, false)?,
        "hashset-file" => limits::hash_set(settings, true)?,
        "log" => limits::log(settings, false)?,
        "log-group" => limits::log(settings, true)?,
        _ => bail!("{name} is not part of this build"),
    })
}
