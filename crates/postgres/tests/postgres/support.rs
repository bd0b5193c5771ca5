//! Servers, schemas and stores for tests.

use firstseen_postgres::tokio_postgres::{self, Client, NoTls, Transaction};
use firstseen_postgres::{PostgresOptions, PostgresStore};
use firstseen_servers::{Proxy, Server, postgres};
use firstseen_shared::{
    Begun, Call, Claim, DedupStore, ErrorKind, OnLeaseEnd, Policy, Start, Timestamp, Ttl,
};
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep};

/// How long anything may take on a machine with other work.
pub(crate) const LATE: Duration = Duration::from_secs(120);

/// A time for clocks that stand still.
pub(crate) const NOW_MS: i64 = 1_800_000_000_000;

pub(crate) const HOUR: Ttl = Ttl::from_millis(3_600_000);

pub(crate) const POLICY: Policy =
    Policy { on_lease_end: OnLeaseEnd::Retry, attempts_max: 3, dead_ttl: Ttl::FOREVER };

pub(crate) const START: Start<'static> =
    Start { lease: Duration::from_secs(60), worker: "w", fingerprint: None };

/// A schema at a server, which is dropped with the server.
pub(crate) struct World {
    pub(crate) server: Arc<Server>,
    pub(crate) schema: String,
}

/// Returns whether a process works in this folder, as those of Postgres do.
fn is_used(folder: &Path) -> bool {
    let processes = fs::read_dir("/proc").expect("/proc is there").flatten();
    let mut folders =
        processes.filter_map(|process| fs::read_link(process.path().join("cwd")).ok());
    folders.any(|of| of == folder)
}

/// Returns the server that tests share: it ends with the last test that uses it.
async fn shared_server() -> Arc<Server> {
    static SHARED: Mutex<Weak<Server>> = Mutex::const_new(Weak::new());
    let mut shared = SHARED.lock().await;
    if let Some(server) = shared.upgrade() {
        return server;
    }
    let server = Arc::new(postgres::start_with(&["max_connections=200"]).await);
    *shared = Arc::downgrade(&server);
    server
}

