//! The way back to a client that may have gone.

use crate::counters::count;
use crate::outcome::Answer;
use crate::problem::Refusal;
use crate::state::State;
use firstseen_shared::DedupStore;
use std::sync::Arc;
use tokio::sync::oneshot;

/// Where the client waits for its answer, if it still does.
pub(crate) struct Reply<S, R, E> {
    state: Arc<State<S>>,
    sender: oneshot::Sender<Answer<R, E>>,
}

impl<S: DedupStore, R, E> Reply<S, R, E> {
    pub(crate) fn new(state: Arc<State<S>>) -> (Self, oneshot::Receiver<Answer<R, E>>) {
        let (sender, receiver) = oneshot::channel();
        (Self { state, sender }, receiver)
    }

    /// Answers. If nobody waits, that is counted, and the answer dropped.
    pub(crate) fn send(self, answer: Answer<R, E>) {
        if self.sender.send(answer).is_err() {
            count(&self.state.counters.unheard);
        }
    }

    pub(crate) fn refuse(self, refusal: Refusal) {
        let answer = refusal.answer(&self.state.policy);
        self.send(Ok(answer));
    }

    /// Waits until nobody waits any more.
    pub(crate) async fn gone(&mut self) {
        self.sender.closed().await;
    }
}
