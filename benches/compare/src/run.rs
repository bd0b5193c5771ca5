//! One subject, one workload. Each phase runs in its own process, so that memory is measured alone and a kill is real.

use crate::machine::{self, Memory};
use crate::outcome::{Claims, Opened, Outcome};
use crate::store::{Settings, Store};
use crate::workload::{Sync, Workload};
use crate::{measure, peers};
use anyhow::{Context, Result, ensure};
use clap::{Args, ValueEnum};
use rustix::process::{WaitOptions, getpid, set_child_subreaper};
use serde::de::DeserializeOwned;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

#[derive(Debug, Clone, Args)]
pub struct RunArgs {
    #[arg(long)]
    pub store: String,
    #[command(flatten)]
    pub workload: Workload,
    /// Where to create the store. It must not exist yet, and is removed afterwards.
    #[arg(long)]
    pub dir: PathBuf,
    /// Skip reopening after a close and after a kill.
    #[arg(long)]
    pub only_claims: bool,
}

/// The work of one process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Phase {
    /// Open a new store, claim, close.
    Claims,
    /// Open it again.
    Open,
    /// Open it, claim some more, and wait for the kill.
    Kill,
    /// Open it after the kill, and count what was lost.
    AfterKill,
}

/// More would only lengthen the run: no store holds this many claims in memory without having written them.
const KILLED_CLAIMS_MAX: u64 = 5_000_000;
/// For a server and its children to notice that their parent was killed.
const SERVER_ENDS: Duration = Duration::from_mins(1);

/// The claims before the kill: new ids, not used in the first phase.
fn killed(workload: &Workload) -> Workload {
    let claims = (workload.claims / 10).clamp(1, KILLED_CLAIMS_MAX);
    Workload { claims, duplicates: 0, threads: 1, seed: workload.seed + 1, ..workload.clone() }
}

/// Runs all phases.
pub fn run(args: &RunArgs) -> Result<Outcome> {
    args.workload.check()?;
    let subject = peers::find(&args.store)?;
    ensure!(peers::is_here(subject.name), "{} is not on this machine or in this build", args.store);
    ensure!(subject.shared || args.workload.threads == 1, "{} works with one thread", args.store);
    ensure!(!args.dir.exists(), "{} is there already", args.dir.display());
    let _place = Place(args.dir.clone());
    let claims: Claims = child(args, Phase::Claims)?;
    let keeps = peers::decides(subject.name) && subject.name != "hashset";
    let (mut after_close, mut after_kill) = (None, None);
    if keeps && !args.only_claims {
        after_close = Some(child(args, Phase::Open)?);
        kill_one(args)?;
        after_kill = Some(child(args, Phase::AfterKill)?);
    }
    let (store, workload) = (args.store.clone(), args.workload.clone());
    Ok(Outcome { store, workload, claims, after_close, after_kill })
}

/// A folder that is removed when the run ends, however it ends.
pub struct Place(pub PathBuf);

impl Drop for Place {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0)
            && self.0.exists()
        {
            eprintln!("cannot remove {}: {error}", self.0.display());
        }
    }
}

/// This program again, for one phase of the same run. It dies with this process.
fn again(args: &RunArgs, phase: Phase) -> Result<Command> {
    let w = &args.workload;
    let name = |value: &dyn Fn() -> Option<clap::builder::PossibleValue>| {
        value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    };
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--"]).arg(std::env::current_exe()?);
    command.args(["phase", &name(&|| phase.to_possible_value())]);
    for (option, value) in [
        ("--store", args.store.clone()),
        ("--claims", w.claims.to_string()),
        ("--repeats", name(&|| w.repeats.to_possible_value())),
        ("--id-bytes", w.id_bytes.to_string()),
        ("--duplicates", w.duplicates.to_string()),
        ("--threads", w.threads.to_string()),
        ("--sync", name(&|| w.sync.to_possible_value())),
        ("--batch", w.batch.to_string()),
        ("--ttl-s", w.ttl_s.to_string()),
        ("--seed", w.seed.to_string()),
    ] {
        command.args([option, &value]);
    }
    command.arg("--dir").arg(&args.dir).stdout(Stdio::piped());
    Ok(command)
}

fn child<T: DeserializeOwned>(args: &RunArgs, phase: Phase) -> Result<T> {
    let output = again(args, phase)?.stderr(Stdio::inherit()).output()?;
    ensure!(output.status.success(), "{} failed in phase {phase:?}", args.store);
    serde_json::from_slice(&output.stdout).context("a phase prints one line of JSON")
}

fn kill_one(args: &RunArgs) -> Result<()> {
    // Adopt the children of the killed process, so that we can wait for them to end.
    set_child_subreaper(Some(getpid()))?;
    let mut child = again(args, Phase::Kill)?.spawn()?;
    let mut line = String::new();
    let output = child.stdout.take().context("has an output")?;
    BufReader::new(output).read_line(&mut line)?;
    child.kill()?;
    child.wait()?;
    ensure!(line.trim() == "claimed", "{} failed before it was killed", args.store);
    let began = Instant::now();
    while rustix::process::wait(WaitOptions::NOHANG).is_ok() {
        ensure!(began.elapsed() < SERVER_ENDS, "the server of {} does not end", args.store);
        std::thread::sleep(Duration::from_millis(2));
    }
    Ok(())
}

