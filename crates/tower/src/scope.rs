//! Whose key it is, and what for: the id of a record.

use firstseen_shared::Fingerprint;
use http::HeaderName;
use http::request::Parts;
use std::fmt;
use std::fmt::Write as _;
use std::sync::Arc;

/// Reads from a request who sends it, or what its key belongs to.
pub type ReadParts = dyn Fn(&Parts) -> Option<Vec<u8>> + Send + Sync;

/// Whose keys they are: keys of two principals never meet, so that nobody is told what another has done.
///
/// A principal is any bytes that name a customer, an account or a tenant. What identifies one user's *session* is a bad
/// choice: a retry after a new login would be somebody else's.
#[derive(Clone)]
pub struct Principals(pub(crate) Arc<ReadParts>);

impl Principals {
    /// Reads the principal by a function of the request, such as from an extension that authentication has left there. Where
    /// it returns `None` the request is refused with 403, and the handler does not run.
    ///
    /// ```
    /// use firstseen_tower::Principals;
    ///
    /// #[derive(Clone)]
    /// struct Customer(u64);
    ///
    /// let principals = Principals::of(|request| {
    ///     let customer = request.extensions.get::<Customer>()?;
    ///     Some(customer.0.to_be_bytes().to_vec())
    /// });
    /// ```
    pub fn of(read: impl Fn(&Parts) -> Option<Vec<u8>> + Send + Sync + 'static) -> Self {
        Self(Arc::new(read))
    }

    /// Takes a header for the principal, such as `authorization` or `x-api-key`. Only its BLAKE3 hash is kept. It must
    /// have been checked before the request comes to the layer. Without it, or with more than one, the request is
    /// refused with 403.
    pub fn header(name: HeaderName) -> Self {
        Self::of(move |request| {
            let mut values = request.headers.get_all(&name).iter();
            let value = values.next()?;
            values
                .next()
                .is_none()
                .then(|| Fingerprint::of_bytes(value.as_bytes()).as_bytes().to_vec())
        })
    }

    /// Has all requests share their keys: for services with a single caller. Anybody who knows a key and what was sent under
    /// it is told the answer.
    pub fn everyone() -> Self {
        Self::of(|_| Some(Vec::new()))
    }
}

impl fmt::Debug for Principals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Principals(..)")
    }
}

/// What a key of a principal belongs to.
#[derive(Clone, Default)]
#[non_exhaustive]
pub enum KeySpace {
    /// To the principal. The same key for another method or path is another request under one key: refused as a mismatch.
    #[default]
    Principal,
    /// To the method and path: the same key elsewhere is another key.
    MethodAndPath,
    /// To what this function says, such as the template of the route; `None` is a space, too. The same key in
    /// another space is another key.
    Of(Arc<ReadParts>),
}

impl KeySpace {
    pub(crate) fn read(&self, request: &Parts) -> Vec<u8> {
        match self {
            Self::Principal => Vec::new(),
            Self::MethodAndPath => {
                // A method has no space, so that the two cannot be divided in another way.
                format!("{} {}", request.method, request.uri.path()).into_bytes()
            }
            Self::Of(read) => read(request).unwrap_or_default(),
        }
    }
}

impl fmt::Debug for KeySpace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Principal => "Principal",
            Self::MethodAndPath => "MethodAndPath",
            Self::Of(_) => "Of(..)",
        })
    }
}

/// What is longer is replaced by its hash, so that ids have a length that every store takes.
const PART_BYTES_MAX: usize = 64;

/// Returns the id of the record of a key, for those who look it up in the ledger, settle it or forget it.
///
/// `principal` is what [`Principals`] reads; `space` what [`KeySpace`] reads: nothing for `Principal`, `POST /payments` for
/// `MethodAndPath`.
///
/// The parts are netstrings, so that no two triples have the same id. A principal or a space above 64 bytes is replaced
/// by its BLAKE3 hash.
///
/// ```
/// let id = firstseen_tower::record_id(b"anna", b"", "8e03978e");
/// assert_eq!(id, b"4:anna,0:,8:8e03978e,");
/// ```
pub fn record_id(principal: &[u8], space: &[u8], key: &str) -> Vec<u8> {
    let mut id = Vec::new();
    for part in [principal, space] {
        if part.len() > PART_BYTES_MAX {
            // No length begins with an `h`.
            push_netstring(&mut id, "h", Fingerprint::of_bytes(part).to_string().as_bytes());
        } else {
            push_netstring(&mut id, "", part);
        }
    }
    push_netstring(&mut id, "", key.as_bytes());
    id
}

