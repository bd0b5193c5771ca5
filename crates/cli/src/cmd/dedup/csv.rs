//! The fields of one CSV record (RFC 4180, and leniently what programs really write).
//!
//! A quote opens only at the start of a field. Text after a closing quote belongs to the field. The `csv` crate is not
//! used: it does not report the exact bytes of a record, and skips empty lines.

use memchr::memchr;

use crate::output::Failure;

/// The fields of a record as written, quotes included.
#[derive(Debug, Clone)]
pub(super) struct Fields<'a> {
    /// `None` after the last field.
    rest: Option<&'a [u8]>,
    delimiter: u8,
}

impl<'a> Fields<'a> {
    /// Creates the iterator. `record` has no line feed; a carriage return at its end belongs to the line end.
    pub(super) fn new(record: &'a [u8], delimiter: u8) -> Self {
        Self { rest: Some(record.strip_suffix(b"\r").unwrap_or(record)), delimiter }
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let rest = self.rest?;
        let opens = closing_quote(rest).map_or(0, |at| (at + 1).min(rest.len()));
        if let Some(at) = memchr(self.delimiter, &rest[opens..]) {
            self.rest = Some(&rest[opens + at + 1..]);
            Some(&rest[..opens + at])
        } else {
            self.rest = None;
            Some(rest)
        }
    }
}

/// Returns what is wrong with a record that has a carriage return outside quotes: most likely it is several records.
pub(super) fn lone_return(record: &[u8], delimiter: u8) -> Option<&'static str> {
    memchr(b'\r', record.strip_suffix(b"\r").unwrap_or(record))?;
    let is_outside =
        |field: &[u8]| memchr(b'\r', &field[closing_quote(field).unwrap_or(0)..]).is_some();
    Fields::new(record, delimiter).any(is_outside).then_some(
        "a carriage return stands alone inside the line; if lines end with it, convert them: tr '\\r' '\\n'",
    )
}

/// Returns where the quote at the start of `text` closes, or the end of `text` if it does not; `None` without a quote.
fn closing_quote(text: &[u8]) -> Option<usize> {
    let inner = text.strip_prefix(b"\"")?;
    let mut at = 0;
    while let Some(quote) = memchr(b'"', &inner[at..]) {
        at += quote;
        if inner.get(at + 1) != Some(&b'"') {
            return Some(at + 1);
        }
        at += 2;
    }
    Some(text.len())
}

/// Appends the value of a field to `out`: without its quotes, and a doubled quote as one.
pub(super) fn unquote(field: &[u8], out: &mut Vec<u8>) {
    let Some(close) = closing_quote(field) else {
        out.extend_from_slice(field);
        return;
    };
    let mut inner = &field[1..close];
    while let Some(at) = memchr(b'"', inner) {
        out.extend_from_slice(&inner[..=at]);
        inner = inner.get(at + 2..).unwrap_or_default();
    }
    out.extend_from_slice(inner);
    out.extend_from_slice(field.get(close + 1..).unwrap_or_default());
}

/// Returns the index of a column in the header line, found by name or else by number, counted from 1.
pub(super) fn column_index(
    column: &str,
    header: &[u8],
    delimiter: u8,
    file: &str,
) -> Result<usize, Failure> {
    let names: Vec<Vec<u8>> = Fields::new(header, delimiter)
        .map(|field| {
            let mut name = Vec::new();
            unquote(field, &mut name);
            name
        })
        .collect();
    let mut matches = names.iter().enumerate().filter(|(_, name)| *name == column.as_bytes());
    if let Some((index, _)) = matches.next() {
        return match matches.next() {
            None => Ok(index),
            Some(_) => Err(Failure::call(format!(
                "{file}: two columns are named {column:?}; give the number of the one you mean"
            ))),
        };
    }
    let number = column.parse::<usize>().ok().filter(|number| (1..=names.len()).contains(number));
    number.map(|number| number - 1).ok_or_else(|| {
        let names: Vec<_> = names.iter().map(|name| String::from_utf8_lossy(name)).collect();
        let names = names.join(", ");
        Failure::call(format!("{file}: there is no column {column:?}; its columns are {names}"))
    })
}

#[cfg(test)]
mod tests {
    use super::{Fields, column_index, lone_return, unquote};

    fn values(record: &str) -> Vec<String> {
        Fields::new(record.as_bytes(), b',')
            .map(|field| {
                let mut value = Vec::new();
                unquote(field, &mut value);
                String::from_utf8(value).unwrap()
            })
            .collect()
    }

    #[test]
    fn splits_and_unquotes() {
        for (record, expected) in [
            ("a,b,c", &["a", "b", "c"][..]),
            ("", &[""]),
            (",", &["", ""]),
            ("a,", &["a", ""]),
            (r#""a,b",c"#, &["a,b", "c"]),
            (r#""a""b","""","""""""#, &["a\"b", "\"", "\"\""]),
            ("\"a\nb\",c\r", &["a\nb", "c"]),
            ("\"a\r\"\r", &["a\r"]),
            (r#"a"b,"c"d,e"#, &["a\"b", "cd", "e"]),
            (r#""c"d"e,f"#, &["cd\"e", "f"]),
            (r#"""",x"#, &["\",x"]),
            (r#"""#, &[""]),
            (r#""open"#, &["open"]),
            (r#"x,"""#, &["x", ""]),
            (r#" "a",b"#, &[" \"a\"", "b"]),
        ] {
            assert_eq!(&values(record)[..expected.len()], expected, "{record:?}");
        }
    }

    #[test]
    fn a_carriage_return_counts_outside_of_quotes_only() {
        for (record, is_alone) in [
            ("a,b\r", false),
            ("a\rb,c", true),
            ("a,\"b\rc\",d\r", false),
            ("\"a\"\r\"b\"", true),
            ("1,2\r3,4\r", true),
            ("a,\"b\nc\"\r2,z\r", true),
        ] {
            assert_eq!(lone_return(record.as_bytes(), b',').is_some(), is_alone, "{record:?}");
        }
    }

    #[test]
    fn finds_columns_by_name_before_number() {
        let find = |column, header: &str| column_index(column, header.as_bytes(), b',', "f").ok();
        assert_eq!(find("b", "a,\"b\",c\r"), Some(1));
        assert_eq!(find("3", "a,b,c"), Some(2));
        assert_eq!(find("1", "2,1"), Some(1));
        assert_eq!(find("0", "a,b"), None);
        assert_eq!(find("4", "a,b,c"), None);
        assert_eq!(find("x", "a,b"), None);
        assert_eq!(find("a", "a,a"), None);
    }
}
