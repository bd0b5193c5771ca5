//! Calls that are wrong, and values at the edge of what is right.

use crate::Fixture;
use crate::kit::{
    Bench, DONE, LEASE, POLICY, START, TTL, UNKNOWN, assert_invalid, assert_move_invalid, completed,
    refused_as, started, token_of, until_ms,
};
use firstseen_shared::{
    Call, Claim, DedupStore, Ending, ErrorKind, MoveError, OnLeaseEnd, Policy, Start, State,
    Ttl,
};
use std::time::Duration;

/// A thousand years.
const AGES: Duration = Duration::from_secs(1_000 * 365 * 86_400);

/// By every call. Rule 12.
pub async fn an_id_that_is_empty_or_too_long_is_refused<F: Fixture>(fixture: &F) {
    let here = Bench::new(fixture).await;
    let (store, namespace) = (&*here.store, here.namespace.as_str());
    let too_long = vec![b'x'; store.id_bytes_max() + 1];
    for id in [&b""[..], &too_long] {
        let what = format!("an id of {} bytes", id.len());
        assert_invalid(&what, store.claim(namespace, id, TTL, Call::new()).await);
        assert_invalid(&what, store.contains(namespace, id).await);
        assert_invalid(&what, store.forget(namespace, id).await);
        assert_invalid(&what, store.begin(namespace, id, &START, &POLICY, Call::new()).await);
        assert_move_invalid(&what, here.renew(id, 1).await);
        assert_move_invalid(&what, here.end(id, 1, &DONE).await);
        assert_invalid(&what, store.record(namespace, id).await);
        assert_invalid(&what, store.redrive(namespace, id).await);
        assert_invalid(&what, store.settle(namespace, id, b"", TTL).await);
        assert_invalid(&what, store.forget_record(namespace, id).await);
    }
}

/// None of its ids is claimed then.
pub async fn one_bad_id_refuses_its_batch<F: Fixture>(fixture: &F) {
    let here = Bench::new(fixture).await;
    let too_long = vec![b'x'; here.store.id_bytes_max() + 1];
    for bad in [&b""[..], &too_long] {
        for batch in [[&b"a"[..], b"b", bad], [bad, b"a", b"b"]] {
            let claims = here.store.claim_batch(&here.namespace, &batch, TTL, Call::new()).await;
            assert_invalid("a batch with a bad id", claims);
        }
    }
    here.first("a").await;
    here.first("b").await;
}

/// Names have 1 to 255 bytes.
pub async fn a_namespace_without_a_name_or_with_too_long_a_name_is_refused<F: Fixture>(
    fixture: &F,
) {
    let here = Bench::new(fixture).await;
    let pad = 255 - here.namespace.len();
    let longest = format!("{}{}", here.namespace, "n".repeat(pad));
    let store = &*here.store;
    for name in [String::new(), format!("{longest}n")] {
        let what = format!("a namespace of {} bytes", name.len());
        assert_invalid(&what, store.claim(&name, b"a", TTL, Call::new()).await);
        assert_invalid(&what, store.contains(&name, b"a").await);
        assert_invalid(&what, store.forget(&name, b"a").await);
        assert_invalid(&what, store.begin(&name, b"a", &START, &POLICY, Call::new()).await);
        assert_move_invalid(&what, store.renew(&name, b"a", 1, LEASE).await);
        assert_move_invalid(&what, store.end(&name, b"a", 1, &DONE, &POLICY).await);
        assert_invalid(&what, store.record(&name, b"a").await);
        assert_invalid(&what, store.redrive(&name, b"a").await);
        assert_invalid(&what, store.settle(&name, b"a", b"", TTL).await);
        assert_invalid(&what, store.forget_record(&name, b"a").await);
        assert_invalid(&what, store.dead_letters(&name, None, 9).await);
        assert_invalid(&what, store.stats(&name).await);
    }
    let here = here.beside(&longest);
    here.first("a").await;
    here.run("a", &DONE).await;
}

/// Of a claim, a result, a settled record, and dead letters. None of it means "for ever".
pub async fn a_ttl_of_zero_is_refused<F: Fixture>(fixture: &F) {
    let here = Bench::new(fixture).await;
    let (store, namespace) = (&*here.store, here.namespace.as_str());
    let zero = Ttl::from_millis(0);
    assert_invalid("a claim", store.claim(namespace, b"a", zero, Call::new()).await);
    here.first("a").await;
    let never = Policy { dead_ttl: zero, ..POLICY };
    assert_invalid("begin", store.begin(namespace, b"a", &START, &never, Call::new()).await);
    let token = here.start("a").await;
    let at_once = Ending::Completed { result: b"", is_failure: false, ttl: zero };
    assert_move_invalid("a completion", here.end("a", token, &at_once).await);
    assert_move_invalid("an end", here.end_under("a", token, &UNKNOWN, &never).await);
    here.renew("a", token).await.expect("nothing was done");
    here.ends("a", token, &UNKNOWN).await;
    assert_invalid("settle", store.settle(namespace, b"a", b"", zero).await);
    assert!(here.settle("a", b"").await, "nothing was done");
}

