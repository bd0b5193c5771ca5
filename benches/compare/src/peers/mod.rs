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
