//! What goes wrong with a source.

use crate::entry::EntryId;
use std::time::Duration;

/// What goes wrong with a [`RedisSource`](crate::RedisSource).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RedisError {
    /// The server, or the way to it. The next call connects anew where that may help.
    #[error("{what}: {source}")]
    Server {
        /// What was asked of it.
        what: &'static str,
        /// What the client says.
        source: redis::RedisError,
    },
    /// The server has not answered in time.
    #[error("{what}: no answer within {after:?}")]
    NoAnswer {
        /// What was asked of it.
        what: &'static str,
        /// How long it had.
        after: Duration,
    },
    /// The server's answer is not one that is known.
    #[error("{what}: the answer cannot be read: {why}")]
    Unreadable {
        /// What was asked of it.
        what: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// There is no such stream.
    #[error("there is no stream {stream}: add its first entry, or set RedisOptions::create_stream")]
    NoStream {
        /// Its key.
        stream: String,
    },
    /// A key, or the server, cannot be used.
    #[error("{subject} {why}")]
    Unsuitable {
        /// The key or the server.
        subject: String,
        /// What is wrong, and what to do.
        why: String,
    },
    /// Entries were trimmed or deleted before they were acknowledged. The next call goes on with what is left.
    #[error(
        "{count} entries of the stream {stream}, {first} to {last}, are gone before they were acknowledged: \
         trim by MINID below the oldest unacknowledged entry, or with a larger MAXLEN"
    )]
    Trimmed {
        /// The stream's key.
        stream: String,
        /// How many were lost since this was last told.
        count: u64,
        /// The lowest of their ids.
        first: EntryId,
        /// The highest of their ids.
        last: EntryId,
    },
    /// Another consumer of the group has the entry by now, and answers for it.
    #[error("the entry {entry} has been claimed by another consumer: it was idle for too long")]
    Taken {
        /// The entry's id.
        entry: EntryId,
    },
}

impl RedisError {
    /// Returns what wraps an error of the client.
    pub(crate) fn of(what: &'static str) -> impl FnOnce(redis::RedisError) -> Self {
        move |source| Self::Server { what, source }
    }

    pub(crate) fn unreadable(what: &'static str, why: impl Into<String>) -> Self {
        Self::Unreadable { what, why: why.into() }
    }

    /// Whether the server says that the group, or its stream, is not there.
    pub(crate) fn is_no_group(&self) -> bool {
        // UNBLOCKED: the stream was deleted while a consumer waited at it.
        self.code().is_some_and(|code| matches!(code, "NOGROUP" | "UNBLOCKED"))
    }

    /// Returns the word that the server's answer began with, if it was an error.
    pub(crate) fn code(&self) -> Option<&str> {
        match self {
            Self::Server { source, .. } => source.code(),
            _ => None,
        }
    }
}
