//! Parameters and reports of these tests.

use std::time::{Duration, SystemTime};

/// Nothing takes longer, unless it hangs (I12).
pub(crate) const HANG: Duration = Duration::from_secs(30);

/// The error describes what went wrong.
pub(crate) type Verdict<T = ()> = Result<T, String>;

pub(crate) fn env(name: &str, default: u64) -> u64 {
    match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name}={text} is not a number")),
        Err(_) => default,
    }
}

pub(crate) fn first_seed() -> u64 {
    env("FIRSTSEEN_CRASH_SEED", 1)
}

/// Prints a row of the proof table; a script adds them up.
pub(crate) fn proof(row: &str, count: u64, unit: &str, details: &str) {
    println!("proof | {row} | {count} | {unit} | {details}");
}

/// Reports a test that cannot run here, which CI does not accept.
pub(crate) fn not_run(row: &str) {
    println!("NOT RUN: {row} needs root and loop devices");
    assert!(std::env::var_os("CI").is_none(), "CI has root and loop devices; {row} was not run");
}

/// Fails a test with the command that replays it.
pub(crate) fn fail(test: &str, count: &str, seed: u64, what: &str) -> ! {
    panic!(
        "seed {seed}: {what}\nreplay: FIRSTSEEN_CRASH_SEED={seed} {count} cargo test --locked \
         --no-default-features --test kernel -- {test} --nocapture"
    )
}

/// The wall clock in microseconds, shared by parent, children and store.
pub(crate) fn now_us() -> u64 {
    now_ns() / 1_000
}

/// The same in nanoseconds: fine enough to tell in which order threads did what depends on each other.
#[expect(clippy::disallowed_methods, reason = "questions and answers are dated by the real clock")]
pub(crate) fn now_ns() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.expect("after 1970").as_nanos() as u64
}

#[expect(clippy::disallowed_methods, reason = "kills and power cuts come at moments of real time")]
pub(crate) fn pause(micros: u64) {
    std::thread::sleep(Duration::from_micros(micros));
}

/// Runs something that may hang, and then reports that instead. A thread that hangs is left behind.
pub(crate) fn in_time<T: Send + 'static>(
    doing: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Verdict<T> {
    let (done, answer) = std::sync::mpsc::sync_channel(1);
    let worker = std::thread::spawn(move || done.send(work()).ok());
    match answer.recv_timeout(HANG) {
        Ok(value) => Ok(value),
        Err(_) if worker.is_finished() => Err(format!("{doing}: panicked (see above)")),
        Err(_) => Err(format!("{doing}: hang, not done in {HANG:?}")),
    }
}

/// 81234 as "81,234".
pub(crate) fn thousands(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
