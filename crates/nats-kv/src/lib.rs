//! A dedup store on NATS JetStream, shared by many machines: a compare-and-set for each move.
//!
//! ```no_run
//! use firstseen_nats_kv::{NatsKvOptions, NatsKvStore};
//! use firstseen_shared::{Claim, Dedup, Ttl};
//! use std::time::Duration;
//!
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! let store = NatsKvStore::connect("nats://localhost:4222", NatsKvOptions::new()).await?;
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
//! a [`NatsKvStore`]: they repeat calls whose answer was lost, and renew leases.
//! [`DedupStore`](firstseen_shared::DedupStore) says what each call promises.
//!
//! For those who run NATS anyway and want no other server for claims. Who may choose takes Valkey for large batches and many
//! duplicates, and Postgres where nothing that was answered may be lost with the power.
//!
//! # When a server dies
//!
//! JetStream answers when a message is written to a file, and syncs files later. What an answer is worth then:
//!
//! | the server | its process is killed | its power goes | another takes over |
//! |---|---|---|---|
//! | 2.9, one replica | nothing was lost, in 50 kills and more | what came after the last sync, of which 2.9.10 has no setting: expect minutes | there is none |
//! | 2.10 and newer, one replica | not tried | up to `sync_interval`, two minutes unless it is set; `always` syncs before it answers | there is none |
//! | three or five replicas | not tried | by the server's documentation, nothing while most of them keep their power | not tried |
//!
//! **Lost** means: the id of a claim is first again, and a record is as it was before, so work whose result is lost is done again.
//! **Tokens may then come twice**: a token is the sequence of a message, and sequences go on from the last message that the
//! server has. A stream that was deleted, or restored from a backup, counts anew, too. Whatever is fenced by tokens has to be
//! told of that by a person.
//!
//! The column of kills is tried with nats-server 2.9.10 (`tests/kv/kills.rs`): what was answered is kept outside, each id is claimed and
//! begun by two, some are forgotten, and nothing is lost, granted twice, or back. Others have lost whole streams of
//! clusters whose processes were killed, with servers of 2.10 (issue 6888 of nats-server), and messages with the power
//! (issue 7564).
//!
//! # What is asked of a server
//!
//! - nats-server 2.9 or newer with JetStream. Tested with 2.9.10 and file storage.
//! - `max_payload` of 640 KiB at least; its default is 1 MiB. Results have 512 KiB at most.
//! - The stream `firstseen` ([`NatsKvOptions::stream`]), which is created if it is not there, with one message for each subject.
//!   One that has an age limit or drops old messages is refused. Nobody else may write to its subjects.
//! - The user may publish to the subjects of the stream, `$JS.API.STREAM.MSG.GET`, `INFO`, `CREATE` and `PURGE` of it.
//! - Clocks of servers that take over from each other should agree. What a client's clock says changes nothing.
//!
//! # What a call does
//!
//! The claim of an id and its record are the last messages of two subjects, named by hashes of namespace and id. Each move
//! stores the next message of the subject if the last is still the one that was read (`Nats-Expected-Last-Subject-Sequence`),
//! and otherwise reads again.
//! Times count from when the server has stored the message; the present is that of a message to a subject of its own, read after it
//! was stored, which all who ask at once share. Reads are answered by the leader of the stream.
//!
//! | call | round trips |
//! |---|---|
//! | a claim that is first, a begin of an id that is new | 1 |
//! | a duplicate with a ttl | 4; 2 without an end |
//! | the end of an attempt | 2 |
//! | a begin that is refused or takes over | 3 or 4, one more message for what is held or dead |
//! | a renewal | 3 |
//!
//! - A batch is a claim for each id, up to 512 under way at once, and one reading of the clock.
//! - A listing of dead letters reads all of its namespace: two round trips for each. [`Stats`](firstseen_shared::Stats) count
//!   nothing but them, and cost as much.
//! - What has been sent and not heard may be done late, after the caller has given up.
//! - **What has ended stays until [`sweep`](NatsKvStore::sweep) removes it**, message by message. Call it by a timer, in one process.
//!
//! # What it costs
//!
//! nats-server 2.9.10 on two cores that it shares with the client and with other work; ids of 16 bytes with a ttl of a week, measured
//! once (`FIRSTSEEN_BENCH_CLAIMS=50000 cargo bench --package firstseen-nats-kv --bench claims`). Runs of one call at a time differ most:
//!
//! | calls a second | new | again |
//! |---|---|---|
//! | claims, one at a time | 17,500 | 2,400 |
//! | claims, 64 tasks | 39,100 | 13,100 |
//! | claims, 1,000 in a call | 40,200 | 15,000 |
//! | begin and end, one at a time | 4,600 | 3,200 (begin) |
//! | begin and end, 64 tasks | 8,800 | 11,100 (begin) |
//!
//! The server has 178 MB in memory and 58 MB of files after these 160,000 claims and records.

mod check;
mod code;
mod link;
mod moves;
mod options;
mod store;

pub use async_nats;
pub use options::NatsKvOptions;
pub use store::NatsKvStore;
