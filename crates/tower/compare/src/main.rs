//! Tries firstseen-tower and axum-idempotent with the same requests, and prints what each does. Both take the key from
//! `Idempotency-Key`; axum-idempotent keeps sessions in memory, by its own `MokaStore`, and firstseen in a folder.
//!
//! ```sh
//! cargo run --manifest-path crates/tower/compare/Cargo.toml
//! ```

mod away;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderName, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum_idempotent::{IdempotentLayer, IdempotentOptions};
use firstseen_shared::{DedupStore, Embedded, SharedLedger};
use firstseen_tower::{IdempotencyLayer, Policy, Principals, ledger_options};
use http_body_util::BodyExt;
use ruts::store::moka::MokaStore;
use ruts::store::{SessionStore, Ttl};
use ruts::{CookieOptions, Session, SessionLayer};
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tempfile::TempDir;
use tokio::time::sleep;
use tower::ServiceExt;
use tower_cookies::CookieManagerLayer;

const LARGE: usize = 2 << 20;

/// A service behind one of the two layers.
#[derive(Clone)]
struct App {
    router: Router,
    /// How often its handler has begun, and how often it has come to its end.
    begun: Arc<AtomicU64>,
    ended: Arc<AtomicU64>,
    /// What names the caller.
    caller: (HeaderName, String),
    _folder: Option<Arc<TempDir>>,
}

/// The handler: what it does is what the request says in `x-do`.
fn handlers(begun: &Arc<AtomicU64>, ended: &Arc<AtomicU64>) -> Router {
    let (begun, ended) = (Arc::clone(begun), Arc::clone(ended));
    Router::new().route(
        "/pay",
        post(move |request: Request| {
            let (begun, ended) = (Arc::clone(&begun), Arc::clone(&ended));
            async move {
                let wanted = request.headers().get("x-do").cloned();
                let run = begun.fetch_add(1, Ordering::SeqCst) + 1;
                sleep(Duration::from_millis(100)).await;
                ended.fetch_add(1, Ordering::SeqCst);
                match wanted.as_ref().map(|value| value.as_bytes()) {
                    Some(b"fail") if run == 1 => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
                    Some(b"large") => vec![b'x'; LARGE].into_response(),
                    Some(b"stream") => Response::new(Body::new(NoLength(Body::from("streamed")))),
                    _ => (StatusCode::CREATED, format!("run {run}")).into_response(),
                }
            }
        }),
    )
}

/// A body that does not say how long it is.
struct NoLength(Body);

impl axum::body::HttpBody for NoLength {
    type Data = axum::body::Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<http_body::Frame<Self::Data>, Self::Error>>> {
        std::pin::Pin::new(&mut self.0).poll_frame(cx)
    }
}

fn ours() -> App {
    let folder = tempfile::tempdir().expect("a folder");
    let store = firstseen::Store::open(folder.path().join("seen.db")).expect("a store");
    let store = Embedded::new(store).leases_end_with_process();
    App { _folder: Some(Arc::new(folder)), ..ours_with(store) }
}

fn ours_with<S: DedupStore>(store: S) -> App {
    let (begun, ended) = <(Arc<AtomicU64>, Arc<AtomicU64>)>::default();
    let options = ledger_options().patience(Duration::from_millis(200));
    let ledger = SharedLedger::new(store, "pay", options).expect("a ledger");
    let authorization = axum::http::header::AUTHORIZATION;
    let principals = Principals::header(authorization.clone());
    let layer = IdempotencyLayer::new(ledger, principals, Policy::draft()).expect("a layer");
    App {
        router: handlers(&begun, &ended).layer(layer),
        begun,
        ended,
        caller: (authorization, "Bearer anna".to_owned()),
        _folder: None,
    }
}

/// With a session of `store`, which the caller has got by logging in.
async fn theirs<S: SessionStore>(store: S, options: IdempotentOptions) -> App {
    let (begun, ended) = <(Arc<AtomicU64>, Arc<AtomicU64>)>::default();
    let log_in = post(|session: Session<S>| async move {
        let ttl = Ttl::new(600).expect("a ttl");
        let _ = session.set("user", &"anna".to_owned(), ttl, None).await;
        "welcome"
    });
    let cookies = CookieOptions::build().name("session").max_age(600).path("/");
    let router = handlers(&begun, &ended)
        .layer(IdempotentLayer::<S>::new(options))
        .route("/log-in", log_in)
        .layer(SessionLayer::new(Arc::new(store)).with_cookie_options(cookies))
        .layer(CookieManagerLayer::new());
    let log_in = Request::post("/log-in").body(Body::empty()).expect("a request");
    let response = router.clone().oneshot(log_in).await.expect("it cannot fail");
    let cookie = response.headers().get("set-cookie").and_then(|value| value.to_str().ok());
    let cookie = cookie.and_then(|cookie| cookie.split(';').next()).unwrap_or_default();
    let caller = (axum::http::header::COOKIE, cookie.to_owned());
    App { router, begun, ended, caller, _folder: None }
}

fn by_key() -> IdempotentOptions {
    IdempotentOptions::default().use_idempotency_key_header(None, true)
}

async fn in_memory() -> App {
    theirs(MokaStore::builder().build(), by_key()).await
}

struct Ask<'a> {
    key: Option<&'a str>,
    wanted: &'a str,
    body: Vec<u8>,
}

impl Default for Ask<'_> {
    fn default() -> Self {
        Self { key: Some("\"8e03978e\""), wanted: "", body: b"10 euros".to_vec() }
    }
}

