//! Messages that nobody needs any more.

use firstseen_nats_kv::{NatsKvOptions, NatsKvStore};
use firstseen_servers::nats;
use firstseen_shared::{
    Begun, Call, Claim, DedupStore, Ending, ErrorKind, OnLeaseEnd, Policy, Start, State, Ttl,
};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

const DAY_MS: u64 = 24 * 3_600_000;
const DAY: Ttl = Ttl::from_millis(DAY_MS);

/// What has ended is removed and does not come back when the server is killed; what lasts stays.
#[tokio::test]
async fn a_sweep_removes_what_has_ended_or_was_forgotten_and_nothing_else() {
    let mut server = nats::start().await;
    let shift_ms = Arc::new(AtomicU64::new(0));
    let open = async |server: &_| {
        let options = NatsKvOptions::new().shifted_by(Arc::clone(&shift_ms));
        NatsKvStore::connect(&nats::url(server), options).await.unwrap()
    };
    let store = open(&server).await;
    let start = Start { lease: Duration::from_secs(60), worker: "w", fingerprint: None };
    let policy = Policy { on_lease_end: OnLeaseEnd::Hold, attempts_max: 3, dead_ttl: Ttl::FOREVER };
    let mut last = 0;
    for n in 0..50_u8 {
        for (id, ttl) in [([b's', n], DAY), ([b'f', n], Ttl::FOREVER), ([b'g', n], Ttl::FOREVER)] {
            let claim = store.claim("n", &id, ttl, Call::new()).await.unwrap();
            assert_eq!(claim, Claim::FirstSeen);
            let begun = store.begin("n", &id, &start, &policy, Call::new()).await.unwrap();
            let Begun::Started { token, .. } = begun else { panic!("{begun:?}") };
            last = token;
            let ending = Ending::Completed { result: &id, is_failure: false, ttl };
            store.end("n", &id, token, &ending, &policy).await.unwrap();
        }
        assert!(store.forget("n", &[b'g', n]).await.unwrap());
        assert!(store.forget_record("n", &[b'g', n]).await.unwrap());
    }
    assert_eq!(store.sweep().await.unwrap(), 0, "nothing has ended");
    shift_ms.fetch_add(DAY_MS, Ordering::Relaxed);
    assert_eq!(store.sweep().await.unwrap(), 200);
    assert_eq!(store.sweep().await.unwrap(), 0, "they are gone");
    server.restart().await;
    let store = open(&server).await;
    for n in 0..50_u8 {
        let claim = store.claim("n", &[b'f', n], DAY, Call::new()).await.unwrap();
        assert!(claim.is_duplicate());
        let record = store.record("n", &[b'f', n]).await.unwrap().unwrap();
        assert!(matches!(record.state, State::Completed { .. }));
        for kind in [b's', b'g'] {
            let claim = store.claim("n", &[kind, n], DAY, Call::new()).await.unwrap();
            assert_eq!(claim, Claim::FirstSeen, "{}", char::from(kind));
            let begun = store.begin("n", &[kind, n], &start, &policy, Call::new()).await.unwrap();
            assert!(matches!(begun, Begun::Started { token, attempt: 1 } if token > last));
        }
    }
}

/// A stream that drops what is needed, and options that cannot be, are refused.
#[tokio::test]
async fn an_unsuitable_stream_is_refused() {
    let server = nats::start().await;
    let client = async_nats::connect(nats::url(&server)).await.unwrap();
    let context = async_nats::jetstream::new(client);
    let config = async_nats::jetstream::stream::Config {
        name: "orders".to_owned(),
        subjects: vec!["orders.>".to_owned()],
        max_age: Duration::from_secs(60),
        ..Default::default()
    };
    context.create_stream(config).await.unwrap();
    for (options, kind) in [
        (NatsKvOptions::new().stream("orders"), ErrorKind::Environment),
        (NatsKvOptions::new().stream("a.b"), ErrorKind::Invalid),
        (NatsKvOptions::new().stream(""), ErrorKind::Invalid),
        (NatsKvOptions::new().replicas(0), ErrorKind::Invalid),
        (NatsKvOptions::new().answer_max(Duration::ZERO), ErrorKind::Invalid),
    ] {
        let refused = NatsKvStore::connect(&nats::url(&server), options).await.unwrap_err();
        assert_eq!(refused.kind(), kind, "{refused}");
    }
}

/// Never read as absent, and never as something else.
#[tokio::test]
async fn a_message_that_cannot_be_read_is_an_error() {
    for (payload, kind) in [(&[9][..], ErrorKind::Schema), (&[1, 0], ErrorKind::Damaged)] {
        let server = nats::start().await;
        let store = NatsKvStore::connect(&nats::url(&server), NatsKvOptions::new()).await.unwrap();
        let client = async_nats::connect(nats::url(&server)).await.unwrap();
        let context = async_nats::jetstream::new(client);
        let stored = context.publish("firstseen.c.n.a", payload.to_vec().into()).await.unwrap();
        stored.await.unwrap();
        assert_eq!(store.sweep().await.unwrap_err().kind(), kind);
    }
}
