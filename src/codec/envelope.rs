//! The frame of every metadata file: magic, format version, length, checksums, then the body.
//!
//! ```text
//! offset  0  magic     4 bytes, the kind of file
//!         4  version   u16
//!         6  reserved  u16, zero
//!         8  length    u64, of the body
//!        16  body crc  u32, CRC32C of the body
//!        20  head crc  u32, CRC32C of bytes 0..20
//!        24  body
//! ```

use crate::codec::Reader;
use crate::error::{Error, Result};
use std::ops::RangeInclusive;
use std::path::Path;

/// Bytes before the body.
pub(crate) const HEAD_BYTES: usize = 24;

/// Frames a body.
pub(crate) fn frame(magic: [u8; 4], version: u16, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(HEAD_BYTES + body.len());
    out.extend_from_slice(&magic);
    out.extend_from_slice(&version.to_le_bytes());
    out.extend_from_slice(&[0; 2]);
    out.extend_from_slice(&(body.len() as u64).to_le_bytes());
    out.extend_from_slice(&crc32c::crc32c(body).to_le_bytes());
    let head = crc32c::crc32c(&out);
    out.extend_from_slice(&head.to_le_bytes());
    out.extend_from_slice(body);
    out
}

/// Checks the frame and returns version and body. Any difference from what [`frame`] wrote is an error (I11), and so is
/// a version that this release does not read.
pub(crate) fn open<'a>(
    path: &Path,
    magic: [u8; 4],
    known: RangeInclusive<u16>,
    bytes: &'a [u8],
) -> Result<(u16, &'a [u8])> {
    let short = || Error::corrupt(path, bytes.len() as u64, "the file ends inside its header");
    let head = bytes.get(..HEAD_BYTES).ok_or_else(short)?;
    let mut r = Reader::new(head);
    if r.array::<4>() != Some(magic) {
        return Err(Error::corrupt(path, 0, "the first four bytes are not this file's magic"));
    }
    let version = r.u16().ok_or_else(short)?;
    let _reserved = r.u16().ok_or_else(short)?;
    let len = r.u64().ok_or_else(short)?;
    let body_crc = r.u32().ok_or_else(short)?;
    let head_crc = r.u32().ok_or_else(short)?;
    if crc32c::crc32c(&head[..20]) != head_crc {
        return Err(Error::corrupt(path, 0, "the header does not match its checksum"));
    }
    // Only after the checksum: a flipped bit must not look like another release.
    check_version(path, version, known)?;
    let body = &bytes[HEAD_BYTES..];
    if body.len() as u64 != len {
        let what = format!("the body should have {len} bytes and has {}", body.len());
        return Err(Error::corrupt(path, HEAD_BYTES as u64, what));
    }
    if crc32c::crc32c(body) != body_crc {
        let what = "the body does not match its checksum";
        return Err(Error::corrupt(path, HEAD_BYTES as u64, what));
    }
    Ok((version, body))
}

/// Refuses a version that this release does not read.
pub(crate) fn check_version(path: &Path, found: u16, known: RangeInclusive<u16>) -> Result<()> {
    let path = || path.to_owned();
    if found > *known.end() {
        return Err(Error::FromTheFuture { path: path(), found, known: *known.end() });
    }
    if found < *known.start() {
        return Err(Error::FromThePast { path: path(), found, oldest: *known.start() });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn i11_every_flipped_bit_and_every_truncation_is_noticed() {
        let good = frame(*b"TEST", 1, b"hello, envelope");
        let path = Path::new("x");
        let read = open(path, *b"TEST", 1..=2, &good).ok();
        assert_eq!(read, Some((1, &b"hello, envelope"[..])));
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(
                matches!(open(path, *b"TEST", 1..=2, &bad), Err(Error::Corrupt { .. })),
                "{bit}"
            );
        }
        for len in 0..good.len() {
            assert!(open(path, *b"TEST", 1..=2, &good[..len]).is_err());
        }
    }

    #[test]
    fn a_version_that_is_not_read_says_so() {
        let of = |version| {
            open(Path::new("x"), *b"TEST", 3..=4, &frame(*b"TEST", version, b"")).map(drop)
        };
        assert!(of(3).is_ok() && of(4).is_ok());
        assert!(matches!(of(5), Err(Error::FromTheFuture { found: 5, known: 4, .. })));
        assert!(matches!(of(2), Err(Error::FromThePast { found: 2, oldest: 3, .. })));
    }
}
