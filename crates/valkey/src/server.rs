//! What a server says of itself, and whether it will do.

use crate::fault;
use crate::options::{Durability, ValkeyOptions};
use firstseen_shared::{Error, ErrorKind, Result};
use redis::Value;
use redis::aio::MultiplexedConnection;
use std::collections::HashMap;

const WHAT: &str = "connecting to the server";

/// The oldest version: scripts whose errors have a code, and `SET` with `PXAT`.
const OLDEST: (u32, u32) = (7, 0);
/// The first with `WAITAOF`.
const WAITAOF: (u32, u32) = (7, 2);

/// What `INFO` says.
#[derive(Debug)]
pub(crate) struct Server {
    fields: HashMap<String, String>,
}

impl Server {
    pub(crate) async fn ask(connection: &mut MultiplexedConnection) -> Result<Self> {
        let sections = ["server", "memory", "replication", "persistence"];
        let mut questions = redis::pipe();
        for section in sections {
            questions.cmd("INFO").arg(section);
        }
        let replies = connection.send_packed_commands(&questions, 0, sections.len()).await;
        let replies = replies.map_err(|error| fault::of_connection(WHAT, error))?;
        let mut text = String::new();
        for reply in replies {
            match fault::judge(WHAT, reply) {
                fault::Verdict::Answer(Value::BulkString(part)) => {
                    text.push_str(&String::from_utf8_lossy(&part));
                }
                fault::Verdict::Answer(Value::VerbatimString { text: part, .. }) => {
                    text.push_str(&part);
                }
                fault::Verdict::Failed(error) => return Err(error),
                fault::Verdict::Later { error, .. } => {
                    return Err(Error::new(ErrorKind::Unavailable, WHAT, error));
                }
                _ => return Err(fault::strange(WHAT)),
            }
        }
        Ok(Self::of(&text))
    }

    fn of(info: &str) -> Self {
        let fields = info.lines().filter_map(|line| line.trim_end().split_once(':'));
        Self { fields: fields.map(|(name, value)| (name.into(), value.into())).collect() }
    }

    fn field(&self, name: &str) -> Option<&str> {
        self.fields.get(name).map(String::as_str)
    }

    /// Returns what it is, for people.
    pub(crate) fn name(&self) -> String {
        let version = self.field("valkey_version").map(|version| ("Valkey", version));
        let version = version.or_else(|| Some(("Redis", self.field("redis_version")?)));
        let (name, version) = version.unwrap_or(("a server of unknown version", ""));
        format!("{name} {version}").trim_end().to_owned()
    }

    /// Returns whether it has an append-only file.
    pub(crate) fn has_append_only_file(&self) -> bool {
        self.field("aof_enabled") == Some("1")
    }

    /// Checks that it may be used with these options.
    pub(crate) fn check(&self, options: &ValkeyOptions) -> Result<()> {
        if self.field("loading") == Some("1") {
            return Err(fault::unavailable(WHAT, "the server reads its files"));
        }
        if !matches!(self.field("role"), Some("master")) {
            return Err(fault::unavailable(
                WHAT,
                "the server is a replica, and cannot be written to",
            ));
        }
        let version = self.field("redis_version").and_then(version_of);
        if version.is_none_or(|version| version < OLDEST) {
            return Err(self.unsuitable("Redis 7.0 or Valkey is needed"));
        }
        if let Durability::Disk { .. } = options.durability {
            if version < Some(WAITAOF) {
                return Err(self.unsuitable("Durability::Disk needs Redis 7.2 or Valkey"));
            }
            if !self.has_append_only_file() {
                return Err(self
                    .unsuitable("Durability::Disk needs an append-only file: set appendonly yes"));
            }
        }
        match self.field("maxmemory_policy") {
            Some("noeviction") => Ok(()),
            _ if options.accepts_eviction => Ok(()),
            Some(policy) => Err(self.unsuitable(&format!(
                "maxmemory-policy is {policy}: when its memory is full it removes claims, and their ids are first again. Set it to noeviction, or accept that (ValkeyOptions::accept_eviction)"
            ))),
            None => Err(self.unsuitable(
                "INFO does not say what it does when its memory is full (maxmemory_policy): see to it that it removes nothing, and then set ValkeyOptions::accept_eviction",
            )),
        }
    }

    fn unsuitable(&self, why: &str) -> Error {
        Error::new(ErrorKind::Environment, WHAT, format!("{} will not do: {why}", self.name()))
    }
}

fn version_of(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text.split('.').map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "# Server\r\nredis_version:7.2.4\r\nvalkey_version:9.1.2\r\n\
        maxmemory_policy:noeviction\r\nrole:master\r\nloading:0\r\naof_enabled:1\r\n";

    fn refused(from: &str, to: &str, options: &ValkeyOptions) -> Option<(ErrorKind, String)> {
        let checked = Server::of(&GOOD.replace(from, to)).check(options);
        checked.err().map(|error| (error.kind(), error.to_string()))
    }

    #[test]
    fn a_server_that_is_set_up_well_is_taken() {
        let disk = ValkeyOptions::new().durability(Durability::Disk { replicas: 0 });
        assert_eq!(refused("", "", &ValkeyOptions::new()), None);
        assert_eq!(refused("", "", &disk), None);
        assert_eq!(Server::of(GOOD).name(), "Valkey 9.1.2");
    }

    #[test]
    fn what_evicts_or_does_not_say_so_is_refused_unless_that_is_accepted() {
        for to in ["allkeys-lru", "volatile-ttl", "something-new"] {
            let (kind, text) = refused("noeviction", to, &ValkeyOptions::new()).expect("refused");
            assert_eq!(kind, ErrorKind::Environment);
            assert!(text.contains(to) && text.contains("noeviction"), "{text}");
            assert_eq!(refused("noeviction", to, &ValkeyOptions::new().accept_eviction()), None);
        }
        let hidden = ("maxmemory_policy:noeviction", "");
        assert_eq!(
            refused(hidden.0, hidden.1, &ValkeyOptions::new()).expect("refused").0,
            ErrorKind::Environment
        );
        assert_eq!(refused(hidden.0, hidden.1, &ValkeyOptions::new().accept_eviction()), None);
    }

    #[test]
    fn replicas_and_loading_servers_are_unavailable() {
        for (from, to) in [("master", "slave"), ("role:master", ""), ("loading:0", "loading:1")] {
            let refused = refused(from, to, &ValkeyOptions::new()).expect("refused");
            assert_eq!(refused.0, ErrorKind::Unavailable, "{to}");
        }
    }

    #[test]
    fn old_servers_and_those_without_a_file_to_wait_for_are_refused() {
        let disk = ValkeyOptions::new().durability(Durability::Disk { replicas: 1 });
        let plain = ValkeyOptions::new();
        for (from, to, options) in [
            ("7.2.4", "6.2.14", &plain),
            ("7.2.4", "five", &plain),
            ("redis_version", "no_version", &plain),
            ("7.2.4", "7.0.15", &disk),
            ("aof_enabled:1", "aof_enabled:0", &disk),
        ] {
            let refused = refused(from, to, options).expect("refused");
            assert_eq!(refused.0, ErrorKind::Environment, "{to}");
        }
    }
}
