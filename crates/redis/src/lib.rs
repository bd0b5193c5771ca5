//! Redis and Valkey streams as a source of [`firstseen_consumer`]: each effect once, whoever is killed.
//!
//! ```no_run
//! use firstseen::Store;
//! use firstseen_consumer::{Consumer, Failure, Job};
//! use firstseen_redis::{RedisOptions, RedisSource};
//!
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! # async fn charge(_key: &[u8]) -> Result<(), std::io::Error> { Ok(()) }
//! let options = RedisOptions::new().dead_letters("orders-dead");
//! let source = RedisSource::connect("redis://localhost", "orders", "payments", options).await?;
//! let ledger = Store::open("/var/lib/payments/seen.db")?.ledger("orders")?;
//! let consumer = Consumer::with_ledger(source, ledger, |job: Job| async move {
//!     charge(job.id()).await?;
//!     Ok::<(), Failure>(())
//! });
//! consumer.run().await?;
//! # Ok(())
//! # }
//! ```
//!
//! `examples/orders.rs` is the whole of it, from the stream to the last acknowledgement. An entry is expected to have the
//! fields `id` and `payload`; [`RedisOptions`] says how to read others.
//!
//! # What the server does, and what is left to the ledger
//!
//! | the server | the loop |
//! |---|---|
//! | keeps what was delivered and not acknowledged on a pending list, for each consumer | acknowledges once the outcome is on disk, and waits for the server's word |
//! | delivers nothing again by itself | claims what was idle for [`min_idle`](RedisOptions::min_idle); the ledger decides whether it was done |
//! | has one idle time for each entry | sets it back while work goes on, which counts no delivery |
//! | has no delay for a retry | sets the idle time so that it is claimed when the delay is over; see below |
//! | counts deliveries | counts attempts, over crashes |
//! | has no dead letters | adds them to another stream in the step that acknowledges |
//! | trims entries that nobody has handled | tells each one that it learns of, as an error and in [`RedisCounters`] |
//! | forgets the group with `FLUSHALL`, and in a failover what the replica had not got | makes the group again, and says so; what comes again is a duplicate |
//! | keeps a consumer until it is removed | removes those that it had named, once nothing is pending for them, in one step |
//!
//! # What survives
//!
//! The ledger is on the consumer's disk, and the stream at the server. What the server forgets of acknowledgements and
//! deliveries comes again, and is a duplicate as long as the ledger remembers. **An entry that the server forgets is lost**,
//! and only its producer can know: it should add again what it has no answer for, and the id makes that harmless.
//!
//! | the server's `appendonly`, `appendfsync` | its process is killed | the power goes |
//! |---|---|---|
//! | `no` (snapshots, if any) | all since the last snapshot is forgotten | the same |
//! | `yes`, `no` | nothing | what the system had not written: 30 seconds with Linux' settings |
//! | `yes`, `everysec` (the default) | nothing, unless the disk is slow: then up to 2 seconds | the last second or two |
//! | `yes`, `always` | nothing that was answered | nothing that was answered, if the disk keeps what it says |
//!
//! With `everysec` the server writes to the file before it answers, so that a kill leaves the system to keep it; it puts the
//! write off, for 2 seconds at most, while a sync still runs. A failover loses what the replica had not got, with each of
//! these, since replication does not wait; `WAIT` and `WAITAOF` of a producer make that rarer.
//!
//! Tests kill the process with `always` and with `everysec`, and without files. Power cuts were not tried: that column
//! is the servers' documentation.
//!
//! # How a retry waits
//!
//! Streams cannot take an entry back. One that is put off stays on the pending list, and two ways were compared to have it
//! delivered after its delay, once, by whoever is there:
//!
//! - **Idle times** (this one). The server is told that the entry has been idle for `min_idle - delay`, so that anybody may
//!   claim it when the delay is over, and nobody before. It is one call and no further key; it survives both ends, and works
//!   in a cluster. The server takes no times to come, so a delay above `min_idle` needs this process: it sets the idle time
//!   back until the rest is short enough. If it dies meanwhile, the entry is claimed early, within `min_idle`; the ledger
//!   says that it is not due, and it is put off again.
//! - **A sorted set of due times** beside the stream. It keeps any delay over any crash. But claiming is a script that asks
//!   the set for each entry, an acknowledgement has to take the entry off both, whatever else acknowledges or trims leaves
//!   it there, and a consumer that does not know of it claims early all the same.
//!
//! The second spares one needless delivery for each death of a process and each entry that waits for longer than
//! `min_idle`. It was not worth its costs; if it matters to you, set `min_idle` to the longest backoff of the ledger.
//!
//! # Several consumers
//!
//! A ledger of `firstseen` belongs to one process. What a process has done and not acknowledged when it dies is claimed by
//! another consumer of the group, **whose ledger knows nothing of it, and which does it again**. So either have one process
//! for each group and stream, with many workers, which is started again where its store is, and several streams, by a hash
//! of the key, where one process is not enough. Or have the consumers share a ledger: `Consumer::with_shared` (feature
//! `shared` of `firstseen-consumer`). With [`consumer`](RedisOptions::consumer) a process has what it was working on at once
//! when it starts again.
//!
//! # Dead letters
//!
//! One script adds the dead letter and acknowledges the entry, so that it is there once, and never in neither stream. In a
//! cluster that needs both keys in one slot: call them `{orders}` and `{orders}:dead`. If they are not, the dead letter is
//! added first and the entry acknowledged after it, and a key beside the dead letters remembers for a day which entry it
//! was; if this process dies between the two steps, the entry comes again, and is not added again.
//!
//! # Trimming
//!
//! `MAXLEN` trims what is oldest, whether it was handled or not. Give it room for the longest time that your consumers may
//! be away, or trim by `MINID` below the oldest entry that is pending or not delivered. What was lost is told: pending
//! entries by the next search of the pending list, exactly, unless the connection breaks at that answer; and entries that
//! nobody has had whenever the loop asks for the lag, as far as the server's counters show it.
//!
//! # Which servers
//!
//! Redis 7.0 and newer, and Valkey; older ones are refused, since they do not tell of trimmed entries. Tested with Redis
//! 7.0.15 and Valkey 9.1, with both ends killed at random. The feature `cluster` connects to a cluster of several nodes. For
//! a master that Sentinel chooses, give an address that leads to it: connections are made anew after each error.
//!
//! A stream that is deleted and filled again with *the same ids* while entries of the first are worked on may have one of
//! the second acknowledged for one of the first. Ids that the server gives are not used twice.

mod counters;
mod dead;
mod delays;
mod entry;
mod error;
mod group;
mod hands;
mod intake;
mod keeper;
mod link;
mod lock;
mod names;
mod options;
mod reply;
mod scripts;
mod setup;
mod source;
mod standing;

pub use counters::{RedisCounters, RedisWatch};
pub use entry::{EntryId, NoEntryId, RedisEntry, read_fields};
pub use error::RedisError;
pub use options::{Read, RedisIds, RedisKeys, RedisOptions, RedisPayload, RedisStart};
pub use redis;
pub use source::{RedisSource, RedisToken};
