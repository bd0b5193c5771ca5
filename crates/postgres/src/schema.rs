//! The tables: which version is there, and how they come to be.

use crate::connections::{Connections, Lease, Param, bounded};
use crate::error::{Fault, damaged};
use crate::options::PostgresOptions;
use firstseen_shared::{Error, ErrorKind, Result};
use tokio::time::Instant;
use tokio_postgres::IsolationLevel;
use tokio_postgres::types::Type;

/// The SQL of each version of the tables, in order, for the schema `firstseen`: to be read, or to be applied by a tool of your own. Each
/// notes its version in the table `firstseen.versions`.
pub const MIGRATIONS: [(u32, &str); 2] = [
    (1, include_str!("../migrations/0001_claims.sql")),
    (2, include_str!("../migrations/0002_ledger.sql")),
];

/// The version of the tables that this program knows.
pub const VERSION: u32 = MIGRATIONS[MIGRATIONS.len() - 1].0;

/// The oldest server that has what the statements need.
const SERVER_VERSION_MIN: i32 = 150_000;

/// What a migration has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Migrated {
    /// The version that was there before; zero if there was none.
    pub from: u32,
    /// The version that is there now.
    pub to: u32,
}

/// Checks that the server can be used, and that the tables are of this program's version.
pub(crate) async fn check(connections: &Connections, schema: &str) -> Result<()> {
    const WHAT: &str = "open";
    let sql = "SELECT current_setting('server_version_num')::integer, \
               current_setting('transaction_isolation'), \
               to_regclass(format('%I.versions', $1::text)) IS NOT NULL";
    let rows = connections.ask(WHAT, sql, &[(&schema, Type::TEXT)]).await?;
    let [row] = &rows[..] else { return Err(damaged(WHAT, "the server sent no row")) };
    let (server_version, isolation, has_versions): (i32, String, bool) =
        (row.get(0), row.get(1), row.get(2));
    let environment = |why: String| Err(Error::new(ErrorKind::Environment, WHAT, why));
    if server_version < SERVER_VERSION_MIN {
        return environment(format!(
            "the server has version {}; this needs Postgres {} or newer",
            server_version / 10_000,
            SERVER_VERSION_MIN / 10_000
        ));
    }
    if isolation != "read committed" {
        return environment(format!(
            "transactions of this role are {}, and claims need READ COMMITTED: \
             ALTER ROLE ... SET default_transaction_isolation = 'read committed'",
            isolation.to_uppercase()
        ));
    }
    let found = if has_versions {
        let sql = format!("SELECT max(version) FROM \"{schema}\".versions");
        let rows = connections.ask(WHAT, &sql, &[]).await?;
        rows.first().and_then(|row| row.get::<_, Option<i32>>(0)).unwrap_or_default()
    } else {
        0
    };
    let found = u32::try_from(found).unwrap_or(u32::MAX);
    if found == VERSION { Ok(()) } else { Err(wrong_version(WHAT, schema, found)) }
}

fn wrong_version(what: &'static str, schema: &str, found: u32) -> Error {
    let why = match found {
        0 => format!(
            "the schema {schema:?} has no tables of firstseen: run PostgresStore::migrate, or apply the SQL files"
        ),
        _ if found < VERSION => format!(
            "the tables in the schema {schema:?} are of version {found}, and this program needs version {VERSION}: \
             run PostgresStore::migrate, or apply the SQL files that are missing"
        ),
        _ => format!(
            "the tables in the schema {schema:?} are of version {found}, and this program knows only version {VERSION}: \
             run a newer program"
        ),
    };
    Error::new(ErrorKind::Schema, what, why)
}

/// Brings the tables to this program's version, in one transaction, under a lock.
pub(crate) async fn migrate(
    connections: &Connections,
    options: &PostgresOptions,
) -> Result<Migrated> {
    let deadline = Instant::now() + options.migration_max;
    let mut lease = connections.lease("migrate", deadline).await.map_err(|fault| fault.error)?;
    let migrated = migrate_with(&mut lease, options, deadline).await;
    match migrated {
        Ok(migrated) => Ok(lease.settle(Ok(migrated)).map_err(|fault| fault.error)?),
        // The connection is closed, and the transaction with it.
        Err(error) => Err(error),
    }
}

async fn migrate_with(
    lease: &mut Lease,
    options: &PostgresOptions,
    deadline: Instant,
) -> Result<Migrated> {
    const WHAT: &str = "migrate";
    let (schema, within) = (options.schema.as_str(), options.migration_max);
    let plain = |fault: Fault| fault.error;
    let start = lease.build_transaction().isolation_level(IsolationLevel::ReadCommitted).start();
    let transaction = bounded(WHAT, start, deadline, within).await.map_err(plain)?;
    let ask = async |sql: &str, params: &[Param<'_>]| {
        bounded(WHAT, transaction.query_typed(sql, params), deadline, within).await.map_err(plain)
    };

    // Of those who migrate at the same time one does, and the others find it done.
    let lock_ms = i32::try_from(within.as_millis()).unwrap_or(i32::MAX).to_string();
    ask("SELECT set_config('lock_timeout', $1, true)", &[(&lock_ms, Type::TEXT)]).await?;
    let lock = "SELECT pg_advisory_xact_lock(hashtextextended('firstseen schema ' || $1, 0))";
    ask(lock, &[(&schema, Type::TEXT)]).await?;

    let sql = "SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = $1), \
               to_regclass(format('%I.versions', $1)) IS NOT NULL";
    let rows = ask(sql, &[(&schema, Type::TEXT)]).await?;
    let [row] = &rows[..] else { return Err(damaged(WHAT, "the server sent no row")) };
    let (has_schema, has_versions): (bool, bool) = (row.get(0), row.get(1));
    let from = if has_versions {
        let rows = ask(&format!("SELECT max(version) FROM \"{schema}\".versions"), &[]).await?;
        let from = rows.first().and_then(|row| row.get::<_, Option<i32>>(0));
        u32::try_from(from.unwrap_or_default()).unwrap_or(u32::MAX)
    } else {
        0
    };
    if from > VERSION {
        return Err(wrong_version(WHAT, schema, from));
    }
    if !has_schema {
        ask(&format!("CREATE SCHEMA \"{schema}\""), &[]).await?;
    }
    for (_, sql) in MIGRATIONS.iter().filter(|(version, _)| *version > from) {
        let sql = sql_for(schema, sql);
        let applied = transaction.batch_execute(&sql);
        bounded(WHAT, applied, deadline, within).await.map_err(plain)?;
    }
    bounded(WHAT, transaction.commit(), deadline, within).await.map_err(plain)?;
    Ok(Migrated { from, to: VERSION })
}

/// Returns the SQL of a migration for another schema than `firstseen`.
fn sql_for(schema: &str, sql: &str) -> String {
    sql.replace("firstseen.", &format!("\"{schema}\"."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_count_up_from_one_and_each_file_notes_its_own() {
        for (n, (version, sql)) in MIGRATIONS.iter().enumerate() {
            assert_eq!(*version as usize, n + 1);
            let note = format!("INSERT INTO firstseen.versions (version) VALUES ({version});\n");
            assert!(sql.ends_with(&note), "{version}");
        }
    }

    #[test]
    fn another_schema_is_named_everywhere() {
        for (_, sql) in MIGRATIONS {
            let sql = sql_for("other", sql);
            assert!(!sql.contains("firstseen.") && sql.contains("\"other\".clock()"));
        }
    }
}
