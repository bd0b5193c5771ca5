//! The server is killed at random, by SIGKILL, while clients repeat themselves. Effects are lines of a file that the
//! test owns; no store knows it.
//!
//! A kill between an effect and its record leaves the effect without the record: that is what the two policies are
//! about. Between record and answer it leaves a record whose client has heard nothing: its retry is told the answer.
//!
//! Keys begin with the name of the run, and each answer names the run of the server that gives it: a client that hears
//! another run's server fails at once, and is no loss of this one.

use crate::call::{Call, Heard, Line};
use crate::site::LATE;
use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode};
use axum::middleware::map_response;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use firstseen::Store;
use firstseen_consumer::testkit::Dice;
use firstseen_servers::OutsideRecord;
use firstseen_shared::{Embedded, OnLeaseEnd, SharedLedger};
use firstseen_tower::{
    IdempotencyLayer, Policy, Principals, ledger_options, record_id, stored_response,
};
use http_body_util::BodyExt;
use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// What the server process is told: the policy, a seed, the port and the folder.
const JOB: &str = "FIRSTSEEN_TOWER_SERVER";
const CLIENTS: u64 = 12;
/// The header by which a server says of which run it is.
const RUN: &str = "x-run";

type Ledger = SharedLedger<Embedded>;

/// Each key has one effect, whatever is killed: what a kill has left in doubt is looked up outside, as an operator does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn effects_are_made_once_and_none_is_lost_though_the_server_is_killed() {
    kill(OnLeaseEnd::Hold).await;
}

/// Without looking anything up: an effect is made again only if a kill came between it and the record of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_effect_is_made_again_only_around_a_kill() {
    kill(OnLeaseEnd::Retry).await;
}

fn number(variable: &str, otherwise: u64) -> u64 {
    std::env::var(variable).map_or(otherwise, |text| text.parse().unwrap())
}

/// The server process, and those before it.
struct Server<'a> {
    policy: &'static str,
    port: u16,
    dir: &'a Path,
    running: Option<Child>,
    killed: BTreeSet<u32>,
}

impl Server<'_> {
    fn start(&mut self, seed: u64) {
        let Self { policy, port, dir, .. } = self;
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "kills::the_process_that_is_killed", "--nocapture"])
            .env(JOB, format!("{policy} {seed} {port} {}", dir.display()))
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::inherit())
            .spawn();
        self.running = Some(child.unwrap());
    }

    fn kill(&mut self) {
        let mut child = self.running.take().unwrap();
        assert!(child.try_wait().unwrap().is_none(), "the server has ended by itself");
        self.killed.insert(child.id());
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Closes its input, by which it ends in good order.
    async fn stop(&mut self) {
        let mut child = self.running.take().unwrap();
        drop(child.stdin.take());
        let end = Instant::now() + LATE;
        while child.try_wait().unwrap().is_none() {
            assert!(Instant::now() < end, "the server does not stop");
            sleep(Duration::from_millis(20)).await;
        }
        assert!(child.wait().unwrap().success(), "the server has failed");
    }
}

