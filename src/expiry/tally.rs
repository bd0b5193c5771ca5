//! Sums by generation: how much of something has ended, without scanning it.

use crate::expiry::{GenId, Horizon, Liveness};
use serde::{Deserialize, Serialize};

/// One sum per generation.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Tally {
    sums: Vec<(GenId, u64)>,
}

impl Tally {
    /// Adds to the sum of a generation. Consecutive claims mostly share one, so check the last one used first.
    #[inline]
    pub(crate) fn add(&mut self, generation: GenId, n: u64) {
        match self.sums.last_mut() {
            Some((last, sum)) if *last == generation => *sum += n,
            _ => self.add_slow(generation, n),
        }
    }

    #[cold]
    fn add_slow(&mut self, generation: GenId, n: u64) {
        match self.sums.iter().position(|(g, _)| *g == generation) {
            Some(i) => {
                self.sums[i].1 += n;
                let last = self.sums.len() - 1;
                self.sums.swap(i, last);
            }
            None => self.sums.push((generation, n)),
        }
    }

    /// Adds all sums of another tally.
    pub(crate) fn add_all(&mut self, other: &Self) {
        other.sums.iter().for_each(|(generation, n)| self.add(*generation, *n));
    }

    /// Subtracts what was added.
    pub(crate) fn take(&mut self, generation: GenId, n: u64) {
        if let Some((_, sum)) = self.sums.iter_mut().find(|(g, _)| *g == generation) {
            *sum = sum.saturating_sub(n);
        }
    }

    /// Returns the sum over generations in which something may still be live.
    pub(crate) fn live<'a>(&self, now: impl Into<Horizon<'a>>) -> u64 {
        let now = now.into();
        let live = self.sums.iter().filter(|(g, _)| g.liveness(now) == Liveness::Live);
        live.map(|(_, n)| n).sum()
    }

    /// Returns all sums that are not zero, in the order of their generations.
    #[cfg(feature = "testing")]
    pub(crate) fn sums(&self) -> Vec<(GenId, u64)> {
        let mut sums: Vec<_> = self.sums.iter().copied().filter(|(_, n)| *n > 0).collect();
        sums.sort_unstable();
        sums
    }

    /// Returns the sum over generations that have ended.
    pub(crate) fn dead<'a>(&self, now: impl Into<Horizon<'a>>) -> u64 {
        self.sums.iter().map(|(_, n)| n).sum::<u64>() - self.live(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::expiry::Class;
    use crate::time::Timestamp;

    #[test]
    fn a_tally_knows_what_has_ended() {
        let at = Timestamp::from_millis;
        let soon = GenId::of(Class::of_ttl(60_000), at(60_000));
        let mut tally = Tally::default();
        for _ in 0..3 {
            tally.add(soon, 10);
            tally.add(GenId::FOREVER, 7);
        }
        assert_eq!((tally.live(at(0)), tally.dead(at(0))), (51, 0));
        assert_eq!((tally.live(soon.end()), tally.dead(soon.end())), (21, 30));
    }
}
