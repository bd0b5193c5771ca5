//! A queue at a real server.

use async_nats::jetstream::stream::{Config, RetentionPolicy, StorageType};
use async_nats::jetstream::{self, Context, message::PublishMessage};
use firstseen_consumer::testkit::Fixture;
use firstseen_consumer::{Delivery, Source, Want};
use firstseen_nats::{NatsOptions, NatsSource, NatsToken};
use futures_util::StreamExt;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// How long anything may take on a machine with other work.
pub(crate) const LATE: Duration = Duration::from_secs(60);

/// Connects, also if the server is away for a while. What it has not answered after `answer_max` is an error.
pub(crate) async fn connect(address: &str, answer_max: Duration) -> Context {
    let end = Instant::now() + LATE;
    let client = loop {
        match async_nats::connect(address).await {
            Ok(client) => break client,
            Err(error) => assert!(Instant::now() < end, "{error}"),
        }
        sleep(Duration::from_millis(10)).await;
    };
    let mut context = jetstream::new(client);
    context.set_timeout(answer_max);
    context
}

/// Creates a stream with files, and one for dead letters, if they are not there.
pub(crate) async fn create_streams(context: &Context, name: &str, duplicate_window: Duration) {
    for (name, subject, window) in [
        (name.to_owned(), format!("{name}.>"), duplicate_window),
        (format!("{name}-dead"), format!("dead-{name}"), Duration::from_secs(120)),
    ] {
        let config = Config {
            name,
            subjects: vec![subject],
            storage: StorageType::File,
            retention: RetentionPolicy::Limits,
            duplicate_window: window,
            ..Config::default()
        };
        let end = Instant::now() + LATE;
        // The server may be away.
        while let Err(error) = context.get_or_create_stream(config.clone()).await {
            assert!(Instant::now() < end, "no stream: {error}");
            sleep(Duration::from_millis(50)).await;
        }
    }
}

/// Publishes until the server has it, also if it is away for a while. Returns whether the server knew the id.
pub(crate) async fn publish(context: &Context, subject: &str, id: &str, payload: &str) -> bool {
    let end = Instant::now() + LATE;
    loop {
        let message = PublishMessage::build().payload(payload.to_owned().into()).message_id(id);
        if let Ok(sent) = context.send_publish(subject.to_owned(), message).await
            && let Ok(known) = sent.await
        {
            return known.duplicate;
        }
        assert!(Instant::now() < end, "the server does not take messages");
        sleep(Duration::from_millis(20)).await;
    }
}

/// Takes the next message. After an error it asks again, as the loop does: where this process did not run for a while,
/// heartbeats are missing, and the stream of deliveries is built anew.
pub(crate) async fn take(source: &NatsSource) -> Delivery<NatsToken> {
    let end = Instant::now() + LATE;
    let want = Want { count: 1, bytes: 1 << 20, wait: Duration::from_millis(200) };
    loop {
        let mut taken = source.next(want).await;
        if let Ok(Some(taken)) = taken.as_mut().map(Vec::pop) {
            return taken;
        }
        assert!(Instant::now() < end, "no message: {taken:?}");
        sleep(Duration::from_millis(20)).await;
    }
}

/// Returns the payloads of all messages of a stream.
pub(crate) async fn payloads(context: &Context, stream: &str) -> Vec<String> {
    // Whoever asks for them does not ask again.
    let mut context = context.clone();
    context.set_timeout(LATE);
    let mut stream = context.get_stream(stream).await.unwrap();
    let count = stream.info().await.unwrap().state.messages;
    let config = jetstream::consumer::pull::OrderedConfig::default();
    let consumer = stream.create_consumer(config).await.unwrap();
    let messages = consumer.messages().await.unwrap().take(count as usize);
    let text = |message: Result<jetstream::Message, _>| {
        String::from_utf8_lossy(&message.unwrap().payload).into_owned()
    };
    messages.map(text).collect().await
}

/// A stream of its own at a server that many share.
pub(crate) struct Queue {
    address: String,
    answer_max: Duration,
    pub(crate) context: Context,
    pub(crate) name: String,
    pub(crate) options: NatsOptions,
}

impl Queue {
    pub(crate) async fn create(address: &str, options: NatsOptions) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("q{}", NEXT.fetch_add(1, Ordering::Relaxed));
        // The shortest that the server takes: what is published twice is left to us.
        let window = Duration::from_millis(100);
        Self::open(address, &name, window, LATE, options).await
    }

    /// Opens a queue of this name, and creates it if it is not there. `answer_max`: how long the server has for an answer.
    pub(crate) async fn open(
        address: &str,
        name: &str,
        duplicate_window: Duration,
        answer_max: Duration,
        options: NatsOptions,
    ) -> Self {
        let context = connect(address, answer_max).await;
        create_streams(&context, name, duplicate_window).await;
        let options = options.dead_letters(format!("dead-{name}"));
        let (address, name) = (address.to_owned(), name.to_owned());
        Self { address, answer_max, context, name, options }
    }
}

impl Fixture for Queue {
    type Source = NatsSource;

    async fn source(&self) -> NatsSource {
        // A connection of its own, as another process has.
        let context = connect(&self.address, self.answer_max).await;
        let end = Instant::now() + LATE;
        loop {
            let options = self.options.clone();
            match NatsSource::open(context.clone(), &self.name, "worker", options).await {
                Ok(source) => return source,
                // The server may be away.
                Err(error) => assert!(Instant::now() < end, "{error}"),
            }
            sleep(Duration::from_millis(50)).await;
        }
    }

    async fn publish(&self, id: &str, key: &str, payload: &str) {
        publish(&self.context, &format!("{}.{key}", self.name), id, payload).await;
    }

    async fn dead(&self) -> Vec<String> {
        payloads(&self.context, &format!("{}-dead", self.name)).await
    }
}
