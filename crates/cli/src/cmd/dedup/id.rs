//! Finds the id of a line.

use std::fmt;
use std::ops::Range;

use memchr::{memchr, memchr_iter};

use super::csv::{self, Fields};
use super::json::Pointer;

/// Why a line has no usable id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Bad(String);

impl Bad {
    pub(super) fn new(why: impl Into<String>) -> Self {
        Self(why.into())
    }
}

impl fmt::Display for Bad {
    fn fmt(&self, text: &mut fmt::Formatter<'_>) -> fmt::Result {
        text.write_str(&self.0)
    }
}

/// How to find the id of a line of one input. Several parts are joined, see [`join`].
#[derive(Debug)]
pub(super) enum Finder<'p> {
    /// The whole line; with `trims`, without a carriage return at its end.
    Line {
        trims: bool,
    },
    Json(&'p [Pointer]),
    Field {
        columns: &'p [usize],
        split: Split,
    },
    Csv {
        columns: Vec<usize>,
        delimiter: u8,
    },
}

/// What separates the fields of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Split {
    /// One byte; two in a row have an empty field between them.
    At(u8),
    /// A run of blanks and tabs; one at the start of the line does not count.
    Blanks,
}

/// Where the id of a line was found.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// In the line, at these bytes.
    InLine(Range<usize>),
    /// At the end of the arena, from this offset: the line has it in another form (escaped, quoted, in parts).
    InArena(usize),
}

impl Finder<'_> {
    /// Finds the id of `line`, given without its line end, and rejects one of more than `bytes_max`.
    #[inline]
    pub(super) fn find(
        &self,
        line: &[u8],
        bytes_max: usize,
        arena: &mut Vec<u8>,
    ) -> Result<Found, Bad> {
        let from = arena.len();
        let found = match self {
            Self::Line { trims } => Found::InLine(0..if *trims { bare(line) } else { line }.len()),
            Self::Field { columns: [column], split } => {
                Found::InLine(field(bare(line), *column, *split)?)
            }
            Self::Field { columns, split } => {
                let line = bare(line);
                join(arena, columns, |column, arena| {
                    arena.extend_from_slice(&line[field(line, *column, *split)?]);
                    Ok(())
                })?;
                Found::InArena(from)
            }
            Self::Json(pointers) => {
                if line.trim_ascii().is_empty() {
                    return Err(Bad::new(crate::cmd::EMPTY_LINE));
                }
                join(arena, pointers, |pointer, arena| pointer.find(line, arena))?;
                Found::InArena(from)
            }
            Self::Csv { columns, delimiter } => {
                if let Some(why) = csv::lone_return(line, *delimiter) {
                    return Err(Bad::new(why));
                }
                join(arena, columns, |column, arena| {
                    let Some(field) = Fields::new(line, *delimiter).nth(*column) else {
                        return Err(too_few(Fields::new(line, *delimiter).count(), *column));
                    };
                    csv::unquote(field, arena);
                    Ok(())
                })?;
                Found::InArena(from)
            }
        };
        if line.is_empty() {
            return Err(Bad::new(crate::cmd::EMPTY_LINE));
        }
        let id = match &found {
            Found::InLine(range) => &line[range.clone()],
            Found::InArena(from) => &arena[*from..],
        };
        crate::cmd::check_id(id, bytes_max).map_err(Bad)?;
        Ok(found)
    }
}

/// Separates the parts of an id that has several: the unit separator of ASCII.
const SEPARATOR: u8 = 0x1f;
/// Precedes a separator or an escape inside a part: the escape of ASCII.
const ESCAPE: u8 = 0x1b;

/// Appends the parts of an id to the arena. A single part is left as it is. Several are separated, and separators
/// inside them are escaped, so that `a` and `bc` never make the same id as `ab` and `c`.
fn join<P>(
    arena: &mut Vec<u8>,
    parts: &[P],
    mut add: impl FnMut(&P, &mut Vec<u8>) -> Result<(), Bad>,
) -> Result<(), Bad> {
    let [first, more @ ..] = parts else { return Ok(()) };
    if more.is_empty() {
        return add(first, arena);
    }
    let (start, mut is_empty) = (arena.len(), true);
    for (number, part) in parts.iter().enumerate() {
        if number > 0 {
            arena.push(SEPARATOR);
        }
        let from = arena.len();
        add(part, arena)?;
        is_empty &= arena.len() == from;
        if arena[from..].iter().any(|byte| matches!(*byte, SEPARATOR | ESCAPE)) {
            for byte in arena.split_off(from) {
                if matches!(byte, SEPARATOR | ESCAPE) {
                    arena.push(ESCAPE);
                }
                arena.push(byte);
            }
        }
    }
    if is_empty {
        arena.truncate(start); // no id, rather than one shared by all such lines
    }
    Ok(())
}

