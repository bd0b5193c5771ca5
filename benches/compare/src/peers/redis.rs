//! Redis 7 on loopback: `SET id 1 NX PX ttl`, its documentation's recipe for "only once", one by one, or a batch in one
//! pipeline.
//!
//! By its persistence page: an append-only file keeps what was written; `appendfsync always` syncs before replying,
//! once per turn of the event loop for all clients and commands; `no` leaves it to the system and loses nothing in a
//! kill. Version 7.0 has no command to sync earlier writes, so it cannot be measured with a sync every 1,000 single
//! claims. It keeps everything in memory: there is no cache to bound.

use crate::server::{self, Server};
use crate::store::{Session, Settings, Store};
use crate::workload::Sync;
use anyhow::{Context, Result, bail, ensure};
use redis::{Client, Connection, Value};
use rustix::process::Signal;
use std::path::Path;

const PROGRAM: &str = "redis-server";
/// For claims without a ttl: a week, a typical choice, and longer than any run.
const TTL_DEFAULT_S: u64 = 7 * 24 * 3600;

pub fn is_here() -> bool {
    server::has_program(PROGRAM)
}

struct Redis {
    server: Server,
    client: Client,
    ttl_ms: u64,
}

pub fn open(settings: &Settings) -> Result<Box<dyn Store>> {
    ensure!(settings.sync != Sync::Thousand, "Redis 7.0 has no command to sync what came before");
    let port = server::free_port()?;
    let client = Client::open(format!("redis://127.0.0.1:{port}/"))?;
    let fsync = if settings.sync == Sync::Each { "always" } else { "no" };
    let mut command = server::command(Path::new(PROGRAM), None);
    command
        .args(["--bind", "127.0.0.1", "--port", &port.to_string(), "--daemonize", "no"])
        .args(["--appendonly", "yes", "--appendfsync", fsync, "--save", ""])
        .args(["--maxclients", &(settings.threads + 10).to_string()])
        .arg("--dir")
        .arg(&settings.dir);
    let answers = || {
        let Ok(mut connection) = client.get_connection() else { return false };
        // While it loads its file, it accepts connections but replies with an error.
        redis::cmd("PING").exec(&mut connection).is_ok()
    };
    let server = Server::start(command, port, &settings.dir.join("server.log"), answers)?;
    let ttl_s = if settings.ttl_s == 0 { TTL_DEFAULT_S } else { settings.ttl_s };
    Ok(Box::new(Redis { server, client, ttl_ms: ttl_s * 1_000 }))
}

impl Store for Redis {
    fn session(&self) -> Result<Box<dyn Session + '_>> {
        let connection = self.client.get_connection().context("connecting to Redis")?;
        Ok(Box::new(Link { connection, ttl_ms: self.ttl_ms }))
    }

    fn close(self: Box<Self>) -> Result<()> {
        self.server.stop(Signal::TERM)
    }

    fn processes(&self) -> Vec<u32> {
        vec![self.server.id()]
    }
}

struct Link {
    connection: Connection,
    ttl_ms: u64,
}

fn is_first(answer: &Value) -> Result<bool> {
    match answer {
        Value::Okay => Ok(true),
        Value::Nil => Ok(false),
        other => bail!("Redis answers {other:?}"),
    }
}

impl Session for Link {
    fn claim(&mut self, id: &[u8]) -> Result<bool> {
        let mut set = redis::cmd("SET");
        set.arg(id).arg(1).arg("NX").arg("PX").arg(self.ttl_ms);
        is_first(&set.query(&mut self.connection)?)
    }

    fn claim_batch(&mut self, ids: &[&[u8]]) -> Result<u64> {
        let mut pipeline = redis::Pipeline::with_capacity(ids.len());
        for id in ids {
            pipeline.cmd("SET").arg(*id).arg(1).arg("NX").arg("PX").arg(self.ttl_ms);
        }
        let answers: Vec<Value> = pipeline.query(&mut self.connection)?;
        let mut firsts = 0;
        for answer in &answers {
            firsts += u64::from(is_first(answer)?);
        }
        Ok(firsts)
    }

    fn sync(&mut self) -> Result<()> {
        bail!("Redis 7.0 has no command to sync what came before")
    }
}
