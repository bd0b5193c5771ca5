//! Waiting until a topic has something to read. No polling: the end of a commit to the topic wakes who waits for it.
//!
//! Who waits registers first and looks afterwards. A commit enters its messages, ends, and then looks for who waits, so no
//! wake-up is lost. Also the end of a commit that was not made wakes: a message of another may have been behind it.

use crate::engine::{TopicEvent, Watch};
use crate::error::Result;
use crate::outbox::topic::Outbox;
use crate::sync::instant_in;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

/// A wait for a message, as a future; see [`Outbox::wait_async`]. Dropping it leaves nothing behind.
#[must_use = "a future does nothing unless it is polled"]
pub struct WaitForMessage {
    outbox: Outbox,
    after: Option<u64>,
    watch: Watch,
}

impl fmt::Debug for WaitForMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WaitForMessage")
            .field("outbox", &self.outbox)
            .field("after", &self.after)
            .finish_non_exhaustive()
    }
}

impl Outbox {
    /// Waits until there is a message to read, for at most `timeout`. Returns whether there is. Blocks the thread.
    ///
    /// # Errors
    ///
    /// [`Reopen`](crate::ErrorKind::Reopen) if the store stops or is closed meanwhile, and
    /// [`FixCall`](crate::ErrorKind::FixCall) if the replay scope of the topic was dropped.
    pub fn wait(&self, timeout: Duration) -> Result<bool> {
        self.wait_from(None, timeout)
    }

    /// Waits until there is a message to read after a position; see [`wait`](Self::wait). After the promotion of a replay
    /// scope: until [`read_after`](Self::read_after) has something to read.
    ///
    /// # Errors
    ///
    /// As [`wait`](Self::wait).
    pub fn wait_after(&self, position: u64, timeout: Duration) -> Result<bool> {
        self.wait_from(Some(position), timeout)
    }

    /// Waits until there is a message to read, as a future for any runtime, and without a deadline of its own: use that of
    /// the runtime. A poll reads no file.
    pub fn wait_async(&self) -> WaitForMessage {
        WaitForMessage { outbox: self.clone(), after: None, watch: self.watch() }
    }

    /// Waits until there is a message to read after a position; see [`wait_async`](Self::wait_async) and
    /// [`wait_after`](Self::wait_after).
    pub fn wait_after_async(&self, position: u64) -> WaitForMessage {
        WaitForMessage { outbox: self.clone(), after: Some(position), watch: self.watch() }
    }

    /// Watches for the end of commits to this topic.
    pub(super) fn watch(&self) -> Watch {
        self.engine().watch_topic(self.ns(), TopicEvent::Ended)
    }

    /// Watches the topic that stands under this name now, if that is another one: a promoted replay scope wakes who waits
    /// once, and rings the bell of what it has replaced no more. Returns whether it is another one; then look again. Call
    /// this after the rings of the bell were asked for.
    pub(super) fn follow(&self, watch: &mut Watch) -> bool {
        let is_other = !watch.is_under(self.ns());
        if is_other {
            *watch = self.watch();
        }
        is_other
    }

    fn has_after(&self, after: Option<u64>) -> Result<bool> {
        let view = self.view()?;
        Ok(view.backlog.has_after(self.place_in(&view, after), view.stable_end))
    }

    fn wait_from(&self, after: Option<u64>, timeout: Duration) -> Result<bool> {
        let (mut watch, deadline) = (self.watch(), instant_in(timeout));
        loop {
            let heard = watch.bell().rings();
            if self.follow(&mut watch) {
                continue;
            }
            if self.has_after(after)? {
                return Ok(true);
            }
            if !watch.bell().wait_until(heard, deadline) && instant_in(Duration::ZERO) >= deadline {
                return self.has_after(after);
            }
        }
    }
}

impl Future for WaitForMessage {
    type Output = Result<()>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Self { outbox, after, watch } = &mut *self;
        loop {
            let heard = watch.bell().rings();
            if outbox.follow(watch) {
                continue;
            }
            if outbox.has_after(*after)? {
                return Poll::Ready(Ok(()));
            }
            if watch.poll(heard, cx).is_pending() {
                return Poll::Pending;
            }
        }
    }
}
