//! Faults between a loop and its source, by a seed.

use crate::source::{Delivery, Message, Source, Want};
use crate::testkit::Dice;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How often, in a hundred, something goes wrong.
#[derive(Debug, Clone, Copy, Default)]
pub struct Faults {
    /// An answer does not reach the broker. Half of them look as if they did.
    pub lost: u64,
    /// An answer reaches the broker, and the loop hears an error.
    pub unheard: u64,
    /// A delivery comes twice.
    pub twice: u64,
    /// A delivery comes with a later batch.
    pub late: u64,
    /// A batch comes in another order.
    pub shuffled: u64,
    /// Asking for deliveries fails.
    pub broken: u64,
}

impl Faults {
    /// Returns all of them, each this often in a hundred.
    pub fn all(often: u64) -> Self {
        Self {
            lost: often,
            unheard: often,
            twice: often,
            late: often,
            shuffled: often,
            broken: often,
        }
    }
}

/// A source with faults.
#[derive(Debug)]
pub struct Faulty<S: Source> {
    source: S,
    faults: Faults,
    inner: Mutex<Inner<S::Token>>,
}

#[derive(Debug)]
struct Inner<T> {
    dice: Dice,
    late: Vec<Delivery<Arc<T>>>,
}

/// An error of a [`Faulty`] source.
#[derive(Debug, thiserror::Error)]
pub enum FaultyError<E: std::error::Error> {
    /// The fault.
    #[error("a fault, as planned")]
    Planned,
    /// An error of the source itself.
    #[error(transparent)]
    Source(E),
}

/// What happens to an answer.
enum Fate {
    Arrives,
    /// Lost, and the loop hears this.
    Lost(bool),
    Unheard,
}

impl<S: Source> Faulty<S> {
    /// Creates a source with these faults. The same seed and the same calls give the same faults.
    pub fn new(source: S, faults: Faults, seed: u64) -> Self {
        let inner = Inner { dice: Dice::new(seed), late: Vec::new() };
        Self { source, faults, inner: Mutex::new(inner) }
    }

    fn lock(&self) -> MutexGuard<'_, Inner<S::Token>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fate(&self) -> Fate {
        let dice = &mut self.lock().dice;
        if dice.percent(self.faults.lost) {
            Fate::Lost(dice.percent(50))
        } else if dice.percent(self.faults.unheard) {
            Fate::Unheard
        } else {
            Fate::Arrives
        }
    }

    async fn answer(
        &self,
        answer: impl Future<Output = Result<(), S::Error>> + Send,
    ) -> Result<(), FaultyError<S::Error>> {
        match self.fate() {
            Fate::Arrives => answer.await.map_err(FaultyError::Source),
            Fate::Lost(true) => Ok(()),
            Fate::Lost(false) => Err(FaultyError::Planned),
            Fate::Unheard => {
                answer.await.map_err(FaultyError::Source)?;
                Err(FaultyError::Planned)
            }
        }
    }

    /// Returns what the loop hears of these deliveries now.
    fn disturb(&self, taken: Vec<Delivery<S::Token>>) -> Vec<Delivery<Arc<S::Token>>> {
        let mut inner = self.lock();
        let Inner { dice, late } = &mut *inner;
        let mut heard = std::mem::take(late);
        for Delivery { message, token } in taken {
            let token = Arc::new(token);
            let delivery = |message: Message| Delivery { message, token: Arc::clone(&token) };
            if dice.percent(self.faults.twice) {
                heard.push(delivery(message.clone()));
            }
            let is_late = dice.percent(self.faults.late);
            let list = if is_late { &mut *late } else { &mut heard };
            list.push(delivery(message));
        }
        if dice.percent(self.faults.shuffled) {
            for n in (1..heard.len()).rev() {
                heard.swap(n, dice.below(n as u64 + 1) as usize);
            }
        }
        heard
    }
}

impl<S: Source> Source for Faulty<S> {
    type Token = Arc<S::Token>;
    type Error = FaultyError<S::Error>;

    async fn next(&self, want: Want) -> Result<Vec<Delivery<Self::Token>>, Self::Error> {
        if self.lock().dice.percent(self.faults.broken) {
            return Err(FaultyError::Planned);
        }
        let taken = self.source.next(want).await.map_err(FaultyError::Source)?;
        Ok(self.disturb(taken))
    }

    async fn acknowledge(&self, token: &Self::Token) -> Result<(), Self::Error> {
        self.answer(self.source.acknowledge(token)).await
    }

    async fn retry_in(&self, token: &Self::Token, delay: Duration) -> Result<(), Self::Error> {
        self.answer(self.source.retry_in(token, delay)).await
    }

    async fn dead_letter(
        &self,
        message: &Message,
        token: &Self::Token,
        reason: &str,
    ) -> Result<(), Self::Error> {
        self.answer(self.source.dead_letter(message, token, reason)).await
    }

    async fn working(&self, token: &Self::Token) -> Result<(), Self::Error> {
        self.answer(self.source.working(token)).await
    }

    fn patience(&self) -> Option<Duration> {
        self.source.patience()
    }

    async fn lag(&self) -> Result<Option<u64>, Self::Error> {
        self.source.lag().await.map_err(FaultyError::Source)
    }

    async fn stop(&self) -> Result<(), Self::Error> {
        self.source.stop().await.map_err(FaultyError::Source)
    }
}
