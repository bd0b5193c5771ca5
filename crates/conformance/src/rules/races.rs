//! Many at once, over several handles, as on several machines.

use crate::Fixture;
use crate::dice::Dice;
use crate::kit::{Bench, DONE, LEASE, POLICY, START, TTL, completed, token_of};
use firstseen_shared::{Begun, Call, Claim, DedupStore, Ending, MoveError, Policy};
use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::Barrier;

const TASKS: usize = 32;
const MACHINES: usize = 4;

/// Returns a handle and its namespace for each of the tasks.
async fn crowd<F: Fixture>(here: &Bench<'_, F>) -> Vec<(Arc<F::Store>, String)> {
    let mut machines = vec![Arc::clone(&here.store)];
    for _ in 1..MACHINES {
        machines.push(here.elsewhere().await.store);
    }
    let machines = machines.into_iter().cycle().take(TASKS);
    machines.map(|store| (store, here.namespace.clone())).collect()
}

/// Runs all of them, from the same moment on.
async fn at_once<T, Fut>(tasks: impl ExactSizeIterator<Item = Fut>) -> Vec<T>
where
    T: Send + 'static,
    Fut: Future<Output = T> + Send + 'static,
{
    let start = Arc::new(Barrier::new(tasks.len()));
    let running: Vec<_> = tasks
        .map(|task| {
            let start = Arc::clone(&start);
            tokio::spawn(async move {
                start.wait().await;
                task.await
            })
        })
        .collect();
    let mut done = Vec::new();
    for task in running {
        done.push(task.await.unwrap_or_else(|error| panic!("a task has failed: {error}")));
    }
    done
}

/// Eight ids, each claimed by all.
pub async fn of_many_that_claim_an_id_at_once_one_is_first<F: Fixture>(fixture: &F) {
    let here = Bench::new(fixture).await;
    for round in 0..8 {
        let id = format!("id-{round}");
        let tasks = crowd(&here).await.into_iter().map(|(store, namespace)| {
            let id = id.clone();
            async move { store.claim(&namespace, id.as_bytes(), TTL, Call::new()).await }
        });
        let claims = at_once(tasks).await;
        let firsts = claims.iter().filter(|claim| matches!(claim, Ok(Claim::FirstSeen))).count();
        let late = claims.iter().filter(|claim| matches!(claim, Ok(Claim::Duplicate { .. })));
        assert_eq!((firsts, late.count()), (1, TASKS - 1), "{id}");
    }
}

/// Batches that share ids in another order each wait for nobody for ever, and each id is first seen once.
pub async fn of_many_overlapping_batches_each_id_is_first_once<F: Fixture>(fixture: &F) {
    let here = Bench::new(fixture).await;
    let ids: Arc<Vec<Vec<u8>>> = Arc::new((0..64_u8).map(|n| vec![b'i', n]).collect());
    let tasks = crowd(&here).await.into_iter().enumerate().map(|(n, (store, namespace))| {
        let ids = Arc::clone(&ids);
        async move {
            let mut dice = Dice::new(n as u64);
            let mut order: Vec<usize> = (0..ids.len()).collect();
            for last in (1..order.len()).rev() {
                order.swap(last, dice.below(last as u64 + 1) as usize);
            }
            let batch: Vec<&[u8]> = order.iter().map(|n| ids[*n].as_slice()).collect();
            let claims = store.claim_batch(&namespace, &batch, TTL, Call::new()).await;
            let claims = claims.expect("claims").into_iter().zip(order);
            claims.filter(|(claim, _)| claim.is_first_seen()).map(|(_, n)| n).collect::<Vec<_>>()
        }
    });
    let mut firsts: Vec<usize> = at_once(tasks).await.into_iter().flatten().collect();
    firsts.sort_unstable();
    assert_eq!(firsts, (0..64).collect::<Vec<_>>());
}

/// Rule 4.
pub async fn of_many_that_begin_at_once_one_is_started<F: Fixture>(fixture: &F) {
    let here = Bench::new(fixture).await;
    for round in 0..8 {
        let id = format!("id-{round}");
        let started = begin_at_once(&here, &id).await;
        assert_eq!(started.len(), 1, "{id}: {started:?}");
        assert_eq!(here.record(&id).await.attempts, 1);
    }
}

/// Rule 35.
pub async fn of_many_that_find_an_ended_lease_one_takes_over<F: Fixture>(fixture: &F) {
    let here = Bench::new(fixture).await;
    for round in 0..8 {
        let id = format!("id-{round}");
        let first = here.start(&id).await;
        here.pass(LEASE).await;
        let started = begin_at_once(&here, &id).await;
        assert_eq!(started.len(), 1, "{id}: {started:?}");
        let record = here.record(&id).await;
        assert_eq!((record.attempts, record.token), (2, started[0]));
        assert!(started[0] > first && record.history.len() == 1);
    }
}

/// Begins an id by all. Returns the tokens of those that were started.
async fn begin_at_once<F: Fixture>(here: &Bench<'_, F>, id: &str) -> Vec<u64> {
    let tasks = crowd(here).await.into_iter().map(|(store, namespace)| {
        let id = id.to_owned();
        async move { store.begin(&namespace, id.as_bytes(), &START, &POLICY, Call::new()).await }
    });
    let begun = at_once(tasks).await.into_iter().map(|begun| match begun.expect("begins") {
        Begun::Started { token, .. } => Some(token),
        Begun::InProgress(_) => None,
        other => panic!("neither started nor in progress: {other:?}"),
    });
    begun.flatten().collect()
}