/// Returns how long the ids of keys of up to `key_bytes_max` bytes are.
pub(crate) fn id_bytes_max(key_bytes_max: usize) -> usize {
    let key = key_bytes_max.to_string().len() + 1 + key_bytes_max + 1;
    2 * ("h64:".len() + PART_BYTES_MAX + 1) + key
}

fn push_netstring(id: &mut Vec<u8>, mark: &str, part: &[u8]) {
    let mut length = String::new();
    write!(length, "{mark}{}:", part.len()).expect("a string takes what is written");
    id.extend_from_slice(length.as_bytes());
    id.extend_from_slice(part);
    id.push(b',');
}

#[cfg(test)]
mod tests {
    use super::{KeySpace, Principals, id_bytes_max, record_id};
    use http::Request;
    use http::header::AUTHORIZATION;
    use http::request::Parts;
    use std::collections::BTreeSet;
    use std::sync::Arc;

    fn request(method: &str, uri: &str, tokens: &[&str]) -> Parts {
        let mut request = Request::builder().method(method).uri(uri);
        for token in tokens {
            request = request.header(AUTHORIZATION, *token);
        }
        request.body(()).unwrap().into_parts().0
    }

    #[test]
    fn rule_81_parts_that_join_to_the_same_text_are_different_ids() {
        let long = "p".repeat(65);
        let hash = firstseen_shared::Fingerprint::of_bytes(&long).to_string();
        let triples = [
            ("ab", "c", "d"),
            ("a", "bc", "d"),
            ("a", "b", "cd"),
            ("", "abc", "d"),
            ("abcd", "", ""),
            ("", "", "abcd"),
            ("a,1:b", "c", "d"),
            ("a", "b,1:c", "d"),
            (&long, "", "k"),
            (&hash, "", "k"),
            ("", &long, "k"),
        ];
        let ids: BTreeSet<Vec<u8>> = triples
            .iter()
            .map(|(principal, space, key)| record_id(principal.as_bytes(), space.as_bytes(), key))
            .collect();
        assert_eq!(ids.len(), triples.len(), "{ids:?}");
    }

    #[test]
    fn an_id_is_short_enough_for_every_store() {
        for part in [0, 1, 63, 64, 65, 100_000] {
            let part = vec![b'x'; part];
            let id = record_id(&part, &part, &"k".repeat(255));
            assert!(id.len() <= id_bytes_max(255), "{}", part.len());
        }
        let long = vec![b'x'; 100_000];
        assert_eq!(record_id(&long, &long, &"k".repeat(255)).len(), id_bytes_max(255));
        assert!(id_bytes_max(255) < 512);
    }

    #[test]
    fn rule_81_a_header_names_the_principal_and_is_not_kept() {
        let Principals(read) = Principals::header(AUTHORIZATION);
        let anna = read(&request("POST", "/", &["Bearer anna"])).unwrap();
        assert_eq!(anna.len(), 32);
        assert_ne!(read(&request("POST", "/", &["Bearer bert"])).unwrap(), anna);
        assert_eq!(read(&request("POST", "/", &[])), None);
        assert_eq!(read(&request("POST", "/", &["Bearer anna", "Bearer bert"])), None);
    }

    #[test]
    fn a_key_belongs_to_what_the_policy_says() {
        let [one, other] = [request("POST", "/a?q=1", &[]), request("PATCH", "/a", &[])];
        assert_eq!(KeySpace::Principal.read(&one), KeySpace::Principal.read(&other));
        assert_eq!(KeySpace::MethodAndPath.read(&one), b"POST /a");
        assert_eq!(KeySpace::MethodAndPath.read(&other), b"PATCH /a");
        let of_query = KeySpace::Of(Arc::new(|request| Some(request.uri.query()?.into())));
        assert_eq!((of_query.read(&one), of_query.read(&other)), (b"q=1".to_vec(), Vec::new()));
    }
}
