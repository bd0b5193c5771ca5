//! `firstseen import --lines`: claims from a plain list of ids, one per line.

use std::ops::Range;

use firstseen::{Claim, ClaimOptions, Namespace};

use crate::input::Input;
use crate::output::Failure;

/// Ids claimed at once.
const BATCH_IDS: usize = 4096;

/// Bytes after which no id is added to a batch: with one more id it stays within the engine's batch limit.
const BATCH_BYTES: usize = 1 << 20;

/// Claims the ids listed in an input, and calls `done` after each batch with the number of ids and of new ones. Ids
/// before a bad line are claimed.
pub(super) fn claim_all(
    namespace: &Namespace,
    options: ClaimOptions,
    input: &mut Input,
    skips_empty: bool,
    mut done: impl FnMut(u64, u64),
) -> Result<(), Failure> {
    loop {
        let (ranges, bad) = read(input, skips_empty)?;
        if ranges.is_empty() && bad.is_none() {
            if input.read_more()? {
                continue;
            }
            return Ok(());
        }
        let ids: Vec<&[u8]> = ranges.into_iter().map(|range| &input.bytes()[range]).collect();
        let answers = namespace.claim_batch_with(&ids, options)?;
        let added = answers.iter().filter(|answer| matches!(answer, Claim::FirstSeen)).count();
        done(ids.len() as u64, added as u64);
        if let Some(failure) = bad {
            return Err(failure);
        }
    }
}

/// Returns the ranges of the ids that have arrived, up to a bad line, and what is wrong with that line.
fn read(
    input: &mut Input,
    skips_empty: bool,
) -> Result<(Vec<Range<usize>>, Option<Failure>), Failure> {
    let (mut ranges, mut bytes) = (Vec::new(), 0);
    while ranges.len() < BATCH_IDS && bytes < BATCH_BYTES {
        let Some(piece) = input.next_piece()? else { break };
        let id = without_line_end(&input.bytes()[piece.text..piece.range.end]);
        if id.is_empty() && skips_empty {
            continue;
        }
        if id.is_empty() {
            let failure =
                Failure::data(format!("{}:{}: {}", input.name(), piece.line, super::EMPTY_LINE));
            return Ok((ranges, Some(failure)));
        }
        if let Err(why) = super::check_id(id, usize::MAX) {
            let failure = Failure::data(format!("{}:{}: {why}", input.name(), piece.line));
            return Ok((ranges, Some(failure)));
        }
        bytes += id.len();
        ranges.push(piece.text..piece.text + id.len());
    }
    Ok((ranges, None))
}

/// Strips the line end. A list is made of lines, not bytes, so a carriage return before the line feed is not part of an
/// id.
fn without_line_end(line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    line.strip_suffix(b"\r").unwrap_or(line)
}
