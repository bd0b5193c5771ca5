//! What is taken from the server, until the loop has it.
//!
//! In this order: what was pending for this consumer when it started, what was put off and is due, what others have left,
//! and what is new. Each call of the server is a task of its own, so that its answer is not lost when the loop gives the
//! call of
//! [`next`](Intake::next) up: the next one has it.

use crate::delays::Delays;
use crate::entry::{EntryId, RedisEntry};
use crate::error::RedisError;
use crate::group::{Batch, Group, IDS_MAX, Kept};
use crate::hands::InHand;
use crate::lock::lock;
use firstseen_consumer::Want;
use std::collections::VecDeque;
use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

/// The longest that a call waits at the server, and so the longest that a stop waits where it may not end it.
const BLOCK_MAX: Duration = Duration::from_secs(1);

/// What the intake shares with calls that do not wait for it.
#[derive(Debug, Default)]
pub(crate) struct Signals {
    is_stopped: AtomicBool,
    /// Something was put off, and may be due sooner than what is waited for.
    pub(crate) put_off: Notify,
}

impl Signals {
    pub(crate) fn stop(&self) {
        self.is_stopped.store(true, Ordering::Release);
        self.put_off.notify_one();
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.is_stopped.load(Ordering::Acquire)
    }
}

/// An entry that was taken from the server.
#[derive(Debug)]
pub(crate) struct Taken {
    pub(crate) entry: Arc<RedisEntry>,
    pub(crate) deliveries: u32,
    /// It is not in the stream any more.
    pub(crate) is_gone: bool,
    pub(crate) in_hand: InHand,
    at: Instant,
}

pub(crate) struct Intake {
    group: Arc<Group>,
    delays: Arc<Mutex<Delays>>,
    signals: Arc<Signals>,
    ready: VecDeque<Taken>,
    old: Option<Task<Old>>,
    new: Option<Task<Batch>>,
    /// The id after which pending entries of this consumer were not read.
    own: Option<EntryId>,
    /// Where the search for what others have left goes on, and when.
    claim_from: EntryId,
    next_claim: Instant,
    /// The last call had old entries: first what is new, or it would never come while others are due again and again.
    is_new_first: bool,
    /// The mark of the stream, where ids are by entry.
    mark: Option<String>,
    /// How many bytes a large entry has had of late.
    typical: usize,
}

/// Entries that were delivered before.
enum Old {
    /// Of this consumer, and after which id to go on.
    Own(Batch, Option<EntryId>),
    Due(Batch),
    /// What was left, and where to go on.
    Left(Batch, Option<EntryId>),
}

impl Intake {
    /// `mark`: the mark of the stream, where ids are by entry.
    pub(crate) fn new(
        group: Arc<Group>,
        delays: Arc<Mutex<Delays>>,
        signals: Arc<Signals>,
        mark: Option<String>,
    ) -> Self {
        // Under a name of its own nothing can be pending yet.
        let own = group.options.consumer.as_ref().map(|_| EntryId::ZERO);
        Self {
            group,
            delays,
            signals,
            ready: VecDeque::new(),
            old: None,
            new: None,
            own,
            claim_from: EntryId::ZERO,
            next_claim: Instant::now(),
            is_new_first: false,
            mark,
            typical: 0,
        }
    }

    pub(crate) fn mark(&self) -> Option<&str> {
        self.mark.as_deref()
    }

    /// Returns entries as soon as there are some, and none when the time is up or the source is stopped.
    pub(crate) async fn next(&mut self, want: Want) -> Result<Vec<Taken>, RedisError> {
        let end = Instant::now() + want.wait;
        loop {
            if self.signals.is_stopped() {
                return Ok(Vec::new());
            }
            let taken = self.hand_out(want).await?;
            if !taken.is_empty() {
                return Ok(taken);
            }
            let is_new_first = std::mem::take(&mut self.is_new_first);
            // A call that waits at the server says that nothing is new.
            if is_new_first && self.new.is_none() {
                let answer = self.new.insert(self.ask_for_new(want, None)).join().await;
                self.new = None;
                self.accept(answer).await?;
                continue;
            }
            if self.old.is_none() {
                self.ask_for_old(want);
            }
            if let Some(old) = &mut self.old {
                let answer = old.join().await;
                self.old = None;
                self.take_old(answer).await?;
                continue;
            }
            if !self.ready.is_empty() {
                continue;
            }
            let wake = self.wake_at(end);
            let wait = (end - Instant::now()).min(BLOCK_MAX);
            let new = match self.new.take() {
                Some(new) => new,
                None => self.ask_for_new(want, Some(wait)),
            };
            tokio::select! {
                biased;
                answer = self.new.insert(new).join() => {
                    self.new = None;
                    self.accept(answer).await?;
                }
                () = self.signals.put_off.notified() => {}
                () = sleep_until(wake) => if wake == end {
                    return Ok(Vec::new());
                }
            }
        }
    }

