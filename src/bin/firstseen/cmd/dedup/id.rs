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

/// How to find the id of a line of one input.
#[derive(Debug)]
pub(super) enum Finder<'p> {
    Line,
    Json(&'p Pointer),
    Field { index: usize, delimiter: u8 },
    Csv { index: usize, delimiter: u8 },
}

/// Where the id of a line was found.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// In the line, at these bytes.
    InLine(Range<usize>),
    /// It was written differently there (escaped, quoted) and stands at the end of the arena, from here.
    InArena(usize),
}

impl Finder<'_> {
    /// Finds the id of `line`, which comes without its line end, and refuses one of more than `bytes_max`.
    #[inline]
    pub(super) fn find(
        &self,
        line: &[u8],
        bytes_max: usize,
        arena: &mut Vec<u8>,
    ) -> Result<Found, Bad> {
        let from = arena.len();
        let found = match *self {
            Self::Line => Found::InLine(0..line.len()),
            Self::Field { index, delimiter } => Found::InLine(field(line, index, delimiter)?),
            Self::Json(pointer) => {
                pointer.find(line, arena)?;
                Found::InArena(from)
            }
            Self::Csv { index, delimiter } => {
                let mut fields = Fields::new(line, delimiter);
                let Some(field) = fields.nth(index) else {
                    return Err(too_few(Fields::new(line, delimiter).count(), index));
                };
                csv::unquote(field, arena);
                Found::InArena(from)
            }
        };
        let id = match &found {
            Found::InLine(range) => &line[range.clone()],
            Found::InArena(from) => &arena[*from..],
        };
        crate::cmd::check_id(id, bytes_max).map_err(Bad)?;
        Ok(found)
    }
}

/// The bytes of a field, counted from 0. Two delimiters in a row have an empty field between them.
fn field(line: &[u8], index: usize, delimiter: u8) -> Result<Range<usize>, Bad> {
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

fn too_few(fields: usize, index: usize) -> Bad {
    let s = if fields == 1 { "" } else { "s" };
    Bad::new(format!("there is no field {}, the line has {fields} field{s}", index + 1))
}

#[cfg(test)]
mod tests {
    use super::{Finder, Found};

    #[test]
    fn finds_fields() {
        let find = |line: &str, index| {
            let finder = Finder::Field { index, delimiter: b':' };
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
    fn an_id_has_at_least_a_byte_and_no_more_than_was_asked() {
        let length = |bytes| Finder::Line.find(&vec![b'x'; bytes], 30, &mut Vec::new()).is_ok();
        assert_eq!([0, 1, 30, 31].map(length), [false, true, true, false]);
    }
}
