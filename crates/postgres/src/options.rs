//! The settings of a store.

use crate::error::invalid;
use firstseen_shared::Result;
use std::time::Duration;

/// The settings of a [`PostgresStore`](crate::PostgresStore).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PostgresOptions {
    pub(crate) schema: String,
    pub(crate) connections_max: usize,
    pub(crate) answer_max: Duration,
    pub(crate) migration_max: Duration,
    pub(crate) stall_max: Duration,
    pub(crate) synchronous_commit: bool,
}

impl Default for PostgresOptions {
    fn default() -> Self {
        Self {
            schema: "firstseen".to_owned(),
            connections_max: 16,
            answer_max: Duration::from_secs(5),
            migration_max: Duration::from_secs(60),
            stall_max: Duration::from_millis(500),
            synchronous_commit: true,
        }
    }
}

impl PostgresOptions {
    /// Creates options with the defaults: the schema `firstseen`, at most 16 connections, answers within 5 s, migrations
    /// within a minute, stalls of half a second at most, and commits that wait for the disk.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the schema that has the tables: lower-case letters, digits and underscores, at most 48. Two stores in two schemas
    /// know nothing of each other.
    #[must_use]
    pub fn schema(self, schema: impl Into<String>) -> Self {
        Self { schema: schema.into(), ..self }
    }

    /// Sets the number of connections of the pool, at least one. A call needs one for as long as its statement takes, so there
    /// need be no more than the server can work on at a time.
    #[must_use]
    pub fn connections_max(self, connections_max: usize) -> Self {
        Self { connections_max, ..self }
    }

    /// Sets after how long a call fails that has no answer; a millisecond at least. It counts for a whole call: the wait for a
    /// connection, connecting, and the statement with its waits for others who claim the same id.
    ///
    /// The server stops waiting for a lock after this time, too. What it computes or writes it ends; a `statement_timeout`
    /// bounds that: `ALTER ROLE app SET statement_timeout = '10s'`, longer than this time.
    #[must_use]
    pub fn answer_max(self, answer_max: Duration) -> Self {
        Self { answer_max, ..self }
    }

    /// Sets after how long a migration fails, and one step of a maintenance.
    #[must_use]
    pub fn migration_max(self, migration_max: Duration) -> Self {
        Self { migration_max, ..self }
    }

    /// Sets how long [`maintain`](crate::PostgresStore::maintain) may hold up claims: it opens and drops partitions when no
    /// claim is under way, waits for that so long, and leaves it to the next maintenance otherwise. Shorter than
    /// [`answer_max`](Self::answer_max).
    #[must_use]
    pub fn stall_max(self, stall_max: Duration) -> Self {
        Self { stall_max, ..self }
    }

    /// Sets whether a commit waits until it is on disk, which it does by default, also where `synchronous_commit` of the
    /// server or role is off. If it does not, a crash of the server takes the last answers along: ids that were
    /// claimed are first again, and fencing tokens may be given twice. Other settings of `synchronous_commit`, for replicas,
    /// are the server's own and stay.
    #[must_use]
    pub fn synchronous_commit(self, synchronous_commit: bool) -> Self {
        Self { synchronous_commit, ..self }
    }

    pub(crate) fn check(&self) -> Result<()> {
        let name = self.schema.as_bytes();
        let is_word = |c: &u8| c.is_ascii_lowercase() || c.is_ascii_digit() || *c == b'_';
        let is_name = (1..=48).contains(&name.len())
            && !name[0].is_ascii_digit()
            && name.iter().all(is_word)
            && !self.schema.starts_with("pg_");
        let wrong = if !is_name {
            format!(
                "{:?} is no name for the schema: it has up to 48 of a-z, 0-9 and _, and begins neither with a digit nor with pg_",
                self.schema
            )
        } else if self.connections_max == 0 {
            "connections_max of 0 lets no call through; give at least 1".to_owned()
        } else if [self.answer_max, self.migration_max, self.stall_max]
            .iter()
            .any(|time| *time < Duration::from_millis(1))
        {
            "a time limit below 1ms leaves no time for an answer".to_owned()
        } else if self.stall_max >= self.answer_max {
            "stall_max is not shorter than answer_max: a maintenance would fail claims".to_owned()
        } else {
            return Ok(());
        };
        Err(invalid("the options of a store", wrong))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use firstseen_shared::ErrorKind;

    #[test]
    fn options_that_cannot_work_are_refused() {
        let new = PostgresOptions::new;
        assert!(new().check().is_ok());
        assert!(new().schema("_events_2").check().is_ok());
        for schema in ["", "2x", "Events", "a b", "a\"b", "a%b", "a'b", "pg_x", &"x".repeat(49)] {
            let error = new().schema(schema).check().expect_err(schema);
            assert_eq!(error.kind(), ErrorKind::Invalid);
        }
        for options in [
            new().connections_max(0),
            new().answer_max(Duration::ZERO),
            new().stall_max(Duration::from_nanos(1)),
            new().stall_max(Duration::from_secs(5)),
        ] {
            assert!(options.check().is_err(), "{options:?}");
        }
    }
}
