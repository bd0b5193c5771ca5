//! `examples/two_phase_postgres.rs`, against a server of its own. Where Postgres is not installed, it says NOT RUN.

use crate::harness::generate::{self, Kind};
use crate::harness::{Left, Program, deliveries, proof};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

#[path = "../../examples/two_phase_postgres.rs"]
#[allow(dead_code, clippy::duplicate_mod, reason = "its main is for those who run it")]
mod program;

use program::coordinator::Participant;
use program::outside::Outside;
use program::{Changes, PostgresBank};

const BATCH: usize = 5;
const OPENING: i64 = 1_000_000;
const SERVER: &str = "FIRSTSEEN_TEST_POSTGRES";

/// A server on a free port of the loopback interface, ended when this is dropped.
struct Server {
    child: Child,
    port: u16,
    _dir: tempfile::TempDir,
}

impl Drop for Server {
    fn drop(&mut self) {
        // SIGQUIT: at once, without its ceremony. Its folder goes, too.
        let pid = self.child.id().to_string();
        Command::new("kill").args(["-QUIT", &pid]).status().ok();
        self.child.wait().ok();
    }
}

/// The folder with the newest version's programs; Debian keeps them out of PATH.
fn programs() -> Option<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").ok()?.flatten();
    let folders = versions.map(|entry| entry.path().join("bin"));
    folders.filter(|folder| folder.join("initdb").is_file()).max()
}

