//! A proxy between a client and its server: it loses answers, stands still, and keeps what was sent.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Passes bytes on between clients and a server. An answer that is lost takes its connection with it: when it comes, the
/// server has done what it was asked.
#[derive(Debug)]
pub struct Proxy {
    port: u16,
    way: Arc<Way>,
    listening: JoinHandle<()>,
}

#[derive(Debug)]
struct Way {
    target: String,
    /// So many answers are still to be lost.
    to_lose: AtomicU64,
    /// Of so many answers one is lost; zero: none.
    loses_one_of: AtomicU64,
    answers: AtomicU64,
    stands: watch::Sender<bool>,
    sent: Mutex<Vec<u8>>,
}

impl Proxy {
    /// Starts a proxy on a free port.
    pub async fn before(target: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let way = Arc::new(Way {
            target,
            to_lose: AtomicU64::new(0),
            loses_one_of: AtomicU64::new(0),
            answers: AtomicU64::new(0),
            stands: watch::Sender::new(false),
            sent: Mutex::new(Vec::new()),
        });
        let shared = Arc::clone(&way);
        let listening = tokio::spawn(async move {
            let mut tasks = tokio::task::JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                tasks.spawn(carry(Arc::clone(&shared), client));
            }
        });
        Self { port, way, listening }
    }

    /// Returns the address that clients connect to.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Returns its port on loopback.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Loses the next answers, so many.
    pub fn lose(&self, answers: u64) {
        self.way.to_lose.store(answers, Ordering::SeqCst);
    }

    /// Returns how many answers are still to be lost.
    pub fn left_to_lose(&self) -> u64 {
        self.way.to_lose.load(Ordering::SeqCst)
    }

    /// Loses one of so many answers; zero: none.
    pub fn lose_one_of(&self, answers: u64) {
        self.way.loses_one_of.store(answers, Ordering::SeqCst);
    }

    /// Carries nothing any more, in either direction, until `false`.
    pub fn stand_still(&self, stands: bool) {
        self.way.stands.send_replace(stands);
    }

    /// Returns what clients have sent since the last time.
    pub fn take_sent(&self) -> Vec<u8> {
        std::mem::take(&mut self.way.sent.lock().unwrap())
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

async fn carry(way: Arc<Way>, client: TcpStream) {
    let Ok(server) = TcpStream::connect(&way.target).await else { return };
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    // Whichever ends first takes the other with it.
    tokio::select! {
        () = forward(&way, from_client, to_server, true) => {}
        () = forward(&way, from_server, to_client, false) => {}
    }
}

async fn forward(way: &Way, mut from: OwnedReadHalf, mut to: OwnedWriteHalf, is_asking: bool) {
    let mut stands = way.stands.subscribe();
    let mut bytes = vec![0; 64 << 10];
    loop {
        let Ok(count @ 1..) = from.read(&mut bytes).await else { return };
        if stands.wait_for(|stands| !stands).await.is_err() {
            return;
        }
        if is_asking {
            way.sent.lock().unwrap().extend_from_slice(&bytes[..count]);
        } else {
            let one_of = way.loses_one_of.load(Ordering::SeqCst);
            let number = way.answers.fetch_add(1, Ordering::SeqCst) + 1;
            let is_turn = one_of != 0 && number.is_multiple_of(one_of);
            let one_less = |left: u64| left.checked_sub(1);
            let is_due =
                way.to_lose.fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_less).is_ok();
            if is_due || is_turn {
                return;
            }
        }
        if to.write_all(&bytes[..count]).await.is_err() {
            return;
        }
    }
}
