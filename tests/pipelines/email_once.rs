//! `examples/email_once.rs`.

use crate::harness::generate::Kind;
use crate::harness::{Answer, Program, deliveries, proof};
use crate::queue::{Queue, id};
use firstseen::Store;
use firstseen::ledger::{OnLeaseEnd, State};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

#[path = "../../examples/email_once.rs"]
#[allow(dead_code, clippy::duplicate_mod, reason = "its main is for those who run it")]
mod program;

fn run(folder: &Path, input: &Path, step: u64) -> Answer {
    let recipients = Queue::open(folder, input)?.map(|event| id(&event));
    program::run_on(&program::outside::Outside::new(folder, step), recipients)
}

/// It is known not to have been sent: it is tried again, and not left for a start that may never come.
#[test]
fn a_mail_that_nobody_took_is_sent_once_the_server_is_back() {
    let dir = tempfile::tempdir().unwrap();
    let outside = program::outside::Outside::new(dir.path(), 0);
    std::fs::write(outside.file(program::AWAY), b"").unwrap();
    std::thread::scope(|threads| {
        let runs = threads.spawn(|| program::run(&outside).map_err(|why| why.to_string()));
        while outside.effects().is_empty() && !runs.is_finished() {
            std::thread::park_timeout(Duration::from_millis(1));
        }
        std::fs::remove_file(outside.file(program::AWAY)).unwrap();
        runs.join().unwrap().unwrap();
    });
    let effects = outside.effects();
    assert_eq!(effects[0], "nobody takes the invoice");
    let sent = program::LEDGERS.map(|(what, _)| format!("mail: {what} to {}", program::TO));
    let mails: Vec<&String> = effects.iter().filter(|line| line.starts_with("mail: ")).collect();
    assert_eq!(mails, sent.iter().collect::<Vec<_>>());
    let store = Store::open(outside.file("seen.db")).unwrap();
    let invoice = store.ledger("invoice").unwrap().get(program::TO).unwrap().unwrap();
    assert!(invoice.attempts > 1 && matches!(invoice.state, State::Completed { .. }));
}

#[test]
fn mails_killed_at_random_are_sent_at_most_once_or_at_least_once_as_the_policy_says() {
    let program = Program {
        test: "email_once::mails_killed_at_random_are_sent_at_most_once_or_at_least_once_as_the_policy_says",
        kind: Kind::Orders,
        run,
        env: None,
    };
    program.in_child();
    let dir = tempfile::tempdir().unwrap();
    let count = deliveries(40);
    let (killed, left) = program.killed_at_random(dir.path(), count, |_| {});
    let mut mails: BTreeMap<String, u64> = BTreeMap::new();
    for line in left.effects() {
        *mails.entry(line).or_default() += 1;
    }
    let store = Store::open(left.file("seen.db")).unwrap();
    let (recipients, mut repeated) = (left.events(), 0);
    for (what, policy) in program::LEDGERS {
        let ledger = store.ledger(what).unwrap();
        for to in &recipients {
            let to = id(to);
            let sent = mails.get(&format!("mail: {what} to {to}")).copied().unwrap_or(0);
            assert!(sent >= 1, "{what} to {to} is lost: the operator sends what had not left");
            if policy == OnLeaseEnd::Hold {
                assert_eq!(sent, 1, "{what} to {to}");
            }
            repeated += sent - 1;
            let state = ledger.get(&to).unwrap().unwrap().state;
            assert!(matches!(state, State::Completed { .. }), "{what} to {to}: {state:?}");
        }
    }
    assert!(repeated <= killed, "{repeated} reminders sent again by {killed} kills");
    assert!(store.verify().unwrap().is_sound());
    let held = mails.iter().filter(|(line, _)| line.ends_with("held for an operator"));
    let held: u64 = held.map(|(_, times)| times).sum();
    let details = format!(
        "{count} deliveries, no invoice sent twice, {held} held for an operator, {repeated} reminders sent again"
    );
    proof("email_once", killed, &details);
}