/// Postgres refuses to run as root.
fn command(program: &Path) -> Command {
    let is_root = Command::new("id").arg("-u").output().unwrap().stdout == b"0\n";
    if !is_root {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups"]).arg(program);
    command
}

impl Server {
    /// Starts one; `None` if Postgres is not installed.
    fn start() -> Option<Self> {
        let programs = programs()?;
        let dir = tempfile::Builder::new().prefix("firstseen-postgres").tempdir().unwrap();
        let owned = Command::new("chown").arg("postgres").arg(dir.path()).status();
        owned.unwrap();
        let data = dir.path().join("data");
        let mut init = command(&programs.join("initdb"));
        init.args(["-A", "trust", "-U", "postgres", "--no-sync", "-D"]).arg(&data);
        assert!(init.stdout(Stdio::null()).status().unwrap().success(), "initdb");
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut server = command(&programs.join("postgres"));
        server.arg("-D").arg(&data).args(["-p", &port.to_string(), "-h", "127.0.0.1"]);
        for setting in ["unix_socket_directories=", "max_prepared_transactions=20", "fsync=off"] {
            server.args(["-c", setting]);
        }
        let child = server.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let server = Self { child, port, _dir: dir };
        let bank = bank(server.port, "postgres");
        for _ in 0..300 {
            if bank.ask("SELECT 1;").is_ok() {
                return Some(server);
            }
            std::thread::park_timeout(std::time::Duration::from_millis(50));
        }
        panic!("the server does not answer");
    }
}

fn bank(port: u16, database: &str) -> PostgresBank {
    let server = format!("host=127.0.0.1 port={port} user=postgres dbname={database}");
    // Debian's `psql` in PATH is a script that looks for this one.
    let psql = programs().expect("is installed").join("psql");
    PostgresBank { server, psql }
}

/// Each folder has a database of its own.
fn bank_of(port: u16, folder: &Path) -> PostgresBank {
    let mut database = folder.display().to_string().to_lowercase();
    database.retain(|c| c.is_ascii_alphanumeric());
    bank(port, &database)
}

fn run(folder: &Path, input: &Path, step: u64) -> program::outside::Answer {
    let port = std::env::var(SERVER).unwrap().parse().unwrap();
    let ours = bank_of(port, folder);
    if ours.ask("SELECT 1;").is_err() {
        let database = ours.server.rsplit('=').next().unwrap();
        bank(port, "postgres").ask(&format!("CREATE DATABASE {database};"))?;
    }
    program::run(&program::outside::Outside::new(folder, step), input, BATCH, &ours).map(drop)
}

/// The books that the input asks for, done by other means.
fn expected(left: &Left) -> BTreeMap<String, i64> {
    let mut books = BTreeMap::<String, i64>::new();
    for transfer in left.events() {
        let [from, to] = ["from", "to"].map(|end| transfer[end].as_str().unwrap().to_owned());
        let cents = transfer["cents"].as_i64().unwrap();
        let has_overdraft = from.starts_with("b-");
        let rich = books.entry(from).or_insert(OPENING);
        let moved = if has_overdraft || *rich >= cents { cents } else { 0 };
        *rich -= moved;
        *books.entry(to).or_insert(OPENING) += moved;
    }
    books
}

fn check(left: &Left, port: u16) {
    let b = bank_of(port, &left.folder);
    let outside = program::outside::Outside::new(&left.folder, 0);
    let books = program::books(&outside, &b).unwrap();
    let sum: i64 = books.values().sum();
    let began: i64 = books.values().map(|_| OPENING).sum();
    assert_eq!(sum, began, "money was lost or made, {:?}", left.killed);
    assert_eq!(books, expected(left), "{:?}", left.killed);
    let in_doubt = b.ask("SELECT gid FROM pg_prepared_xacts WHERE database = current_database();");
    assert_eq!(in_doubt.unwrap(), "", "{:?}", left.killed);
}

fn program(test: &'static str, server: Option<&Server>) -> Program {
    let env = server.map(|server| (SERVER, server.port.to_string()));
    Program { test, kind: Kind::Transfers, run, env }
}

#[test]
fn money_of_a_store_and_postgres_killed_at_any_step_is_neither_lost_nor_made() {
    const TEST: &str = "two_phase_postgres::money_of_a_store_and_postgres_killed_at_any_step_is_neither_lost_nor_made";
    program(TEST, None).in_child();
    let Some(server) = Server::start() else {
        return println!("NOT RUN: two_phase_postgres at every step needs Postgres");
    };
    let steps = program(TEST, Some(&server)).at_every_step(6, |left| check(left, server.port));
    for step in ["prepared in a", "prepared in b", "decided", "committed in a", "committed in b"] {
        assert!(steps.iter().any(|name| name == step), "{step} is one of {steps:?}");
    }
}

#[test]
fn money_of_a_store_and_postgres_killed_at_random_is_neither_lost_nor_made() {
    const TEST: &str = "two_phase_postgres::money_of_a_store_and_postgres_killed_at_random_is_neither_lost_nor_made";
    program(TEST, None).in_child();
    let Some(server) = Server::start() else {
        return println!("NOT RUN: two_phase_postgres, kill -9, needs Postgres");
    };
    let dir = tempfile::tempdir().unwrap();
    let count = deliveries(25);
    let program = program(TEST, Some(&server));
    let (killed, left) = program.killed_at_random(dir.path(), count, |_| {});
    check(&left, server.port);
    proof("two_phase_postgres", killed, &format!("{count} transfers, 0 cents lost or made"));
}

/// What is prepared holds the row of the fence. That it is not to be had in time is known by its code, not by the text of
/// the error.
#[test]
fn a_fence_waits_for_what_is_under_way_in_postgres() {
    let Some(server) = Server::start() else {
        return println!("NOT RUN: a fence in Postgres needs Postgres");
    };
    let bank = bank(server.port, "postgres");
    bank.set_up().unwrap();
    bank.prepare("theirs", &Changes::default(), 0).unwrap();
    assert!(!bank.fence(1).unwrap(), "something is under way");
    bank.rollback("theirs").unwrap();
    assert!(bank.fence(1).unwrap());
    let why = bank.fence(0).unwrap_err().to_string();
    assert!(why.contains("another coordinator"), "{why}");
}

#[test]
fn nobody_but_its_coordinator_ends_what_postgres_has_prepared_without_being_found_out() {
    let Some(server) = Server::start() else {
        return println!("NOT RUN: two_phase_postgres beside another coordinator needs Postgres");
    };
    let [ours, other] = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let bank = bank(server.port, "postgres");
    let run = |folder: &Path| {
        let (outside, input) = (Outside::new(folder, u64::MAX), folder.join("input.ndjson"));
        generate::file(&input, Kind::Transfers, 10).unwrap();
        program::run(&outside, &input, BATCH, &bank)
    };
    assert_eq!(run(ours.path()).unwrap(), 10);
    let epoch =
        || bank.ask("SELECT epoch FROM firstseen_bank.coordinator;").unwrap().trim().parse();
    let epoch = || -> u64 { epoch().unwrap() };
    bank.prepare("theirs", &Changes::default(), epoch()).unwrap();

    let why = run(other.path()).unwrap_err().to_string();
    assert!(why.contains("another coordinator"), "{why}");
    assert_eq!(bank.in_doubt().unwrap(), ["theirs"], "it has touched nothing");
    bank.commit("theirs").unwrap();
    bank.commit("theirs").expect("may be repeated");

    bank.prepare("ended by an operator", &Changes::default(), epoch()).unwrap();
    bank.ask("ROLLBACK PREPARED 'firstseen ended by an operator';").unwrap();
    let why = bank.commit("ended by an operator").unwrap_err().to_string();
    assert!(why.contains("rolled it back"), "{why}");
}
