//! Redis 7 on loopback: a hash an id, and a script for each call, so that reading and writing are one step. An append-only
//! file keeps what was written; `appendfsync always` to be on disk at each call, otherwise `no`.

use super::{LEASE_MS, Ledger, Session, Setting};
use crate::server::{self, Server};
use anyhow::{Context, Result};
use redis::{Client, Connection, Script};
use std::path::Path;

const PROGRAM: &str = "redis-server";

const BEGIN: &str = "
local now = redis.call('TIME')
now = now[1] * 1000 + math.floor(now[2] / 1000)
local old = redis.call('HMGET', KEYS[1], 's', 'l')
if old[1] and (old[1] ~= '0' or tonumber(old[2]) > now) then return 0 end
local token = redis.call('HINCRBY', KEYS[1], 't', 1)
redis.call('HSET', KEYS[1], 's', '0', 'l', now + ARGV[1])
return token";
const COMPLETE: &str = "
local old = redis.call('HMGET', KEYS[1], 's', 't')
if old[1] ~= '0' or old[2] ~= ARGV[1] then return 0 end
redis.call('HSET', KEYS[1], 's', '1', 'r', ARGV[2])
return 1";

pub fn is_here() -> bool {
    server::has_program(PROGRAM)
}

pub fn open(setting: Setting<'_>) -> Result<Box<dyn Ledger>> {
    let port = server::free_port()?;
    let client = Client::open(format!("redis://127.0.0.1:{port}/"))?;
    let fsync = if setting.disk { "always" } else { "no" };
    let mut command = server::command(Path::new(PROGRAM), None);
    command
        .args(["--bind", "127.0.0.1", "--port", &port.to_string(), "--daemonize", "no"])
        .args(["--appendonly", "yes", "--appendfsync", fsync, "--save", ""])
        .args(["--maxclients", &(setting.threads + 10).to_string()])
        .arg("--dir")
        .arg(setting.dir);
    let answers = || {
        let Ok(mut connection) = client.get_connection() else { return false };
        redis::cmd("PING").exec(&mut connection).is_ok()
    };
    let server = Server::start(command, port, &setting.dir.join("server.log"), answers)?;
    Ok(Box::new(Redis { _server: server, client }))
}

struct Redis {
    /// Ends when it is dropped.
    _server: Server,
    client: Client,
}

impl Ledger for Redis {
    fn session(&self) -> Result<Box<dyn Session + '_>> {
        let connection = self.client.get_connection().context("connecting to Redis")?;
        Ok(Box::new(Link {
            connection,
            begin: Script::new(BEGIN),
            complete: Script::new(COMPLETE),
        }))
    }
}

struct Link {
    connection: Connection,
    begin: Script,
    complete: Script,
}

impl Session for Link {
    fn begin(&mut self, id: &[u8]) -> Result<Option<u64>> {
        let token: u64 = self.begin.key(id).arg(LEASE_MS).invoke(&mut self.connection)?;
        Ok(Some(token).filter(|token| *token > 0))
    }

    fn complete(&mut self, id: &[u8], token: u64, result: &[u8]) -> Result<bool> {
        let landed: u64 =
            self.complete.key(id).arg(token).arg(result).invoke(&mut self.connection)?;
        Ok(landed == 1)
    }
}