pub(crate) fn fresh_name() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("t{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

impl World {
    /// A new schema at the shared server, with tables.
    pub(crate) async fn new() -> Self {
        let world = Self::without_tables().await;
        world.migrate().await;
        world
    }

    pub(crate) async fn without_tables() -> Self {
        Self { server: shared_server().await, schema: fresh_name() }
    }

    /// A schema at a server that no other test uses.
    pub(crate) async fn apart(settings: &[&str]) -> Self {
        let server = Arc::new(postgres::start_with(settings).await);
        let world = Self { server, schema: fresh_name() };
        world.migrate().await;
        world
    }

    /// Kills the server of a world that is apart by SIGKILL.
    pub(crate) async fn kill(&mut self) {
        self.server_mut().kill();
        // A session that was just starting may outlive the server for a moment, and until then the next start is refused.
        let data = fs::canonicalize(self.server.dir().join("data")).unwrap();
        let end = Instant::now() + LATE;
        while is_used(&data) {
            assert!(Instant::now() < end, "somebody is left in the folder of the server");
            sleep(Duration::from_millis(5)).await;
        }
    }

    /// Starts the server of a world that is apart again, after killing it if it runs.
    pub(crate) async fn restart(&mut self) {
        self.kill().await;
        self.server_mut().restart().await;
    }

    fn server_mut(&mut self) -> &mut Server {
        Arc::get_mut(&mut self.server).expect("nobody else uses the server")
    }

    pub(crate) fn url(&self) -> String {
        self.url_of("postgres", "postgres")
    }

    pub(crate) fn url_of(&self, role: &str, database: &str) -> String {
        format!("postgres://{role}@{}/{database}", self.server.address())
    }

    pub(crate) fn options(&self) -> PostgresOptions {
        // On a machine with other work nobody asks again.
        PostgresOptions::new().schema(&self.schema).answer_max(LATE)
    }

    pub(crate) async fn migrate(&self) {
        PostgresStore::migrate(&self.url(), &self.options()).await.expect("migrates");
    }

    pub(crate) async fn store(&self) -> PostgresStore {
        self.store_with(self.options()).await
    }

    pub(crate) async fn store_with(&self, options: PostgresOptions) -> PostgresStore {
        let end = Instant::now() + LATE;
        loop {
            match PostgresStore::open(&self.url(), options.clone()).await {
                // The options may give it little time for an answer.
                Err(error) if error.kind() == ErrorKind::Unavailable && Instant::now() < end => {
                    sleep(Duration::from_millis(20)).await;
                }
                opened => return opened.expect("opens"),
            }
        }
    }

    /// A connection of an operator.
    pub(crate) async fn client(&self) -> Client {
        connect(&self.url()).await
    }

    /// Runs SQL in which `firstseen.` is the schema.
    pub(crate) async fn run(&self, sql: &str) {
        let sql = sql.replace("firstseen.", &format!("{}.", self.schema));
        self.client().await.batch_execute(&sql).await.expect("runs");
    }

    /// Asks for one number, with SQL in which `firstseen.` is the schema.
    pub(crate) async fn number(&self, sql: &str) -> i64 {
        let sql = sql.replace("firstseen.", &format!("{}.", self.schema));
        self.client().await.query_one(&sql, &[]).await.expect("answers").get(0)
    }
}

impl World {
    /// Returns how many sessions wait for a lock in a statement of this schema.
    pub(crate) async fn waiting(&self) -> i64 {
        let sql = format!(
            "SELECT count(*) FROM pg_stat_activity \
             WHERE wait_event_type = 'Lock' AND position('\"{}\".' IN query) > 0",
            self.schema
        );
        self.client().await.query_one(&sql, &[]).await.expect("answers").get(0)
    }
}

pub(crate) fn url_through(proxy: &Proxy) -> String {
    format!("postgres://postgres@{}/postgres", proxy.address())
}

pub(crate) async fn connect(url: &str) -> Client {
    let end = Instant::now() + LATE;
    loop {
        match tokio_postgres::connect(url, NoTls).await {
            Ok((client, connection)) => {
                tokio::spawn(connection);
                return client;
            }
            Err(error) => assert!(Instant::now() < end, "{error}"),
        }
        sleep(Duration::from_millis(20)).await;
    }
}

/// Waits until a condition holds.
pub(crate) async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let end = Instant::now() + LATE;
    while !holds().await {
        assert!(Instant::now() < end, "{what} does not come true");
        sleep(Duration::from_millis(5)).await;
    }
}

/// Claims, which has to be the first.
pub(crate) async fn first(store: &PostgresStore, id: &str) {
    assert_eq!(claim(store, id).await, Claim::FirstSeen, "{id}");
}

/// Claims, which has to be the first, at a store that has little time for an answer: repeats the call until it had enough.
pub(crate) async fn first_when_answered(store: &PostgresStore, id: &str) {
    let (call, mut claimed) = (Call::new(), None);
    until("the store answers", async || {
        match store.claim("n", id.as_bytes(), HOUR, call).await {
            Err(error) if error.kind() == ErrorKind::Unavailable => {}
            answer => claimed = Some(answer.expect("claims")),
        }
        claimed.is_some()
    })
    .await;
    assert_eq!(claimed, Some(Claim::FirstSeen), "{id}");
}

/// Claims in a transaction, which has to be the first.
pub(crate) async fn first_in(store: &PostgresStore, transaction: &Transaction<'_>, id: &str) {
    let claim = store.claim_in(transaction, "n", id.as_bytes(), HOUR).await;
    assert_eq!(claim.expect("claims"), Claim::FirstSeen, "{id}");
}

pub(crate) async fn claim(store: &PostgresStore, id: &str) -> Claim {
    claim_for(store, id, HOUR).await
}

pub(crate) async fn claim_for(store: &PostgresStore, id: &str, ttl: Ttl) -> Claim {
    store.claim("n", id.as_bytes(), ttl, Call::new()).await.expect("claims")
}

/// Begins, which has to start an attempt, and returns its token.
pub(crate) async fn start(store: &PostgresStore, id: &str) -> u64 {
    let begun = store.begin("n", id.as_bytes(), &START, &POLICY, Call::new()).await;
    match begun.expect("begins") {
        Begun::Started { token, .. } => token,
        other => panic!("not started: {other:?}"),
    }
}

pub(crate) fn duplicate_of(ms: i64) -> Claim {
    Claim::Duplicate { first_seen: Timestamp::from_millis(ms.cast_unsigned()) }
}
