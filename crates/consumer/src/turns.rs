//! Order: deliveries of one key, one after the other.

use bytes::Bytes;
use std::collections::HashMap;
use tokio::sync::oneshot;

/// The end of the line of each key. Used by the loop alone, in the order of deliveries.
#[derive(Debug, Default)]
pub(crate) struct Turns {
    last: HashMap<Bytes, (u64, oneshot::Receiver<()>)>,
    next: u64,
}

/// A place in the line of a key.
#[derive(Debug, Default)]
pub(crate) struct Turn {
    before: Option<oneshot::Receiver<()>>,
    after: Option<oneshot::Sender<()>>,
}

impl Turns {
    /// Returns a place at the end of the line, and what to give to [`leave`](Self::leave) once it is done with.
    pub(crate) fn join(&mut self, key: &Bytes) -> (Turn, (Bytes, u64)) {
        let (after, end) = oneshot::channel();
        self.next += 1;
        let before = self.last.insert(key.clone(), (self.next, end)).map(|(_, before)| before);
        (Turn { before, after: Some(after) }, (key.clone(), self.next))
    }

    /// Forgets a line that has ended.
    pub(crate) fn leave(&mut self, (key, number): &(Bytes, u64)) {
        if self.last.get(key).is_some_and(|(last, _)| last == number) {
            self.last.remove(key);
        }
    }
}

impl Turn {
    /// Waits for the one before. `false`: that one comes again, and so does everything behind it.
    pub(crate) async fn comes(&mut self) -> bool {
        match self.before.take() {
            None => true,
            Some(before) => before.await.is_ok(),
        }
    }

    pub(crate) fn pass_on(self) {
        if let Some(after) = self.after {
            // Fails if nobody waits.
            let _ = after.send(());
        }
    }
}
