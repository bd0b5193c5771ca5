//! Where snapshots are kept.

use std::io;

/// A place for snapshots: objects with names, such as a folder of files or a bucket.
///
/// A store writes each object once and never changes it. That is all it needs of the place: no object is replaced, so
/// two writers cannot overwrite each other, and who reads never meets half of an object.
///
/// Names are of the form `folder/name`, with ASCII letters, digits and `-`, of at most 120 bytes. Calls may block; no
/// lock of the store is held meanwhile, and claims go on.
pub trait SnapshotTarget: Send + Sync {
    /// Stores an object under a name that has none; returns `false`, and changes nothing, if it has one.
    ///
    /// Of two callers with one name and different bytes, one at most gets `true`. When this returns `true`, the object is there as a whole,
    /// for every reader and after a power cut. After an error it is there as a whole or not at all.
    ///
    /// # Errors
    ///
    /// Any error of the place. The snapshot fails with [`Environment`](crate::ErrorKind::Environment), or with
    /// [`StorageFull`](crate::ErrorKind::StorageFull) if the error says so.
    fn put_new(&self, name: &str, bytes: &[u8]) -> io::Result<bool>;

    /// Returns an object, or `None` if there is none of this name.
    ///
    /// # Errors
    ///
    /// If the object cannot be read. Never `None` for one that is there.
    fn get(&self, name: &str) -> io::Result<Option<Vec<u8>>>;

    /// Returns the names of all objects in a folder, without the folder, in any order. One that is missing is empty.
    ///
    /// The list has every object whose [`put_new`](Self::put_new) had returned before.
    ///
    /// # Errors
    ///
    /// If the list cannot be read as a whole.
    fn list(&self, folder: &str) -> io::Result<Vec<String>>;

    /// Removes an object. One that is not there is fine.
    ///
    /// # Errors
    ///
    /// If it may still be there.
    fn delete(&self, name: &str) -> io::Result<()>;
}
