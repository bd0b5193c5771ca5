//! Reading the key from a request.

use crate::structured;
use http::{HeaderMap, HeaderName};

/// How a key may be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum KeySyntax {
    /// As a Structured Field String, in quotes: `"8e03978e-40d5"`. What the draft asks for.
    #[default]
    Quoted,
    /// In quotes, or bare as Stripe's clients send it: `8e03978e-40d5`. A bare key has visible ASCII characters other than
    /// `"`, `,`, `;` and `\`. The same text with and without quotes is the same key.
    QuotedOrBare,
}

/// Why there is no key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoKey {
    Missing,
    Repeated,
    Malformed,
    TooLong,
}

/// Reads the key of a request: one header, one key, not empty, at most `bytes_max` bytes without its quotes.
pub(crate) fn read(
    headers: &HeaderMap,
    name: &HeaderName,
    syntax: KeySyntax,
    bytes_max: usize,
) -> Result<String, NoKey> {
    let mut fields = headers.get_all(name).iter();
    let field = fields.next().ok_or(NoKey::Missing)?.as_bytes();
    if fields.next().is_some() {
        return Err(NoKey::Repeated);
    }
    let quoted = structured::string_item(field);
    let key = match syntax {
        KeySyntax::Quoted => quoted,
        KeySyntax::QuotedOrBare => quoted.or_else(|| bare(field)),
    };
    match key {
        Some(key) if key.len() > bytes_max => Err(NoKey::TooLong),
        Some(key) if !key.is_empty() => Ok(key),
        _ => Err(NoKey::Malformed),
    }
}

/// Commas are left out because proxies join headers by them, semicolons because parameters begin with them.
fn bare(field: &[u8]) -> Option<String> {
    let is_bare =
        |byte: &u8| byte.is_ascii_graphic() && !matches!(byte, b'"' | b',' | b';' | b'\\');
    let key = field.trim_ascii();
    key.iter().all(is_bare).then(|| key.iter().copied().map(char::from).collect())
}

#[cfg(test)]
mod tests {
    use super::{KeySyntax, NoKey, read};
    use http::header::{HeaderMap, HeaderName, HeaderValue};

    const NAME: HeaderName = HeaderName::from_static("idempotency-key");

    fn read_all(fields: &[&str], syntax: KeySyntax) -> Result<String, NoKey> {
        let mut headers = HeaderMap::new();
        for field in fields {
            headers.append(NAME, HeaderValue::from_bytes(field.as_bytes()).unwrap());
        }
        read(&headers, &NAME, syntax, 255)
    }

    #[test]
    fn rule_77_a_bare_key_is_one_only_where_that_is_allowed() {
        let uuid = "8e03978e-40d5-43e8-bc93-6894a57f9324";
        let quoted = format!("\"{uuid}\"");
        assert_eq!(read_all(&[&quoted], KeySyntax::Quoted), Ok(uuid.to_owned()));
        assert_eq!(read_all(&[uuid], KeySyntax::Quoted), Err(NoKey::Malformed));
        for field in [&quoted, uuid, "  8e03978e-40d5-43e8-bc93-6894a57f9324 "] {
            assert_eq!(read_all(&[field], KeySyntax::QuotedOrBare), Ok(uuid.to_owned()), "{field}");
        }
    }

    #[test]
    fn rule_77_what_is_no_key_is_refused_in_either_syntax() {
        for syntax in [KeySyntax::Quoted, KeySyntax::QuotedOrBare] {
            assert_eq!(read_all(&[], syntax), Err(NoKey::Missing));
            assert_eq!(read_all(&["\"a\"", "\"a\""], syntax), Err(NoKey::Repeated));
            for field in ["", "\"\"", "\"a", "a, b", "a b", "\u{e9}", "\"\u{e9}\"", "a;b", "a\\"] {
                assert_eq!(read_all(&[field], syntax), Err(NoKey::Malformed), "{field}");
            }
        }
    }

    #[test]
    fn rule_77_the_limit_counts_the_bytes_between_the_quotes() {
        let longest = "k".repeat(255);
        let quoted = format!("\"{longest}\"");
        assert_eq!(read_all(&[&quoted], KeySyntax::Quoted), Ok(longest.clone()));
        assert_eq!(read_all(&[&longest], KeySyntax::QuotedOrBare), Ok(longest.clone()));
        let quoted = format!("\"{longest}k\"");
        assert_eq!(read_all(&[&quoted], KeySyntax::Quoted), Err(NoKey::TooLong));
        assert_eq!(read_all(&[&(longest + "k")], KeySyntax::QuotedOrBare), Err(NoKey::TooLong));
    }
}
