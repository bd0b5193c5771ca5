//! A broker that speaks Kafka's protocol: `noida-db`.

use crate::probe::Probe;
use crate::server::{Place, Recipe, Server};
use crate::system::program;
use std::process::Command;

const INSTALL: &str = "scripts/servers.sh installs it, from the Python package noida-db";

/// Starts the broker. Its topics survive a kill.
///
/// # Panics
///
/// It is not installed, or does not answer.
pub async fn start() -> Server {
    let program = program("noida-db", INSTALL);
    let command = move |place: &Place| {
        let mut command = Command::new(&program);
        command.arg("start").arg("--data-dir").arg(place.data());
        command.args(["--only", "kafka", "--kafka-port", &place.port.to_string()]);
        command
    };
    // ApiVersions, version 0, without a client id. The answer begins with its length.
    let question = b"\0\0\0\x0a\0\x12\0\0\0\0\0\x01\xff\xff";
    let probe = Probe { question, answer: b"\0\0" };
    let recipe = Recipe { name: "noida-db", probe, command: Box::new(command) };
    Server::start(recipe, Place::new()).await
}
