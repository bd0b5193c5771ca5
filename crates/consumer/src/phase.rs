//! How far a loop has come with its end.

use tokio::sync::watch;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    Run,
    /// Nothing is taken any more.
    Stop,
    /// Nothing is begun any more. What has begun is finished.
    Finish,
    /// What has begun is dropped.
    Abandon,
}

/// The phase of a loop, as all see it. It only goes forward.
#[derive(Debug, Clone)]
pub(crate) struct Phases(watch::Sender<Phase>);

impl Phases {
    pub(crate) fn new() -> Self {
        Self(watch::Sender::new(Phase::Run))
    }

    pub(crate) fn enter(&self, phase: Phase) {
        self.0.send_if_modified(|now| {
            let is_later = phase > *now;
            *now = phase.max(*now);
            is_later
        });
    }

    pub(crate) fn is(&self, phase: Phase) -> bool {
        *self.0.borrow() >= phase
    }

    pub(crate) async fn reached(&self, phase: Phase) {
        // The sender is here, so this cannot fail.
        let _ = self.0.subscribe().wait_for(|now| *now >= phase).await;
    }
}
