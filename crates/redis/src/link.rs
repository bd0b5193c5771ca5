//! A connection that is made anew when it is broken.

use crate::error::RedisError;
use crate::reply::Reply;
use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::{
    AsyncConnectionConfig, Client, Cmd, ErrorKind, Pipeline, RedisFuture, ScriptInvocation,
    ServerErrorKind, Value,
};
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;
use tokio::sync::Mutex;

/// Where the server is.
#[derive(Clone)]
pub(crate) enum Server {
    One(Client),
    #[cfg(feature = "cluster")]
    Cluster(Box<redis::cluster::ClusterClient>),
}

/// A connection to it, shared by all who use it.
#[derive(Clone)]
enum Wire {
    One(MultiplexedConnection),
    #[cfg(feature = "cluster")]
    Cluster(redis::cluster_async::ClusterConnection),
}

/// One connection, which is made when it is first used, and again after an error that it may not survive.
pub(crate) struct Link {
    server: Server,
    connect_max: Duration,
    /// A connection, and how many were made before it.
    open: Mutex<(Option<Wire>, u64)>,
    /// What the server calls the connection.
    name: AtomicI64,
}

/// Nobody has asked.
const UNNAMED: i64 = -1;
/// The server does not say.
const NAMELESS: i64 = -2;

impl Link {
    pub(crate) fn new(server: Server, connect_max: Duration) -> Self {
        Self { server, connect_max, open: Mutex::new((None, 0)), name: AtomicI64::new(UNNAMED) }
    }

    /// Sends a command and waits for its answer, at most so long.
    pub(crate) async fn command(
        &self,
        what: &'static str,
        command: &Cmd,
        answer_max: Duration,
    ) -> Result<Reply, RedisError> {
        let (mut wire, number) = self.wire().await?;
        let asked = tokio::time::timeout(answer_max, command.query_async(&mut wire)).await;
        self.judge(what, asked.ok(), number, answer_max).await
    }

    /// Runs a script, which is loaded where the server does not know it, and waits for its answer.
    pub(crate) async fn script(
        &self,
        what: &'static str,
        script: &ScriptInvocation<'_>,
        answer_max: Duration,
    ) -> Result<Reply, RedisError> {
        let (mut wire, number) = self.wire().await?;
        let asked = tokio::time::timeout(answer_max, script.invoke_async(&mut wire)).await;
        self.judge(what, asked.ok(), number, answer_max).await
    }

    /// Asks what the server calls this connection, unless that is known, so that [`wake`](Self::wake) can name it. It is no
    /// error if that may not be asked.
    pub(crate) async fn ask_name(&self, answer_max: Duration) -> Result<(), RedisError> {
        let is_one = matches!(self.server, Server::One(_));
        if !is_one || self.name.load(Ordering::Relaxed) != UNNAMED {
            return Ok(());
        }
        let what = "asking for the id of the connection";
        let name = match self.command(what, &words("CLIENT", "ID"), answer_max).await {
            Ok(Reply { value: Value::Int(name), .. }) => name,
            Err(error) if error.code().is_none() => return Err(error),
            Ok(_) | Err(_) => NAMELESS,
        };
        self.name.store(name, Ordering::Relaxed);
        Ok(())
    }

    /// Ends a command of another connection that waits at the server. Where that is not known or not allowed, the command
    /// waits as long as it was told to.
    pub(crate) async fn wake(&self, sleeper: &Self, answer_max: Duration) {
        let name = sleeper.name.load(Ordering::Relaxed);
        if name < 0 {
            return;
        }
        let mut wake = words("CLIENT", "UNBLOCK");
        if let Err(error) = self.command("ending a wait", wake.arg(name), answer_max).await {
            tracing::debug!(%error, "the server was not told to end a wait");
        }
    }

