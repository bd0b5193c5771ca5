//! The tables: missing, older, newer, migrated by many, by whom, and by other tools. Rule 98.

use crate::support::{HOUR, NOW_MS, World, claim, connect, first, fresh_name, start};
use firstseen_postgres::{MIGRATIONS, PostgresStore, VERSION};
use firstseen_shared::{Call, Claim, DedupStore, ErrorKind};
use std::path::Path;
use std::process::Command;

async fn refused_to_open(world: &World) -> String {
    let error = PostgresStore::open(&world.url(), world.options()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Schema, "{error}");
    error.to_string()
}

/// Applies migrations of the files as they are, to the schema of this world.
async fn apply(world: &World, count: usize) {
    world.run(&format!("CREATE SCHEMA {}", world.schema)).await;
    for (_, sql) in &MIGRATIONS[..count] {
        world.run(sql).await;
    }
}

#[tokio::test]
async fn without_tables_a_store_does_not_open_and_says_what_to_do() {
    let world = World::without_tables().await;
    let text = refused_to_open(&world).await;
    assert!(text.contains(&world.schema) && text.contains("migrate"), "{text}");
    let migrated = PostgresStore::migrate(&world.url(), &world.options()).await.unwrap();
    assert_eq!((migrated.from, migrated.to), (0, VERSION));
    assert_eq!(claim(&world.store().await, "a").await, Claim::FirstSeen);
    let again = PostgresStore::migrate(&world.url(), &world.options()).await.unwrap();
    assert_eq!((again.from, again.to), (VERSION, VERSION));
    assert!(claim(&world.store().await, "a").await.is_duplicate());
}

#[tokio::test]
async fn an_older_version_is_refused_until_it_is_migrated_and_keeps_its_claims() {
    let world = World::without_tables().await;
    apply(&world, 1).await;
    let claim_sql = r"SELECT firstseen.claim('n', '{a}', NULL, '\x00112233445566778899aabbccddeeff', NULL, false)";
    world.run(claim_sql).await;
    let text = refused_to_open(&world).await;
    assert!(text.contains("version 1") && text.contains(&format!("version {VERSION}")), "{text}");
    let migrated = PostgresStore::migrate(&world.url(), &world.options()).await.unwrap();
    assert_eq!((migrated.from, migrated.to), (1, VERSION));
    let store = world.store().await;
    assert!(claim(&store, "a").await.is_duplicate());
    first(&store, "b").await;
}

