//! RabbitMQ.

use crate::probe::Probe;
use crate::process::Process;
use crate::server::{Place, Recipe, Server};
use crate::system::{User, free_port, program};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

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
    command.current_dir(place.path()).stdout(Stdio::null()).stderr(Stdio::null());
    if let Some(user) = user {
        user.run(&mut command);
    }
    let mapper = Process::start(&mut command, place.path()).expect("epmd can be started");

    let node = Node { dir: place.path().to_owned(), port: place.port, ports, user };
    let program = program("rabbitmq-server", INSTALL);
    nodes().insert(format!("127.0.0.1:{}", place.port), node.clone());
    let command = move |_: &Place| node.command(&program);
    // A protocol header, which is answered by a frame of a method on channel 0.
    let probe = Probe { question: b"AMQP\0\0\x09\x01", answer: b"\x01\0\0" };
    let recipe = Recipe { name: "rabbitmq-server", probe, command: Box::new(command) };
    Server::start_beside(recipe, place, vec![mapper]).await
}

/// Returns its address for clients, with the virtual host `/`.
pub fn url(server: &Server) -> String {
    format!("amqp://guest:guest@{}/%2f", server.address())
}

/// Runs `rabbitmqctl` for a server that this process has started, such as `["close_all_connections", "a test"]`. Returns what it
/// prints.
///
/// # Errors
///
/// What it says if it fails, as it does while the server is away.
///
/// # Panics
///
/// This process has started no server at this address.
pub async fn control(address: &str, arguments: &[&str]) -> Result<String, String> {
    let node = nodes().get(address).cloned().expect("a server of this process");
    let mut command = node.command(&program("rabbitmqctl", INSTALL));
    command.arg("--quiet").args(arguments).stdin(Stdio::null());
    let ran = tokio::task::spawn_blocking(move || command.output()).await;
    let ran = ran.expect("no panic").expect("rabbitmqctl can be started");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    if ran.status.success() { Ok(text(&ran.stdout)) } else { Err(text(&ran.stderr)) }
}

/// Returns how many messages a quorum queue has, those included that were delivered and not acknowledged; `None` if the server
/// of this address, which this process has started, does not say.
pub async fn messages(address: &str, queue: &str) -> Option<u64> {
    // Asked of the leader: what the server lists may be seconds old.
    let ask = format!(
        "{{ok, Q}} = rabbit_amqqueue:lookup(rabbit_misc:r(<<\"/\">>, queue, <<\"{queue}\">>)), \
         {{ok, {{_, N}}, _}} = ra:leader_query(amqqueue:get_pid(Q), fun rabbit_fifo:query_messages_total/1), \
         N."
    );
    control(address, &["eval", &ask]).await.ok()?.parse().ok()
}

/// How a server is spoken to by its own programs.
#[derive(Debug, Clone)]
struct Node {
    dir: PathBuf,
    port: u16,
    ports: Ports,
    user: Option<User>,
}

#[derive(Debug, Clone, Copy)]
struct Ports {
    /// Of the port mapper.
    mapper: u16,
    /// Between nodes.
    nodes: u16,
}

/// Those that this process has started, by address.
fn nodes() -> MutexGuard<'static, BTreeMap<String, Node>> {
    static NODES: Mutex<BTreeMap<String, Node>> = Mutex::new(BTreeMap::new());
    NODES.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Node {
    /// Returns a command in the environment of this server, and of none that the system has.
    fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.current_dir(&self.dir).env("HOME", &self.dir);
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
            command.env(name, self.dir.join(file));
        }
        command
            .env("RABBITMQ_NODENAME", format!("rabbit-{}@localhost", self.port))
            .env("RABBITMQ_NODE_IP_ADDRESS", "127.0.0.1")
            .env("RABBITMQ_NODE_PORT", self.port.to_string())
            .env("RABBITMQ_DIST_PORT", self.ports.nodes.to_string())
            .env("RABBITMQ_LOGS", "-")
            .env("ERL_EPMD_PORT", self.ports.mapper.to_string())
            .env("ERL_EPMD_ADDRESS", "127.0.0.1")
            .env("ERL_CRASH_DUMP_SECONDS", "0")
            // Schedulers that wait without using the processor, and no port for nodes beyond loopback.
            .env(
                "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS",
                "+sbwt none +sbwtdcpu none +sbwtdio none -kernel inet_dist_use_interface {127,0,0,1}",
            );
        if let Some(user) = self.user {
            user.run(&mut command);
        }
        command
    }
}
