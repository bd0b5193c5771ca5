//! `examples/idempotency_key.rs`.

use crate::harness::generate::Kind;
use crate::harness::{Answer, Program, deliveries, proof};
use crate::queue::{Queue, id};
use firstseen::Store;
use std::collections::BTreeMap;
use std::path::Path;

#[path = "../../examples/idempotency_key.rs"]
#[allow(dead_code, clippy::duplicate_mod, reason = "its main is for those who run it")]
mod program;

fn run(folder: &Path, input: &Path, step: u64) -> Answer {
    let keys = Queue::open(folder, input)?.map(|event| id(&event));
    program::run_on(&program::outside::Outside::new(folder, step), keys)
}

/// What bank and clients have noted of a key.
#[derive(Default)]
struct Noted {
    charges: u64,
    firsts: u64,
    /// The bodies of first answers and of replays.
    answers: Vec<String>,
    refused: u64,
}

fn noted(effects: &[String]) -> BTreeMap<&str, Noted> {
    let mut noted: BTreeMap<&str, Noted> = BTreeMap::new();
    for effect in effects {
        if let Some(charge) = effect.strip_prefix("bank: charge for ") {
            let (key, body) = charge.split_once(' ').unwrap();
            assert_eq!(body, program::FIVE, "{key}: the second body is never worked on");
            noted.entry(key).or_default().charges += 1;
            continue;
        }
        let mut words = effect.strip_prefix("client: ").unwrap().splitn(3, ' ');
        let [key, status, body] = [(); 3].map(|()| words.next().unwrap());
        let of_key = noted.entry(key).or_default();
        match status {
            "201" => {
                let replay = body.strip_prefix("(replay) ");
                of_key.firsts += u64::from(replay.is_none());
                of_key.answers.push(replay.unwrap_or(body).to_owned());
            }
            "422" => of_key.refused += 1,
            _ => assert_eq!(status, "409", "{effect}"),
        }
    }
    noted
}

#[test]
fn requests_killed_at_random_have_one_answer_for_each_key() {
    let program = Program {
        test: "idempotency_key::requests_killed_at_random_have_one_answer_for_each_key",
        kind: Kind::Orders,
        run,
        env: None,
    };
    program.in_child();
    let dir = tempfile::tempdir().unwrap();
    let count = deliveries(30);
    let (killed, left) = program.killed_at_random(dir.path(), count, |_| {});
    let (effects, keys) = (left.effects(), left.events());
    let (noted, mut charges) = (noted(&effects), 0);
    for key in &keys {
        let key = id(key);
        let of_key = noted.get(&*key).unwrap_or_else(|| panic!("{key} is lost"));
        let answers = &of_key.answers;
        assert!(!answers.is_empty() && of_key.refused >= 1, "{key}");
        assert!(answers.iter().all(|answer| *answer == answers[0]), "{key}: {answers:?}");
        assert!(of_key.firsts <= 1, "{key}: a stored answer is replayed and not made again");
        assert!(of_key.charges >= 1, "{key} was answered and never charged");
        charges += of_key.charges;
    }
    let repeated = charges - keys.len() as u64;
    assert!(repeated <= killed, "{repeated} charges repeated by {killed} kills");
    assert!(Store::open(left.file("seen.db")).unwrap().verify().unwrap().is_sound());
    let details = format!(
        "{count} deliveries, one answer for each key, {repeated} charges sent again with their key"
    );
    proof("idempotency_key", killed, &details);
}

/// A kill between two pages of a line would leave a half of it in front of the next.
#[test]
fn no_line_of_the_record_outside_crosses_a_page() {
    let dir = tempfile::tempdir().unwrap();
    let outside = program::outside::Outside::new(dir.path(), 0);
    let lines: Vec<String> =
        (0..500).map(|n| format!("effect {n} {}", "x".repeat(n % 50))).collect();
    lines.iter().for_each(|line| outside.effect(line).unwrap());
    assert_eq!(outside.effects(), lines);
    let text = std::fs::read(dir.path().join("effects")).unwrap();
    assert!(text.len() > 10_000);
    for page in text.chunks(4_096) {
        assert_eq!(page.last(), Some(&b'\n'), "each page ends with a whole line");
    }
}
