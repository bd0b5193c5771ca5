//! Both ends killed at random, by SIGKILL: processes that claim, and the server. What they were answered is in files that the test
//! owns; the server does not know them.

use crate::support::{HOUR, LATE, World};
use firstseen_postgres::{PostgresOptions, PostgresStore};
use firstseen_servers::OutsideRecord;
use firstseen_shared::{Call, Claim, Dedup, DedupStore};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// What the child is told: what to do, the url, the schema, the folder, and how many ids there are.
const JOB: &str = "FIRSTSEEN_POSTGRES_CHILD";

fn number(variable: &str, otherwise: u64) -> u64 {
    std::env::var(variable).map_or(otherwise, |text| text.parse().unwrap())
}

/// SplitMix64.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        ((z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb) >> 33) % limit
    }
}

/// The processes that claim, and how many of them were killed.
struct Claimers {
    job: String,
    running: Vec<Child>,
    killed: BTreeSet<u32>,
}

impl Claimers {
    fn start(&mut self) {
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "kills::the_process_that_is_killed", "--nocapture"])
            .env(JOB, &self.job)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::inherit())
            .spawn();
        self.running.push(child.unwrap());
    }

    fn kill_one(&mut self, which: usize) {
        let mut child = self.running.remove(which % self.running.len());
        self.killed.insert(child.id());
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Waits until all have ended by themselves.
    async fn wait(&mut self) {
        let end = Instant::now() + LATE * 4;
        for child in &mut self.running {
            while child.try_wait().unwrap().is_none() {
                assert!(Instant::now() < end, "a process does not come to its end");
                sleep(Duration::from_millis(20)).await;
            }
            assert!(child.wait().unwrap().success(), "a process has failed");
        }
        self.running.clear();
    }
}

