//! One field of a JSON object, without a JSON library: a line is checked from its first byte to its last, and one value
//! is kept.

use std::borrow::Cow;

/// The value of a field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Field<'a> {
    /// A number, as it is written.
    Number(&'a str),
    /// A string, without its escapes.
    Text(Cow<'a, str>),
    /// `true`, `false`, `null`, an array or an object.
    Other,
}

/// What is wrong with a line.
pub(super) type Fault = &'static str;

/// Arrays and objects in each other. More are refused, so that a line of brackets takes no memory.
const DEPTH_MAX: usize = 128;

/// Returns the field of this name in the object that the line is; the last one if there are several, and `None` if there
/// is none. Without a name it only checks the line.
pub(super) fn field<'a>(line: &'a [u8], name: Option<&str>) -> Result<Option<Field<'a>>, Fault> {
    let text = std::str::from_utf8(line).map_err(|_| "it is not UTF-8")?;
    let mut scan = Scan { text, at: 0 };
    let found = scan.object(name)?;
    scan.space();
    if scan.at < text.len() {
        return Err("something follows the object");
    }
    Ok(found)
}

struct Scan<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Scan<'a> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\r' | b'\n')) {
            self.at += 1;
        }
    }

    /// Takes this byte, if it is next.
    fn take(&mut self, byte: u8) -> bool {
        let is_next = self.peek() == Some(byte);
        self.at += usize::from(is_next);
        is_next
    }

    fn object(&mut self, name: Option<&str>) -> Result<Option<Field<'a>>, Fault> {
        self.space();
        if !self.take(b'{') {
            return Err("it is not a JSON object");
        }
        let mut found = None;
        self.space();
        if self.take(b'}') {
            return Ok(found);
        }
        loop {
            let key = self.key()?;
            let value = self.value()?;
            if name.is_some_and(|name| name == key) {
                found = Some(value);
            }
            self.space();
            match (self.take(b','), self.take(b'}')) {
                (true, false) => {}
                (false, true) => return Ok(found),
                _ => return Err("a comma or the end of the object is missing"),
            }
        }
    }

    /// Takes a key and the colon behind it.
    fn key(&mut self) -> Result<Cow<'a, str>, Fault> {
        self.space();
        let key = self.string()?;
        self.space();
        if self.take(b':') { Ok(key) } else { Err("a colon is missing behind a name") }
    }

    /// Takes a value. Arrays and objects are kept track of on a stack, not by calls.
    fn value(&mut self) -> Result<Field<'a>, Fault> {
        self.space();
        let mut open: Vec<u8> = Vec::new();
        loop {
            self.space();
            let value = match self.peek() {
                Some(b'"') => Field::Text(self.string()?),
                Some(b'-' | b'0'..=b'9') => Field::Number(self.number()?),
                Some(bracket @ (b'{' | b'[')) => {
                    self.at += 1;
                    self.space();
                    let end = if bracket == b'{' { b'}' } else { b']' };
                    if !self.take(end) {
                        if open.len() == DEPTH_MAX {
                            return Err("it is nested too deeply");
                        }
                        open.push(end);
                        if end == b'}' {
                            self.key()?;
                        }
                        continue;
                    }
                    Field::Other
                }
                _ => self.word()?,
            };
            // Behind a value: the end of what it is in, or the next one there.
            loop {
                let Some(end) = open.last().copied() else { return Ok(value) };
                self.space();
                if self.take(end) {
                    open.pop();
                    if open.is_empty() {
                        return Ok(Field::Other);
                    }
                } else if self.take(b',') {
                    if end == b'}' {
                        self.key()?;
                    }
                    break;
                } else {
                    return Err("a comma or a closing bracket is missing");
                }
            }
        }
    }

    fn word(&mut self) -> Result<Field<'a>, Fault> {
        let rest = &self.text[self.at..];
        let word = ["true", "false", "null"].into_iter().find(|word| rest.starts_with(word));
        self.at += word.ok_or("a value is missing")?.len();
        Ok(Field::Other)
    }

    fn number(&mut self) -> Result<&'a str, Fault> {
        let begin = self.at;
        self.take(b'-');
        let zero = self.peek() == Some(b'0');
        let whole = self.digits()?;
        if zero && whole > 1 {
            return Err("a number begins with zero");
        }
        if self.take(b'.') {
            self.digits()?;
        }
        if self.take(b'e') || self.take(b'E') {
            let _ = self.take(b'+') || self.take(b'-');
            self.digits()?;
        }
        Ok(&self.text[begin..self.at])
    }

    fn digits(&mut self) -> Result<usize, Fault> {
        let begin = self.at;
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
        if self.at > begin { Ok(self.at - begin) } else { Err("a number without digits") }
    }

    fn string(&mut self) -> Result<Cow<'a, str>, Fault> {
        if !self.take(b'"') {
            return Err("a quoted name or text is missing");
        }
        let mut text = Cow::Borrowed("");
        loop {
            let begin = self.at;
            while self.peek().is_some_and(|byte| byte >= b' ' && byte != b'"' && byte != b'\\') {
                self.at += 1;
            }
            let plain = &self.text[begin..self.at];
            if text.is_empty() {
                text = Cow::Borrowed(plain);
            } else {
                text.to_mut().push_str(plain);
            }
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(text);
                }
                Some(b'\\') => {
                    self.at += 1;
                    let escaped = self.escaped()?;
                    text.to_mut().push(escaped);
                }
                Some(_) => return Err("a control character in a text"),
                None => return Err("a text does not end"),
            }
        }
    }

    fn escaped(&mut self) -> Result<char, Fault> {
        let escape = self.peek().ok_or("a text does not end")?;
        self.at += 1;
        Ok(match escape {
            b'"' | b'\\' | b'/' => char::from(escape),
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                let unit = self.unit()?;
                let code = match unit {
                    0xd800..0xdc00 => {
                        if !(self.take(b'\\') && self.take(b'u')) {
                            return Err("half a surrogate pair in a text");
                        }
                        let low = self.unit()?;
                        if !(0xdc00..0xe000).contains(&low) {
                            return Err("half a surrogate pair in a text");
                        }
                        0x1_0000 + ((unit - 0xd800) << 10) + (low - 0xdc00)
                    }
                    unit => unit,
                };
                char::from_u32(code).ok_or("half a surrogate pair in a text")?
            }
            _ => return Err("an unknown escape in a text"),
        })
    }

    /// Takes the four digits of a Unicode escape.
    fn unit(&mut self) -> Result<u32, Fault> {
        let digits = self.text.as_bytes().get(self.at..self.at + 4);
        let digits = digits.filter(|digits| digits.iter().all(u8::is_ascii_hexdigit));
        let digits = digits.ok_or("a Unicode escape without four digits")?;
        self.at += 4;
        let value = |digit: &u8| char::from(*digit).to_digit(16).unwrap_or_default();
        Ok(digits.iter().fold(0, |code, digit| code << 4 | value(digit)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(line: &str) -> Result<Option<Field<'_>>, Fault> {
        field(line.as_bytes(), Some("at"))
    }

    #[test]
    fn a_field_is_found_at_the_top_only() {
        assert_eq!(at(r#"{"at":17}"#), Ok(Some(Field::Number("17"))));
        assert_eq!(
            at(r#" { "a" : {"at":1}, "b":[[{"at":2}],3], "at" : -1.5e+7 } "#),
            Ok(Some(Field::Number("-1.5e+7")))
        );
        assert_eq!(at(r#"{"x":"at","y":"\"at\":9"}"#), Ok(None));
        assert_eq!(
            at(r#"{"at":1,"at":"x\u0041\ud83d\ude00"}"#),
            Ok(Some(Field::Text("xA\u{1f600}".into())))
        );
        assert_eq!(at(r#"{"\u0061t":[]}"#), Ok(Some(Field::Other)));
        assert_eq!(at("{}"), Ok(None));
        let deep = format!(r#"{{"at":{}1{}}}"#, "[".repeat(100), "]".repeat(100));
        assert_eq!(at(&deep), Ok(Some(Field::Other)));
    }

    #[test]
    fn what_is_no_json_object_is_refused() {
        for line in [
            "",
            "1",
            "[]",
            "{",
            r#"{"a"}"#,
            r#"{"a":}"#,
            r#"{"a":1,}"#,
            r#"{"a":1 "b":2}"#,
            r#"{"a":01}"#,
            r#"{"a":1.}"#,
            r#"{"a":.5}"#,
            r#"{"a":+1}"#,
            r#"{"a":tru}"#,
            r#"{"a":"x}"#,
            r#"{"a":"\x"}"#,
            r#"{"a":"\ud800"}"#,
            r#"{"a":"\udc00"}"#,
            r#"{"a":"\u12"}"#,
            r#"{"a":[1,]}"#,
            r#"{"a":[1}"#,
            r#"{"a":{"b":1]}"#,
            r#"{"a":1}}"#,
            r#"{"a":1}x"#,
            r"{a:1}",
            "{\"a\":\"\u{1}\"}",
            r#"{"a":{1:2}}"#,
            r#"{"a":nan}"#,
        ] {
            assert!(at(line).is_err(), "{line}");
        }
        let deep = format!(r#"{{"at":{}1{}}}"#, "[".repeat(200), "]".repeat(200));
        assert!(at(&deep).is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_as_a_json_library_reads_them(
            line in prop_oneof![
                r#"[{}\[\]",:0-9a-z\\ .eE+-]{0,24}"#,
                r#"\{"at":[{}\[\]",:0-9a-z\\ .eE+-]{0,12}\}"#,
            ],
        ) {
            let parsed: Option<serde_json::Map<String, serde_json::Value>> =
                serde_json::from_str(&line).ok();
            prop_assert_eq!(at(&line).is_ok(), parsed.is_some(), "{}", line);
            let text = parsed.as_ref().and_then(|map| map.get("at")).and_then(|at| at.as_str());
            let found = at(&line).ok().flatten();
            if let Some(Field::Text(found)) = &found {
                prop_assert_eq!(Some(&**found), text);
            }
            prop_assert_eq!(found.is_some(), parsed.is_some_and(|map| map.contains_key("at")));
        }
    }
}