impl Drop for Server<'_> {
    fn drop(&mut self) {
        if let Some(child) = &mut self.running {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// The name of a run: that of its folder, which no other has.
fn run_of(dir: &Path) -> String {
    dir.file_name().unwrap().to_str().unwrap().trim_start_matches(['.', '_']).to_owned()
}

/// What a client was told of each key that was done: the receipt.
type Told = BTreeMap<String, String>;

async fn kill(policy: OnLeaseEnd) {
    let rounds = number("FIRSTSEEN_KILLS", 6);
    let mut dice = Dice::new(number("FIRSTSEEN_KILLS_SEED", 1));
    let dir = tempfile::tempdir().unwrap();
    let name = if policy == OnLeaseEnd::Hold { "hold" } else { "retry" };
    // Of its own, so that no client meets another test's server while its own is down.
    let port = firstseen_servers::free_port();
    let mut server =
        Server { policy: name, port, dir: dir.path(), running: None, killed: BTreeSet::new() };
    server.start(dice.any());

    let stop = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|n| tokio::spawn(send_on(port, run_of(dir.path()), Arc::clone(&stop), n)))
        .collect();
    let began = Instant::now();
    for _ in 0..rounds {
        sleep(Duration::from_millis(100 + dice.below(700))).await;
        server.kill();
        server.start(dice.any());
    }
    sleep(Duration::from_millis(200)).await;
    stop.store(true, Ordering::SeqCst);
    let (mut told, mut requests) = (Told::new(), 0);
    for client in clients {
        let (sent, heard) = client.await.unwrap();
        requests += sent;
        told.extend(heard);
    }
    server.stop().await;

    let effects = effects_of(dir.path());
    let again = check(&effects, &told, policy, &server.killed);
    println!(
        "proof | HTTP, the server killed ({name}) | {rounds} | kills | {requests} requests, {} keys, {again} effects again, {} lines cut off, {:.1} s",
        told.len(),
        OutsideRecord::cut_off(&dir.path().join("effects")),
        began.elapsed().as_secs_f64()
    );
}

/// Compares what clients were told with what was done. Returns how many effects were made again.
fn check(
    effects: &BTreeMap<String, Vec<Effect>>,
    told: &Told,
    policy: OnLeaseEnd,
    killed: &BTreeSet<u32>,
) -> usize {
    let mut again = 0;
    for (key, receipt) in told {
        let made = effects.get(key).unwrap_or_else(|| {
            panic!(
                "the effect of {key} is lost: its client was told {receipt}, killed are {killed:?}"
            )
        });
        // What a client was told is what was done last: nothing is done after it was recorded.
        assert_eq!(&made.last().unwrap().receipt, receipt, "{key}: {made:?}");
        let (_, earlier) = made.split_last().unwrap();
        again += earlier.len();
        if policy == OnLeaseEnd::Hold {
            assert!(earlier.is_empty(), "the effect of {key} was made more than once: {made:?}");
        }
        // Only a process that was killed can have left an effect without its record, and it made it once.
        for effect in earlier {
            assert!(killed.contains(&effect.pid), "{key} was done again: {made:?}");
        }
        let pids: BTreeSet<u32> = made.iter().map(|effect| effect.pid).collect();
        assert_eq!(pids.len(), made.len(), "one process made the effect of {key} twice");
    }
    let from_nowhere: Vec<_> = effects.keys().filter(|key| !told.contains_key(*key)).collect();
    assert!(from_nowhere.is_empty(), "{from_nowhere:?} were done, and no client was told");
    again
}

/// Sends one request after the other, each until it is done; some twice at once, some again after that.
async fn send_on(port: u16, run: String, stop: Arc<AtomicBool>, n: u64) -> (u64, Told) {
    let mut dice = Dice::new(n);
    let (mut told, mut sent) = (Told::new(), 0);
    let address = format!("127.0.0.1:{port}");
    let mut lines = [Line::to(&address), Line::to(&address)];
    for number in 0.. {
        if stop.load(Ordering::SeqCst) {
            break;
        }
        let key = format!("{run}-{n}-{number}");
        let call = Call::post("/charge").key(&key).body(key.clone());
        let end = Instant::now() + LATE * 2;
        let mut left = if dice.percent(20) { 2 } else { 1 };
        while left > 0 {
            assert!(Instant::now() < end, "{key} is never done");
            let [first, twin] = &mut lines;
            let answers = if dice.percent(20) {
                let (first, twin) = tokio::join!(ask(&call, first), ask(&call, twin));
                vec![first, twin]
            } else {
                vec![ask(&call, first).await]
            };
            sent += answers.len() as u64;
            let mut is_done = false;
            for heard in answers.into_iter().flatten() {
                assert_eq!(heard.header(RUN), Some(&*run), "another run's server: {heard:?}");
                match heard.status() {
                    201 if heard.is_whole => {
                        is_done = true;
                        let receipt = heard.text().to_owned();
                        assert!(receipt.starts_with(&format!("{key}/")), "{key} hears {receipt}");
                        let before = told.insert(key.clone(), receipt.clone());
                        assert!(before.is_none_or(|before| before == receipt), "{key}");
                    }
                    // At work, in doubt, failed, or broken off by the kill.
                    201 | 409 | 500 | 503 => {}
                    _ => panic!("{heard:?}"),
                }
            }
            if is_done {
                left -= 1;
            } else {
                sleep(Duration::from_millis(10)).await;
            }
        }
    }
    (sent, told)
}

/// What is heard; nothing, if the server is not there or dies meanwhile.
async fn ask(call: &Call, line: &mut Line) -> Option<Heard> {
    let heard = tokio::time::timeout(LATE, line.send(call)).await;
    heard.expect("a server that lives answers")
}

#[derive(Debug, Clone)]
struct Effect {
    pid: u32,
    receipt: String,
}

fn effects_of(dir: &Path) -> BTreeMap<String, Vec<Effect>> {
    let mut effects: BTreeMap<String, Vec<Effect>> = BTreeMap::new();
    for line in OutsideRecord::lines(&dir.join("effects")) {
        let words: Vec<&str> = line.split(' ').collect();
        let [key, pid, receipt] = words[..] else { panic!("no effect: {line}") };
        let effect = Effect { pid: pid.parse().unwrap(), receipt: receipt.to_owned() };
        effects.entry(key.to_owned()).or_default().push(effect);
    }
    effects
}

/// Not a test: the process that the tests above start and kill.
#[test]
fn the_process_that_is_killed() {
    let Ok(job) = std::env::var(JOB) else { return };
    let words: Vec<&str> = job.splitn(4, ' ').collect();
    let [policy, seed, port, dir] = words[..] else { panic!("{job}") };
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.worker_threads(2).enable_all().build().unwrap();
    let (seed, port) = (seed.parse().unwrap(), port.parse().unwrap());
    runtime.block_on(serve(policy == "hold", seed, port, dir.into()));
}

/// What the handler needs.
struct Bank {
    effects: OutsideRecord,
    dice: Mutex<Dice>,
}

async fn serve(holds: bool, seed: u64, port: u16, dir: PathBuf) {
    let store = Store::open(dir.join("seen.db")).unwrap();
    let store = Embedded::new(store).leases_end_with_process();
    let on_lease_end = if holds { OnLeaseEnd::Hold } else { OnLeaseEnd::Retry };
    let options = ledger_options().on_lease_end(on_lease_end);
    let ledger: Ledger = SharedLedger::new(store, "charges", options).unwrap();
    let policy = Policy::draft().fates(|status| match status {
        // Said before the charge: nothing was done.
        StatusCode::INTERNAL_SERVER_ERROR => firstseen_tower::Fate::Release,
        status => firstseen_tower::Fate::draft(status),
    });
    let layer = IdempotencyLayer::new(ledger.clone(), Principals::everyone(), policy).unwrap();
    let handle = layer.handle();
    let effects = OutsideRecord::open(&dir.join("effects"));
    let bank = Arc::new(Bank { effects, dice: Mutex::new(Dice::new(seed)) });
    let run = HeaderValue::from_str(&run_of(&dir)).unwrap();
    let signed = map_response(move |mut response: Response| {
        response.headers_mut().insert(RUN, run.clone());
        std::future::ready(response)
    });
    // Outside of the layer, so that what it replays is signed by who replays it.
    let router =
        Router::new().route("/charge", post(charge)).with_state(bank).layer(layer).layer(signed);
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await.unwrap();

    let ended = tokio::task::spawn_blocking(|| {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
    });
    tokio::select! {
        served = axum::serve(listener, router).with_graceful_shutdown(async { ended.await.unwrap() }) => served.unwrap(),
        () = operate(&ledger, &dir), if holds => {}
    }
    assert_eq!(handle.finished(LATE).await, 0);
}

async fn charge(State(bank): State<Arc<Bank>>, request: Request) -> Response {
    let body = request.into_body().collect().await.unwrap().to_bytes();
    let key = String::from_utf8(body.to_vec()).unwrap();
    let (before, after, fails, number) = {
        let mut dice = bank.dice.lock().unwrap();
        (dice.below(15), dice.below(10), dice.percent(5), dice.any())
    };
    sleep(Duration::from_millis(before)).await;
    if fails {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    }
    // It says whose it is, and who has made it.
    let pid = std::process::id();
    let receipt = format!("{key}/{pid}/{number}");
    bank.effects.add(format_args!("{key} {pid} {receipt}"));
    sleep(Duration::from_millis(after)).await;
    (StatusCode::CREATED, receipt).into_response()
}

/// What an operator does with keys in doubt: looks whether their effects were made. Those in doubt are of processes that are
/// dead, so that nothing is added to what is found.
async fn operate(ledger: &Ledger, dir: &Path) {
    loop {
        let held = ledger.dead_letters(None, 1_000).await.unwrap();
        let effects = if held.is_empty() { BTreeMap::new() } else { effects_of(dir) };
        for id in held {
            let made = effects.iter().find(|(key, _)| record_id(b"", b"", key) == id);
            if let Some((_, made)) = made {
                let receipt = made[0].receipt.clone();
                let response = axum::http::Response::builder().status(201).body(receipt).unwrap();
                ledger.settle(&id, stored_response(&response)).await.unwrap();
            } else {
                ledger.redrive(&id).await.unwrap();
            }
        }
        sleep(Duration::from_millis(30)).await;
    }
}