    async fn wire(&self) -> Result<(Wire, u64), RedisError> {
        let mut open = self.open.lock().await;
        let (wire, number) = &mut *open;
        if let Some(wire) = wire {
            return Ok((wire.clone(), *number));
        }
        let what = "connecting";
        let made = tokio::time::timeout(self.connect_max, connect(&self.server));
        let after = self.connect_max;
        let made = made.await.map_err(|_| RedisError::NoAnswer { what, after })?;
        let made = made.map_err(RedisError::of(what))?;
        *number += 1;
        self.name.store(UNNAMED, Ordering::Relaxed);
        *wire = Some(made.clone());
        Ok((made, *number))
    }

    /// Gives the connection up if the answer says that it is no good; `None`: there was no answer.
    async fn judge(
        &self,
        what: &'static str,
        answer: Option<Result<Value, redis::RedisError>>,
        number: u64,
        after: Duration,
    ) -> Result<Reply, RedisError> {
        let answer = match answer {
            Some(Ok(value)) => return Ok(Reply { what, value }),
            Some(Err(source)) if is_well(&source) => {
                return Err(RedisError::Server { what, source });
            }
            Some(Err(source)) => RedisError::Server { what, source },
            None => RedisError::NoAnswer { what, after },
        };
        let mut open = self.open.lock().await;
        // Somebody may have made another meanwhile.
        if open.1 == number {
            open.0 = None;
        }
        Err(answer)
    }
}

/// Whether the connection is well after this error: the server has answered, and is the one to ask.
fn is_well(error: &redis::RedisError) -> bool {
    match error.kind() {
        // The address may lead to another server after a failover.
        ErrorKind::Server(
            ServerErrorKind::ReadOnly
            | ServerErrorKind::MasterDown
            | ServerErrorKind::ClusterDown
            | ServerErrorKind::Moved
            | ServerErrorKind::BusyLoading,
        ) => false,
        ErrorKind::Server(_) | ErrorKind::Extension => true,
        _ => false,
    }
}

async fn connect(server: &Server) -> Result<Wire, redis::RedisError> {
    match server {
        Server::One(client) => {
            // Each call has a limit of its own, and so has this.
            let config = AsyncConnectionConfig::new()
                .set_connection_timeout(None)
                .set_response_timeout(None);
            let wire = client.get_multiplexed_async_connection_with_config(&config).await?;
            Ok(Wire::One(wire))
        }
        #[cfg(feature = "cluster")]
        Server::Cluster(client) => Ok(Wire::Cluster(client.get_async_connection().await?)),
    }
}

fn words(name: &str, second: &str) -> Cmd {
    let mut command = redis::cmd(name);
    command.arg(second);
    command
}

impl ConnectionLike for Wire {
    fn req_packed_command<'a>(&'a mut self, cmd: &'a Cmd) -> RedisFuture<'a, Value> {
        match self {
            Self::One(wire) => wire.req_packed_command(cmd),
            #[cfg(feature = "cluster")]
            Self::Cluster(wire) => wire.req_packed_command(cmd),
        }
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        pipeline: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        match self {
            Self::One(wire) => wire.req_packed_commands(pipeline, offset, count),
            #[cfg(feature = "cluster")]
            Self::Cluster(wire) => wire.req_packed_commands(pipeline, offset, count),
        }
    }

    fn get_db(&self) -> i64 {
        match self {
            Self::One(wire) => wire.get_db(),
            #[cfg(feature = "cluster")]
            Self::Cluster(wire) => wire.get_db(),
        }
    }
}

/// Returns a cluster by some of its nodes.
#[cfg(feature = "cluster")]
pub(crate) fn cluster(
    urls: impl IntoIterator<Item = String>,
    answer_max: Duration,
) -> Result<Server, RedisError> {
    // Each call has a limit of its own, which is shorter, also if it waits at the server.
    let client = redis::cluster::ClusterClientBuilder::new(urls)
        .connection_timeout(answer_max)
        .response_timeout(answer_max * 2 + Duration::from_secs(10));
    let client = client.build().map_err(RedisError::of("reading the urls"))?;
    Ok(Server::Cluster(Box::new(client)))
}
