//! Events for the pipelines: the same for the same kind and number, on every machine.
//!
//! As a broker delivers them: one in twenty comes a second time, most of those soon after the first, a few much later.
//! Times are those of the event, and not in order: most are off by minutes, one in a hundred is up to two days late.
#![allow(dead_code, reason = "no program needs all of it")]

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::Path;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// `{"id":"ord-0000017","at":"2026-03-01T00:00:44.064Z","user":"u-01234","cents":4599}`
    Orders,
    /// Orders of which some are invalid, and some are poison: `"cents":0` and `"user":"u-poison-5"`.
    MixedOrders,
    /// `{"id":"view-0000017","at":"2026-03-01T00:00:44.064Z","page":"/p/123"}`
    Views,
    /// `{"id":"tr-0000017","from":"a-017","to":"b-923","cents":1234}`
    Transfers,
}

/// Accounts of each bank that [`Kind::Transfers`] names.
pub(crate) const ACCOUNTS: u64 = 1_000;

const MARCH_MS: u64 = 31 * DAY_MS;
const DAY_MS: u64 = 24 * 3600 * 1000;

/// Writes a file of so many deliveries, unless it is there.
pub(crate) fn file(path: &Path, kind: Kind, deliveries: u64) -> io::Result<()> {
    if path.exists() {
        return Ok(());
    }
    let new = path.with_extension("new");
    let mut out = BufWriter::with_capacity(1 << 20, File::create(&new)?);
    let mut events = 0;
    for delivery in 0..deliveries {
        let random = mix(delivery ^ 0x5eed);
        let event = if delivery % 20 == 6 {
            let back = if (random >> 8).is_multiple_of(10) { events } else { events.min(100) };
            events - 1 - (random >> 16) % back
        } else {
            events += 1;
            events - 1
        };
        line(&mut out, kind, event, deliveries)?;
    }
    out.into_inner()?.sync_all()?;
    fs::rename(new, path)
}

fn line(out: &mut impl Write, kind: Kind, event: u64, deliveries: u64) -> io::Result<()> {
    let random = mix(event);
    let at = At(time(event, random, deliveries));
    let cents = 100 + mix(random) % 50_000;
    match kind {
        Kind::Orders | Kind::MixedOrders => {
            let user = random % (deliveries / 50).clamp(5, 20_000);
            let (mut user, mut cents) = (format!("u-{user:05}"), cents);
            // A few bring one of each kind, many two in a hundred.
            let apart = if deliveries < 100 { 8 } else { 50 };
            if kind == Kind::MixedOrders && event % apart == 3 {
                cents = 0;
            }
            if kind == Kind::MixedOrders && event % apart == 5 {
                user = format!("u-poison-{event}");
            }
            writeln!(
                out,
                r#"{{"id":"ord-{event:07}","at":"{at}","user":"{user}","cents":{cents}}}"#
            )
        }
        Kind::Views => {
            // Some pages are seen far more often than others.
            let page = (random % 1_000).min((random >> 20) % 1_000).min((random >> 40) % 1_000);
            writeln!(out, r#"{{"id":"view-{event:07}","at":"{at}","page":"/p/{page}"}}"#)
        }
        Kind::Transfers => {
            let (one, other) = ((random >> 8) % ACCOUNTS, (random >> 32) % ACCOUNTS);
            let (from, to) = if random.is_multiple_of(2) { ("a", "b") } else { ("b", "a") };
            writeln!(
                out,
                r#"{{"id":"tr-{event:07}","from":"{from}-{one:03}","to":"{to}-{other:03}","cents":{cents}}}"#
            )
        }
    }
}

/// When the event happened, in milliseconds since the first of March.
fn time(event: u64, random: u64, deliveries: u64) -> u64 {
    let regular = u128::from(event) * u128::from(MARCH_MS) / u128::from(deliveries.max(1));
    let late = if (random >> 10).is_multiple_of(100) { 2 * DAY_MS } else { 20 * 60 * 1000 };
    (regular as u64).saturating_sub((random >> 17) % late).min(MARCH_MS - 1)
}

struct At(u64);

impl std::fmt::Display for At {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (ms, s) = (self.0 % 1000, self.0 / 1000);
        let (day, hour) = (s / 86_400 + 1, s / 3600 % 24);
        write!(f, "2026-03-{day:02}T{hour:02}:{:02}:{:02}.{ms:03}Z", s / 60 % 60, s % 60)
    }
}

/// SplitMix64.
pub(crate) fn mix(number: u64) -> u64 {
    let z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