    /// Returns what is ready, as much as is wanted.
    async fn hand_out(&mut self, want: Want) -> Result<Vec<Taken>, RedisError> {
        let most = want.count.min(IDS_MAX);
        self.drop_what_others_have(most).await?;
        let (mut taken, mut bytes) = (Vec::new(), 0);
        while taken.len() < most
            && bytes < want.bytes
            && let Some(next) = self.ready.pop_front()
        {
            bytes += size_of_entry(&next.entry);
            taken.push(next);
        }
        Ok(taken)
    }

    /// What has lain here for long, while the loop asked for nothing, may have been claimed by others.
    async fn drop_what_others_have(&mut self, most: usize) -> Result<(), RedisError> {
        let old = self.group.options.min_idle / 2;
        let is_old = |taken: &Taken| !taken.is_gone && taken.at.elapsed() > old;
        let ids: Vec<EntryId> = self
            .ready
            .iter()
            .take(most)
            .filter(|taken| is_old(taken))
            .map(|t| t.entry.id)
            .collect();
        if ids.is_empty() {
            return Ok(());
        }
        let idle: Vec<_> = ids.iter().map(|id| (*id, Duration::ZERO)).collect();
        let kept = self.group.keep("looking whose entries are", &idle).await?;
        for (id, kept) in ids.into_iter().zip(kept) {
            let Some(place) = self.ready.iter().position(|taken| taken.entry.id == id) else {
                continue;
            };
            match kept {
                Kept::Ours => self.ready[place].at = Instant::now(),
                Kept::Gone => {
                    self.group.watch.trimmed_in_hand(id);
                    self.ready[place].is_gone = true;
                }
                Kept::Taken | Kept::Acknowledged => drop(self.ready.remove(place)),
            }
        }
        Ok(())
    }

    /// Begins to ask for entries that were delivered before, if there may be some.
    fn ask_for_old(&mut self, want: Want) {
        let group = Arc::clone(&self.group);
        let count = self.count_for(want);
        if let Some(after) = self.own {
            self.old = Some(Task::start(async move {
                let (batch, next) = group.read_own(after, count).await?;
                Ok(Old::Own(batch, next))
            }));
            return;
        }
        let now = Instant::now();
        let due = lock(&self.delays).take_due(now, count);
        let hands = self.group.hands.clone();
        let held = due.held.into_iter().map(|(entry, deliveries)| Taken {
            in_hand: hands.take(entry.id),
            entry,
            deliveries: deliveries.saturating_add(1),
            is_gone: true,
            at: now,
        });
        self.ready.extend(held);
        if !due.ids.is_empty() {
            self.old = Some(Task::start(async move { group.take(&due.ids).await.map(Old::Due) }));
        } else if now >= self.next_claim {
            let from = self.claim_from;
            self.old = Some(Task::start(async move {
                let (batch, next) = group.claim(from, count).await?;
                Ok(Old::Left(batch, next))
            }));
        }
    }

    async fn take_old(&mut self, answer: Result<Old, RedisError>) -> Result<(), RedisError> {
        // All of what was pending comes before what is new.
        let is_own = matches!(answer, Ok(Old::Own(..)));
        let batch = answer.map(|old| match old {
            Old::Own(batch, next) => {
                self.own = next;
                batch
            }
            Old::Due(batch) => batch,
            Old::Left(batch, next) => {
                self.group.watch.claimed(batch.entries.len());
                self.claim_from = next.unwrap_or(EntryId::ZERO);
                if next.is_none() {
                    self.next_claim = Instant::now() + self.group.options.claim_pause();
                }
                batch
            }
        });
        self.accept(batch).await?;
        self.is_new_first = !is_own && !self.ready.is_empty();
        Ok(())
    }

