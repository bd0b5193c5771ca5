//! Integration tests: one binary, one module per subject.
#![allow(clippy::unwrap_used, reason = "a test that meets an error has failed")]
mod async_claims;
mod batch;
mod causes;
mod claims;
mod clock;
mod consumer;
mod damage;
mod durability;
mod errors;
mod event_time;
mod expendable;
mod folder;
mod fork;
mod formats;
mod full_disk;
mod generations;
mod idle;
mod ledger;
mod lifecycle;
mod long_ids;
mod namespaces;
mod operations;
mod outbox;
mod pipeline;
mod recovery;
mod regressions;
mod repair;
mod replay;
mod reserve;
mod row_recovery;
mod rows;
mod shown;
mod smoke;
mod snapshot;
mod support;
#[allow(unreachable_pub, reason = "the tests of the adapters have it, too")]
#[path = "../../crates/servers/src/told.rs"]
mod told;
mod transactions;
mod transfer;
mod ttl;
