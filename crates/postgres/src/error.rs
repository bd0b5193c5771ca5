//! What the server says, in the words of the trait.

use deadpool_postgres::PoolError;
use firstseen_shared::{Error, ErrorKind};
use std::error::Error as StdError;
use std::fmt;
use std::time::Duration;
use tokio_postgres::error::SqlState;

/// Ours: a transaction of the caller has another isolation level than claims need.
const WRONG_ISOLATION: &str = "ZS001";

/// Why a statement has no answer.
#[derive(Debug)]
pub(crate) struct Fault {
    pub(crate) error: Error,
    pub(crate) code: Option<SqlState>,
}

/// What the client says, with its reason.
#[derive(Debug)]
struct Cause {
    text: String,
    source: Option<tokio_postgres::Error>,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl StdError for Cause {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_ref().map(|source| source as _)
    }
}

pub(crate) fn invalid(what: &'static str, why: impl Into<String>) -> Error {
    Error::new(ErrorKind::Invalid, what, why.into())
}

/// Returns the error for an answer that this program does not understand.
pub(crate) fn damaged(what: &'static str, why: impl Into<String>) -> Error {
    Error::new(ErrorKind::Damaged, what, why.into())
}

impl Fault {
    pub(crate) fn of(what: &'static str, error: tokio_postgres::Error) -> Self {
        let code = error.code().cloned();
        let kind = code.as_ref().map_or_else(|| kind_without_code(&error), kind_of);
        let text = match error.as_db_error() {
            Some(refused) => {
                let advice = advice_on(refused.code()).map_or(String::new(), |a| format!("; {a}"));
                format!("{} (SQLSTATE {}){advice}", refused.message(), refused.code().code())
            }
            None => match error.source() {
                Some(reason) => format!("{error}: {reason}"),
                None => error.to_string(),
            },
        };
        let cause = Cause { text, source: Some(error) };
        Self { error: Error::new(kind, what, cause), code }
    }

    pub(crate) fn of_pool(what: &'static str, error: PoolError) -> Self {
        match error {
            PoolError::Backend(error) => Self::of(what, error),
            other => {
                let kind = match other {
                    PoolError::Timeout(_) => ErrorKind::Unavailable,
                    _ => ErrorKind::Environment,
                };
                Self { error: Error::new(kind, what, other.to_string()), code: None }
            }
        }
    }

    /// Returns the fault of a call that had no answer in time.
    pub(crate) fn late(what: &'static str, waited_for: &str, within: Duration) -> Self {
        let text = format!("{waited_for} within {within:?}");
        Self { error: Error::new(ErrorKind::Unavailable, what, text), code: None }
    }

    fn is(&self, codes: &[SqlState]) -> bool {
        self.code.as_ref().is_some_and(|code| codes.contains(code))
    }

    /// Returns whether the server has undone the statement because of others, so that it may be repeated at once.
    pub(crate) fn is_conflict(&self) -> bool {
        self.is(&[SqlState::T_R_SERIALIZATION_FAILURE, SqlState::T_R_DEADLOCK_DETECTED])
    }

    /// Returns whether others held a lock for too long.
    pub(crate) fn is_blocked(&self) -> bool {
        self.is(&[SqlState::LOCK_NOT_AVAILABLE, SqlState::T_R_DEADLOCK_DETECTED])
    }

    /// Returns whether the connection may be used again. One to a standby may not: the next may find the primary.
    pub(crate) fn spares_connection(&self) -> bool {
        let Some(code) = &self.code else { return false };
        let is_going = matches!(&code.code()[..2], "08" | "57" | "58" | "XX");
        (!is_going || *code == SqlState::QUERY_CANCELED)
            && *code != SqlState::READ_ONLY_SQL_TRANSACTION
    }
}

/// Returns what to do about an error that is not the server's word.
fn kind_without_code(error: &tokio_postgres::Error) -> ErrorKind {
    let mut cause = error.source();
    while let Some(inner) = cause {
        if inner.is::<std::io::Error>() {
            return ErrorKind::Unavailable;
        }
        cause = inner.source();
    }
    // Closed, or anything about its settings, such as a password that is missing.
    if error.is_closed() { ErrorKind::Unavailable } else { ErrorKind::Environment }
}

/// Returns what to do about an error with this code.
pub(crate) fn kind_of(code: &SqlState) -> ErrorKind {
    let text = code.code();
    match text {
        WRONG_ISOLATION => return ErrorKind::Invalid,
        // Read only: a standby, or a primary that has become one.
        "25006" | "55P03" | "XX000" => return ErrorKind::Unavailable,
        "3F000" | "42P01" | "42883" | "42703" | "42704" | "42804" | "42P13" => {
            return ErrorKind::Schema;
        }
        // The disk is full; the database was dropped.
        "53100" | "57P04" => return ErrorKind::Environment,
        "XX001" | "XX002" => return ErrorKind::Damaged,
        _ => {}
    }
    match &text[..2] {
        // Connections, conflicts with others, resources, and what an operator does to the server.
        "08" | "40" | "53" | "57" => ErrorKind::Unavailable,
        // What is written does not fit, or cannot be encoded.
        "22" => ErrorKind::Invalid,
        _ => ErrorKind::Environment,
    }
}

/// Returns what to do about it, where the server does not say.
fn advice_on(code: &SqlState) -> Option<&'static str> {
    Some(match code.code() {
        "25006" => {
            "this server is a standby or set to read only: connect to the primary, or give all hosts and \
             target_session_attrs=read-write"
        }
        "53300" => "lower connections_max, or raise max_connections of the server",
        "55P03" => {
            "somebody else holds the id or the store for too long, perhaps in an open transaction"
        }
        "57014" => {
            "statement_timeout of the server is too short, or somebody has cancelled the statement"
        }
        "42501" => "see the grants in the documentation of firstseen-postgres",
        "3F000" | "42P01" | "42883" => "run PostgresStore::migrate, or apply the SQL files",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_say_what_to_do() {
        for (kind, codes) in [
            (
                ErrorKind::Unavailable,
                &[
                    "08006", "25006", "40001", "40P01", "53200", "53300", "55P03", "57014",
                    "57P01", "57P02", "57P03",
                ][..],
            ),
            (ErrorKind::Environment, &["28P01", "3D000", "42501", "53100", "57P04", "58030"]),
            (ErrorKind::Schema, &["3F000", "42P01", "42883"]),
            (ErrorKind::Damaged, &["XX001", "XX002"]),
            (ErrorKind::Invalid, &[WRONG_ISOLATION, "22021"]),
        ] {
            for code in codes {
                assert_eq!(kind_of(&SqlState::from_code(code)), kind, "{code}");
            }
        }
    }
}