/// Runs one phase and prints its result.
pub fn phase(args: &RunArgs, phase: Phase) -> Result<()> {
    let text = match phase {
        Phase::Claims => serde_json::to_string(&claim_phase(args)?)?,
        Phase::Open => serde_json::to_string(&open_phase(args)?)?,
        Phase::Kill => return kill_phase(args),
        Phase::AfterKill => serde_json::to_string(&after_kill_phase(args)?)?,
    };
    println!("{text}");
    Ok(())
}

fn open(args: &RunArgs) -> Result<Box<dyn Store>> {
    let settings = Settings {
        dir: args.dir.clone(),
        sync: args.workload.sync,
        id_bytes: args.workload.id_bytes,
        threads: args.workload.threads,
        ttl_s: args.workload.ttl_s,
    };
    peers::open(&args.store, &settings)
}

fn claim_phase(args: &RunArgs) -> Result<Claims> {
    let workload = &args.workload;
    let expected = if peers::decides(&args.store) {
        workload.first_seen()
    } else {
        workload.claims_each() * workload.threads
    };
    let empty = Memory::own();
    let store = open(args)?;
    let measured = measure::run(store.as_ref(), workload)?;
    let held = Memory::own().minus(empty);
    let held = store.processes().into_iter().map(Memory::of_tree).fold(held, Memory::plus);
    ensure!(
        measured.first_seen == expected,
        "{} answered first-seen {} times, and {expected} times would be right",
        args.store,
        measured.first_seen
    );
    let details = store.details();
    let began = Instant::now();
    store.close()?;
    let close_s = began.elapsed().as_secs_f64();
    let claims = workload.claims_each() * workload.threads;
    Ok(Claims {
        first_seen: measured.first_seen,
        seconds: measured.seconds,
        claims_per_s: claims as f64 / measured.seconds,
        p50_ns: measured.calls.value_at_quantile(0.5),
        p99_ns: measured.calls.value_at_quantile(0.99),
        p999_ns: measured.calls.value_at_quantile(0.999),
        worst_ns: measured.worst_ns,
        sampled_every: measured.sampled_every,
        processor_s: measured.processor_s,
        own_threads: measured.own_threads,
        memory_bytes: held.resident,
        memory_file_bytes: held.of_files,
        close_s,
        disk_bytes: disk_bytes(&args.dir),
        details,
    })
}

fn disk_bytes(dir: &Path) -> u64 {
    machine::disk_bytes(dir)
}

/// Opens and claims an id of the first phase: by then, stores that open lazily have done their work.
fn open_timed(args: &RunArgs) -> Result<(Box<dyn Store>, f64)> {
    let mut id = vec![0; args.workload.id_bytes];
    args.workload.draw(0).next(&mut id);
    let began = Instant::now();
    let store = open(args)?;
    let mut session = store.session()?;
    let first = session.claim(&id)?;
    let seconds = began.elapsed().as_secs_f64();
    session.finish()?;
    drop(session);
    ensure!(!first || args.workload.ttl_s > 0, "{} has forgotten the first id", args.store);
    Ok((store, seconds))
}

fn open_phase(args: &RunArgs) -> Result<Opened> {
    let (store, seconds) = open_timed(args)?;
    store.close()?;
    Ok(Opened { seconds, claims: 0, lost: 0 })
}

fn kill_phase(args: &RunArgs) -> Result<()> {
    let workload = killed(&args.workload);
    let store = open(args)?;
    let mut session = store.session()?;
    claim_all(session.as_mut(), &workload)?;
    println!("claimed");
    // The parent kills this process now. If the parent is gone, so is this process.
    loop {
        std::thread::park();
    }
}

/// Claims without finishing: an open transaction stays open.
fn claim_all(session: &mut dyn crate::store::Session, workload: &Workload) -> Result<u64> {
    let mut draw = workload.draw(0);
    let mut id = vec![0; workload.id_bytes];
    let mut firsts = 0;
    for n in 1..=workload.claims {
        draw.next(&mut id);
        firsts += u64::from(session.claim(&id)?);
        if workload.sync == Sync::Thousand && n.is_multiple_of(crate::store::GROUP_CLAIMS) {
            session.sync()?;
        }
    }
    Ok(firsts)
}

fn after_kill_phase(args: &RunArgs) -> Result<Opened> {
    let workload = killed(&args.workload);
    let (store, seconds) = open_timed(args)?;
    let mut session = store.session()?;
    let lost = claim_all(session.as_mut(), &workload)?;
    session.finish()?;
    drop(session);
    store.close()?;
    Ok(Opened { seconds, claims: workload.claims, lost })
}