impl Drop for Claimers {
    fn drop(&mut self) {
        for child in &mut self.running {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Starts processes that do `work` until all ids are done, and kills them and the server at random meanwhile. Returns the world
/// and who was killed.
async fn kill_both_ends(work: &str, ids: u64, dir: &Path) -> (World, BTreeSet<u32>) {
    let rounds = number("FIRSTSEEN_KILLS", 6);
    let mut dice = Dice(number("FIRSTSEEN_KILLS_SEED", 1));
    let mut world = World::apart(&[]).await;
    world.run("CREATE TABLE firstseen.effects (id bigint)").await;
    let job = format!("{work} {} {} {} {ids}", world.url(), world.schema, dir.display());
    let mut claimers = Claimers { job, running: Vec::new(), killed: BTreeSet::new() };
    (0..3).for_each(|_| claimers.start());
    let (began, mut server_kills) = (Instant::now(), 0);
    for _ in 0..rounds {
        sleep(Duration::from_millis(50 + dice.below(700))).await;
        let victim = dice.below(3);
        if victim != 0 {
            world.kill().await;
            server_kills += 1;
        }
        if victim != 1 {
            claimers.kill_one(dice.below(3) as usize);
            claimers.start();
        }
        if victim != 0 {
            sleep(Duration::from_millis(dice.below(200))).await;
            world.restart().await;
        }
    }
    fs::write(dir.join("enough"), b"").unwrap();
    claimers.wait().await;
    println!(
        "proof | Postgres, both ends killed ({work}) | {} | kills | {server_kills} of the server, {} of the processes, {ids} ids, {:?}",
        server_kills + claimers.killed.len(),
        claimers.killed.len(),
        began.elapsed()
    );
    (world, std::mem::take(&mut claimers.killed))
}

/// Each id was answered as first to one process at most, and what was answered is still known at the end. An id without an answer
/// was claimed by a process that was killed before it heard so.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_answered_is_lost_or_granted_twice_though_both_ends_are_killed() {
    let dir = tempfile::tempdir().unwrap();
    let ids = 3_000;
    let (world, killed) = kill_both_ends("claims", ids, dir.path()).await;
    let mut heard: BTreeMap<u64, Vec<u32>> = BTreeMap::new();
    for line in OutsideRecord::lines(&dir.path().join("heard")) {
        let (id, pid) = line.split_once(' ').expect("an id and a process id");
        heard.entry(id.parse().unwrap()).or_default().push(pid.parse().unwrap());
    }
    let twice: Vec<_> = heard.iter().filter(|(_, pids)| pids.len() != 1).collect();
    assert!(twice.is_empty(), "granted twice: {twice:?}");
    let store = world.store().await;
    let mut unheard = 0;
    for id in 0..ids {
        let claim = store.claim("kills", &id.to_be_bytes(), HOUR, Call::new()).await.unwrap();
        assert!(claim.is_duplicate(), "{id} is lost");
        unheard += usize::from(!heard.contains_key(&id));
    }
    // Each of its eight tasks may have had one on the way.
    assert!(unheard <= killed.len() * 8, "{unheard} of {} processes", killed.len());
}

/// With the claim in the transaction of its effect: each effect once, and none lost, whatever is killed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_effect_in_the_transaction_of_its_claim_is_made_once_though_both_ends_are_killed() {
    let dir = tempfile::tempdir().unwrap();
    let ids = 1_500;
    let (world, _) = kill_both_ends("effects", ids, dir.path()).await;
    let ids = i64::try_from(ids).unwrap();
    assert_eq!(world.number("SELECT count(DISTINCT id) FROM firstseen.effects").await, ids);
    assert_eq!(world.number("SELECT count(*) FROM firstseen.effects").await, ids);
    let claims = "SELECT count(*) FROM firstseen.claims WHERE ends > firstseen.clock()";
    assert_eq!(world.number(claims).await, ids);
}

/// Not a test: the process that the tests above start and kill.
#[test]
fn the_process_that_is_killed() {
    let Ok(job) = std::env::var(JOB) else { return };
    let words: Vec<&str> = job.split(' ').collect();
    let [work, url, schema, dir, ids] = words[..] else { panic!("{job}") };
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.unwrap().block_on(async {
        let options = PostgresOptions::new()
            .schema(schema)
            .answer_max(Duration::from_secs(2))
            .connections_max(8);
        let store = loop {
            // The server may be away.
            match PostgresStore::open(url, options.clone()).await {
                Ok(store) => break store,
                Err(_) => sleep(Duration::from_millis(20)).await,
            }
        };
        let dir = Path::new(dir).to_owned();
        let ids = ids.parse().unwrap();
        let next = Arc::new(AtomicU64::new(0));
        let tasks: Vec<_> = (0..8)
            .map(|_| {
                let (store, schema) = (store.clone(), schema.to_owned());
                let (dir, next) = (dir.clone(), Arc::clone(&next));
                let is_claiming = work == "claims";
                tokio::spawn(async move {
                    if is_claiming {
                        claim_all(store, &dir, &next, ids).await;
                    } else {
                        make_effects(store, &schema, &dir, &next, ids).await;
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
    });
}

/// Returns the next id: all of them in order, and again until it is enough.
fn next_id(dir: &Path, next: &AtomicU64, ids: u64) -> Option<u64> {
    let n = next.fetch_add(1, Ordering::SeqCst);
    (n < ids || !dir.join("enough").exists()).then_some(n % ids)
}

async fn claim_all(store: PostgresStore, dir: &Path, next: &AtomicU64, ids: u64) {
    let heard = OutsideRecord::open(&dir.join("heard"));
    let claims = Dedup::new(store, "kills", HOUR).unwrap().patience(LATE);
    while let Some(id) = next_id(dir, next, ids) {
        if claims.claim(id.to_be_bytes()).await.unwrap() == Claim::FirstSeen {
            heard.add(format_args!("{id} {}", std::process::id()));
        }
    }
}

async fn make_effects(store: PostgresStore, schema: &str, dir: &Path, next: &AtomicU64, ids: u64) {
    let sql = format!("INSERT INTO {schema}.effects VALUES ($1)");
    while let Some(id) = next_id(dir, next, ids) {
        let end = Instant::now() + LATE;
        while let Err(error) = make_effect(&store, &sql, id).await {
            assert!(Instant::now() < end, "{error}");
            sleep(Duration::from_millis(20)).await;
        }
    }
}

async fn make_effect(
    store: &PostgresStore,
    sql: &str,
    id: u64,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let id_number = i64::try_from(id)?;
    let mut object = store.pool().get().await?;
    let transaction = object.transaction().await?;
    if store.claim_in(&transaction, "kills", &id.to_be_bytes(), HOUR).await?.is_first_seen() {
        transaction.execute(sql, &[&id_number]).await?;
    }
    Ok(transaction.commit().await?)
}
