//! The servers themselves: that each starts, is killed and started again, and that none is left behind.

#![allow(clippy::unwrap_used, reason = "a test that meets an error has failed")]
#![allow(clippy::disallowed_macros, reason = "a child tells its parent by printing")]

use firstseen_servers::{Server, kafka, nats, postgres, rabbitmq, redis, s3, valkey};
use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

const LATE: Duration = Duration::from_secs(30);

/// Returns a server, its children, theirs, and so on.
fn processes_of(server: &Server) -> BTreeSet<u32> {
    let mut found = BTreeSet::from([server.pid()]);
    loop {
        let is_below = |id: &u32| parent_of(*id).is_some_and(|parent| found.contains(&parent));
        let more: BTreeSet<u32> = all_processes().filter(is_below).collect();
        let before = found.len();
        found.extend(more);
        if found.len() == before {
            return found;
        }
    }
}

/// Returns these, and what runs beside the server in its folder.
fn all_of(server: &Server) -> BTreeSet<u32> {
    let is_inside = |id: &u32| {
        fs::read_link(format!("/proc/{id}/cwd")).is_ok_and(|at| at.starts_with(server.dir()))
    };
    processes_of(server).into_iter().chain(all_processes().filter(is_inside)).collect()
}

fn all_processes() -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

fn parent_of(id: u32) -> Option<u32> {
    status_of(id)?.lines().find_map(|line| line.strip_prefix("PPid:"))?.trim().parse().ok()
}

fn status_of(id: u32) -> Option<String> {
    fs::read_to_string(format!("/proc/{id}/status")).ok()
}

/// Whether it runs; one that nobody has waited for does not.
fn runs(id: u32) -> bool {
    status_of(id).is_some_and(|status| !status.contains("\nState:\tZ"))
}

async fn until_gone(ids: &BTreeSet<u32>) {
    let end = Instant::now() + LATE;
    while let Some(left) = ids.iter().find(|id| runs(**id)) {
        assert!(Instant::now() < end, "process {left} is left behind: {:?}", status_of(*left));
        sleep(Duration::from_millis(10)).await;
    }
}

async fn connects(server: &Server) -> bool {
    TcpStream::connect(server.address()).await.is_ok()
}

/// Returns the ports that a server and its children listen on.
fn ports_of(server: &Server) -> BTreeSet<u16> {
    let sockets: BTreeSet<String> = all_of(server)
        .iter()
        .filter_map(|id| fs::read_dir(format!("/proc/{id}/fd")).ok())
        .flat_map(|files| files.flatten().filter_map(|file| fs::read_link(file.path()).ok()))
        .filter_map(|file| {
            Some(file.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned())
        })
        .collect();
    let listening = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (_, port) = fields[1].rsplit_once(':')?;
        let is_ours = fields[3] == "0A" && sockets.contains(fields[9]);
        is_ours.then(|| u16::from_str_radix(port, 16).unwrap())
    };
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"]
        .map(|path| fs::read_to_string(path).unwrap_or_default());
    tables.iter().flat_map(|table| table.lines().skip(1).filter_map(listening)).collect()
}

/// Returns its ports that it does not have from `free_port`. One that the system gave to it is another at each start; a server
/// with a fixed one does not start whenever a connection or another server has it.
fn unreserved_ports_of(server: &Server) -> BTreeSet<u16> {
    let mut ports = ports_of(server);
    assert!(ports.contains(&server.port()), "{server:?}: {ports:?}");
    ports.retain(|port| {
        let name = SocketAddr::from_abstract_name(format!("firstseen-servers-{port}")).unwrap();
        UnixListener::bind_addr(&name).is_ok()
    });
    ports
}

#[tokio::test]
async fn the_node_of_a_cluster_listens_on_reserved_ports() {
    for server in
        [redis::start_with(&redis::CLUSTER).await, valkey::start_with(&valkey::CLUSTER).await]
    {
        assert_eq!(ports_of(&server).len(), 2, "one for clients, one for other nodes");
        assert_eq!(unreserved_ports_of(&server), BTreeSet::new());
    }
}

/// Kills a server and starts it again, and leaves nothing of it behind.
async fn try_out(mut server: Server) {
    assert!(connects(&server).await);
    let ports = unreserved_ports_of(&server);
    let first = processes_of(&server);
    server.kill();
    assert!(!connects(&server).await, "{server:?} takes connections after it was killed");
    assert!(!first.iter().any(|id| runs(*id)), "kill returns when all are gone");
    server.restart().await;
    assert!(connects(&server).await, "{server:?} is back on its port");
    let fixed = &ports & &unreserved_ports_of(&server);
    assert!(fixed.is_empty(), "{server:?} listens again on {fixed:?}");
    let second = processes_of(&server);
    assert!(first.is_disjoint(&second), "these are other processes");
    let (dir, all) = (server.dir().to_owned(), all_of(&server));
    drop(server);
    until_gone(&all).await;
    assert!(!dir.exists(), "its folder is gone");
}

#[tokio::test]
async fn nats_starts_again_on_its_port_and_leaves_nothing_behind() {
    try_out(nats::start().await).await;
}