/// A sum that overflows would end it at once. It is refused, or lasts for a thousand years.
pub async fn a_ttl_beyond_counting_never_ends_early<F: Fixture>(fixture: &F) {
    let here = Bench::new(fixture).await;
    let (store, namespace) = (&*here.store, here.namespace.as_str());
    let mut lasting = Vec::new();
    for ms in [u64::MAX, u64::MAX - 1, i64::MAX as u64, i64::MAX as u64 + 1, 1 << 56, 1 << 53] {
        let (id, ttl) = (format!("id-{ms}"), Ttl::from_millis(ms));
        match store.claim(namespace, id.as_bytes(), ttl, Call::new()).await {
            Ok(claim) => {
                assert_eq!(claim, Claim::FirstSeen);
                assert!(here.claim(&id).await.is_duplicate(), "{ms} ms have not passed");
                lasting.push(id.clone());
            }
            Err(error) => assert_eq!(error.kind(), ErrorKind::Invalid, "{error}"),
        }
        let policy = Policy { dead_ttl: ttl, ..POLICY };
        let begun = store.begin(namespace, id.as_bytes(), &START, &policy, Call::new()).await;
        let token = match begun {
            Ok(begun) => token_of(&begun),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
                here.start(&id).await
            }
        };
        let ending = Ending::Completed { result: b"kept", is_failure: false, ttl };
        match here.end(&id, token, &ending).await {
            Ok(()) => refused_as!(here.begin(&id).await, Completed),
            Err(MoveError::Store(error)) if error.kind() == ErrorKind::Invalid => continue,
            Err(error) => panic!("{ms}: {error}"),
        };
    }
    here.pass(AGES).await;
    for id in &lasting {
        assert!(here.claim(id).await.is_duplicate(), "{id}");
    }
}

/// Likewise.
pub async fn a_lease_or_a_delay_beyond_counting_never_ends_early<F: Fixture>(fixture: &F) {
    let here = Bench::new(fixture).await;
    let millis = [u64::MAX, i64::MAX as u64, i64::MAX as u64 + 1, 1 << 56].map(Duration::from_millis);
    for (n, time) in millis.into_iter().chain([Duration::MAX]).enumerate() {
        let id = format!("lease-{n}");
        let start = Start { lease: time, ..START };
        let begun =
            here.store.begin(&here.namespace, id.as_bytes(), &start, &POLICY, Call::new()).await;
        match begun {
            Ok(begun) => {
                let (token, _) = started(&begun);
                here.pass(LEASE).await;
                refused_as!(here.begin(&id).await, InProgress);
                here.renew(&id, token).await.expect("its lease lasts");
            }
            Err(error) => assert_eq!(error.kind(), ErrorKind::Invalid, "{error}"),
        }
        let id = format!("delay-{n}");
        let token = here.start(&id).await;
        match here.end(&id, token, &Ending::Failed { retry_after: time, reason: "no" }).await {
            Ok(()) => {
                here.pass(LEASE).await;
                let record = refused_as!(here.begin(&id).await, RetryAt);
                let left = until_ms(&record) - record.read.as_millis();
                assert!(Duration::from_millis(left) > AGES, "{left} ms are left of {time:?}");
            }
            Err(MoveError::Store(error)) => assert_eq!(error.kind(), ErrorKind::Invalid, "{error}"),
            Err(error) => panic!("{time:?}: {error}"),
        }
    }
}

/// It must never mean "without an end". Rule 33.
pub async fn a_lease_below_a_millisecond_is_refused<F: Fixture>(fixture: &F) {
    let here = Bench::new(fixture).await;
    let (store, namespace) = (&*here.store, here.namespace.as_str());
    let short = [Duration::ZERO, Duration::from_nanos(999_999)];
    for lease in short {
        let start = Start { lease, ..START };
        let begun = store.begin(namespace, b"a", &start, &POLICY, Call::new()).await;
        assert_invalid(&format!("a lease of {lease:?}"), begun);
    }
    assert!(here.find("a").await.is_none(), "nothing has begun");
    let token = here.start("a").await;
    for lease in short {
        let renewed = store.renew(namespace, b"a", token, lease).await;
        assert_move_invalid(&format!("a renewal of {lease:?}"), renewed);
    }
    refused_as!(here.begin("a").await, InProgress);
    let short = here.begin_as("b", &Start { lease: Duration::from_millis(1), ..START }).await;
    started(&short);
    here.pass_rest().await;
    assert_eq!(started(&here.begin("b").await).1, 2, "a millisecond is over after one");
}

/// A policy that allows no attempt is a mistake, and not a reason to bury what comes.
pub async fn a_policy_without_attempts_is_refused<F: Fixture>(fixture: &F) {
    let here = Bench::new(fixture).await;
    let (store, namespace) = (&*here.store, here.namespace.as_str());
    let none = Policy { attempts_max: 0, ..POLICY };
    assert_invalid("begin", store.begin(namespace, b"a", &START, &none, Call::new()).await);
    assert!(here.find("a").await.is_none());
    let token = here.start("a").await;
    let failed = Ending::Failed { retry_after: Duration::ZERO, reason: "no" };
    assert_move_invalid("an end", here.end_under("a", token, &failed, &none).await);
    here.ends("a", token, &DONE).await;
}

