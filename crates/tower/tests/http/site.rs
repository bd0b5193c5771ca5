//! A server with the layer, on loopback.

use crate::call::{Call, Heard, HttpClient, client};
use crate::faulty::Faulty;
use axum::Router;
use axum::extract::Request;
use axum::http::HeaderName;
use axum::response::{IntoResponse, Response};
use firstseen::Store;
use firstseen_shared::{Embedded, LedgerOptions, SharedLedger};
use firstseen_tower::{
    Counters, Handle, IdempotencyLayer, Policy, Principals, ledger_options, record_id,
};
use http_body_util::BodyExt;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep};

/// How long anything may take on a machine with other work.
pub(crate) const LATE: Duration = Duration::from_secs(60);

/// What a server is made of.
pub(crate) struct Setup {
    pub(crate) policy: Policy,
    pub(crate) principals: Principals,
    pub(crate) options: LedgerOptions,
}

impl Setup {
    pub(crate) fn new(policy: Policy) -> Self {
        Self { policy, principals: Principals::everyone(), options: ledger_options() }
    }

    /// For tests with faults of the store, which are seen soon.
    pub(crate) fn impatient(policy: Policy) -> Self {
        Self::new(policy).options(|options| options.patience(Duration::from_millis(300)))
    }

    pub(crate) fn options(self, change: impl FnOnce(LedgerOptions) -> LedgerOptions) -> Self {
        Self { options: change(self.options), ..self }
    }

    /// The principal is what this header says.
    pub(crate) fn principals(self, header: &'static str) -> Self {
        let principals = Principals::header(HeaderName::from_static(header));
        Self { principals, ..self }
    }
}

/// A server, which ends with this.
pub(crate) struct Site {
    pub(crate) address: String,
    pub(crate) client: HttpClient,
    pub(crate) handle: Handle<Faulty>,
    pub(crate) ledger: SharedLedger<Faulty>,
    server: tokio::task::JoinHandle<()>,
    _dir: TempDir,
}

impl Site {
    /// Starts a server whose handler this is, for all methods and paths.
    pub(crate) async fn start<H, F>(setup: Setup, handler: H) -> Self
    where
        H: Fn(Request) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = Response> + Send + 'static,
    {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path().join("seen.db")).unwrap();
        let store = Faulty::new(Embedded::new(store).leases_end_with_process());
        let ledger = SharedLedger::new(store, "http", setup.options).unwrap();
        let layer = IdempotencyLayer::new(ledger.clone(), setup.principals, setup.policy).unwrap();
        let handle = layer.handle();
        let router = Router::new().fallback(handler).layer(layer);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let server = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { address, client: client(), handle, ledger, server, _dir: dir }
    }

    /// Starts a server that counts its handler's calls and answers each with 201 and its number.
    pub(crate) async fn counting(policy: Policy) -> (Self, Runs) {
        Self::counting_with(Setup::new(policy)).await
    }

    pub(crate) async fn counting_with(setup: Setup) -> (Self, Runs) {
        let runs = Runs::default();
        let site = Self::start(setup, {
            let runs = runs.clone();
            move |request| {
                let runs = runs.clone();
                async move { runs.answer(request).await }
            }
        })
        .await;
        (site, runs)
    }

    pub(crate) async fn send(&self, call: &Call) -> Heard {
        call.send(&self.client, &self.address).await.unwrap()
    }

    /// Sends a request until the store has begun in time, for a policy under which it has little: on a machine with other
    /// work it may not have it each time.
    pub(crate) async fn send_until_begun(&self, call: &Call) -> Heard {
        let end = Instant::now() + LATE;
        loop {
            let heard = self.send(call).await;
            if heard.code() != "store-unavailable" {
                return heard;
            }
            assert!(Instant::now() < end, "it is never begun");
            until("it is handed back", || self.counters().in_flight == 0).await;
        }
    }

    pub(crate) fn counters(&self) -> Counters {
        self.handle.counters()
    }

    pub(crate) fn store(&self) -> &Faulty {
        self.ledger.store()
    }

    /// The id of a key that belongs to everyone.
    pub(crate) fn id(key: &str) -> Vec<u8> {
        record_id(b"", b"", key)
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// How often a handler has run.
#[derive(Clone, Default)]
pub(crate) struct Runs(Arc<AtomicU64>);

impl Runs {
    pub(crate) fn count(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }

    pub(crate) fn one_more(&self) -> u64 {
        self.0.fetch_add(1, Ordering::SeqCst) + 1
    }

    /// Reads the whole request, and answers with the number of the call.
    pub(crate) async fn answer(&self, request: Request) -> Response {
        let body = request.into_body().collect().await.unwrap().to_bytes();
        let number = self.one_more();
        let text = format!("run {number}, {} bytes", body.len());
        (axum::http::StatusCode::CREATED, text).into_response()
    }
}

/// A door that handlers wait at until it is opened; counts those who came.
#[derive(Clone)]
pub(crate) struct Gate {
    pub(crate) came: Runs,
    open: Arc<Semaphore>,
}

impl Gate {
    pub(crate) fn new() -> Self {
        Self { came: Runs::default(), open: Arc::new(Semaphore::new(0)) }
    }

    /// Lets as many through.
    pub(crate) fn open(&self, many: usize) {
        self.open.add_permits(many);
    }

    pub(crate) async fn pass(&self) {
        self.came.one_more();
        self.open.acquire().await.unwrap().forget();
    }
}

/// Waits until something is so.
#[track_caller]
pub(crate) fn until(what: &'static str, is_so: impl Fn() -> bool) -> impl Future<Output = ()> {
    let caller = std::panic::Location::caller();
    async move {
        let end = Instant::now() + LATE;
        while !is_so() {
            assert!(Instant::now() < end, "{caller}: never: {what}");
            sleep(Duration::from_millis(2)).await;
        }
    }
}
