//! Redis, and what Valkey has of it.

use crate::probe::Probe;
use crate::server::{Place, Recipe, Server};
use crate::system::{free_port, program};
use std::path::PathBuf;
use std::process::Command;

const INSTALL: &str = "apt-get install -y --no-install-recommends redis-server";

/// Starts `redis-server` without files: a kill loses everything.
///
/// # Panics
///
/// It is not installed, or does not answer.
pub async fn start() -> Server {
    start_program("redis-server", program("redis-server", INSTALL), &[]).await
}

/// Starts `redis-server` so that it loses nothing that it has answered: it syncs its append-only file before each answer.
///
/// # Panics
///
/// As [`start`].
pub async fn start_durable() -> Server {
    start_program("redis-server", program("redis-server", INSTALL), &DURABLE).await
}

/// Starts `redis-server` with these arguments at the end, such as `--maxmemory 5mb`, and otherwise as [`start`] does. For
/// the node of a cluster: [`CLUSTER`].
///
/// # Panics
///
/// As [`start`], also if it refuses the arguments.
pub async fn start_with(arguments: &[&str]) -> Server {
    start_program("redis-server", program("redis-server", INSTALL), arguments).await
}

/// Returns its address for clients; Valkey's, too.
pub fn url(server: &Server) -> String {
    format!("redis://{}/", server.address())
}

/// Makes a node of a cluster of the server; Valkey's, too. Other nodes reach it on a port of its own, which
/// `CONFIG GET cluster-port` tells.
pub const CLUSTER: [&str; 2] = ["--cluster-enabled", "yes"];

pub(crate) const DURABLE: [&str; 4] = ["--appendonly", "yes", "--appendfsync", "always"];

pub(crate) async fn start_program(
    name: &'static str,
    program: PathBuf,
    arguments: &[&str],
) -> Server {
    let mut arguments: Vec<String> =
        arguments.iter().map(|&argument| argument.to_owned()).collect();
    if arguments.windows(2).any(|pair| pair == CLUSTER) {
        // Else it is 10,000 above the other one, where a connection of any process may have it.
        arguments.extend(["--cluster-port".to_owned(), free_port().to_string()]);
    }
    let command = move |place: &Place| {
        let mut command = Command::new(&program);
        command.args(["--bind", "127.0.0.1", "--port", &place.port.to_string(), "--save", ""]);
        command.arg("--dir").arg(place.data()).args(&arguments);
        command
    };
    // While it reads its file, it answers with an error.
    let probe = Probe { question: b"PING\r\n", answer: b"+PONG" };
    let recipe = Recipe { name, probe, command: Box::new(command) };
    Server::start(recipe, Place::new()).await
}
