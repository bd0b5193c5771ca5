//! What operators do: redrive, settle, forget, list, count.

use crate::Fixture;
use crate::kit::{
    Bench, DONE, ENDINGS, FAILED, FINAL, HOLD, LEASE, POLICY, START, TTL, UNKNOWN, fenced, fresh_name,
    is_waiting, print, refused_as, started, token_of,
};
use firstseen_shared::{AttemptEnd, DedupStore, Ending, Policy, Start, State};
use std::time::Duration;

const TTL_TIME: Duration = Duration::from_secs(600);

/// Rule 43.
pub async fn a_redriven_id_may_be_tried_as_often_as_a_new_one_and_keeps_its_history<F: Fixture>(
    fixture: &F,
) {
    let here = Bench::new(fixture).await;
    let start = Start { fingerprint: Some(print(b"input")), ..START };
    for _ in 0..3 {
        let token = token_of(&here.begin_as("a", &start).await);
        here.ends("a", token, &FAILED).await;
    }
    let dead = here.record("a").await;
    here.pass(LEASE).await;
    assert!(here.redrive("a").await);
    let record = here.record("a").await;
    assert!(is_waiting(&record));
    assert_eq!((record.attempts, record.token), (0, 0));
    assert_eq!(record.history.len(), 3);
    assert_eq!((record.first_begun, record.fingerprint), (dead.first_begun, start.fingerprint));
    assert!(here.dead_letters(None, 9).await.is_empty());
    for n in 1..=3 {
        let (token, number) = started(&here.begin("a").await);
        assert_eq!(number, n);
        here.ends("a", token, &FAILED).await;
    }
    assert!(matches!(here.record("a").await.state, State::Dead { .. }), "dead again after three");
    here.run("b", &UNKNOWN).await;
    assert!(here.redrive("b").await, "what is held, too");
    assert_eq!(started(&here.begin("b").await).1, 1);
}

/// What is alive, done or unknown is left alone.
pub async fn only_what_is_dead_or_held_is_redriven<F: Fixture>(fixture: &F) {
    let here = Bench::new(fixture).await;
    let wait = Ending::Failed { retry_after: LEASE, reason: "no" };
    here.start("running").await;
    here.run("done", &DONE).await;
    here.run("waiting", &wait).await;
    here.run("redriven", &FINAL).await;
    assert!(here.redrive("redriven").await);
    for id in ["running", "done", "waiting", "redriven"] {
        let before = here.record(id).await;
        assert!(!here.redrive(id).await, "{id}");
        assert_eq!(here.record(id).await, before, "{id}");
    }
    assert!(!here.redrive("unknown").await && here.find("unknown").await.is_none());
    here.start("late").await;
    here.pass(LEASE).await;
    assert!(!here.redrive("late").await, "a lease that has ended is for the next begin");
}

/// It is alive again, and to be done.
pub async fn a_redriven_record_does_not_end_by_itself<F: Fixture>(fixture: &F) {
    let here = Bench::new(fixture).await;
    let policy = Policy { dead_ttl: TTL, ..POLICY };
    let token = here.start("a").await;
    here.end_under("a", token, &FINAL, &policy).await.expect("ends");
    assert!(here.redrive("a").await);
    here.pass(TTL_TIME * 2).await;
    let record = here.find("a").await.expect("it is still there");
    assert_eq!(record.history.len(), 1);
    assert_eq!(started(&here.begin("a").await).1, 1);
}

/// Nobody who had it before may say anything of it.
pub async fn an_operators_word_fences_the_attempt<F: Fixture>(fixture: &F) {
    let here = Bench::new(fixture).await;
    for id in ["redriven", "settled", "forgotten"] {
        let token = here.start(id).await;
        here.pass(LEASE).await;
        refused_as!(here.begin_under(id, &HOLD).await, Held);
        let done = match id {
            "redriven" => here.redrive(id).await,
            "settled" => here.settle(id, b"looked up").await,
            _ => here.forget_record(id).await,
        };
        assert!(done, "{id}");
        let before = here.find(id).await.map(crate::kit::unread);
        let told = fenced(&format!("{id}: a renewal"), here.renew(id, token).await);
        assert_eq!(told, before);
        for ending in &ENDINGS {
            let told = fenced(&format!("{id}: {ending:?}"), here.end(id, token, ending).await);
            assert_eq!(told, before, "{id}: {ending:?}");
        }
        assert_eq!(here.find(id).await.map(crate::kit::unread), before, "{id}");
    }
}

/// By an operator who has looked the effect up.
pub async fn a_held_record_is_settled_with_a_result<F: Fixture>(fixture: &F) {
    let here = Bench::new(fixture).await;
    let token = here.run("a", &UNKNOWN).await;
    assert!(here.settle("a", b"it was paid").await);
    let record = refused_as!(here.begin("a").await, Completed);
    assert_eq!(record.result(), Some(&b"it was paid"[..]));
    assert!(matches!(record.state, State::Completed { is_failure: false, .. }));
    let told: Vec<u64> = record.history.iter().map(|past| past.token).collect();
    assert_eq!((told, record.token, record.attempts), (vec![token], token, 1));
    assert!(here.dead_letters(None, 9).await.is_empty());
    assert!(!here.settle("a", b"other").await, "once");
    assert_eq!(here.record("a").await.result(), Some(&b"it was paid"[..]));
    here.pass_almost(TTL_TIME).await;
    refused_as!(here.begin("a").await, Completed);
    here.pass_rest().await;
    assert!(here.find("a").await.is_none());
}

