//! A dedup store on Valkey or Redis, shared by many machines: one script for each move.
//!
//! ```no_run
//! use firstseen_shared::{Claim, Dedup, Ttl};
//! use firstseen_valkey::{ValkeyOptions, ValkeyStore};
//! use std::time::Duration;
//!
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! let store = ValkeyStore::connect("redis://localhost:6379/", ValkeyOptions::new()).await?;
//! let week = Duration::from_secs(7 * 24 * 3_600);
//! let orders = Dedup::new(store, "orders", Ttl::from(week))?;
//! match orders.claim("order-17").await? {
//!     Claim::FirstSeen => println!("do the work"),
//!     Claim::Duplicate { first_seen } => println!("seen at {first_seen:?}"),
//! }
//! # Ok(())
//! # }
//! ```
//!
//! [`Dedup`](firstseen_shared::Dedup) and [`SharedLedger`](firstseen_shared::SharedLedger) are what programs use on top of
//! a [`ValkeyStore`]: they repeat calls whose answer was lost, and renew leases. `examples/claims.rs` is a whole program, and
//! [`DedupStore`](firstseen_shared::DedupStore) says what each call promises.
//!
//! # When a server dies
//!
//! A server keeps what it is set up to keep, and no client can make up for it. What an answer is worth then:
//!
//! | the server | its process is killed | its power goes | a replica takes over |
//! |---|---|---|---|
//! | `appendonly yes`, `appendfsync always` | nothing is lost | nothing, on a disk that keeps what it has synced | what the replica had not heard of is lost |
//! | `appendonly yes`, `appendfsync everysec` | what was not written yet because a sync was slow: the last two seconds at most, and that was seen | about the last second, at most two | the same |
//! | snapshots only (`save`) | what came after the last snapshot | the same | the same |
//! | no files | all; its replicas copy an empty server, if it starts again before one of them takes over | the same | the same |
//!
//! | [`Durability`], on top of that | a replica takes over |
//! |---|---|
//! | [`Server`](Durability::Server), the default | what it had not heard of is lost: what was answered in the last moments, or as long as it was cut off |
//! | [`Replicas`](Durability::Replicas)`(n)` | nothing that was answered is lost, if the one that takes over is among the `n` that have confirmed: always so where `n` is the number of all replicas |
//! | [`Disk`](Durability::Disk)` { replicas: n }` | the same, also when all of them lose their power at once |
//!
//! **Lost** means: the id of a claim is first again; a record is as it was before, so work whose result is lost is done again.
//! Tokens grow all the same: each is also at least the microseconds of the server's clock. So an attempt after a failover has a
//! higher token than all before it, also than those that were lost, unless the clock of the new server is behind that of the old
//! one by more time than passes between the two attempts.
//!
//! A server that is cut off from the others may go on answering until it hears that it has been replaced: two machines may then
//! both hear [`FirstSeen`](firstseen_shared::Claim::FirstSeen). With `Replicas` or `Disk` it cannot, once it has lost its
//! replicas. Where that must never be, take Postgres with synchronous replicas instead.
//!
//! These lines are tried by killing real servers, with what was answered kept outside (`tests/valkey/kills.rs`), except the
//! loss of power.
//!
//! # What is asked of a server
//!
//! - Redis 7.0 or newer, or Valkey. Tested with Redis 7.0.15 and Valkey 9.1.2.
//! - `maxmemory-policy noeviction`: another one is refused, since an id whose claim is removed is first again. See
//!   [`ValkeyOptions::accept_eviction`]. When the memory is full, calls are errors of kind
//!   [`Environment`](ErrorKind::Environment).
//! - The user may `EVAL`, `EVALSHA` and `INFO`, and what the scripts call: `TIME` and commands on strings, hashes and sorted
//!   sets, on keys that begin with the [prefix](ValkeyOptions::prefix).
//! - A master: a replica is [`Unavailable`](ErrorKind::Unavailable). After a failover the address must lead to the new one.
//! - Clocks of servers that take over from each other should agree: leases and ttls are judged by the one that is asked. What a
//!   client's clock says changes nothing.
//!
//! **Clusters.** All keys of a call are in one slot: the names of a namespace's keys have its name and one of 16 partitions
//! between braces. So the store works through a proxy of a cluster and with a cluster of one server. A client that follows the
//! slots of a cluster is not included: a key that is elsewhere is `Unavailable`, and the error says where.
//!
//! # What a call does
//!
//! Each is one script, run by the server at once, with the server's clock. A batch is one exchange with a call for each
//! partition that it touches. Nothing is read first and written later.
//!
//! - A call is sent once. What fails before that, or is refused without having been done (the server reads its files, has become a
//!   replica), is tried again for [`answer_max`](ValkeyOptions::answer_max). A call that has been sent and has no answer is
//!   `Unavailable`, and may have been made: repeat it with the same [`Call`].
//! - What was sent and not heard may be done late, after the caller has given up: a claim that nobody then works on, or a `forget`
//!   that removes a claim made since.
//! - An answer that is no answer of a script (from a proxy that makes up its own) is an error.
//!
//! # What it costs
//!
//! Memory, with ids of 16 bytes in a namespace whose name has 6 (2026-11-30; the last lines of the bench print it):
//!
//! | | Valkey 9.1.2 | Redis 7.0.15 |
//! |---|---|---|
//! | a claim with a ttl | 116 bytes | 181 bytes |
//! | a claim for ever | 101 bytes | 138 bytes |
//! | a completed record with a result of 17 bytes (`MEMORY USAGE`) | 192 bytes | 200 bytes |
//!
//! A claim is a script at the server, and costs more of its time than `SET NX`. In batches that is shared: with 6 ids in a call, as
//! a batch of 100 has, a server makes about 2.6 times the claims that it makes with one in a call, and with 64 about 3. Measure
//! your own:
//!
//! ```sh
//! cargo bench --package firstseen-valkey --bench claims
//! ```
//!
//! [`stats`](firstseen_shared::DedupStore::stats) reads 16 counters, not the keys. Claims and records that end are counted until
//! then, to a 32nd of the time that they live; dead letters exactly.
//!
//! A ttl that ends after the year 10889 ends then. Ids have at most 1,024 bytes, and results as many as the
//! [options](ValkeyOptions::result_bytes_max) say.
//!
//! # Layout
//!
//! Version 1, in the key `fs:layout` and in each partition: another version is refused with an error of kind
//! [`Schema`](ErrorKind::Schema), by a store that opens and by every call. What the keys are is told in `src/keys.rs`, what is in
//! them in `src/lua/claim.lua` and `src/lua/record.lua`. What cannot be read is an error of kind
//! [`Damaged`](ErrorKind::Damaged); `forget` and `forget_record` remove it.

mod batch;
mod check;
mod clock;
mod fault;
mod keys;
mod link;
mod options;
mod reply;
mod scripts;
mod server;
mod store;

#[cfg(feature = "testing")]
#[doc(hidden)]
pub use clock::Clock;
pub use firstseen_shared::{Call, ErrorKind};
pub use options::{Durability, ValkeyOptions};
pub use redis;
pub use store::ValkeyStore;