/// Strips a carriage return at the end of a line, which belongs to the line end.
fn bare(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\r").unwrap_or(line)
}

/// Returns the bytes of a field, counted from 0.
fn field(line: &[u8], index: usize, split: Split) -> Result<Range<usize>, Bad> {
    let delimiter = match split {
        Split::At(delimiter) => delimiter,
        Split::Blanks => return field_between_blanks(line, index),
    };
    let start = match index.checked_sub(1) {
        None => 0,
        Some(before) => match memchr_iter(delimiter, line).nth(before) {
            Some(at) => at + 1,
            None => return Err(too_few(memchr_iter(delimiter, line).count() + 1, index)),
        },
    };
    let length = memchr(delimiter, &line[start..]).unwrap_or(line.len() - start);
    Ok(start..start + length)
}

fn field_between_blanks(line: &[u8], index: usize) -> Result<Range<usize>, Bad> {
    let words = || line.split(|byte| matches!(byte, b' ' | b'\t')).filter(|word| !word.is_empty());
    let word = words().nth(index).ok_or_else(|| too_few(words().count(), index))?;
    let start = word.as_ptr().addr() - line.as_ptr().addr();
    Ok(start..start + word.len())
}

fn too_few(fields: usize, index: usize) -> Bad {
    let s = if fields == 1 { "" } else { "s" };
    Bad::new(format!("there is no field {}, the line has {fields} field{s}", index + 1))
}

#[cfg(test)]
mod tests {
    use super::{Finder, Found, Split, join};

    #[test]
    fn finds_fields() {
        let find = |line: &str, index| {
            let finder = Finder::Field { columns: &[index], split: Split::At(b':') };
            match finder.find(line.as_bytes(), 9, &mut Vec::new()) {
                Ok(Found::InLine(range)) => Ok(line[range].to_owned()),
                Ok(found) => Err(format!("{found:?}")),
                Err(bad) => Err(bad.to_string()),
            }
        };
        assert_eq!(find("a:b:c", 0).as_deref(), Ok("a"));
        assert_eq!(find("a:b:c", 1).as_deref(), Ok("b"));
        assert_eq!(find("a:b:c", 2).as_deref(), Ok("c"));
        assert_eq!(find("a", 0).as_deref(), Ok("a"));
        assert_eq!(find("a", 1), Err("there is no field 2, the line has 1 field".to_owned()));
        assert_eq!(find("a:b", 5), Err("there is no field 6, the line has 2 fields".to_owned()));
        for (line, index) in [("a:", 1), (":a", 0), ("a::b", 1), ("", 0)] {
            assert!(find(line, index).unwrap_err().contains("empty"), "{line}");
        }
    }

    #[test]
    fn runs_of_blanks_are_one_delimiter() {
        let find = |line: &str, index| {
            let finder = Finder::Field { columns: &[index], split: Split::Blanks };
            match finder.find(line.as_bytes(), 9, &mut Vec::new()) {
                Ok(Found::InLine(range)) => line[range].to_owned(),
                other => format!("{other:?}"),
            }
        };
        assert_eq!(find("  a \t b  ", 0), "a");
        assert_eq!(find("  a \t b  \r", 1), "b");
        assert!(find("  a \t b  ", 2).contains("there is no field 3, the line has 2 fields"));
    }

    /// Whatever the parts are, different parts never make the same id.
    #[test]
    fn joined_parts_can_be_told_apart() {
        let mut seen = std::collections::HashSet::new();
        let parts: Vec<&[u8]> = vec![
            b"",
            b"a",
            b"b",
            b"ab",
            b"\x1f",
            b"\x1b",
            b"\x1b\x1f",
            b"a\x1f",
            b"\x1fa",
            b"\x1b\x1b",
        ];
        let mut tried = 0;
        for one in &parts {
            for two in &parts {
                for three in parts.iter().map(Some).chain([None]) {
                    let mut arena = Vec::new();
                    let all: Vec<&[u8]> =
                        [Some(one), Some(two), three].into_iter().flatten().copied().collect();
                    if all.iter().all(|part| part.is_empty()) {
                        continue; // no id
                    }
                    let add = |part: &&[u8], arena: &mut Vec<u8>| {
                        arena.extend_from_slice(part);
                        Ok(())
                    };
                    join(&mut arena, &all, add).unwrap();
                    seen.insert(arena);
                    tried += 1;
                }
            }
        }
        assert_eq!(seen.len(), tried);
    }

    #[test]
    fn an_id_has_at_least_a_byte_and_no_more_than_was_asked() {
        let length = |bytes| {
            Finder::Line { trims: false }.find(&vec![b'x'; bytes], 30, &mut Vec::new()).is_ok()
        };
        assert_eq!([0, 1, 30, 31].map(length), [false, true, true, false]);
    }
}
