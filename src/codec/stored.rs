//! Values that rows store. Each begins with a byte: the version of its format.

use crate::codec::Reader;
use crate::error::Error;
use std::path::Path;

/// Why the bytes of a row are not the value that they should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Undecodable {
    /// A newer release wrote them; its version.
    Newer(u8),
    /// They are not what any release writes.
    Damaged,
}

/// Returns a reader of what follows the version.
pub(crate) fn stored(bytes: &[u8], version: u8) -> Result<Reader<'_>, Undecodable> {
    match bytes.split_first() {
        Some((found, rest)) if *found == version => Ok(Reader::new(rest)),
        Some((newer, _)) if *newer > version => Err(Undecodable::Newer(*newer)),
        _ => Err(Undecodable::Damaged),
    }
}

impl Undecodable {
    /// Returns the error for a value of the store in this folder, of which this release knows the version `known`.
    pub(crate) fn error(self, dir: &Path, known: u8, what: impl Into<String>) -> Error {
        match self {
            Self::Newer(found) => {
                let (path, found, known) = (dir.to_owned(), found.into(), known.into());
                Error::FromTheFuture { path, found, known }
            }
            Self::Damaged => Error::corrupt(dir, 0, what),
        }
    }
}
