//! Structured Field Items whose value is a String: RFC 8941, sections 3.3 and 4.2. Parameters are read, so that what is
//! malformed is refused, and ignored.

/// Reads an Item, and returns its String without quotes and escapes; `None` if it is anything else.
pub(crate) fn string_item(field: &[u8]) -> Option<String> {
    let mut rest = Reader(trim(field, b' '));
    let text = rest.string()?;
    rest.parameters()?;
    rest.0.is_empty().then_some(text)
}

fn trim(mut field: &[u8], space: u8) -> &[u8] {
    while let [first, rest @ ..] = field
        && *first == space
    {
        field = rest;
    }
    while let [rest @ .., last] = field
        && *last == space
    {
        field = rest;
    }
    field
}

/// What is left to read. Each function takes what it knows from the front, or returns `None`.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn next(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    fn next_is(&mut self, byte: u8) -> bool {
        let is_next = self.0.first() == Some(&byte);
        if is_next {
            self.0 = &self.0[1..];
        }
        is_next
    }

    /// Takes all bytes of a kind, and returns how many there were.
    fn skip(&mut self, is_one: impl Fn(u8) -> bool) -> usize {
        let count = self.0.iter().take_while(|byte| is_one(**byte)).count();
        self.0 = &self.0[count..];
        count
    }

    fn string(&mut self) -> Option<String> {
        if !self.next_is(b'"') {
            return None;
        }
        let mut text = String::new();
        loop {
            match self.next()? {
                b'"' => return Some(text),
                b'\\' => match self.next()? {
                    escaped @ (b'"' | b'\\') => text.push(char::from(escaped)),
                    _ => return None,
                },
                byte @ 0x20..=0x7e => text.push(char::from(byte)),
                _ => return None,
            }
        }
    }

    fn parameters(&mut self) -> Option<()> {
        while self.next_is(b';') {
            self.skip(|byte| byte == b' ');
            if !matches!(self.next()?, b'a'..=b'z' | b'*') {
                return None;
            }
            self.skip(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-' | b'.' | b'*'));
            if self.next_is(b'=') {
                self.bare_item()?;
            }
        }
        Some(())
    }

    fn bare_item(&mut self) -> Option<()> {
        match self.0.first()? {
            b'"' => self.string().map(|_| ()),
            b'?' => {
                self.next();
                matches!(self.next()?, b'0' | b'1').then_some(())
            }
            b':' => {
                self.next();
                self.skip(|byte| {
                    byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'=')
                });
                self.next_is(b':').then_some(())
            }
            b'-' | b'0'..=b'9' => self.number(),
            b'*' | b'a'..=b'z' | b'A'..=b'Z' => {
                self.skip(|byte| {
                    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~:/".contains(&byte)
                });
                Some(())
            }
            _ => None,
        }
    }

    /// An integer of at most 15 digits, or a decimal of at most 12 and 3.
    fn number(&mut self) -> Option<()> {
        self.next_is(b'-');
        let whole = self.skip(|byte| byte.is_ascii_digit());
        if self.next_is(b'.') {
            let fraction = self.skip(|byte| byte.is_ascii_digit());
            return ((1..=12).contains(&whole) && (1..=3).contains(&fraction)).then_some(());
        }
        (1..=15).contains(&whole).then_some(())
    }
}

#[cfg(test)]
mod tests {
    use super::string_item;

    #[test]
    fn a_string_is_read_without_its_quotes_and_escapes() {
        for (field, text) in [
            (r#""8e03978e-40d5-43e8-bc93-6894a57f9324""#, "8e03978e-40d5-43e8-bc93-6894a57f9324"),
            (r#"  "a b"  "#, "a b"),
            (r#""say \"no\" to C:\\""#, r#"say "no" to C:\"#),
            (r#""""#, ""),
            (r#""a";v=1;  q=-12.5;t=tok/en;s="x\"y";b=:aGk=:;yes;no=?0;*k-1.2_=*t"#, "a"),
        ] {
            assert_eq!(string_item(field.as_bytes()).as_deref(), Some(text), "{field}");
        }
    }

    #[test]
    fn anything_else_is_not_a_string() {
        for field in [
            "",
            " ",
            "token",
            "12",
            "?1",
            ":aGk=:",
            "(\"a\")",
            "\"a",
            "a\"",
            "\"",
            "\"a\\\"",
            "\"a\\b\"",
            "\"\u{e9}\"",
            "\"a\tb\"",
            "\t\"a\"",
            "\"a\" b",
            "\"a\", \"b\"",
            "\"a\";",
            "\"a\";V=1",
            "\"a\";1",
            "\"a\" ;v",
            "\"a\";v=",
            "\"a\";v=?2",
            "\"a\";v=:a",
            "\"a\";v=-",
            "\"a\";v=1.",
            "\"a\";v=1.2345",
            "\"a\";v=1234567890123456",
            "\"a\";v=(1)",
            "'a'",
        ] {
            assert_eq!(string_item(field.as_bytes()), None, "{field}");
        }
    }
}