impl App {
    fn send(&self, ask: &Ask<'_>) -> impl Future<Output = String> + Send + 'static {
        let mut request = Request::post("/pay").header("x-do", ask.wanted);
        if let Some(key) = ask.key {
            request = request.header("idempotency-key", key);
        }
        if !self.caller.1.is_empty() {
            request = request.header(&self.caller.0, &self.caller.1);
        }
        let request = request.body(Body::from(ask.body.clone())).expect("a request");
        let router = self.router.clone();
        async move {
            let response = router.oneshot(request).await.expect("it cannot fail");
            let is_replay = response.headers().contains_key("idempotency-replayed");
            let status = response.status().as_u16();
            let body = response.into_body().collect().await.expect("a body").to_bytes();
            let text = if body.len() > 100 {
                String::new()
            } else {
                format!(" {}", String::from_utf8_lossy(&body))
            };
            let problem = status >= 400;
            let text = if problem { String::new() } else { text };
            format!("{status}{text}{}", if is_replay { ", replayed" } else { "" })
        }
    }

    fn runs(&self) -> String {
        match self.begun.load(Ordering::SeqCst) {
            1 => "runs once".to_owned(),
            0 => "does not run".to_owned(),
            n => format!("runs {n} times"),
        }
    }

    /// Sends it twice, one after the other.
    async fn twice(self, ask: Ask<'_>) -> String {
        self.send(&ask).await;
        let second = self.send(&ask).await;
        format!("{}; the second hears {second}", self.runs())
    }
}

async fn once(app: App) -> String {
    let heard = app.send(&Ask::default()).await;
    format!("{}; it hears {heard}", app.runs())
}

async fn at_once(app: App) -> String {
    let ask = Ask::default();
    let (one, two) = tokio::join!(app.send(&ask), app.send(&ask));
    format!("{}; they hear {one} and {two}", app.runs())
}

async fn other_body(app: App) -> String {
    app.send(&Ask::default()).await;
    let other = Ask { body: b"11 euros".to_vec(), ..Ask::default() };
    let second = app.send(&other).await;
    format!("{}; the second hears {second}", app.runs())
}

async fn client_goes(app: App) -> String {
    let ask = Ask::default();
    let first = tokio::spawn(app.send(&ask));
    while app.begun.load(Ordering::SeqCst) == 0 {
        sleep(Duration::from_millis(1)).await;
    }
    first.abort();
    sleep(Duration::from_millis(300)).await;
    let ended = app.ended.load(Ordering::SeqCst);
    let second = app.send(&ask).await;
    let what = if ended == 1 { "goes on to its end" } else { "is broken off in the middle" };
    format!("it {what}; {}; a retry hears {second}", app.runs())
}

async fn two_callers(app: App, other: (HeaderName, String)) -> String {
    let other = App { caller: other, ..app.clone() };
    app.send(&Ask::default()).await;
    let second = other.send(&Ask::default()).await;
    format!("{}; the other hears {second}", app.runs())
}

fn print(what: &str, ours: &str, theirs: &str) {
    println!("| {what} | {ours} | {theirs} |");
}

#[tokio::main]
async fn main() {
    println!("| tried | firstseen-tower | axum-idempotent 0.6.0 |");
    println!("|---|---|---|");
    print("two equal requests at once", &at_once(ours()).await, &at_once(in_memory().await).await);
    print(
        "the same key with another body",
        &other_body(ours()).await,
        &other_body(in_memory().await).await,
    );
    let away = theirs(away::Away, by_key()).await;
    // Nothing was set, so that there is no cookie: it has one from before the store went away.
    let cookie = in_memory().await.caller;
    let away = App { caller: cookie, ..away };
    print("the store is away", &once(ours_with(away::SharedAway)).await, &once(away).await);
    print(
        "the client goes away while it runs",
        &client_goes(ours()).await,
        &client_goes(in_memory().await).await,
    );
    let second = in_memory().await;
    let anonymous = App { caller: (second.caller.0.clone(), String::new()), ..second };
    print(
        "sent twice by a client without a session cookie",
        &ours().twice(Ask::default()).await,
        &anonymous.twice(Ask::default()).await,
    );
    let app = in_memory().await;
    let log_in = Request::post("/log-in").body(Body::empty()).expect("a request");
    let response = app.router.clone().oneshot(log_in).await.expect("it cannot fail");
    let cookie = response.headers()["set-cookie"].to_str().expect("text");
    let other = (axum::http::header::COOKIE, cookie.split(';').next().expect("one").to_owned());
    let bert = (axum::http::header::AUTHORIZATION, "Bearer bert".to_owned());
    print(
        "one key of two callers",
        &two_callers(ours(), bert).await,
        &two_callers(app, other).await,
    );
    for (what, wanted) in [
        ("answered 500, sent again", "fail"),
        ("an answer of 2 MiB, sent again", "large"),
        ("a stream, sent again", "stream"),
    ] {
        let ask = || Ask { wanted, ..Ask::default() };
        print(what, &ours().twice(ask()).await, &in_memory().await.twice(ask()).await);
    }
    let large = || Ask { body: vec![b'x'; LARGE], ..Ask::default() };
    print(
        "a request of 2 MiB, sent twice",
        &ours().twice(large()).await,
        &in_memory().await.twice(large()).await,
    );
    let keyless = || Ask { key: None, ..Ask::default() };
    let hashing = theirs(MokaStore::builder().build(), IdempotentOptions::default()).await;
    print(
        "no key, sent twice; axum-idempotent in its hashing mode",
        &ours().twice(keyless()).await,
        &hashing.twice(keyless()).await,
    );
}
