//! A real server, and a queue at it.

use async_nats::jetstream::stream::{Config, RetentionPolicy, StorageType};
use async_nats::jetstream::{self, Context, message::PublishMessage};
use firstseen_consumer::testkit::Fixture;
use firstseen_nats::{NatsOptions, NatsSource};
use futures_util::StreamExt;
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// How long anything may take on a machine with other work.
pub(crate) const LATE: Duration = Duration::from_secs(30);

pub(crate) struct Server {
    child: Child,
    port: u16,
    dir: tempfile::TempDir,
}

impl Server {
    pub(crate) async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let port = free_port();
        let child = spawn(port, &dir);
        let server = Self { child, port, dir };
        server.wait_until_ready().await;
        server
    }

    pub(crate) fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// `kill -9`.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Starts it again, on the same port and folder.
    pub(crate) async fn restart(&mut self) {
        self.child = spawn(self.port, &self.dir);
        self.wait_until_ready().await;
    }

    pub(crate) async fn connect(&self) -> Context {
        let end = Instant::now() + LATE;
        let client = loop {
            match async_nats::connect(self.url()).await {
                Ok(client) => break client,
                Err(error) => assert!(Instant::now() < end, "{error}"),
            }
            sleep(Duration::from_millis(10)).await;
        };
        let mut context = jetstream::new(client);
        // So that what a killed server has not answered is soon sent again.
        context.set_timeout(Duration::from_secs(1));
        context
    }

    async fn wait_until_ready(&self) {
        let end = Instant::now() + LATE;
        while tokio::net::TcpStream::connect(("127.0.0.1", self.port)).await.is_err() {
            assert!(Instant::now() < end, "nats-server does not listen on port {}", self.port);
            sleep(Duration::from_millis(10)).await;
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Returns a port that nobody listens on, and that no other server of this process has. It is below those that the system
/// gives to connections: one that tries a port of its own again and again may connect to itself.
fn free_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    loop {
        let number =
            std::process::id().wrapping_mul(97).wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
        let port = 10_000 + (number % 20_000) as u16;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

fn spawn(port: u16, dir: &tempfile::TempDir) -> Child {
    let mut command = Command::new("nats-server");
    command.args(["-js", "-a", "127.0.0.1", "-p", &port.to_string(), "-sd"]).arg(dir.path());
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().unwrap_or_else(|error| {
        panic!(
            "nats-server cannot be started ({error}): these tests need the real one; \
             apt-get install -y --no-install-recommends nats-server"
        )
    })
}

/// Creates a stream with files, and one for dead letters.
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
        context.create_stream(config).await.unwrap();
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

/// Returns the payloads of all messages of a stream.
pub(crate) async fn payloads(context: &Context, stream: &str) -> Vec<String> {
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
    server: Arc<Server>,
    pub(crate) context: Context,
    pub(crate) name: String,
    pub(crate) options: NatsOptions,
}

impl Queue {
    pub(crate) async fn create(server: &Arc<Server>, options: NatsOptions) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("q{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let context = server.connect().await;
        // The shortest that the server takes: what is published twice is left to us.
        create_streams(&context, &name, Duration::from_millis(100)).await;
        let options = options.dead_letters(format!("dead-{name}"));
        Self { server: Arc::clone(server), context, name, options }
    }
}

impl Fixture for Queue {
    type Source = NatsSource;

    async fn source(&self) -> NatsSource {
        // A connection of its own, as another process has.
        let context = self.server.connect().await;
        NatsSource::open(context, &self.name, "worker", self.options.clone()).await.unwrap()
    }

    async fn publish(&self, id: &str, key: &str, payload: &str) {
        publish(&self.context, &format!("{}.{key}", self.name), id, payload).await;
    }

    async fn dead(&self) -> Vec<String> {
        payloads(&self.context, &format!("{}-dead", self.name)).await
    }
}