/// The other is told that the attempt is over, and with which result. Rule 32.
pub async fn of_many_completions_at_once_one_lands<F: Fixture>(fixture: &F) {
    let here = Bench::new(fixture).await;
    for round in 0..8 {
        let id = format!("id-{round}");
        let token = here.start(&id).await;
        let tasks = crowd(&here).await.into_iter().enumerate().map(|(n, (store, namespace))| {
            let id = id.clone();
            async move {
                let result = n.to_string();
                let ending = completed(result.as_bytes());
                let ended = store.end(&namespace, id.as_bytes(), token, &ending, &POLICY).await;
                (result.into_bytes(), ended)
            }
        });
        let ended = at_once(tasks).await;
        let landed: Vec<&[u8]> =
            ended.iter().filter(|(_, ended)| ended.is_ok()).map(|(result, _)| &result[..]).collect();
        assert_eq!(landed.len(), 1, "{id}: {ended:?}");
        for (_, ended) in &ended {
            match ended {
                Ok(()) => {}
                Err(MoveError::Over(record)) => assert_eq!(record.result(), Some(landed[0])),
                Err(error) => panic!("{id}: {error}"),
            }
        }
        assert_eq!(here.record(&id).await.result(), Some(landed[0]));
    }
}

/// Between two that are first there is one that has forgotten.
pub async fn claims_and_forgets_at_once_are_each_one_step<F: Fixture>(fixture: &F) {
    let here = Bench::new(fixture).await;
    let tasks = crowd(&here).await.into_iter().enumerate().map(|(n, (store, namespace))| async move {
        let mut dice = Dice::new(n as u64);
        let mut balance = [0_i64; 3];
        for _ in 0..20 {
            let at = dice.below(3) as usize;
            let id = [b'a' + at as u8];
            if dice.below(3) == 0 {
                balance[at] -= i64::from(store.forget(&namespace, &id).await.expect("forgets"));
            } else {
                let claim = store.claim(&namespace, &id, TTL, Call::new()).await.expect("claims");
                balance[at] += i64::from(claim.is_first_seen());
            }
        }
        balance
    });
    let mut sum = [0; 3];
    for balance in at_once(tasks).await {
        (0..3).for_each(|at| sum[at] += balance[at]);
    }
    for (at, sum) in sum.into_iter().enumerate() {
        let is_claimed = here.has_claim([b'a' + at as u8]).await;
        assert_eq!(sum, i64::from(is_claimed), "first seen, less forgotten, of id {at}");
    }
}

/// An attempt as its worker saw it.
#[derive(Debug)]
struct Worked {
    token: u64,
    /// When its worker heard that it had started, and when it was about to end it.
    heard: u64,
    ending: u64,
}

/// No attempt starts before the one before it has said how it went, and tokens are in that order.
pub async fn attempts_of_one_id_follow_each_other<F: Fixture>(fixture: &F) {
    let here = Bench::new(fixture).await;
    let clock = Arc::new(AtomicU64::new(0));
    let policy = Policy { attempts_max: u32::MAX, ..POLICY };
    let tasks = crowd(&here).await.into_iter().enumerate().map(|(n, (store, namespace))| {
        let clock = Arc::clone(&clock);
        async move {
            let mut dice = Dice::new(n as u64);
            let mut worked: Vec<(u8, Worked)> = Vec::new();
            for _ in 0..20 {
                let id = b'a' + dice.below(2) as u8;
                let begun = store.begin(&namespace, &[id], &START, &policy, Call::new()).await;
                let Begun::Started { token, .. } = begun.expect("begins") else {
                    tokio::task::yield_now().await;
                    continue;
                };
                let heard = clock.fetch_add(1, Ordering::SeqCst);
                if dice.below(2) == 0 {
                    store.renew(&namespace, &[id], token, LEASE).await.expect("renews");
                }
                let failed = Ending::Failed { retry_after: Duration::ZERO, reason: "" };
                let ending = dice.of(&[Ending::Released, failed]);
                let at = clock.fetch_add(1, Ordering::SeqCst);
                store.end(&namespace, &[id], token, &ending, &policy).await.expect("its own");
                worked.push((id, Worked { token, heard, ending: at }));
            }
            worked
        }
    });
    let mut by_id: BTreeMap<u8, Vec<Worked>> = BTreeMap::new();
    for (id, worked) in at_once(tasks).await.into_iter().flatten() {
        by_id.entry(id).or_default().push(worked);
    }
    for (id, mut worked) in by_id {
        worked.sort_unstable_by_key(|worked| worked.token);
        for pair in worked.windows(2) {
            assert!(pair[0].token < pair[1].token, "{id}: a token twice: {pair:?}");
            assert!(pair[0].ending < pair[1].heard, "{id}: two at the same time: {pair:?}");
        }
        let token = token_of(&here.begin_under([id], &policy).await);
        assert!(worked.iter().all(|worked| worked.token < token));
        here.ends([id], token, &DONE).await;
    }
}
