//! RabbitMQ.

use crate::probe::Probe;
use crate::process::Process;
use crate::server::{Place, Recipe, Server};
use crate::system::{User, free_port, program};
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

const INSTALL: &str = "apt-get install -y --no-install-recommends rabbitmq-server";

/// Starts RabbitMQ, a cluster of one, with a port mapper of its own.
///
/// # Panics
///
/// It is not installed, or does not answer.
pub async fn start() -> Server {
    start_with("[].").await
}

/// Starts RabbitMQ with the text of an `advanced.config`, such as `[{rabbit, [{consumer_timeout, 2000}]}].`, and otherwise
/// as [`start`] does.
///
/// # Panics
///
/// As [`start`], also if it refuses the settings.
pub async fn start_with(settings: &str) -> Server {
    let user = User::of("rabbitmq", INSTALL);
    let place = Place::new();
    for (name, text) in [("advanced.config", settings), ("rabbitmq.conf", ""), ("env.conf", "")] {
        fs::write(place.path().join(name), text).expect("a file of settings");
    }
    if let Some(user) = user {
        user.own(place.path());
        user.own(&place.data());
    }
    let ports = Ports { mapper: free_port(), nodes: free_port() };
    let mut command = Command::new(program("epmd", INSTALL));
    command.args(["-address", "127.0.0.1", "-port", &ports.mapper.to_string()]);
    command.stdout(Stdio::null()).stderr(Stdio::null());
    if let Some(user) = user {
        user.run(&mut command);
    }
    let mapper = Process::start(&mut command).expect("epmd can be started");

    let program = program("rabbitmq-server", INSTALL);
    let command = move |place: &Place| {
        let mut command = Command::new(&program);
        environment(&mut command, place.path(), place.port, ports);
        if let Some(user) = user {
            user.run(&mut command);
        }
        command
    };
    // A protocol header, which is answered by a frame of a method on channel 0.
    let probe = Probe { question: b"AMQP\0\0\x09\x01", answer: b"\x01\0\0" };
    let recipe = Recipe { name: "rabbitmq-server", probe, command: Box::new(command) };
    Server::start_beside(recipe, place, vec![mapper]).await
}

/// Returns its address for clients, with the virtual host `/`.
pub fn url(server: &Server) -> String {
    format!("amqp://guest:guest@{}/%2f", server.address())
}

#[derive(Clone, Copy)]
struct Ports {
    /// Of the port mapper.
    mapper: u16,
    /// Between nodes.
    nodes: u16,
}

fn environment(command: &mut Command, dir: &Path, port: u16, ports: Ports) {
    // Nothing of a server that the system has.
    command.current_dir(dir).env("HOME", dir);
    let files = [
        ("RABBITMQ_MNESIA_BASE", "data"),
        ("RABBITMQ_LOG_BASE", "log"),
        ("RABBITMQ_CONFIG_FILE", "rabbitmq.conf"),
        ("RABBITMQ_ADVANCED_CONFIG_FILE", "advanced.config"),
        ("RABBITMQ_CONF_ENV_FILE", "env.conf"),
        ("RABBITMQ_ENABLED_PLUGINS_FILE", "plugins"),
        ("RABBITMQ_PID_FILE", "pid"),
    ];
    for (name, file) in files {
        command.env(name, dir.join(file));
    }
    command
        .env("RABBITMQ_NODENAME", format!("rabbit-{port}@localhost"))
        .env("RABBITMQ_NODE_IP_ADDRESS", "127.0.0.1")
        .env("RABBITMQ_NODE_PORT", port.to_string())
        .env("RABBITMQ_DIST_PORT", ports.nodes.to_string())
        .env("RABBITMQ_LOGS", "-")
        .env("ERL_EPMD_PORT", ports.mapper.to_string())
        .env("ERL_EPMD_ADDRESS", "127.0.0.1")
        .env("ERL_CRASH_DUMP_SECONDS", "0")
        // Schedulers that wait without using the processor, and no port for nodes beyond loopback.
        .env(
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS",
            "+sbwt none +sbwtdcpu none +sbwtdio none -kernel inet_dist_use_interface {127,0,0,1}",
        );
}
