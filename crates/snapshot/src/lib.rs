//! Snapshots of [`firstseen`] stores in object stores.
//!
//! [`ObjectTarget`] makes a place for snapshots of any client of the package `object_store`: S3 and what speaks its
//! protocol, Google Cloud Storage, Azure. Give it to [`Store::snapshot`](firstseen::Store::snapshot) and
//! [`Store::restore`](firstseen::Store::restore).
//!
//! ```
//! use firstseen::Store;
//! use firstseen_snapshot::ObjectTarget;
//! use object_store::memory::InMemory;
//! use std::sync::Arc;
//! # let dir = tempfile::tempdir()?;
//! # let path = dir.path().join("seen.db");
//! let store = Store::open(&path)?;
//! assert!(store.claim("evt-1")?.is_first_seen());
//! // In a program: AmazonS3Builder::from_env()...build()?
//! let bucket = Arc::new(InMemory::new());
//! let target = ObjectTarget::new(bucket, "stores/seen")?;
//! store.snapshot(&target)?;
//!
//! let other = dir.path().join("other.db");
//! Store::restore(&target, &other)?;
//! assert!(Store::open(other)?.claim("evt-1")?.is_duplicate());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod target;

pub use target::ObjectTarget;
