//! A stream at a real server.

use firstseen::Store;
use firstseen::ledger::{Backoff, Failure, LedgerOptions};
use firstseen_consumer::testkit::Fixture;
use firstseen_consumer::{
    Consumer, ConsumerOptions, Counters, Delivery, Handle, Job, Source, Want,
};
use firstseen_redis::{RedisKeys, RedisOptions, RedisSource, RedisToken};
use firstseen_servers::{Server, redis as redis_server, valkey};
use redis::{AsyncConnectionConfig, FromRedisValue, RedisError, aio::MultiplexedConnection};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

/// How long anything may take on a machine with other work.
pub(crate) const LATE: Duration = Duration::from_secs(60);

pub(crate) const GROUP: &str = "payments";

#[derive(Debug, Clone, Copy)]
pub(crate) enum Kind {
    Redis,
    Valkey,
}

impl Kind {
    pub(crate) async fn start(self) -> Server {
        match self {
            Self::Redis => redis_server::start().await,
            Self::Valkey => valkey::start().await,
        }
    }

    pub(crate) async fn start_durable(self) -> Server {
        match self {
            Self::Redis => redis_server::start_durable().await,
            Self::Valkey => valkey::start_durable().await,
        }
    }

    pub(crate) async fn start_with(self, arguments: &[&str]) -> Server {
        match self {
            Self::Redis => redis_server::start_with(arguments).await,
            Self::Valkey => valkey::start_with(arguments).await,
        }
    }
}

/// A stream of its own, which is there, at a server.
pub(crate) struct Queue {
    /// Kept until the last queue at it is gone.
    server: Option<Arc<Server>>,
    url: String,
    pub(crate) name: String,
    pub(crate) options: RedisOptions,
}

impl Queue {
    pub(crate) async fn create(server: &Arc<Server>, options: RedisOptions) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("orders{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let mut queue = Self::at(redis_server::url(server), name, options.answer_max(LATE));
        queue.server = Some(Arc::clone(server));
        queue.create_stream().await;
        queue
    }

    /// Creates the stream without entries.
    pub(crate) async fn create_stream(&self) {
        self.ask::<()>(&["XGROUP", "CREATE", &self.name, "none", "$", "MKSTREAM"]).await;
    }

    /// A stream of this name, which may not be there yet.
    pub(crate) fn at(url: String, name: String, options: RedisOptions) -> Self {
        let options =
            options.keys(RedisKeys::Field("key".to_owned())).dead_letters(format!("{name}-dead"));
        Self { server: None, url, name, options }
    }

    /// A new server, and one stream at it.
    pub(crate) async fn alone(kind: Kind, options: RedisOptions) -> Self {
        Self::create(&Arc::new(kind.start().await), options).await
    }

    async fn connection(&self) -> Result<MultiplexedConnection, RedisError> {
        let client = redis::Client::open(self.url.as_str())?;
        // By default it has half a second for an answer.
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(LATE))
            .set_response_timeout(Some(LATE));
        client.get_multiplexed_async_connection_with_config(&config).await
    }

    pub(crate) async fn try_ask<T: FromRedisValue>(&self, words: &[&str]) -> Result<T, RedisError> {
        let mut connection = self.connection().await?;
        redis::cmd(words[0]).arg(&words[1..]).query_async(&mut connection).await
    }

    pub(crate) async fn ask<T: FromRedisValue>(&self, words: &[&str]) -> T {
        self.try_ask(words).await.unwrap_or_else(|error| panic!("{words:?}: {error}"))
    }

    /// Adds an entry with the fields that are looked for by default, and returns its id.
    pub(crate) async fn add(&self, id: &str) -> String {
        self.ask(&["XADD", &self.name, "*", "id", id, "payload", id]).await
    }

    pub(crate) async fn open(&self, options: RedisOptions) -> RedisSource {
        RedisSource::connect(&self.url, &self.name, GROUP, options).await.unwrap()
    }

    /// Returns how many entries are pending, over all consumers.
    pub(crate) async fn pending(&self) -> u64 {
        let (pending, ..): (u64, redis::Value, redis::Value, redis::Value) =
            self.ask(&["XPENDING", &self.name, GROUP]).await;
        pending
    }

    /// Returns the consumer of a pending entry, for how long it is idle, and how often it was delivered.
    pub(crate) async fn pending_of(&self, id: &str) -> Option<(String, Duration, u32)> {
        let list: Vec<(String, String, u64, u32)> =
            self.ask(&["XPENDING", &self.name, GROUP, id, id, "1"]).await;
        let first = list.into_iter().next();
        first.map(|(_, consumer, idle, count)| (consumer, Duration::from_millis(idle), count))
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }
}

impl Fixture for Queue {
    type Source = RedisSource;

    async fn source(&self) -> RedisSource {
        let end = Instant::now() + LATE * 2;
        loop {
            let options = self.options.clone();
            // The server may be away.
            match RedisSource::connect(&self.url, &self.name, GROUP, options).await {
                Ok(source) => return source,
                Err(error) => assert!(Instant::now() < end, "{error}"),
            }
            sleep(Duration::from_millis(50)).await;
        }
    }

