//! A dedup store on Postgres, shared by many machines: claims, and ledgers with leases, fencing and stored results. Each move is
//! one statement, and a claim can be part of your own transaction.
//!
//! ```no_run
//! use firstseen_postgres::{PostgresOptions, PostgresStore};
//! use firstseen_shared::{Claim, Dedup, Ttl};
//!
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! let (url, options) = ("postgres://app@db.internal/events", PostgresOptions::new());
//! PostgresStore::migrate(url, &options).await?; // the tables; or apply the SQL files
//! let store = PostgresStore::open(url, options).await?;
//!
//! let week = Ttl::from_millis(7 * 24 * 3_600_000);
//! let orders = Dedup::new(store, "orders", week)?;
//! if orders.claim("order-17").await? == Claim::FirstSeen {
//!     // nobody else, on any machine, hears this within a week: do the work
//! }
//! # Ok(())
//! # }
//! ```
//!
//! [`PostgresStore`] implements [`DedupStore`](firstseen_shared::DedupStore), whose documentation says what each call
//! means; `SharedLedger` and `Dedup` of `firstseen-shared` are built on it. `examples/claims.rs` is a whole program.
//!
//! # In the transaction of the effect
//!
//! If the effect is a change in the same database, claim in its transaction: then both are there, or neither, whatever is
//! killed. No other pattern gives as much for as little.
//!
//! ```no_run
//! # use firstseen_postgres::PostgresStore;
//! # use firstseen_shared::Ttl;
//! # async fn book(store: &PostgresStore) -> Result<(), Box<dyn std::error::Error>> {
//! let mut client = store.pool().get().await?;
//! let transaction = client.transaction().await?;
//! if store.claim_in(&transaction, "orders", b"order-17", Ttl::FOREVER).await?.is_first_seen() {
//!     transaction.execute("INSERT INTO bookings VALUES (17, 1000)", &[]).await?;
//! }
//! transaction.commit().await?; // after an error make it again from its start: the claim says what there is
//! # Ok(())
//! # }
//! ```
//!
//! [`complete_in`](PostgresStore::complete_in) does the same for the result of an attempt of a ledger. A plain unique index on
//! your own table is enough if you need neither ttl nor batches nor leases.
//!
//! # What is guaranteed
//!
//! | when | an answer that was heard | an answer that was not heard | others meanwhile |
//! |---|---|---|---|
//! | a claiming process is killed | holds | the call was made or not; repeated with its `Call` it is told what it did | are not disturbed |
//! | the server is killed, and comes back | holds: it was on disk | the same | [`Unavailable`], and never first |
//! | the server is killed, `synchronous_commit(false)` | the last may be lost, and tokens given again | the same | the same |
//! | a replica takes over, and commits waited for it (`synchronous_standby_names`) | holds | the same | the same |
//! | a replica takes over that was behind | **those it did not have are lost**: such ids are first again, such attempts unknown, and tokens may be given again | the same | the same |
//! | the replica was a logical one | as before; sequences are not replicated, so set `tokens` to its last value: tokens of one record grow all the same | the same | the same |
//! | a lock is held for too long, the server is out of connections, a standby is asked | – | nothing was done, or the call was made and its answer lost | – |
//!
//! `tests/postgres` tries these with real servers, killed by SIGKILL, except logical replication. In words:
//!
//! - **One is first**, across all machines and as long as the claim lasts, because a primary key says so. Time is the
//!   server's clock; a claim is over at its very millisecond, whether its row is there or not.
//! - **Fencing tokens** are numbers of a sequence: they grow over all ids, over restarts, redrives and forgotten records. A sequence skips
//!   after a crash, and does not go back.
//! - **Nothing fails open.** What cannot be asked or read is an error.
//! - **Everything ends**: a call without an answer fails after [`answer_max`](PostgresOptions::answer_max), in a pool without a free
//!   connection, at a frozen server, or behind somebody's lock, and the server stops waiting for the lock, too.
//! - `fsync = off` of the server gives all of this up.
//!
//! [`Unavailable`]: firstseen_shared::ErrorKind::Unavailable
//!
//! # Errors
//!
//! | kind | for example |
//! |---|---|
//! | [`Unavailable`] | connection lost, no free connection, timeouts, deadlock, shutdown, a read-only standby |
//! | [`Invalid`](firstseen_shared::ErrorKind::Invalid) | an empty id, a ttl of zero, a transaction that is not READ COMMITTED |
//! | [`Schema`](firstseen_shared::ErrorKind::Schema) | no tables, or those of another version |
//! | [`Damaged`](firstseen_shared::ErrorKind::Damaged) | a stored value that this program does not know, or that Postgres finds broken |
//! | [`Environment`](firstseen_shared::ErrorKind::Environment) | permissions, passwords, a full disk, a server before Postgres 15 |
//!
//! A call that the server has undone because of others, by a deadlock, is repeated by the store itself.
//!
//! # The tables
//!
//! [`PostgresStore::migrate`] creates them, in one transaction and under a lock. The same SQL is in `migrations/` and in [`MIGRATIONS`], to
//! be read and applied by your own tool. A store does not open on tables of another version. No superuser and no extension
//! is needed: `migrate` and `maintain` need the role that owns the schema, and a role that only claims needs
//!
//! ```sql
#![doc = include_str!("grants.sql")]
//! ```
//!
//! Statements have no names and leave nothing in their session, so any pooler may be in between, also pgbouncer by
//! transaction. Prepared statements are not used: the plans that matter are those of the functions, and each session of the
//! server keeps them.
//!
//! # How claims are kept, and dropped
//!
//! The bulk of ended claims goes by dropping a partition, not by deleting rows. Postgres has no unique index over
//! partitions without their key, so the question is what makes an id unique across partitions. Three designs were built and
//! measured (`benches/designs.sql`):
//!
//! | | unique by | a claim looks at | getting rid of ended claims |
//! |---|---|---|---|
//! | one table | its primary key | one index | `DELETE` and vacuum, for each row |
//! | partitions by the time of the end | an advisory lock on each id, then a look at all live partitions | all of them | `DROP TABLE` |
//! | **generations** | the primary key of the current one; those before are sealed | up to four | `DROP TABLE` |
//!
//! | 100,000 rows, five partitions | one table | by the time of the end | generations |
//! |---|---|---|---|
//! | new ids a second, a thousand to a commit | 29,800 | 20,300 | 16,700 |
//! | duplicates of recent ids a second | 71,800 | 26,600 | 86,700 |
//! | log of a new id, in bytes | 367 | 230 | 279 |
//! | getting rid of them | 0.13 s, 149 bytes of log each, then 0.10 s of vacuum | 0.04 s, no log to speak of | 0.04 s, no log to speak of |
//!
//! (2026-11-30, Postgres 15 on a shared machine of two cores that was building other things: compare the columns, not with
//! other machines. `psql --variable rows=100000 --file benches/designs.sql` measures it again.)
//!
//! One table is the fastest for new ids as long as nothing ends, and pays for each row once more when it does: with log, dead
//! rows, and a vacuum that reads the whole index. Advisory locks are kept in a table of the server that all its users share, with
//! room for some 6,400 by default, so a batch of ten thousand ids may not fit; fewer locks than ids make batches wait for each
//! other. In generations, new claims go into
//! one partition, whose primary key decides, as concurrently as any table; older partitions take no more claims, so that one look tells
//! what they hold. All that has to be exclusive is the moment at which the current generation changes: claims share a lock, and a change
//! takes it alone, for as long as the claims that are under way take.
//!
//! Namespaces whose ttls are of one size share generations. A new one is opened when half of the longest ttl has passed; a
//! generation is dropped when its last claim has ended. So an ended claim is kept for half of its ttl, at least a quarter of an hour, and
//! a namespace looks into four partitions at most. Claims for ever, and those made before the first maintenance, are in a
//! partition that is never dropped; ended ones among them are deleted row by row, by an index. So keep ids for ever and
//! ids with a ttl in different namespaces. Records of a ledger change several times as it is, and ended ones are deleted.
//!
//! [`PostgresStore::maintain`] does all this. Call it once a minute from wherever you like:
//!
//! ```no_run
//! # async fn keep(store: firstseen_postgres::PostgresStore) {
//! loop {
//!     match store.maintain().await {
//!         Ok(done) => println!("{done:?}"),
//!         Err(error) => eprintln!("not maintained: {error}"),
//!     }
//!     tokio::time::sleep(std::time::Duration::from_secs(60)).await;
//! }
//! # }
//! ```
//!
//! # What it costs
//!
//! A call is one round trip and one commit, and commits at the same time share a wait for the disk: so claim from many tasks, or in
//! batches. A duplicate writes nothing. What that comes to on your server:
//!
//! ```sh
//! cargo bench --package firstseen-postgres --bench claims
//! ```

mod check;
mod claims;
mod connections;
mod error;
mod joined;
mod ledger;
mod maintain;
mod options;
mod row;
mod schema;
mod statements;
mod store;
#[cfg(feature = "testing")]
mod testing;

pub use deadpool_postgres;
pub use maintain::Maintained;
pub use options::PostgresOptions;
pub use schema::{MIGRATIONS, Migrated, VERSION};
pub use store::PostgresStore;
pub use tokio_postgres;
