//! Redis and Valkey: a stream, with an append-only file that is synced each second.

use super::{Broker, UNCONFIRMED_MAX, id, payload};
use crate::Result;
use crate::arguments::Arguments;
use firstseen_redis::{RedisOptions, RedisSource};
use firstseen_servers::{Server, redis as redis_server, valkey};

const FILES: [&str; 2] = ["--appendonly", "yes"];

pub(crate) struct Redis(Server);

pub(crate) struct Valkey(Server);

impl Broker for Redis {
    const KEY: &'static str = "redis";
    const NAME: &'static str = "Redis streams";

    type Source = RedisSource;

    async fn start() -> Self {
        Self(redis_server::start_with(&FILES).await)
    }

    async fn fill(&self, queue: &str, arguments: &Arguments) -> Result<()> {
        fill(&self.0, queue, arguments).await
    }

    async fn source(&self, queue: &str) -> Result<RedisSource> {
        source(&self.0, queue).await
    }

    async fn empty(&self, queue: &str) -> Result<()> {
        empty(&self.0, queue).await
    }
}

impl Broker for Valkey {
    const KEY: &'static str = "valkey";
    const NAME: &'static str = "Valkey streams";

    type Source = RedisSource;

    async fn start() -> Self {
        Self(valkey::start_with(&FILES).await)
    }

    async fn fill(&self, queue: &str, arguments: &Arguments) -> Result<()> {
        fill(&self.0, queue, arguments).await
    }

    async fn source(&self, queue: &str) -> Result<RedisSource> {
        source(&self.0, queue).await
    }

    async fn empty(&self, queue: &str) -> Result<()> {
        empty(&self.0, queue).await
    }
}

async fn connect(server: &Server) -> Result<redis::aio::MultiplexedConnection> {
    let client = redis::Client::open(redis_server::url(server))?;
    Ok(client.get_multiplexed_async_connection().await?)
}

async fn fill(server: &Server, queue: &str, arguments: &Arguments) -> Result<()> {
    let mut connection = connect(server).await?;
    let (payload, mut n) = (payload(arguments), 0);
    while n < arguments.messages {
        let end = arguments.messages.min(n + UNCONFIRMED_MAX as u64);
        let mut adds = redis::pipe();
        for n in n..end {
            adds.cmd("XADD").arg(queue).arg("*").arg("id").arg(id(n));
            adds.arg("payload").arg(&payload).ignore();
        }
        adds.exec_async(&mut connection).await?;
        n = end;
    }
    Ok(())
}

async fn source(server: &Server, queue: &str) -> Result<RedisSource> {
    let url = redis_server::url(server);
    Ok(RedisSource::connect(&url, queue, "price", RedisOptions::new()).await?)
}

async fn empty(server: &Server, queue: &str) -> Result<()> {
    let mut connection = connect(server).await?;
    redis::cmd("DEL").arg(queue).exec_async(&mut connection).await?;
    Ok(())
}