    fn ask_for_new(&self, want: Want, wait: Option<Duration>) -> Task<Batch> {
        let group = Arc::clone(&self.group);
        let count = self.count_for(want);
        Task::start(async move { group.read_new(count, wait).await })
    }

    /// Keeps what has come, and makes the group again where the server says that it is gone.
    async fn accept(&mut self, answer: Result<Batch, RedisError>) -> Result<(), RedisError> {
        let batch = match answer {
            Ok(batch) => batch,
            Err(error) if error.is_no_group() => return self.group.make_again().await,
            Err(error) => return Err(error),
        };
        if batch.mark.is_some() && batch.mark != self.mark {
            tracing::warn!(
                stream = %self.group.stream,
                "the stream is another one than before, under the same key: its entries have other ids"
            );
            self.mark = batch.mark;
            // Whether these are of this stream or of the other is not known. If of this, they are pending.
            self.own = Some(EntryId::ZERO);
            return Ok(());
        }
        let largest = batch.entries.iter().map(|(entry, _)| size_of_entry(entry)).max();
        self.typical = largest.map_or(self.typical, |largest| largest.max(self.typical / 2));
        let at = batch.taken;
        let hands = self.group.hands.clone();
        let taken = batch.entries.into_iter().map(|(entry, deliveries)| Taken {
            in_hand: hands.take(entry.id),
            entry: Arc::new(entry),
            deliveries,
            is_gone: false,
            at,
        });
        self.ready.extend(taken);
        Ok(())
    }

    /// Returns how many entries to ask for, by how large they are.
    fn count_for(&self, want: Want) -> usize {
        (want.bytes / self.typical.max(1)).min(want.count).clamp(1, IDS_MAX)
    }

    fn wake_at(&self, end: Instant) -> Instant {
        let due = lock(&self.delays).next_due();
        due.map_or(end, |due| due.min(end)).min(self.next_claim)
    }

    /// Gives back what the loop has not had. What was put off stays so, but for what is only here: that is lost.
    pub(crate) async fn give_back(&mut self) -> Result<(), RedisError> {
        if let Some(new) = &mut self.new {
            let answer = new.join().await;
            self.new = None;
            self.accept(answer).await?;
        }
        if let Some(old) = &mut self.old {
            let answer = old.join().await;
            self.old = None;
            self.take_old(answer).await?;
        }
        let held = lock(&self.delays).take_held();
        let gone = self.ready.iter().filter(|taken| taken.is_gone).map(|taken| taken.entry.id);
        let lost: Vec<EntryId> = held.into_iter().chain(gone).collect();
        self.group.watch.trimmed(&lost);
        let min_idle = self.group.options.min_idle;
        let idle: Vec<_> = self.ready.drain(..).map(|taken| (taken.entry.id, min_idle)).collect();
        for some in idle.chunks(IDS_MAX) {
            self.group.keep("giving back", some).await?;
        }
        // Nobody asks for the next delivery, which would say so.
        self.group.watch.tell(&self.group.stream)
    }
}

fn size_of_entry(entry: &RedisEntry) -> usize {
    entry.fields.iter().map(|(name, value)| name.len() + value.len()).sum()
}

/// A call of the server that goes on when nobody waits for it, and ends with the source.
struct Task<T>(JoinHandle<Result<T, RedisError>>);

impl<T: Send + 'static> Task<T> {
    fn start(call: impl Future<Output = Result<T, RedisError>> + Send + 'static) -> Self {
        Self(tokio::spawn(call))
    }

    /// May be dropped and called again.
    async fn join(&mut self) -> Result<T, RedisError> {
        match (&mut self.0).await {
            Ok(answer) => answer,
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(_) => Err(RedisError::Unreadable {
                    what: "waiting for the server",
                    why: "the runtime ends".to_owned(),
                }),
            },
        }
    }
}

impl<T> Drop for Task<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}