#[tokio::test]
async fn a_newer_version_is_refused_and_left_alone() {
    let world = World::new().await;
    let newer = VERSION + 1;
    world.run(&format!("INSERT INTO firstseen.versions (version) VALUES ({newer})")).await;
    let text = refused_to_open(&world).await;
    assert!(text.contains(&format!("version {newer}")) && text.contains("newer program"), "{text}");
    let error = PostgresStore::migrate(&world.url(), &world.options()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Schema);
    assert_eq!(
        world.number("SELECT max(version)::bigint FROM firstseen.versions").await,
        newer.into()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_who_migrate_at_once_one_does_it_and_all_find_it_done() {
    let world = World::without_tables().await;
    let migrations: Vec<_> = (0..8)
        .map(|_| {
            let (url, options) = (world.url(), world.options());
            tokio::spawn(async move { PostgresStore::migrate(&url, &options).await.unwrap() })
        })
        .collect();
    let mut from_nothing = 0;
    for migration in migrations {
        let migrated = migration.await.unwrap();
        assert_eq!(migrated.to, VERSION);
        from_nothing += u32::from(migrated.from == 0);
    }
    assert_eq!(from_nothing, 1);
    assert_eq!(world.number("SELECT count(*) FROM firstseen.versions").await, VERSION.into());
    assert_eq!(claim(&world.store().await, "a").await, Claim::FirstSeen);
}

#[tokio::test]
async fn a_migration_that_fails_leaves_nothing_behind() {
    let world = World::without_tables().await;
    apply(&world, 1).await;
    // In the way of the second version, at its end.
    world.run("CREATE FUNCTION firstseen.delete_ended_records(integer, integer) RETURNS int LANGUAGE sql AS 'SELECT 1'").await;
    assert!(PostgresStore::migrate(&world.url(), &world.options()).await.is_err());
    assert_eq!(world.number("SELECT max(version)::bigint FROM firstseen.versions").await, 1);
    let left = format!(
        "SELECT count(*) FROM pg_tables WHERE schemaname = '{}' AND tablename = 'records'",
        world.schema
    );
    assert_eq!(world.number(&left).await, 0);
}

#[tokio::test]
async fn two_schemas_know_nothing_of_each_other() {
    let (one, other) = (World::new().await, World::new().await);
    assert_eq!(claim(&one.store().await, "a").await, Claim::FirstSeen);
    assert_eq!(claim(&other.store().await, "a").await, Claim::FirstSeen);
}

/// The files are what the documentation says of them.
#[tokio::test]
async fn the_files_can_be_applied_with_psql() {
    let world = World::without_tables().await;
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations");
    let database = fresh_name();
    world.client().await.batch_execute(&format!("CREATE DATABASE {database}")).await.unwrap();
    let url = world.url_of("postgres", &database);
    let mut psql = Command::new("psql");
    psql.args(["--quiet", "--no-psqlrc", "--set", "ON_ERROR_STOP=1", "--single-transaction"]);
    psql.arg("--dbname").arg(&url).args(["--command", "CREATE SCHEMA firstseen"]);
    for file in ["0001_claims.sql", "0002_ledger.sql"] {
        psql.arg("--file").arg(folder.join(file));
    }
    let ended = psql.output().expect("psql is installed with Postgres");
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
    let options = world.options().schema("firstseen");
    let store = PostgresStore::open(&url, options).await.unwrap();
    first(&store, "a").await;
}

/// A role that owns nothing but its schema migrates and maintains; one with the grants of the documentation claims, and does
/// no more.
#[tokio::test]
async fn no_superuser_is_needed_and_grants_are_enough_to_claim() {
    let world = World::without_tables().await;
    let (schema, owner, app) = (&world.schema, fresh_name(), fresh_name());
    let client = world.client().await;
    let roles = format!(
        "CREATE ROLE {owner} LOGIN; CREATE ROLE {app} LOGIN; CREATE SCHEMA {schema} AUTHORIZATION {owner}"
    );
    client.batch_execute(&roles).await.unwrap();
    let url_of = |role: &str| world.url_of(role, "postgres");
    PostgresStore::migrate(&url_of(&owner), &world.options()).await.unwrap();

    let refused = PostgresStore::open(&url_of(&app), world.options()).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Environment, "{refused}");
    let grants =
        include_str!("../../src/grants.sql").replace("firstseen", schema).replace("app", &app);
    connect(&url_of(&owner)).await.batch_execute(&grants).await.unwrap();
    let store = PostgresStore::open(&url_of(&app), world.options()).await.unwrap();
    first(&store, "a").await;
    start(&store, "a").await;
    assert_eq!(store.stats("n").await.unwrap().claims, Some(1));
    let refused = store.maintain().await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Environment, "{refused}");

    // Partitions that come later need no grants.
    let owned = PostgresStore::open(&url_of(&owner), world.options()).await.unwrap();
    assert_eq!(owned.maintain().await.unwrap().opened, 1);
    assert!(claim(&store, "a").await.is_duplicate());
    first(&store, "b").await;
}

#[tokio::test]
async fn what_transactions_are_by_default_is_checked_when_the_store_opens() {
    let world = World::new().await;
    let url = format!("{}?options=-c%20default_transaction_isolation%3Dserializable", world.url());
    let error = PostgresStore::open(&url, world.options()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Environment);
    assert!(error.to_string().contains("SERIALIZABLE"), "{error}");
}

/// What pgbouncer's pooling by transaction asks for: a call leaves nothing in its session.
#[tokio::test]
async fn a_call_leaves_nothing_behind_in_its_session() {
    let world = World::new().await;
    let store = world.store_with(world.options().connections_max(1)).await;
    let seen = "SELECT (SELECT count(*) FROM pg_prepared_statements) || ' ' \
         || (SELECT count(*) FROM pg_locks WHERE pid = pg_backend_pid() AND locktype = 'advisory') || ' ' \
         || (SELECT count(*) FROM pg_cursors) || ' ' || (SELECT string_agg(name || '=' || setting, ',' ORDER BY name) \
         FROM pg_settings WHERE source = 'session')";
    let session = async || {
        let object = store.pool().get().await.unwrap();
        let rows = object.query_typed(seen, &[]).await.unwrap();
        rows[0].get::<_, Option<String>>(0)
    };
    let before = session().await;
    let claims = store.claim_batch("n", &[b"a", b"b"], HOUR, Call::new()).await.unwrap();
    assert_eq!(claims.len(), 2);
    start(&store, "a").await;
    store.forget("n", b"a").await.unwrap();
    store.maintain().await.unwrap();
    assert_eq!(session().await, before);
}

#[tokio::test]
async fn the_clock_of_the_server_is_that_of_its_machine() {
    let world = World::new().await;
    let off =
        "SELECT abs(firstseen.clock() - (extract(epoch FROM clock_timestamp()) * 1000)::bigint)";
    assert!(world.number(off).await < 5_000);
    world.store().await.set_clock(Some(NOW_MS)).await.unwrap();
    assert_eq!(world.number("SELECT firstseen.clock()").await, NOW_MS);
}
