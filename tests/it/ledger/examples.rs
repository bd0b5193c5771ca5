//! The examples of the ledger, each killed at every step and started again until it ends by itself. A program runs in a
//! child process: this test binary again, which runs the example if an environment variable is set.

use super::*;
use firstseen::ledger::{AttemptEnd, OnLeaseEnd, State};
use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};

#[path = "../../../examples/email_once.rs"]
#[allow(dead_code, clippy::duplicate_mod, reason = "its main is for those who run it")]
mod email_once;
#[path = "../../../examples/idempotency_key.rs"]
#[allow(dead_code, clippy::duplicate_mod, reason = "its main is for those who run it")]
mod idempotency_key;
#[path = "../../../examples/payment_stages.rs"]
#[allow(dead_code, clippy::duplicate_mod, reason = "its main is for those who run it")]
mod payment_stages;
#[path = "../../../examples/poison_message.rs"]
#[allow(dead_code, clippy::duplicate_mod, reason = "its main is for those who run it")]
mod poison_message;

const FOLDER: &str = "FIRSTSEEN_TEST_LEDGER_EXAMPLE";

/// Runs an example, and kills it at a step.
type Run = fn(&Path, u64) -> Result<(), Box<dyn std::error::Error>>;

/// What a kill at a step has left, once the example has ended by itself.
struct Left<'a> {
    /// The name of the step; `None` if nobody killed it.
    killed: Option<&'a str>,
    effects: &'a [String],
    store: &'a Store,
}

impl Left<'_> {
    /// How often each effect happened.
    fn counts(&self) -> BTreeMap<&str, usize> {
        let mut counts = BTreeMap::new();
        for effect in self.effects {
            *counts.entry(effect.as_str()).or_default() += 1;
        }
        counts
    }

    fn is_killed_at(&self, step: &str) -> bool {
        self.killed == Some(step)
    }

    fn starting_with<'b>(&'b self, start: &'b str) -> impl Iterator<Item = &'b str> {
        self.effects.iter().filter_map(move |line| line.strip_prefix(start))
    }
}