/// What is dead can be redriven, and what runs ends by itself.
pub async fn only_what_is_held_is_settled<F: Fixture>(fixture: &F) {
    let here = Bench::new(fixture).await;
    here.start("running").await;
    here.run("done", &DONE).await;
    here.run("waiting", &FAILED).await;
    here.run("dead", &FINAL).await;
    for id in ["running", "done", "waiting", "dead"] {
        let before = here.record(id).await;
        assert!(!here.settle(id, b"settled").await, "{id}");
        assert_eq!(here.record(id).await, before, "{id}");
    }
    assert!(!here.settle("unknown", b"settled").await && here.find("unknown").await.is_none());
}

/// Whatever its state; it counts as never begun. Rule 48.
pub async fn forgetting_a_record_removes_all_of_it_and_fences_its_attempt<F: Fixture>(
    fixture: &F,
) {
    let here = Bench::new(fixture).await;
    assert!(!here.forget_record("a").await, "there is none");
    let start = Start { fingerprint: Some(print(b"one")), ..START };
    let token = token_of(&here.begin_as("a", &start).await);
    assert!(here.forget_record("a").await, "an attempt works on it");
    assert!(!here.forget_record("a").await);
    assert!(fenced("a renewal", here.renew("a", token).await).is_none());
    assert!(fenced("an end", here.end("a", token, &DONE).await).is_none());
    assert!(here.find("a").await.is_none());
    for ending in &ENDINGS {
        let other = Start { fingerprint: Some(print(format!("{ending:?}").as_bytes())), ..START };
        let (token, number) = started(&here.begin_as("a", &other).await);
        assert_eq!((number, here.record("a").await.history.len()), (1, 0), "{ending:?}");
        here.ends("a", token, ending).await;
        assert!(here.forget_record("a").await, "{ending:?}");
        assert!(here.find("a").await.is_none() && here.dead_letters(None, 9).await.is_empty());
    }
}

/// Page by page, by their bytes.
pub async fn dead_letters_are_listed_in_order_and_in_pages<F: Fixture>(fixture: &F) {
    let here = Bench::new(fixture).await;
    let ids: [&[u8]; 9] =
        [b"\0", b"a", b"a\0", b"a\0b", b"ab", b"b", b"\x7f", b"\x80", b"\xff\xff"];
    for n in [4, 8, 0, 6, 2, 7, 1, 5, 3] {
        here.run(ids[n], if n % 2 == 0 { &FINAL } else { &UNKNOWN }).await;
    }
    for (id, ending) in [("done", DONE), ("waiting", FAILED), ("back", Ending::Released)] {
        here.run(id, &ending).await;
    }
    here.start("running").await;
    here.beside(&fresh_name()).run("other", &FINAL).await;
    assert_eq!(here.dead_letters(None, usize::MAX).await, ids);
    let (mut listed, mut after) = (Vec::new(), None::<Vec<u8>>);
    loop {
        let page = here.dead_letters(after.as_deref(), 2).await;
        assert!(page.len() <= 2);
        let Some(last) = page.last() else { break };
        after = Some(last.clone());
        listed.extend(page);
    }
    assert_eq!(listed, ids);
    assert_eq!(here.dead_letters(Some(b"aa"), 2).await, [&b"ab"[..], b"b"], "after what is not there");
    assert!(here.dead_letters(None, 0).await.is_empty());
    assert!(here.dead_letters(Some(b"\xff\xff"), 9).await.is_empty());
    assert!(here.redrive("a").await && here.settle("a\0b", b"").await);
    assert!(here.forget_record("b").await);
    let left: Vec<&[u8]> = ids.into_iter().filter(|id| ![&b"a"[..], b"a\0b", b"b"].contains(id)).collect();
    assert_eq!(here.dead_letters(None, 99).await, left);
}

/// What is counted, is counted right; dead letters always are.
pub async fn stats_count_dead_letters_and_what_else_they_count<F: Fixture>(fixture: &F) {
    let here = Bench::new(fixture).await;
    let stats = || async { here.store.stats(&here.namespace).await.expect("counts") };
    let none = stats().await;
    assert_eq!(none.dead_letters, Some(0));
    assert!(none.claims.is_none_or(|n| n == 0) && none.records.is_none_or(|n| n == 0), "{none:?}");
    for n in 0..10 {
        here.first(format!("claim-{n}")).await;
    }
    for (id, ending) in [("a", FINAL), ("b", UNKNOWN), ("c", FINAL), ("d", DONE), ("e", FAILED)] {
        here.run(id, &ending).await;
    }
    here.beside(&fresh_name()).run("other", &FINAL).await;
    let some = stats().await;
    assert_eq!(some.dead_letters, Some(3));
    // About: an estimate may be off, but not by a multiple.
    assert!(some.claims.is_none_or(|n| (5..=20).contains(&n)), "{some:?}");
    assert!(some.records.is_none_or(|n| (2..=10).contains(&n)), "{some:?}");
    assert!(here.redrive("a").await && here.forget_record("c").await);
    assert_eq!(stats().await.dead_letters, Some(1));
    assert!(here.settle("b", b"").await);
    assert_eq!(stats().await.dead_letters, Some(0));
    let past = here.record("a").await.history;
    assert_eq!(past.last().map(|past| past.end), Some(AttemptEnd::Final));
}
