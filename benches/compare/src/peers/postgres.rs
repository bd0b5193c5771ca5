//! Postgres 15 on loopback: prepared `INSERT .. ON CONFLICT DO NOTHING`, one by one, or a batch in one statement.
//!
//! By its manual: `synchronous_commit` on to have a commit on disk before it returns (concurrent commits share a sync),
//! off to lose up to three times `wal_writer_delay` of commits in a crash; an array with `unnest` for many rows in one
//! statement; `shared_buffers` for memory and a larger `max_wal_size` for heavy writing.

use crate::server::{self, Server};
use crate::store::{GROUP_CLAIMS, MEMORY_BYTES, Session, Settings, Store};
use crate::workload::Sync;
use anyhow::{Context, Result, ensure};
use postgres::{Client, NoTls, Statement};
use rustix::process::Signal;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Postgres refuses to run as root.
const USER: &str = "postgres";

struct Postgres {
    server: Server,
    grouped: bool,
}

/// The folder with the newest version's programs; Debian keeps them out of PATH.
fn programs() -> Option<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").ok()?.flatten();
    let folders = versions.map(|entry| entry.path().join("bin"));
    folders.filter(|folder| folder.join("initdb").is_file()).max()
}

pub fn is_here() -> bool {
    programs().is_some()
}

fn user() -> Option<&'static str> {
    rustix::process::geteuid().is_root().then_some(USER)
}

fn connect(port: u16) -> Result<Client, postgres::Error> {
    Client::connect(&format!("host=127.0.0.1 port={port} user={USER} dbname=postgres"), NoTls)
}

fn init(programs: &Path, data: &Path) -> Result<()> {
    std::fs::create_dir_all(data)?;
    if let Some(user) = user() {
        let status = Command::new("chown").args(["-R", user]).arg(data).status()?;
        ensure!(status.success(), "giving {} to {user}", data.display());
    }
    let status = server::command(&programs.join("initdb"), user())
        .args(["-A", "trust", "-U", USER, "--no-sync", "-D"])
        .arg(data)
        .status()?;
    ensure!(status.success(), "initdb failed in {}: can {USER} reach it?", data.display());
    Ok(())
}

pub fn open(settings: &Settings, grouped: bool) -> Result<Box<dyn Store>> {
    let programs = programs().context("Postgres is not installed")?;
    let data = settings.dir.join("data");
    if !data.exists() {
        init(&programs, &data)?;
    }
    let port = server::free_port()?;
    let commit = if settings.sync == Sync::Each { "on" } else { "off" };
    let mut command = server::command(&programs.join("postgres"), user());
    command.arg("-D").arg(&data).args(["-p", &port.to_string(), "-h", "127.0.0.1"]);
    for setting in [
        "unix_socket_directories=".to_owned(),
        format!("shared_buffers={}MB", MEMORY_BYTES >> 20),
        format!("synchronous_commit={commit}"),
        format!("max_connections={}", settings.threads + 10),
        "max_wal_size=4GB".to_owned(),
    ] {
        command.args(["-c", &setting]);
    }
    let log = settings.dir.join("server.log");
    let server = Server::start(command, port, &log, || connect(port).is_ok())?;
    connect(port)?.batch_execute(
        "CREATE TABLE IF NOT EXISTS seen (id bytea PRIMARY KEY, at bigint NOT NULL)",
    )?;
    Ok(Box::new(Postgres { server, grouped }))
}

impl Store for Postgres {
    fn session(&self) -> Result<Box<dyn Session + '_>> {
        let mut client = connect(self.server.port)?;
        let one = client.prepare("INSERT INTO seen VALUES ($1, 0) ON CONFLICT DO NOTHING")?;
        let many = client
            .prepare("INSERT INTO seen SELECT unnest($1::bytea[]), 0 ON CONFLICT DO NOTHING")?;
        let grouped = self.grouped;
        Ok(Box::new(Link { client, one, many, grouped, claims: 0, is_open: false }))
    }

    fn close(self: Box<Self>) -> Result<()> {
        // Fast shutdown: ends open sessions and writes everything.
        self.server.stop(Signal::INT)
    }

    fn processes(&self) -> Vec<u32> {
        vec![self.server.id()]
    }
}

struct Link {
    client: Client,
    one: Statement,
    many: Statement,
    grouped: bool,
    claims: u64,
    /// Whether a group's transaction is open.
    is_open: bool,
}

impl Session for Link {
    fn claim(&mut self, id: &[u8]) -> Result<bool> {
        if self.grouped {
            if self.claims.is_multiple_of(GROUP_CLAIMS) {
                self.finish()?;
            }
            self.claims += 1;
            if !self.is_open {
                self.client.batch_execute("BEGIN")?;
                self.is_open = true;
            }
        }
        Ok(self.client.execute(&self.one, &[&id])? == 1)
    }

    fn claim_batch(&mut self, ids: &[&[u8]]) -> Result<u64> {
        // Sorted, so that two batches cannot deadlock.
        let mut ids = ids.to_vec();
        ids.sort_unstable();
        Ok(self.client.execute(&self.many, &[&ids])?)
    }

    /// A commit that waits for the disk covers all earlier ones, but only if it has a transaction id of its own.
    fn sync(&mut self) -> Result<()> {
        let begin = if self.is_open { "" } else { "BEGIN; SELECT pg_current_xact_id();" };
        self.is_open = false;
        let commit = "SET LOCAL synchronous_commit = on; COMMIT";
        Ok(self.client.batch_execute(&format!("{begin} {commit}"))?)
    }

    fn finish(&mut self) -> Result<()> {
        if self.is_open {
            self.is_open = false;
            self.client.batch_execute("COMMIT")?;
        }
        Ok(())
    }
}
