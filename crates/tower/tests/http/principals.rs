//! Rule 81: keys of two principals never meet.

use crate::call::Call;
use crate::site::{Runs, Setup, Site};
use axum::http::Method;
use firstseen_tower::{KeySpace, Policy};
use std::sync::Arc;

async fn site_with_principals() -> (Site, Runs) {
    let runs = Runs::default();
    let setup = Setup::new(Policy::draft()).principals("authorization");
    let site = Site::start(setup, {
        let runs = runs.clone();
        move |request| {
            let runs = runs.clone();
            async move { runs.answer(request).await }
        }
    });
    (site.await, runs)
}

#[tokio::test]
async fn rule_81_the_same_key_of_two_principals_is_two_keys() {
    let (site, runs) = site_with_principals().await;
    let of = |token: &str| Call::post("/pay").key("k").header("authorization", token);
    site.send(&of("Bearer anna")).await.assert_first(201, "run 1, 0 bytes");
    // The same request in every byte, and yet not told what the other was answered.
    site.send(&of("Bearer bert")).await.assert_first(201, "run 2, 0 bytes");
    site.send(&of("Bearer anna")).await.assert_replayed(201, "run 1, 0 bytes");
    site.send(&of("Bearer bert")).await.assert_replayed(201, "run 2, 0 bytes");
    // Nor is another payload a mismatch with what somebody else has sent.
    let other = of("Bearer carl").body("other");
    site.send(&other).await.assert_first(201, "run 3, 5 bytes");
    assert_eq!(runs.count(), 3);
}

#[tokio::test]
async fn rule_81_who_is_not_known_is_refused() {
    let (site, runs) = site_with_principals().await;
    let unknown = Call::post("/pay").key("k");
    site.send(&unknown).await.assert_refused(403, "principal-unknown", None);
    let two = unknown.header("authorization", "a").header("authorization", "b");
    site.send(&two).await.assert_refused(403, "principal-unknown", None);
    assert_eq!((runs.count(), site.counters().invalid), (0, 2));
}

#[tokio::test]
async fn a_key_belongs_to_the_principal_the_route_or_what_a_function_says() {
    let calls = [
        Call::post("/a").key("k"),
        Call::post("/b").key("k"),
        Call::new(Method::PATCH, "/a").key("k"),
    ];
    let (site, runs) = Site::counting(Policy::draft()).await;
    site.send(&calls[0]).await.assert_first(201, "run 1, 0 bytes");
    for call in &calls[1..] {
        site.send(call).await.assert_refused(422, "key-reused", None);
    }
    assert_eq!(runs.count(), 1);

    let (site, _) = Site::counting(Policy::draft().key_space(KeySpace::MethodAndPath)).await;
    for (n, call) in calls.iter().enumerate() {
        site.send(call).await.assert_first(201, &format!("run {}, 0 bytes", n + 1));
        site.send(call).await.assert_replayed(201, &format!("run {}, 0 bytes", n + 1));
    }
    // A query is no path: the same key for another one is a mismatch.
    site.send(&Call::post("/a?b=1").key("k")).await.assert_refused(422, "key-reused", None);

    let by_method = KeySpace::Of(Arc::new(|request| Some(request.method.as_str().into())));
    let (site, _) = Site::counting(Policy::draft().key_space(by_method)).await;
    site.send(&calls[0]).await.assert_first(201, "run 1, 0 bytes");
    site.send(&calls[1]).await.assert_refused(422, "key-reused", None);
    site.send(&calls[2]).await.assert_first(201, "run 2, 0 bytes");
}
