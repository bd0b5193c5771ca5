//! The id of a JSON line: the value named by a JSON pointer (RFC 6901).
//!
//! The line is walked once and only the requested value is kept, as it was written: `1.0` and `1.00` are two ids, and a
//! number too big for any type is still one.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::output::Failure;

use super::id::Bad;

/// A parsed JSON pointer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pointer {
    text: String,
    tokens: Vec<String>,
}

impl Pointer {
    /// Parses a pointer: empty for the whole value, otherwise names with a slash before each.
    pub(super) fn parse(text: &str) -> Result<Self, Failure> {
        let wrong = |why: &str| Failure::call(format!("{text:?} is not a JSON pointer: {why}"));
        let mut parts = text.split('/');
        if parts.next() != Some("") {
            return Err(wrong("it begins with a slash, as in /event/id"));
        }
        let tokens = parts
            .map(|part| {
                let plain = part.replace("~1", "").replace("~0", "");
                let valid = !plain.contains('~');
                valid.then(|| part.replace("~1", "/").replace("~0", "~"))
            })
            .collect::<Option<_>>()
            .ok_or_else(|| wrong("a ~ is written ~0, and a / in a name ~1"))?;
        Ok(Self { text: text.to_owned(), tokens })
    }

    /// Appends the id in `line` to `arena`.
    pub(super) fn find(&self, line: &[u8], arena: &mut Vec<u8>) -> Result<(), Bad> {
        let mut json = serde_json::Deserializer::from_slice(line);
        let raw = Walk { tokens: &self.tokens }
            .deserialize(&mut json)
            .and_then(|found| json.end().map(|()| found))
            .map_err(|error| Bad::new(format!("not JSON: {}", crate::cmd::json_fault(&error))))?
            .ok_or_else(|| Bad::new(format!("there is no {}", self.text)))?;
        match raw.get().as_bytes() {
            [b'"', inner @ .., b'"'] if !inner.contains(&b'\\') => arena.extend_from_slice(inner),
            [b'"', ..] => {
                let text: Cow<'_, str> = serde_json::from_str(raw.get()).map_err(|error| {
                    Bad::new(format!("not JSON: {}", crate::cmd::json_fault(&error)))
                })?;
                arena.extend_from_slice(text.as_bytes());
            }
            number @ [b'-' | b'0'..=b'9', ..] => arena.extend_from_slice(number),
            other => {
                let kind = match other.first() {
                    Some(b'{') => "an object",
                    Some(b'[') => "an array",
                    Some(b'n') => "null",
                    _ => "a boolean",
                };
                let name = if self.text.is_empty() { "the line" } else { &self.text };
                return Err(Bad::new(format!("{name} is {kind}, not a string or a number")));
            }
        }
        Ok(())
    }
}

/// Walks one value to what the tokens name; returns `None` if it is not there.
///
/// If an object has a name twice, the last one counts, as in most JSON readers.
#[derive(Clone, Copy)]
struct Walk<'t> {
    tokens: &'t [String],
}

impl<'de> DeserializeSeed<'de> for Walk<'_> {
    type Value = Option<&'de RawValue>;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Self::Value, D::Error> {
        if self.tokens.is_empty() {
            serde::Deserialize::deserialize(json).map(Some)
        } else {
            json.deserialize_any(self)
        }
    }
}

impl<'de> Visitor<'de> for Walk<'_> {
    type Value = Option<&'de RawValue>;

    fn expecting(&self, text: &mut fmt::Formatter<'_>) -> fmt::Result {
        text.write_str("a JSON value")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let Some((name, rest)) = self.tokens.split_first() else { return Ok(None) };
        let mut found = None;
        while let Some(is_it) = map.next_key_seed(Is { name })? {
            if is_it {
                found = map.next_value_seed(Self { tokens: rest })?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let Some((name, rest)) = self.tokens.split_first() else { return Ok(None) };
        // RFC 6901: digits without a leading zero.
        let is_index = name == "0" || name.starts_with(|c: char| c.is_ascii_digit() && c != '0');
        let index = if is_index { name.parse::<usize>().ok() } else { None };
        let mut found = None;
        for at in 0.. {
            if Some(at) == index {
                let Some(value) = seq.next_element_seed(Self { tokens: rest })? else { break };
                found = value;
            } else if seq.next_element::<IgnoredAny>()?.is_none() {
                break;
            }
        }
        Ok(found)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_str<E>(self, _: &str) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }
}

/// Reads the name of a member and returns whether it is the wanted one.
struct Is<'t> {
    name: &'t str,
}