    async fn publish(&self, id: &str, key: &str, payload: &str) {
        let end = Instant::now() + LATE * 2;
        let words = ["XADD", &self.name, "*", "id", id, "key", key, "payload", payload];
        while let Err(error) = self.try_ask::<String>(&words).await {
            assert!(Instant::now() < end, "{error}");
            sleep(Duration::from_millis(20)).await;
        }
    }

    async fn dead(&self) -> Vec<String> {
        self.dead_fields("payload").await
    }
}

impl Queue {
    /// Returns a field of each dead letter.
    pub(crate) async fn dead_fields(&self, field: &str) -> Vec<String> {
        type Entries = Vec<(String, Vec<String>)>;
        let dead: Entries = self.ask(&["XRANGE", &format!("{}-dead", self.name), "-", "+"]).await;
        let value = |(_, fields): (String, Vec<String>)| {
            let at = fields.iter().step_by(2).position(|name| name == field);
            at.map(|at| fields[at * 2 + 1].clone())
        };
        dead.into_iter().filter_map(value).collect()
    }
}

pub(crate) fn want(count: usize, wait: Duration) -> Want {
    Want { count, bytes: 1 << 20, wait }
}

/// Takes deliveries until there are as many, or the time is up.
pub(crate) async fn take(
    source: &RedisSource,
    count: usize,
    time: Duration,
) -> Vec<Delivery<RedisToken>> {
    let end = Instant::now() + time;
    let mut taken = Vec::new();
    while taken.len() < count && Instant::now() < end {
        let wait = (end - Instant::now()).min(Duration::from_millis(200));
        match source.next(want(count - taken.len(), wait)).await {
            // A server with other work, and a source that has little patience.
            Err(firstseen_redis::RedisError::NoAnswer { .. }) => {}
            more => taken.extend(more.unwrap()),
        }
    }
    taken
}

/// Has the server give a new entry to a call that was given up, as the loop does when it stops, or when a call takes too
/// long. Returns the entry's id; `None` if the call had ended before, on a machine with other work.
pub(crate) async fn give_to_a_call_that_is_given_up(
    source: &RedisSource,
    queue: &Queue,
) -> Option<String> {
    let waits = async || {
        let clients: String = queue.ask(&["CLIENT", "LIST"]).await;
        clients.contains("cmd=xreadgroup")
    };
    until("the call waits at the server", async || {
        let next = source.next(want(9, LATE));
        let given_up = tokio::time::timeout(Duration::from_millis(100), next).await;
        assert!(given_up.is_err(), "nothing was there");
        waits().await
    })
    .await;
    let id = queue.add("order-17").await;
    let end = Instant::now() + LATE;
    loop {
        // In this order: a call that ends has its entry before.
        let has_ended = !waits().await;
        if queue.pending_of(&id).await.is_some() {
            return Some(id);
        }
        if has_ended {
            return None;
        }
        assert!(Instant::now() < end, "the server gives it to nobody");
        sleep(Duration::from_millis(10)).await;
    }
}

pub(crate) fn texts(deliveries: &[Delivery<RedisToken>]) -> Vec<String> {
    let text =
        |delivery: &Delivery<_>| String::from_utf8_lossy(&delivery.message.payload).into_owned();
    deliveries.iter().map(text).collect()
}

/// Waits until something is so.
pub(crate) async fn until(what: &str, is_so: impl AsyncFn() -> bool) {
    let end = Instant::now() + LATE;
    while !is_so().await {
        assert!(Instant::now() < end, "{what}");
        sleep(Duration::from_millis(10)).await;
    }
}

/// A loop that runs over a store in a folder.
pub(crate) struct Running {
    pub(crate) handle: Handle,
    task: JoinHandle<Result<Counters, firstseen_consumer::Error>>,
}

impl Running {
    pub(crate) fn start<S, F, Fut>(source: S, dir: &Path, work: F) -> Self
    where
        S: Source,
        F: Fn(Job) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), Failure>> + Send + 'static,
    {
        let policies = LedgerOptions::new()
            .attempts_max(3)
            .backoff(Backoff::constant(Duration::from_millis(50)));
        let store = Store::open(dir.join("seen.db")).unwrap();
        let ledger = store.ledger_with("rules", policies).unwrap();
        let options = ConsumerOptions::new().busy_delay(Duration::from_millis(100));
        let options = options.poll(Duration::from_millis(100)).lag_every(Duration::from_millis(50));
        let consumer = Consumer::with_ledger(source, ledger, work).options(options);
        Self { handle: consumer.handle(), task: tokio::spawn(consumer.run()) }
    }

    pub(crate) async fn until(&self, what: &str, is_so: impl Fn(&Counters) -> bool) {
        let end = Instant::now() + LATE;
        while !is_so(&self.handle.counters()) {
            assert!(Instant::now() < end, "{what}: {:?}", self.handle.counters());
            assert!(!self.task.is_finished(), "{what}: the loop has ended by itself");
            sleep(Duration::from_millis(5)).await;
        }
    }

    pub(crate) async fn stop(self) -> Counters {
        self.handle.stop();
        self.task.await.unwrap().unwrap()
    }
}