#[tokio::test]
async fn redis_starts_again_on_its_port_and_leaves_nothing_behind() {
    try_out(redis::start().await).await;
}

#[tokio::test]
async fn valkey_starts_again_on_its_port_and_leaves_nothing_behind() {
    try_out(valkey::start().await).await;
}

#[tokio::test]
async fn postgres_starts_again_on_its_port_and_leaves_nothing_behind() {
    try_out(postgres::start().await).await;
}

#[tokio::test]
async fn rabbitmq_starts_again_on_its_port_and_leaves_nothing_behind() {
    try_out(rabbitmq::start().await).await;
}

#[tokio::test]
async fn kafka_starts_again_on_its_port_and_leaves_nothing_behind() {
    try_out(kafka::start().await).await;
}

#[tokio::test]
async fn s3_starts_again_on_its_port_and_leaves_nothing_behind() {
    let server = s3::start().await;
    s3::create_bucket(&server, "bucket");
    try_out(server).await;
}

/// Sends commands to Redis and returns the beginning of what it says.
async fn ask(server: &Server, question: &str) -> String {
    let mut stream = TcpStream::connect(server.address()).await.unwrap();
    stream.write_all(question.as_bytes()).await.unwrap();
    let mut answer = [0; 256];
    let count = stream.read(&mut answer).await.unwrap();
    String::from_utf8_lossy(&answer[..count]).into_owned()
}

#[tokio::test]
async fn a_durable_redis_or_valkey_keeps_what_it_has_answered_and_another_does_not() {
    for (durable, other) in [
        (redis::start_durable().await, redis::start().await),
        (valkey::start_durable().await, valkey::start().await),
    ] {
        for (mut server, expected) in [(durable, "$1\r\n1"), (other, "$-1")] {
            assert_eq!(ask(&server, "SET key 1\r\n").await, "+OK\r\n");
            server.kill();
            server.restart().await;
            let answer = ask(&server, "GET key\r\n").await;
            assert!(answer.starts_with(expected), "{server:?}: {answer}");
        }
    }
}

#[tokio::test]
async fn a_frozen_server_answers_once_it_is_thawed() {
    let server = redis::start().await;
    server.freeze();
    let mut stream = TcpStream::connect(server.address()).await.unwrap();
    stream.write_all(b"PING\r\n").await.unwrap();
    let mut answer = [0; 5];
    let early = timeout(Duration::from_millis(300), stream.read_exact(&mut answer)).await;
    assert!(early.is_err(), "it answers while it is frozen");
    server.thaw();
    timeout(LATE, stream.read_exact(&mut answer)).await.unwrap().unwrap();
    assert_eq!(&answer, b"+PONG");
}

#[tokio::test]
async fn all_processes_of_a_server_are_frozen() {
    let server = postgres::start().await;
    let all = processes_of(&server);
    assert!(all.len() > 1, "Postgres has children");
    server.freeze();
    let goes_on = |id: &&u32| {
        runs(**id) && status_of(**id).is_some_and(|status| !status.contains("\nState:\tT"))
    };
    let end = Instant::now() + LATE;
    while let Some(id) = all.iter().find(goes_on) {
        assert!(Instant::now() < end, "process {id} goes on: {:?}", status_of(*id));
        sleep(Duration::from_millis(10)).await;
    }
    // A frozen one can be stopped.
    drop(server);
    until_gone(&all).await;
}

const CHILD: &str = "FIRSTSEEN_SERVERS_CHILD";

/// Not a test: the process that the next one starts and kills.
#[tokio::test]
async fn a_process_with_servers() {
    if std::env::var_os(CHILD).is_none() {
        return;
    }
    let servers = [nats::start().await, postgres::start().await, rabbitmq::start().await];
    for server in &servers {
        let ids: Vec<String> = all_of(server).iter().map(u32::to_string).collect();
        println!("\nservers {}", ids.join(" "));
        println!("\ndir {}", server.dir().display());
    }
    println!("\nready");
    std::future::pending::<()>().await;
}

#[tokio::test]
async fn servers_and_their_folders_end_with_the_process_that_started_them_though_it_is_killed() {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "a_process_with_servers", "--nocapture"])
        .env(CHILD, "1")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let (mut all, mut dirs) = (BTreeSet::new(), Vec::new());
    for line in BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap) {
        if let Some(ids) = line.strip_prefix("servers ") {
            all.extend(ids.split(' ').map(|id| id.parse::<u32>().unwrap()));
        }
        if let Some(dir) = line.strip_prefix("dir ") {
            dirs.push(PathBuf::from(dir));
        }
        if line == "ready" {
            break;
        }
    }
    assert!(all.len() > 3 && all.iter().all(|id| runs(*id)), "{all:?}");
    assert!(dirs.len() == 3 && dirs.iter().all(|dir| dir.exists()), "{dirs:?}");
    child.kill().unwrap();
    child.wait().unwrap();
    until_gone(&all).await;
    let end = Instant::now() + LATE;
    while let Some(left) = dirs.iter().find(|dir| dir.exists()) {
        assert!(Instant::now() < end, "{} is left behind", left.display());
        sleep(Duration::from_millis(10)).await;
    }
}