impl<'de> DeserializeSeed<'de> for Is<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<bool, D::Error> {
        json.deserialize_str(self)
    }
}

impl Visitor<'_> for Is<'_> {
    type Value = bool;

    fn expecting(&self, text: &mut fmt::Formatter<'_>) -> fmt::Result {
        text.write_str("a name")
    }

    fn visit_str<E>(self, name: &str) -> Result<bool, E> {
        Ok(name == self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::Pointer;

    fn find(pointer: &str, line: &str) -> Result<String, String> {
        let mut arena = Vec::new();
        let pointer = Pointer::parse(pointer).unwrap();
        pointer.find(line.as_bytes(), &mut arena).map_err(|bad| bad.to_string())?;
        Ok(String::from_utf8(arena).unwrap())
    }

    #[test]
    fn finds_what_rfc_6901_names() {
        let line = r#"{"foo":["bar","baz"],"":0,"a/b":1,"c%d":2,"e^f":3,"k\"l":6," ":7,"m~n":8}"#;
        for (pointer, expected) in [
            ("/foo/0", "bar"),
            ("/foo/1", "baz"),
            ("/", "0"),
            ("/a~1b", "1"),
            ("/c%d", "2"),
            ("/e^f", "3"),
            ("/k\"l", "6"),
            ("/ ", "7"),
            ("/m~0n", "8"),
        ] {
            assert_eq!(find(pointer, line).as_deref(), Ok(expected), "{pointer}");
        }
        for missing in ["/foo/2", "/foo/00", "/foo/-", "/foo/+1", "/foo/0/x", "/x", "/foo/bar"] {
            assert_eq!(find(missing, line), Err(format!("there is no {missing}")));
        }
    }

    #[test]
    fn numbers_stay_as_they_are_written() {
        for number in ["1", "-0", "1.0", "1.00", "1e400", "123456789012345678901234567890"] {
            assert_eq!(find("/n", &format!("{{\"n\": {number} }}")).as_deref(), Ok(number));
        }
    }

    #[test]
    fn strings_are_unescaped() {
        assert_eq!(find("/s", r#"{"s":"a\u00e9\n\ud83e\udd80\\"}"#).as_deref(), Ok("aé\n🦀\\"));
        assert_eq!(find("", r#""whole""#).as_deref(), Ok("whole"));
        assert!(find("/s", r#"{"s":"\ud800"}"#).unwrap_err().starts_with("not JSON"));
    }

    #[test]
    fn the_last_of_two_members_counts() {
        assert_eq!(find("/a", r#"{"a":1,"a":2}"#).as_deref(), Ok("2"));
        assert!(find("/a/b", r#"{"a":{"b":1},"a":2}"#).is_err());
    }

    #[test]
    fn other_values_are_refused_by_name() {
        for (value, kind) in
            [("{}", "an object"), ("[1]", "an array"), ("null", "null"), ("true", "a boolean")]
        {
            let expected = format!("/a is {kind}, not a string or a number");
            assert_eq!(find("/a", &format!("{{\"a\":{value}}}")), Err(expected));
        }
    }

    #[test]
    fn broken_json_is_refused_even_behind_the_value() {
        for line in ["", "{", r#"{"a":1"#, r#"{"a":1} x"#, r#"{"a":1,}"#, r#"{"a":01}"#] {
            assert!(find("/a", line).unwrap_err().starts_with("not JSON"), "{line}");
        }
        let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        assert!(find("/a", &format!("{{\"b\":{deep},\"a\":1}}")).is_ok());
        assert!(find("/0/0", &deep).is_err());
    }

    #[test]
    fn wrong_pointers_are_refused() {
        for pointer in ["id", "id/x", "/a~", "/a~2", "/~~01"] {
            assert!(Pointer::parse(pointer).is_err(), "{pointer}");
        }
    }
}
