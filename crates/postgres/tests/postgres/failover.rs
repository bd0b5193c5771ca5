//! A replica that takes over.

use crate::support::{HOUR, World, claim, connect, first, start, until};
use firstseen_postgres::PostgresStore;
use firstseen_servers::{Server, postgres};
use firstseen_shared::{Call, DedupStore, ErrorKind};
use std::fs;
use std::path::PathBuf;
use std::process::Command;

/// A primary and a standby of it.
struct Pair {
    world: World,
    standby: Server,
}

impl Pair {
    /// Makes the standby from a copy of the primary; `settings` are those of the primary.
    async fn start(settings: &[&str]) -> Self {
        let world = World::apart(settings).await;
        let mut standby = postgres::start().await;
        standby.kill();
        let data = standby.dir().join("data");
        let owner = fs::metadata(&data).unwrap();
        fs::remove_dir_all(&data).unwrap();
        let mut copy = Command::new(program("pg_basebackup"));
        copy.args([
            "--no-sync",
            "--checkpoint=fast",
            "--wal-method=stream",
            "--write-recovery-conf",
        ]);
        copy.arg("--pgdata").arg(&data).arg("--dbname");
        copy.arg(format!("{}?application_name=standby", world.url()));
        let ended = copy.output().expect("pg_basebackup is installed with Postgres");
        assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
        own(&data, &owner);
        standby.restart().await;
        Self { world, standby }
    }

    /// The address of both: the one is taken that takes writes.
    fn url(&self) -> String {
        let (one, other) = (self.world.server.address(), self.standby.address());
        format!("postgres://postgres@{one},{other}/postgres?target_session_attrs=read-write")
    }

    async fn promote(&self) {
        let client = connect(&postgres::url(&self.standby)).await;
        client.batch_execute("SELECT pg_promote(true)").await.unwrap();
    }
}

fn program(name: &str) -> PathBuf {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let found =
        versions.map(|version| version.path().join("bin").join(name)).find(|path| path.is_file());
    found.unwrap_or_else(|| name.into())
}

/// Gives files to the user of the server.
fn own(folder: &std::path::Path, owner: &fs::Metadata) {
    use std::os::unix::fs::{MetadataExt, chown};
    let mut left = vec![folder.to_owned()];
    while let Some(path) = left.pop() {
        chown(&path, Some(owner.uid()), Some(owner.gid())).unwrap();
        if path.is_dir() {
            left.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
    }
}

/// A standby answers no claim. With a commit that waits for it nothing is lost when it takes over, and tokens grow.
#[tokio::test]
async fn a_synchronous_standby_that_takes_over_has_all_that_was_answered() {
    let mut pair = Pair::start(&[]).await;
    // From here on a commit waits for the standby.
    let client = pair.world.client().await;
    for sql in ["ALTER SYSTEM SET synchronous_standby_names = 'standby'", "SELECT pg_reload_conf()"]
    {
        client.batch_execute(sql).await.unwrap();
    }
    until("commits wait for the standby", async || {
        let sync = "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'";
        pair.world.number(sync).await == 1
    })
    .await;
    drop(client);

    let on_standby = PostgresStore::open(&postgres::url(&pair.standby), pair.world.options()).await;
    let refused = on_standby.unwrap().claim("n", b"a", HOUR, Call::new()).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Unavailable);
    assert!(refused.to_string().contains("25006"), "{refused}");

    let store = PostgresStore::open(&pair.url(), pair.world.options()).await.unwrap();
    for n in 0..100 {
        first(&store, &n.to_string()).await;
    }
    let token = start(&store, "a").await;
    pair.world.kill().await;
    pair.promote().await;
    until("the standby has taken over", async || {
        store.claim("n", b"0", HOUR, Call::new()).await.is_ok()
    })
    .await;
    for n in 0..100 {
        assert!(claim(&store, &n.to_string()).await.is_duplicate(), "{n} is lost");
    }
    assert_eq!(store.record("n", b"a").await.unwrap().unwrap().token, token);
    assert!(start(&store, "b").await > token);
}

/// What asynchronous replication gives up: a standby that takes over does not know the last answers, and gives tokens again that
/// the primary has given.
#[tokio::test]
async fn an_asynchronous_standby_that_takes_over_may_lack_the_last_answers() {
    let mut pair = Pair::start(&[]).await;
    let store = PostgresStore::open(&pair.url(), pair.world.options()).await.unwrap();
    first(&store, "early").await;
    start(&store, "early").await;
    let standby = connect(&postgres::url(&pair.standby)).await;
    let sql = format!("SELECT count(*) FROM {}.records", pair.world.schema);
    let count = async |sql: &str| standby.query_one(sql, &[]).await.unwrap().get::<_, i64>(0);
    until("what came first is replicated", async || count(&sql).await == 1).await;
    // Nothing reaches the standby from here on.
    for sql in ["ALTER SYSTEM SET primary_conninfo = ''", "SELECT pg_reload_conf()"] {
        standby.batch_execute(sql).await.unwrap();
    }
    let receivers = "SELECT count(*) FROM pg_stat_wal_receiver";
    until("the standby is alone", async || count(receivers).await == 0).await;
    first(&store, "late").await;
    let mut token = 0;
    for n in 0..60 {
        token = start(&store, &n.to_string()).await;
    }

    pair.world.kill().await;
    pair.promote().await;
    until("the standby has taken over", async || {
        store.claim("n", b"early", HOUR, Call::new()).await.is_ok()
    })
    .await;
    assert!(claim(&store, "early").await.is_duplicate());
    first(&store, "late").await;
    assert!(start(&store, "0").await <= token, "a sequence is replicated some 32 numbers ahead");
}
