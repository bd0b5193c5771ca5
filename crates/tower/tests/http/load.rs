//! Many clients that repeat themselves, with handlers that fail now and then: each key has one effect, counted outside.

use crate::call::Call;
use crate::site::{LATE, Setup, Site, until};
use axum::extract::Request;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use firstseen_consumer::testkit::Dice;
use firstseen_tower::{Policy, WhileRunning};
use http_body_util::BodyExt;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::time::{Instant, sleep};

const CLIENTS: u64 = 32;
const KEYS: u64 = 40;
const SHARED: u64 = 4;

/// The effects that were made: of each key, the receipts.
type Effects = Arc<Mutex<BTreeMap<String, Vec<u64>>>>;

/// Charges, and is sometimes refused or fails before the charge.
async fn charge(request: Request, effects: Effects, dice: Arc<Mutex<Dice>>) -> Response {
    let body = request.into_body().collect().await.unwrap().to_bytes();
    let key = String::from_utf8(body.to_vec()).unwrap();
    let (pause, luck, receipt) = {
        let mut dice = dice.lock().unwrap();
        (dice.below(5), dice.below(100), dice.any())
    };
    sleep(Duration::from_millis(pause)).await;
    match luck {
        0..5 => return StatusCode::TOO_MANY_REQUESTS.into_response(),
        5..10 => return StatusCode::INTERNAL_SERVER_ERROR.into_response(),
        10..12 => panic!("planted"),
        _ => {}
    }
    effects.lock().unwrap().entry(key).or_default().push(receipt);
    (StatusCode::CREATED, receipt.to_string()).into_response()
}

/// Sends each key until it is done, and some again; returns what it was told. Keys of a group of clients are the same.
async fn client(site: Arc<Site>, number: u64) -> (u64, BTreeMap<String, String>) {
    let mut dice = Dice::new(number);
    let mut told = BTreeMap::new();
    let mut sent = 0;
    for n in 0..KEYS {
        let key = format!("key {} {n}", number / SHARED);
        let call = Call::post("/pay").key(&key).body(key.clone());
        let end = Instant::now() + LATE;
        loop {
            assert!(Instant::now() < end, "{key} is never done");
            sent += 1;
            let heard = site.send(&call).await;
            match heard.status() {
                201 => {
                    let before = told.insert(key.clone(), heard.text().to_owned());
                    assert!(before.is_none_or(|before| before == heard.text()), "{key}");
                    if dice.percent(70) {
                        break;
                    }
                }
                409 | 429 | 500 => sleep(Duration::from_millis(dice.below(10))).await,
                _ => panic!("{heard:?}"),
            }
        }
        if dice.percent(10) {
            sent += 1;
            let other = site.send(&call.body("another")).await;
            other.assert_refused(422, "key-reused", None);
        }
    }
    (sent, told)
}

async fn load(policy: Policy) {
    let effects = Effects::default();
    let dice = Arc::new(Mutex::new(Dice::new(7)));
    let site = Site::start(Setup::new(policy), {
        let effects = Arc::clone(&effects);
        move |request| charge(request, Arc::clone(&effects), Arc::clone(&dice))
    });
    let site = Arc::new(site.await);
    let clients: Vec<_> =
        (0..CLIENTS).map(|n| tokio::spawn(client(Arc::clone(&site), n))).collect();
    let mut sent = 0;
    for client in clients {
        let (requests, told) = client.await.unwrap();
        sent += requests;
        for (key, receipt) in told {
            let made = effects.lock().unwrap()[&key].clone();
            assert_eq!(made.len(), 1, "the effect of {key} was made more than once");
            assert_eq!(made[0].to_string(), receipt, "{key}");
        }
    }
    let keys = CLIENTS / SHARED * KEYS;
    assert_eq!(effects.lock().unwrap().len() as u64, keys);
    until("nothing is in flight", || site.counters().in_flight == 0).await;
    let c = site.counters();
    assert_eq!(c.first, keys, "{c:?}");
    // Every request is counted once.
    let answered = c.first + c.replayed + c.conflicts + c.mismatches + c.released + c.failed;
    assert_eq!(answered, sent, "{c:?}");
    assert_eq!((c.refused, c.lost, c.unavailable, c.unrecorded, c.gone), (0, 0, 0, 0, 0), "{c:?}");
    println!("proof | HTTP, {CLIENTS} clients that repeat themselves | {sent} | requests | {c:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_key_has_one_effect_whoever_repeats_it() {
    load(Policy::draft()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_key_has_one_effect_where_others_wait() {
    load(Policy::draft().while_running(WhileRunning::Wait(LATE))).await;
}
