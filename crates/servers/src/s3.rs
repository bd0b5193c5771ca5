//! A store of objects that speaks the protocol of S3: `s3s-fs`.

use crate::probe::Probe;
use crate::server::{Place, Recipe, Server};
use crate::system::program;
use std::fs;
use std::process::Command;

const INSTALL: &str = "scripts/servers.sh installs it, from the crate s3s-fs";

/// The access key id that it takes.
pub const ACCESS_KEY: &str = "firstseen";
/// The secret access key that it takes.
pub const SECRET_KEY: &str = "not-secret";

/// Starts the store. What it has survives a kill.
///
/// # Panics
///
/// It is not installed, or does not answer.
pub async fn start() -> Server {
    let program = program("s3s-fs", INSTALL);
    let command = move |place: &Place| {
        let mut command = Command::new(&program);
        command.args(["--host", "127.0.0.1", "--port", &place.port.to_string()]);
        command.args(["--access-key", ACCESS_KEY, "--secret-key", SECRET_KEY]).arg(place.data());
        command
    };
    let probe = Probe { question: b"GET / HTTP/1.0\r\n\r\n", answer: b"HTTP/1." };
    let recipe = Recipe { name: "s3s-fs", probe, command: Box::new(command) };
    Server::start(recipe, Place::new()).await
}

/// Returns its address for clients. Buckets are in the path, and there is no TLS.
pub fn url(server: &Server) -> String {
    format!("http://{}", server.address())
}

/// Creates a bucket: a folder.
///
/// # Panics
///
/// There is one of that name.
pub fn create_bucket(server: &Server, name: &str) {
    fs::create_dir(server.dir().join("data").join(name)).expect("there is no such bucket yet");
}
