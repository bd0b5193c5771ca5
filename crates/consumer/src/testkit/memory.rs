//! A broker in memory: at least once, with a wait for answers, delays and dead letters.

use crate::source::{Delivery, Message, Source, Want};
use crate::testkit::Fixture;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;

/// A broker in memory. It outlives its consumers: drop one in the middle of its work, and start another.
#[derive(Debug, Clone)]
pub struct MemoryBroker {
    queue: Arc<Mutex<Queue>>,
    bell: Arc<Notify>,
    patience: Duration,
}

#[derive(Debug, Default)]
struct Queue {
    entries: BTreeMap<u64, Entry>,
    dead: Vec<(Message, String)>,
    next: u64,
    delivered: u64,
}

#[derive(Debug)]
struct Entry {
    message: Message,
    deliveries: u32,
    /// When it may be delivered.
    due: Instant,
}

/// A consumer's connection to a [`MemoryBroker`].
#[derive(Debug, Clone)]
pub struct MemorySource(MemoryBroker);

/// The number of a message in its queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryToken(u64);

impl MemoryToken {
    /// Returns the number.
    pub fn number(self) -> u64 {
        self.0
    }
}

impl MemoryBroker {
    /// Creates an empty queue that delivers again what is not answered within `patience`.
    pub fn new(patience: Duration) -> Self {
        Self { queue: Arc::default(), bell: Arc::default(), patience }
    }

    /// Adds a message.
    pub fn send(&self, message: Message) {
        {
            let mut queue = self.lock();
            let number = queue.next;
            queue.next += 1;
            let entry = Entry { message, deliveries: 0, due: Instant::now() };
            queue.entries.insert(number, entry);
        }
        self.bell.notify_waiters();
    }

    /// Returns a connection for a consumer.
    pub fn connect(&self) -> MemorySource {
        MemorySource(self.clone())
    }

    /// Returns how many messages are neither acknowledged nor dead.
    pub fn left(&self) -> usize {
        self.lock().entries.len()
    }

    /// Returns how many deliveries there were.
    pub fn delivered(&self) -> u64 {
        self.lock().delivered
    }

    /// Returns the dead letters and their reasons.
    pub fn dead_letters(&self) -> Vec<(Message, String)> {
        self.lock().dead.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self, want: Want) -> Vec<Delivery<MemoryToken>> {
        let mut queue = self.lock();
        let Queue { entries, delivered, .. } = &mut *queue;
        let now = Instant::now();
        let mut taken = Vec::new();
        let mut bytes = 0;
        for (number, entry) in entries.iter_mut().filter(|(_, entry)| entry.due <= now) {
            bytes += entry.message.payload.len();
            if taken.len() == want.count || (bytes > want.bytes && !taken.is_empty()) {
                break;
            }
            entry.due = now + self.patience;
            entry.deliveries += 1;
            *delivered += 1;
            let message = entry.message.clone().deliveries(entry.deliveries);
            taken.push(Delivery { message, token: MemoryToken(*number) });
        }
        taken
    }

    fn next_due(&self) -> Option<Instant> {
        self.lock().entries.values().map(|entry| entry.due).min()
    }

    fn put_off(&self, token: MemoryToken, delay: Duration) {
        if let Some(entry) = self.lock().entries.get_mut(&token.0) {
            entry.due = Instant::now() + delay;
        }
        self.bell.notify_waiters();
    }
}

impl Source for MemorySource {
    type Token = MemoryToken;
    type Error = Infallible;

    async fn next(&self, want: Want) -> Result<Vec<Delivery<MemoryToken>>, Infallible> {
        let end = Instant::now() + want.wait;
        loop {
            let mut rung = std::pin::pin!(self.0.bell.notified());
            // Before the look, so that no bell is missed.
            rung.as_mut().enable();
            let taken = self.0.take(want);
            if !taken.is_empty() || Instant::now() >= end {
                return Ok(taken);
            }
            let until = self.0.next_due().map_or(end, |due| due.min(end));
            // Whichever comes first, it looks again.
            let _ = tokio::time::timeout_at(until, rung).await;
        }
    }

    async fn acknowledge(&self, token: &MemoryToken) -> Result<(), Infallible> {
        self.0.lock().entries.remove(&token.0);
        Ok(())
    }

    async fn retry_in(&self, token: &MemoryToken, delay: Duration) -> Result<(), Infallible> {
        self.0.put_off(*token, delay);
        Ok(())
    }

    async fn dead_letter(
        &self,
        _message: &Message,
        token: &MemoryToken,
        reason: &str,
    ) -> Result<(), Infallible> {
        let mut queue = self.0.lock();
        if let Some(entry) = queue.entries.remove(&token.0) {
            queue.dead.push((entry.message, reason.to_owned()));
        }
        Ok(())
    }

    async fn working(&self, token: &MemoryToken) -> Result<(), Infallible> {
        self.0.put_off(*token, self.0.patience);
        Ok(())
    }

    fn patience(&self) -> Option<Duration> {
        Some(self.0.patience)
    }

    async fn lag(&self) -> Result<Option<u64>, Infallible> {
        let now = Instant::now();
        Ok(Some(self.0.lock().entries.values().filter(|entry| entry.due <= now).count() as u64))
    }
}

impl Fixture for MemoryBroker {
    type Source = MemorySource;

    async fn source(&self) -> MemorySource {
        self.connect()
    }

    async fn publish(&self, id: &str, key: &str, payload: &str) {
        let (id, key) = (id.to_owned(), key.to_owned());
        self.send(Message::new(id, payload.to_owned()).key(key));
    }

    async fn dead(&self) -> Vec<String> {
        let text = |message: &Message| String::from_utf8_lossy(&message.payload).into_owned();
        self.dead_letters().iter().map(|(message, _)| text(message)).collect()
    }
}
