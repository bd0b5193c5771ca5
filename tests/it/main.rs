//! Integration tests: one binary, one module per subject.
#![allow(clippy::unwrap_used, reason = "a test that meets an error has failed")]
mod batch;
mod causes;
mod claims;
mod clock;
mod consumer;
mod damage;
mod durability;
mod errors;
mod expendable;
mod folder;
mod fork;
mod full_disk;
mod generations;
mod idle;
mod lifecycle;
mod long_ids;
mod namespaces;
mod operations;
mod recovery;
mod regressions;
mod repair;
mod reserve;
mod smoke;
mod support;
mod transfer;
mod ttl;
