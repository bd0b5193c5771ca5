//! Postgres.

use crate::probe::Probe;
use crate::server::{Place, Recipe, Server};
use crate::system::{User, program};
use std::process::{Command, Stdio};

const INSTALL: &str = "apt-get install -y --no-install-recommends postgresql";

/// Starts Postgres with a new cluster: user and database `postgres`, without a password. It takes prepared transactions.
///
/// # Panics
///
/// It is not installed, or does not answer.
pub async fn start() -> Server {
    start_with(&[]).await
}

/// Starts Postgres with these settings, such as `synchronous_commit=off`, and otherwise as [`start`] does.
///
/// # Panics
///
/// As [`start`], also if it refuses a setting.
pub async fn start_with(settings: &[&str]) -> Server {
    let user = User::of("postgres", INSTALL);
    let place = Place::new();
    if let Some(user) = user {
        user.own(place.path());
        user.own(&place.data());
    }
    create_cluster(&place, user);
    let program = program("postgres", INSTALL);
    let settings: Vec<String> = settings.iter().map(|&setting| setting.to_owned()).collect();
    let command = move |place: &Place| {
        let mut command = Command::new(&program);
        command.arg("-D").arg(place.data()).args(["-h", "127.0.0.1", "-p"]);
        command.arg(place.port.to_string()).arg("-k").arg(place.path());
        command.args(["-c", "max_prepared_transactions=50"]);
        settings.iter().for_each(|setting| _ = command.args(["-c", setting]));
        // The folder of the tests may not be the user's to enter.
        command.current_dir(place.path());
        if let Some(user) = user {
            user.run(&mut command);
        }
        command
    };
    // A startup message of protocol 3.0, which is answered by a question for authentication, or by an error.
    let question = b"\0\0\0\x29\0\x03\0\0user\0postgres\0database\0postgres\0\0";
    let probe = Probe { question, answer: b"R" };
    let recipe = Recipe { name: "postgres", probe, command: Box::new(command) };
    Server::start(recipe, place).await
}

/// Returns its address for clients, with user and database.
pub fn url(server: &Server) -> String {
    format!("postgres://postgres@{}/postgres", server.address())
}

fn create_cluster(place: &Place, user: Option<User>) {
    let mut command = Command::new(program("initdb", INSTALL));
    command.arg("-D").arg(place.data()).args(["-U", "postgres", "-A", "trust", "-E", "UTF8"]);
    command.args(["--locale=C", "--no-sync"]).current_dir(place.path()).stdin(Stdio::null());
    if let Some(user) = user {
        user.run(&mut command);
    }
    let ended = command.output().expect("initdb can be started");
    assert!(ended.status.success(), "initdb: {}", String::from_utf8_lossy(&ended.stderr));
}
