//! Real servers for the tests of the adapters.
//!
//! Each is started on a free port of loopback, in a temporary folder, and stopped by its process id; nothing that the system
//! runs is touched. A test panics where the program is missing, with a word on how to install it; scripts/servers.sh installs
//! them all.
//!
//! ```no_run
//! # async fn run() {
//! let mut server = firstseen_servers::nats::start().await;
//! // ... connect to firstseen_servers::nats::url(&server) ...
//! server.kill();
//! server.restart().await; // on the same port and files
//! # }
//! ```
//!
//! [`kills`] is the test that an adapter passes: both ends killed at random, and effects counted outside, in an
//! [`OutsideRecord`].

#![allow(clippy::unwrap_used, reason = "a test that meets an error has failed")]

pub mod kafka;
pub mod kills;
pub mod nats;
mod outside;
pub mod postgres;
mod probe;
mod process;
mod proxy;
pub mod rabbitmq;
pub mod redis;
pub mod s3;
mod server;
mod system;
mod told;
pub mod valkey;

pub use outside::OutsideRecord;
pub use proxy::Proxy;
pub use server::Server;
pub use system::free_port;
pub use told::Told;