/// 255 bytes are enough for a name.
pub async fn a_worker_with_too_long_a_name_is_refused<F: Fixture>(fixture: &F) {
    let here = Bench::new(fixture).await;
    let name = "w".repeat(256);
    let start = Start { worker: &name, ..START };
    let begun = here.store.begin(&here.namespace, b"a", &start, &POLICY, Call::new()).await;
    assert_invalid("a worker of 256 bytes", begun);
    assert!(here.find("a").await.is_none());
    started(&here.begin_as("a", &Start { worker: &name[1..], ..START }).await);
    assert_eq!(here.record("a").await.worker, name[1..]);
    started(&here.begin_as("b", &Start { worker: "", ..START }).await);
    assert_eq!(here.record("b").await.worker, "");
}

/// It is for the caller to store it elsewhere; the effect has happened.
pub async fn a_result_above_the_limit_is_refused_and_its_attempt_goes_on<F: Fixture>(fixture: &F) {
    let here = Bench::new(fixture).await;
    let most = here.store.result_bytes_max();
    assert!(most >= 64 << 10, "answers of HTTP and of brokers fit, not only {most} bytes");
    let too_long = vec![7; most + 1];
    let token = here.start("a").await;
    assert_move_invalid("a result", here.end("a", token, &completed(&too_long)).await);
    here.renew("a", token).await.expect("the attempt goes on");
    here.ends("a", token, &UNKNOWN).await;
    let settled = here.store.settle(&here.namespace, b"a", &too_long, TTL).await;
    assert_invalid("a settled result", settled);
    assert_eq!(here.record("a").await.state, State::Held);
}

/// No text is expected, and nothing is not the same as no result. Rules 2 and 5.
pub async fn a_result_of_any_bytes_comes_back<F: Fixture>(fixture: &F) {
    let here = Bench::new(fixture).await;
    let all: Vec<u8> = (0..=255).collect();
    let large = vec![0xa5; here.store.result_bytes_max().min(1 << 20)];
    for (n, result) in [&b""[..], b"\0", b"null", b"\xff\xfe", &all, &large].iter().enumerate() {
        let id = format!("id-{n}");
        here.run(&id, &completed(result)).await;
        let record = refused_as!(here.begin(&id).await, Completed);
        assert_eq!(record.result().map(<[u8]>::len), Some(result.len()), "{n}");
        assert!(record.result() == Some(*result), "{n}");
        assert!(here.record(&id).await.result() == Some(*result), "{n}");
        here.run(format!("held-{n}"), &UNKNOWN).await;
        assert!(here.settle(format!("held-{n}"), result).await);
        assert!(here.record(format!("held-{n}")).await.result() == Some(*result), "{n}");
    }
}

/// A reason is for people: its beginning is kept. Names of workers are kept as they are.
pub async fn what_attempts_say_is_kept_and_cut_between_characters<F: Fixture>(fixture: &F) {
    let here = Bench::new(fixture).await;
    let long = format!("a{}", "\u{20ac}".repeat(400));
    let texts = ["", "it's \"no\"\n\t\\0 \u{e9} \u{1f600} $1 %s {}", &"x".repeat(1_024), &long];
    for (n, text) in texts.into_iter().enumerate() {
        let id = format!("id-{n}");
        let worker = if n == 1 { "wörker 'x' \"y\"" } else { "w" };
        let token = token_of(&here.begin_as(&id, &Start { worker, ..START }).await);
        here.ends(&id, token, &Ending::Final { reason: text }).await;
        let record = here.record(&id).await;
        let past = record.history.last().expect("it has ended");
        assert_eq!((past.worker.as_str(), record.worker.as_str()), (worker, worker));
        let kept = past.reason.as_str();
        assert!(text.starts_with(kept), "the beginning: {kept}");
        let most = text.len().min(1_024);
        assert!(kept.len() <= most && kept.len() + 3 >= most, "{} of {most} bytes", kept.len());
        if text.len() <= 1_024 {
            assert_eq!(kept, text);
        }
    }
}

/// Rule 11 turned round: every policy is one of these, and is kept to by each call for itself.
pub async fn each_call_is_answered_by_its_own_policy<F: Fixture>(fixture: &F) {
    let here = Bench::new(fixture).await;
    let lax = Policy { attempts_max: 100, ..POLICY };
    for n in 1..=4 {
        let (token, number) = started(&here.begin_under("a", &lax).await);
        assert_eq!(number, n);
        let failed = Ending::Failed { retry_after: Duration::ZERO, reason: "no" };
        here.end_under("a", token, &failed, &lax).await.expect("fails");
    }
    let dead = refused_as!(here.begin("a").await, Dead);
    assert_eq!((dead.attempts, here.dead_letters(None, 9).await), (4, vec![b"a".to_vec()]));
    started(&here.begin_under("b", &Policy { on_lease_end: OnLeaseEnd::Hold, ..POLICY }).await);
    here.pass(LEASE).await;
    assert_eq!(started(&here.begin("b").await).1, 2, "the policy of this call is to retry");
}
