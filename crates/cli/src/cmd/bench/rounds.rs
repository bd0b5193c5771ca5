//! Measures in rounds, so that a ratio is of runs that were made close to each other.
//!
//! `benches/threads.rs` uses this file, too.

/// Measures every setting once a round, in turn: what else the machine does weighs on all of them alike. Every other round
/// goes backwards, so that none is always the first.
pub(crate) fn interleaved<S, T, E>(
    rounds: usize,
    settings: &[S],
    mut measure: impl FnMut(&S) -> Result<T, E>,
) -> Result<Vec<Vec<T>>, E> {
    let mut seen: Vec<Vec<T>> = settings.iter().map(|_| Vec::with_capacity(rounds)).collect();
    for round in 0..rounds {
        for at in 0..settings.len() {
            let at = if round % 2 == 0 { at } else { settings.len() - 1 - at };
            seen[at].push(measure(&settings[at])?);
        }
    }
    Ok(seen)
}

/// Returns the median of at least one value; of an even number, the mean of the middle two.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    f64::midpoint(values[(values.len() - 1) / 2], values[values.len() / 2])
}

/// Returns how many times the rate of one setting another has: the median of the ratios within each round.
pub(crate) fn times<T>(those: &[T], one: &[T], rate: impl Fn(&T) -> f64) -> f64 {
    median(those.iter().zip(one).map(|(those, one)| rate(those) / rate(one)).collect())
}
