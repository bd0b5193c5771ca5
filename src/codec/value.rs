//! Values of any serde type as bytes, encoded with bincode.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Returns the bytes of a value, or why it has none.
pub(crate) fn encode_value<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, String> {
    bincode::serde::encode_to_vec(value, bincode::config::standard()).map_err(|e| e.to_string())
}

/// The most memory that lengths in a value may ask for. Bytes that were written as another type may say any length, and
/// an allocation that fails ends the process. A value has 4 MiB at most, and an element of it takes up to some dozen times
/// its encoded size in memory.
const MEMORY_MAX: usize = 256 << 20;

/// Returns the value that all of these bytes are, or why they are none.
pub(crate) fn decode_value<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    let config = bincode::config::standard().with_limit::<MEMORY_MAX>();
    match bincode::serde::decode_from_slice(bytes, config) {
        Ok((value, read)) if read == bytes.len() => Ok(value),
        Ok((_, read)) => Err(format!("{} bytes are left over", bytes.len() - read)),
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn i11_bytes_of_another_type_are_an_error_and_ask_for_no_memory() {
        let bytes = encode_value(&(1u64 << 60)).expect("encodes");
        assert!(decode_value::<String>(&bytes).is_err());
        assert!(decode_value::<Vec<u64>>(&bytes).is_err());
        // 4 MiB of the smallest numbers; they would take Miri an hour.
        let long = vec![7u64; if cfg!(miri) { 1 << 10 } else { 4 << 20 }];
        let bytes = encode_value(&long).expect("encodes");
        assert_eq!(decode_value::<Vec<u64>>(&bytes), Ok(long));
    }
}
