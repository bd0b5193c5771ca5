//! Fingerprints: whether two inputs under one id are the same.

mod canonical;

use serde::Serialize;
use std::fmt;

/// The BLAKE3 hash of an input. Two calls with one id and different fingerprints are a mismatch: somebody has used an
/// id twice.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// Hashes bytes as they are.
    pub fn of_bytes(input: impl AsRef<[u8]>) -> Self {
        Self(*blake3::hash(input.as_ref()).as_bytes())
    }

    /// Hashes a value in a canonical form: the order of map keys and the type of a number make no difference, so
    /// `{"a":1,"b":2.0}` is the same as `{"b":2,"a":1}`, and a struct is the same as a map of its fields.
    ///
    /// # Errors
    ///
    /// What the value's own `Serialize` refuses.
    ///
    /// ```
    /// use firstseen::ledger::Fingerprint;
    /// use std::collections::HashMap;
    ///
    /// let of = |pairs: &[(&str, u32)]| {
    ///     Fingerprint::of_value(&pairs.iter().copied().collect::<HashMap<_, _>>())
    /// };
    /// assert_eq!(of(&[("amount", 5), ("to", 7)])?, of(&[("to", 7), ("amount", 5)])?);
    /// assert_ne!(of(&[("amount", 5)])?, of(&[("amount", 6)])?);
    /// # Ok::<(), firstseen::Error>(())
    /// ```
    pub fn of_value<T: Serialize + ?Sized>(input: &T) -> crate::Result<Self> {
        let form = canonical::form(input).map_err(|e| {
            crate::Error::invalid(format!("cannot take the fingerprint of the input: {e}"))
        })?;
        Ok(Self::of_bytes(form))
    }

    /// Returns the hash.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Returns the fingerprint with this hash: for stores that keep it elsewhere.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fingerprint({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn of(value: &serde_json::Value) -> Fingerprint {
        Fingerprint::of_value(value).expect("JSON can be hashed")
    }

    #[derive(Serialize)]
    struct Payment<'a> {
        to: &'a str,
        amount: u8,
        note: Option<&'a str>,
    }

    /// A map whose entries come in this order. serde_json sorts those of its own.
    struct InOrder<'a>(&'a [(&'a str, u8)]);

    impl Serialize for InOrder<'_> {
        fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            serializer.collect_map(self.0.iter().copied())
        }
    }

    #[test]
    fn the_order_of_map_keys_does_not_matter() {
        let a = json!({"to": "x", "amount": 5, "lines": [{"b": 1, "a": 2}]});
        let text = r#"{"lines":[{"a":2,"b":1}],"amount":5,"to":"x"}"#;
        assert_eq!(of(&a), of(&serde_json::from_str(text).expect("JSON")));
        let payment = Payment { to: "x", amount: 5, note: None };
        assert_eq!(
            Fingerprint::of_value(&payment).ok(),
            Some(of(&json!({"note": null, "amount": 5, "to": "x"})))
        );
        let inner = [("a", 1), ("b", 2), ("c", 3)];
        let reversed = [("c", 3), ("b", 2), ("a", 1)];
        let nested = |inner| Fingerprint::of_value(&[InOrder(inner)]).expect("can be hashed");
        assert_eq!(nested(&inner), nested(&reversed));
        assert_eq!(nested(&reversed), of(&json!([{"a": 1, "b": 2, "c": 3}])));
    }

    #[test]
    fn numbers_are_compared_by_value() {
        assert_eq!(of(&json!(1)), of(&json!(1.0)));
        assert_eq!(of(&json!(0)), of(&json!(-0.0)));
        assert_ne!(of(&json!(1)), of(&json!(1.5)));
        assert_ne!(of(&json!(1)), of(&json!("1")));
        assert_ne!(of(&json!(u64::MAX)), of(&json!(-1)));
        // As a float, the one and the other are the same.
        assert_ne!(of(&json!(u64::MAX)), of(&json!(u64::MAX - 1)));
    }

    #[test]
    fn a_change_deep_inside_is_noticed_and_nothing_runs_together() {
        let base = json!({"order": {"lines": [{"sku": "a", "n": 1}, {"sku": "b", "n": 2}]}});
        for other in [
            json!({"order": {"lines": [{"sku": "a", "n": 1}, {"sku": "b", "n": 3}]}}),
            json!({"order": {"lines": [{"sku": "b", "n": 2}, {"sku": "a", "n": 1}]}}),
            json!({"order": {"lines": [{"sku": "a", "n": 1}, {"sku": "b", "n": 2}, null]}}),
            json!({"order": {"lines": [[{"sku": "a", "n": 1}], {"sku": "b", "n": 2}]}}),
        ] {
            assert_ne!(of(&base), of(&other), "{other}");
        }
        assert_ne!(of(&json!(["ab", "c"])), of(&json!(["a", "bc"])));
        assert_ne!(of(&json!([[1], 2])), of(&json!([1, [2]])));
        assert_ne!(of(&json!({"a": "b"})), of(&json!(["a", "b"])));
        assert_ne!(of(&json!(null)), of(&json!([])));
    }

    /// Stored records depend on it.
    #[test]
    fn fingerprints_are_stable_across_releases() {
        let hash = of(&json!({"to": "x", "amount": 5, "ok": true, "part": 0.5})).to_string();
        assert_eq!(&hash[..16], GOLDEN);
        let hash = Fingerprint::of_bytes(b"input").to_string();
        assert_eq!(&hash[..16], GOLDEN_BYTES);
    }
    const GOLDEN: &str = "f2f8268ae0a32a46";
    const GOLDEN_BYTES: &str = "e33fb19325cbc72b";
}
