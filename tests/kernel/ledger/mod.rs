//! The ledger under `kill -9`: 64 threads of a child begin the same ids while work fails, panics, is handed back and sleeps
//! past its lease. A record outside tells what was begun, done and acknowledged (`record.rs`), and an oracle that knows
//! only the promises reads it (`oracle.rs`).

mod oracle;
mod record;
mod worker;

use crate::dice::Dice;
use crate::report::{
    HANG, Verdict, env, fail, first_seed, in_time, now_us, pause, proof, thousands,
};
use firstseen::ledger::State;
use oracle::{Counts, End};
use record::{Book, Line};
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use worker::{Job, THREADS};

const TEST: &str = "i8_effects_of_a_ledger_happen_once_over_kills_failures_and_ended_leases";

/// Ids that become due while one child lives, and how many are worked on at a time.
const IDS_PER_KILL: u64 = 50;
const IDS_AT_A_TIME: u64 = 4 * IDS_PER_KILL;

struct Running {
    child: Child,
    /// Length of the record when it started.
    from: u64,
}

impl Drop for Running {
    fn drop(&mut self) {
        // No test may leave a process behind.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

impl Running {
    fn start(job: &Job) -> Self {
        let (variable, value) = job.variable();
        let from = length(&job.folder);
        let child = Command::new(std::env::current_exe().expect("this binary"))
            .args(["--exact", worker::CHILD, "--test-threads=1"])
            .env(variable, value)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        Self { child: child.expect("the child starts"), from }
    }

    /// Waits until the child has opened the store.
    fn until_open(&mut self, job: &Job) -> Verdict {
        let (line, end_us) = (format!("open {} .", job.child), now_us() + HANG.as_micros() as u64);
        let mut file = std::fs::File::open(job.folder.join("record")).map_err(|e| e.to_string())?;
        loop {
            let mut text = Vec::new();
            file.seek(SeekFrom::Start(self.from)).map_err(|e| e.to_string())?;
            file.read_to_end(&mut text).map_err(|e| e.to_string())?;
            if String::from_utf8_lossy(&text).lines().any(|own| own == line) {
                return Ok(());
            }
            if let Some(status) = self.child.try_wait().map_err(|e| e.to_string())? {
                return Err(ended_by_itself(job, status));
            }
            if now_us() > end_us {
                return Err(format!("hang: the store is not open after {HANG:?}"));
            }
            pause(1_000);
        }
    }

    fn kill(mut self, job: &Job) -> Verdict {
        self.child.kill().map_err(|e| format!("SIGKILL: {e}"))?;
        let status = self.child.wait().map_err(|e| format!("wait: {e}"))?;
        if status.signal() == Some(9) { Ok(()) } else { Err(ended_by_itself(job, status)) }
    }

    /// Waits until the child has ended every id. As long as the record grows, it does not hang.
    fn until_all_ended(mut self, job: &Job) -> Verdict {
        let (mut grown, mut grown_us) = (0, now_us());
        loop {
            if let Some(status) = self.child.try_wait().map_err(|e| e.to_string())? {
                let done = status.success();
                return if done { Ok(()) } else { Err(ended_by_itself(job, status)) };
            }
            let now = length(&job.folder);
            if now != grown {
                (grown, grown_us) = (now, now_us());
            } else if now_us() - grown_us > HANG.as_micros() as u64 {
                return Err(format!("hang: ids are left, and nothing happened for {HANG:?}"));
            }
            pause(5_000);
        }
    }
}

fn length(folder: &Path) -> u64 {
    std::fs::metadata(folder.join("record")).map_or(0, |file| file.len())
}

fn ended_by_itself(job: &Job, status: ExitStatus) -> String {
    let why = std::fs::read_to_string(job.folder.join("broken")).unwrap_or_default();
    format!("child {} ended by itself: {status}; {why}", job.child)
}

fn many_kills(folder: &Path, first_seed: u64, kills: u64) -> Verdict<Counts> {
    let ids = kills * IDS_PER_KILL;
    let book = Book::open(&folder.join("record"));
    for child in 1..=kills {
        let seed = first_seed + child;
        let mut dice = Dice::new(seed);
        let (first, end) =
            ((child * IDS_PER_KILL).saturating_sub(IDS_AT_A_TIME), child * IDS_PER_KILL);
        let job = Job { folder: folder.to_owned(), child, seed, first, end, is_last: false };
        let named = |what: String| format!("kill {child}: {what}");
        let mut running = Running::start(&job);
        if dice.one_in(8) {
            // While it starts or opens the store.
            pause(dice.below(60_000));
        } else {
            running.until_open(&job).map_err(named)?;
            pause(20_000 + dice.below(250_000));
        }
        running.kill(&job).map_err(named)?;
        book.write_killed(child);
        if child.is_multiple_of(10) {
            verify(folder).map_err(named)?;
        }
    }
    let (child, seed) = (kills + 1, first_seed);
    let job = Job { folder: folder.to_owned(), child, seed, first: 0, end: ids, is_last: true };
    Running::start(&job).until_all_ended(&job)?;
    let lines = record::read(&folder.join("record"))?;
    if lines.last() != Some(&Line::AllEnded(child)) {
        return Err("the last child ended before all ids did".to_owned());
    }
    verify(folder)?;
    let store = worker::store_in(folder);
    let ledger = worker::ledger_in(&store);
    oracle::check(&lines, ids, |id| {
        let record = ledger.get(worker::name(id)).map_err(|e| e.to_string())?;
        Ok(match record.map(|record| record.state) {
            Some(State::Completed { result, is_failure: false }) => {
                let result = result.as_deref().and_then(worker::result_of);
                End::Completed(result.ok_or("a result that nobody gave")?)
            }
            Some(State::Dead { .. }) => End::Dead,
            _ => End::Open,
        })
    })
}

fn verify(folder: &Path) -> Verdict {
    let folder = folder.to_owned();
    let report = in_time("verify", move || worker::store_in(&folder).verify())?;
    let report = report.map_err(|e| format!("verify: {e}"))?;
    if report.is_sound() { Ok(()) } else { Err(format!("verify: {report}")) }
}

#[test]
fn i8_effects_of_a_ledger_happen_once_over_kills_failures_and_ended_leases() {
    let (seed, kills) = (first_seed(), env("FIRSTSEEN_LEDGER_KILLS", 20));
    let dir = tempfile::tempdir().expect("a folder");
    let counts = many_kills(dir.path(), seed, kills).and_then(|counts| {
        // Otherwise it proves little.
        let is_enough =
            counts.takeovers > kills && counts.fenced > 0 && counts.completed > counts.dead;
        if is_enough { Ok(counts) } else { Err(format!("too little happened: {counts:?}")) }
    });
    let counts = counts.unwrap_or_else(|what| {
        fail(TEST, &format!("FIRSTSEEN_LEDGER_KILLS={kills}"), seed, &what);
    });
    let Counts { attempts, takeovers, fenced, stale, saved, completed, dead } = counts;
    let [ids, attempts, takeovers, fenced, stale, saved, completed, dead] =
        [kills * IDS_PER_KILL, attempts, takeovers, fenced, stale, saved, completed, dead]
            .map(thousands);
    let details = format!(
        "{THREADS} threads, {ids} ids: {attempts} attempts, {takeovers} took over, {fenced} fenced, {saved} stages \
         saved, {stale} late effects refused; {completed} completed, {dead} dead; 0 overlaps, 0 twice, 0 lost"
    );
    proof("ledger, kill -9", kills, "kills", &details);
}
