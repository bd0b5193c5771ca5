//! What makes two requests under one key the same.

use firstseen_shared::Fingerprint;
use http::HeaderName;
use http::request::Parts;
use std::fmt;
use std::sync::Arc;

/// What of a body counts.
pub(crate) type ReadBody = dyn Fn(&Parts, &[u8]) -> Vec<u8> + Send + Sync;

/// What of a request counts, besides method, path and query.
#[derive(Clone, Default)]
pub(crate) struct Print {
    pub(crate) headers: Vec<HeaderName>,
    /// All of its bytes, if there is no function.
    pub(crate) body: Option<Arc<ReadBody>>,
}

impl Print {
    pub(crate) fn of(&self, request: &Parts, body: &[u8]) -> Fingerprint {
        let body = match &self.body {
            Some(read) => Fingerprint::of_bytes(read(request, body)),
            None => Fingerprint::of_bytes(body),
        };
        let mut all = Vec::with_capacity(256);
        push(&mut all, request.method.as_str().as_bytes());
        push(&mut all, request.uri.path().as_bytes());
        // No query and an empty one are different targets.
        let query = request.uri.query();
        push(&mut all, if query.is_some() { b"?" } else { b"" });
        push(&mut all, query.unwrap_or_default().as_bytes());
        for name in &self.headers {
            let values = request.headers.get_all(name);
            all.extend_from_slice(&(values.iter().count() as u64).to_be_bytes());
            values.iter().for_each(|value| push(&mut all, value.as_bytes()));
        }
        all.extend_from_slice(body.as_bytes());
        Fingerprint::of_bytes(all)
    }
}

/// Each part with its length, so that no two requests are joined to the same bytes.
fn push(all: &mut Vec<u8>, part: &[u8]) {
    all.extend_from_slice(&(part.len() as u64).to_be_bytes());
    all.extend_from_slice(part);
}

impl fmt::Debug for Print {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Print")
            .field("headers", &self.headers)
            .field("body", &self.body.as_ref().map_or("all", |_| "a function"))
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::Print;
    use firstseen_shared::Fingerprint;
    use http::{HeaderName, Request};
    use std::sync::Arc;

    fn print(print: &Print, request: (&str, &str, &[(&str, &str)], &str)) -> Fingerprint {
        let (method, uri, headers, body) = request;
        let mut builder = Request::builder().method(method).uri(uri);
        for (name, value) in headers {
            builder = builder.header(*name, *value);
        }
        print.of(&builder.body(()).unwrap().into_parts().0, body.as_bytes())
    }

    #[test]
    fn method_path_query_and_body_count_and_headers_do_not() {
        let all = Print::default();
        let first = print(&all, ("POST", "/pay?a=1", &[("x-one", "1")], "10 euros"));
        assert_eq!(print(&all, ("POST", "/pay?a=1", &[("x-one", "2")], "10 euros")), first);
        for other in [
            ("PATCH", "/pay?a=1", "10 euros"),
            ("POST", "/pax?a=1", "10 euros"),
            ("POST", "/pay?a=2", "10 euros"),
            ("POST", "/pay", "10 euros"),
            ("POST", "/pay?a=1", "11 euros"),
            ("POST", "/pay?a=1", ""),
        ] {
            let other = (other.0, other.1, &[][..], other.2);
            assert_ne!(print(&all, other), first, "{other:?}");
        }
        let [none, empty] = ["/pay", "/pay?"].map(|uri| print(&all, ("POST", uri, &[], "")));
        assert_ne!(none, empty);
    }

    #[test]
    fn headers_that_are_named_count() {
        let names = ["x-one", "x-two"].map(HeaderName::from_static).to_vec();
        let named = Print { headers: names, body: None };
        let of = |headers: &[(&str, &str)]| print(&named, ("POST", "/", headers, ""));
        assert_eq!(of(&[("x-one", "1"), ("x-three", "3")]), of(&[("x-one", "1")]));
        let different = [
            of(&[]),
            of(&[("x-one", "")]),
            of(&[("x-one", "1")]),
            of(&[("x-two", "1")]),
            of(&[("x-one", "1"), ("x-one", "1")]),
            of(&[("x-one", "1"), ("x-two", "1")]),
        ];
        for (n, one) in different.iter().enumerate() {
            assert!(different[n + 1..].iter().all(|other| other != one), "{n}");
        }
    }

    #[test]
    fn a_function_says_what_of_the_body_counts() {
        let without_spaces = Print {
            headers: Vec::new(),
            body: Some(Arc::new(|_, body| {
                body.iter().copied().filter(|byte| *byte != b' ').collect()
            })),
        };
        let of = |body| print(&without_spaces, ("POST", "/", &[], body));
        assert_eq!(of("{\"a\": 1}"), of("{\"a\":1}"));
        assert_ne!(of("{\"a\": 1}"), of("{\"a\": 2}"));
    }
}
