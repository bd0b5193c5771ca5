//! NATS with JetStream.

use crate::probe::Probe;
use crate::server::{Place, Recipe, Server};
use crate::system::program;
use std::process::Command;

const INSTALL: &str = "apt-get install -y --no-install-recommends nats-server";

/// Starts `nats-server` with JetStream, which keeps its files.
///
/// # Panics
///
/// It is not installed, or does not answer.
pub async fn start() -> Server {
    let program = program("nats-server", INSTALL);
    let command = move |place: &Place| {
        let mut command = Command::new(&program);
        command.args(["-js", "-a", "127.0.0.1", "-p", &place.port.to_string(), "-sd"]);
        command.arg(place.data());
        command
    };
    let probe = Probe { question: b"", answer: b"INFO " };
    let recipe = Recipe { name: "nats-server", probe, command: Box::new(command) };
    Server::start(recipe, Place::new()).await
}

/// Returns its address for clients.
pub fn url(server: &Server) -> String {
    format!("nats://{}", server.address())
}