/// Kills the example at each of its steps and checks what is left. Returns the names of the steps.
fn at_every_step(test: &str, run: Run, check: impl Fn(&Left<'_>)) -> Vec<String> {
    if let Ok(job) = std::env::var(FOLDER) {
        let (step, folder) = job.split_once(' ').expect("step and folder");
        run(Path::new(folder), step.parse().expect("a number")).expect("the example runs");
        std::process::exit(0);
    }
    let test = format!("ledger::examples::{test}");
    let mut steps = Vec::new();
    for step in 1_u64.. {
        let dir = tempfile::tempdir().expect("a folder");
        let mut child = Command::new(std::env::current_exe().expect("this binary"));
        child.args(["--exact", &test]).stdout(Stdio::null()).stderr(Stdio::null());
        child.env(FOLDER, format!("{step} {}", dir.path().display()));
        let mut starts = 1;
        while !child.status().expect("starts").success() {
            starts += 1;
            assert!(starts < 10, "step {step}: it does not end by itself");
        }
        let killed = std::fs::read_to_string(dir.path().join("killed")).ok();
        let effects = std::fs::read_to_string(dir.path().join("effects")).expect("effects");
        let effects = effects.lines().filter(|line| !line.is_empty());
        let effects: Vec<String> = effects.map(str::to_owned).collect();
        let store = Store::open(dir.path().join("seen.db")).expect("opens");
        check(&Left { killed: killed.as_deref(), effects: &effects, store: &store });
        assert!(store.verify().expect("verifies").is_sound());
        match killed {
            Some(name) => steps.push(name),
            None => return steps,
        }
    }
    unreachable!("an example ends")
}

#[test]
fn a_payment_killed_at_any_step_does_each_stage_once_for_those_who_heed_its_key() {
    let test = "a_payment_killed_at_any_step_does_each_stage_once_for_those_who_heed_its_key";
    let run: Run =
        |folder, step| payment_stages::run(&payment_stages::outside::Outside::new(folder, step));
    let steps = at_every_step(test, run, |left| {
        let counts = left.counts();
        for payment in payment_stages::PAYMENTS {
            for stage in payment_stages::STAGES {
                let key = format!("{payment}/{stage}");
                // The one gap: between the effect and its save.
                let is_in_gap = left.is_killed_at(&format!("{key} is made, not saved"));
                let expected = if is_in_gap { 2 } else { 1 };
                assert_eq!(counts.get(&*key), Some(&expected), "{key}, {:?}", left.killed);
            }
            let ledger = left.store.ledger("payments").expect("opens");
            let receipt: String = record(&ledger, payment).value().expect("a receipt");
            assert_eq!(receipt, format!("{payment}: 12000 cents"));
        }
        assert_eq!(counts.len(), 6);
    });
    for step in ["begun", "fraud is saved", "pay-1/fraud is made, not saved", "completed"] {
        assert!(steps.iter().any(|name| name == step), "{step} is one of {steps:?}");
    }
}

#[test]
fn a_poison_message_killed_at_any_step_becomes_a_dead_letter_and_the_queue_goes_on() {
    let test = "a_poison_message_killed_at_any_step_becomes_a_dead_letter_and_the_queue_goes_on";
    let run: Run =
        |folder, step| poison_message::run(&poison_message::outside::Outside::new(folder, step));
    let steps = at_every_step(test, run, |left| {
        let ledger = poison_message::open(left.store).expect("opens");
        let counts = left.counts();
        for (id, _) in poison_message::QUEUE {
            let is_in_gap = left.is_killed_at(&format!("{id} is handled, not completed"));
            let expected = if is_in_gap { 2 } else { 1 };
            assert_eq!(counts.get(&*format!("handled {id}")), Some(&expected), "{:?}", left.killed);
            assert!(record(&ledger, id).result().is_some(), "{id} is done in the end");
        }
        // A kill before the work counts as a start, too. After the fix it does no harm.
        let attempts_max = poison_message::ATTEMPTS_MAX as usize;
        let deaths = left.starting_with("a worker dies").count();
        let killed = usize::from(left.is_killed_at("m-2 is begun"));
        assert!(deaths == attempts_max || deaths + killed == attempts_max, "{:?}", left.killed);
        let at = |line: &str| left.effects.iter().position(|effect| effect == line);
        let listed =
            "m-2 is dead: all attempts used up (process ended, process ended, process ended)";
        let listed = at(listed).unwrap_or_else(|| panic!("is listed: {:?}", left.effects));
        assert!(at("handled m-3") < Some(listed), "the queue did not wait for the operator");
        assert!(at("handled m-2") > Some(listed));
        let record = record(&ledger, "m-2");
        let handled = counts.get("handled m-2").copied().unwrap_or_default();
        let history = deaths + killed + handled;
        assert_eq!((record.redrives, record.history.len()), (1, history), "{:?}", left.killed);
        let waiting = firstseen::ledger::DeadFilter::new();
        assert!(ledger.dead_letters().list(&waiting).expect("lists").letters.is_empty());
    });
    for step in ["m-2 is begun", "m-2 is fixed, not redriven", "m-2 is redriven"] {
        assert!(steps.iter().any(|name| name == step), "{step} is one of {steps:?}");
    }
}

#[test]
fn a_request_killed_at_any_step_has_one_answer_for_its_key() {
    let test = "a_request_killed_at_any_step_has_one_answer_for_its_key";
    let run: Run =
        |folder, step| idempotency_key::run(&idempotency_key::outside::Outside::new(folder, step));
    let steps = at_every_step(test, run, |left| {
        let counts = left.counts();
        for key in ["key-1", "key-2"] {
            let charge = format!("bank: charge for {key} {}", idempotency_key::FIVE);
            let is_in_gap = left.is_killed_at(&format!("{key}: charged, not completed"));
            let expected = if is_in_gap { 2 } else { 1 };
            assert_eq!(counts.get(&*charge), Some(&expected), "{:?}", left.killed);

            let first = format!("client: {key} 201 {{");
            let replay = format!("client: {key} 201 (replay) {{");
            let mut bodies: Vec<&str> = left.starting_with(&first).collect();
            let firsts = bodies.len();
            // Killed after the answer was stored and before it was sent, every client hears a replay.
            let is_unsent = left.is_killed_at(&format!("{key}: completed, not answered"));
            assert_eq!(firsts, usize::from(!is_unsent), "{:?}", left.killed);
            bodies.extend(left.starting_with(&replay));
            assert!(bodies.windows(2).all(|two| two[0] == two[1]), "{:?}", left.effects);
            assert!(!bodies.is_empty());
            assert!(left.starting_with(&format!("client: {key} 201 (replay)")).count() >= 1);
            assert!(left.starting_with(&format!("client: {key} 422")).count() >= 1);
            let other = format!("bank: charge for {key} {}", idempotency_key::SIX);
            assert!(!counts.contains_key(&*other), "{:?}", left.killed);
            let at_work = left.starting_with(&format!("client: {key} 409")).count();
            assert!(at_work >= 1, "{:?}", left.killed);
        }
    });
    for step in ["key-1: charged, not completed", "key-1: completed, not answered"] {
        assert!(steps.iter().any(|name| name == step), "{step} is one of {steps:?}");
    }
}

#[test]
fn a_mail_killed_at_any_step_is_sent_at_most_once_or_at_least_once_as_the_policy_says() {
    let test = "a_mail_killed_at_any_step_is_sent_at_most_once_or_at_least_once_as_the_policy_says";
    let run: Run = |folder, step| email_once::run(&email_once::outside::Outside::new(folder, step));
    let steps = at_every_step(test, run, |left| {
        for (what, policy) in email_once::LEDGERS {
            let ledger = left.store.ledger(what).expect("opens");
            let state = record(&ledger, email_once::TO).state;
            let mail = format!("mail: {what} to {}", email_once::TO);
            let mails = left.effects.iter().filter(|effect| **effect == mail).count();
            let is_held = left.effects.contains(&format!("{what}: held for an operator"));
            let is_before = left.is_killed_at(&format!("{what}: begun, not sent"));
            let is_after = left.is_killed_at(&format!("{what}: sent, not completed"));
            if policy == OnLeaseEnd::Hold {
                // The operator found out whether it had arrived.
                assert_eq!(mails, 1, "{:?}", left.killed);
                assert_eq!(is_held, is_before || is_after, "{:?}", left.killed);
                assert!(matches!(state, State::Completed { .. }), "{:?}", left.killed);
                let last = record(&ledger, email_once::TO).history.pop().expect("is noted");
                let is_settled = last.end == AttemptEnd::Settled;
                assert_eq!(is_settled, is_after, "{:?}", left.killed);
            } else {
                assert_eq!(mails, if is_after { 2 } else { 1 }, "{:?}", left.killed);
                assert!(!is_held && matches!(state, State::Completed { .. }));
            }
        }
    });
    for step in ["invoice: begun, not sent", "invoice: sent, not completed", "reminder: completed"]
    {
        assert!(steps.iter().any(|name| name == step), "{step} is one of {steps:?}");
    }
}
