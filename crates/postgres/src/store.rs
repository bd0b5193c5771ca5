//! The store.

use crate::check::{
    ID_BYTES_MAX, RESULT_BYTES_MAX, check_id, check_namespace, check_result, lease_ms, ttl_ms,
};
use crate::claims::{self, Answer, Batch, Claiming, STATEMENT_IDS_MAX};
use crate::connections::{Connections, Param, pool_of};
use crate::error::damaged;
use crate::ledger::{Beginning, EndingOf, begun, refused};
use crate::options::PostgresOptions;
use crate::row::Told;
use crate::schema::{self, Migrated};
use crate::statements::Statements;
use deadpool_postgres::Pool;
use firstseen_shared::{
    Begun, Call, Claim, DedupStore, Ending, MoveError, Policy, Record, Result, Start, Stats, Ttl,
};
use std::sync::Arc;
use std::time::Duration;
use tokio_postgres::Row;
use tokio_postgres::types::{FromSqlOwned, Type};

/// A dedup store in a Postgres database. A handle: cheap to clone, and all clones share one pool of connections.
///
/// Each call is one statement, and one round trip. See the [crate's documentation](crate) for what is promised.
///
/// It must be used in a tokio runtime, and the runtime in which it is used first has the tasks of its connections.
#[derive(Debug, Clone)]
pub struct PostgresStore {
    pub(crate) connections: Connections,
    pub(crate) statements: Arc<Statements>,
    pub(crate) options: Arc<PostgresOptions>,
}

/// What a statement does with the transaction that it is in.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Own {
    /// How long it waits for a lock; `None` in a transaction of the caller, whose settings are left alone.
    pub(crate) lock_ms: Option<i32>,
    pub(crate) is_relaxed: bool,
}

impl Own {
    /// The transaction is the caller's.
    pub(crate) const NOT: Self = Self { lock_ms: None, is_relaxed: false };
}

impl PostgresStore {
    /// Opens the store in a database. The tables must be there, in the version of this program: see
    /// [`migrate`](Self::migrate).
    ///
    /// `url` is that of a server without TLS, in the form of libpq, such as `postgres://app@db.internal/events`. With several
    /// hosts and `?target_session_attrs=read-write` the one is taken that is the primary. For TLS build a pool with a
    /// connector of your choice, and take [`with_pool`](Self::with_pool).
    ///
    /// # Errors
    ///
    /// - [`Schema`](firstseen_shared::ErrorKind::Schema): the tables are missing, older or newer.
    /// - [`Unavailable`](firstseen_shared::ErrorKind::Unavailable): there is no answer.
    /// - [`Environment`](firstseen_shared::ErrorKind::Environment): the server is older than Postgres 15, lets this role not
    ///   in, or its transactions are not READ COMMITTED by default.
    /// - [`Invalid`](firstseen_shared::ErrorKind::Invalid): the address or the options.
    pub async fn open(url: &str, options: PostgresOptions) -> Result<Self> {
        options.check()?;
        Self::with_pool(pool_of(url, &options)?, options).await
    }

    /// Opens the store with a pool of your own, for TLS or because the program has one already; see [`open`](Self::open).
    /// `connections_max` of the options then means nothing. Sessions must be READ COMMITTED by default.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub async fn with_pool(pool: Pool, options: PostgresOptions) -> Result<Self> {
        options.check()?;
        let connections = Connections { pool, answer_max: options.answer_max };
        schema::check(&connections, &options.schema).await?;
        let statements = Arc::new(Statements::new(&options.schema));
        Ok(Self { connections, statements, options: Arc::new(options) })
    }

    /// Creates the tables, or brings them to the version of this program, in one transaction. Of those who migrate at the same
    /// time one does it, and the others wait and find it done. Creates the schema if it is missing, for which the role needs `CREATE`
    /// on the database; otherwise it needs `CREATE` on the schema, and to own what is there.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open). [`Schema`](firstseen_shared::ErrorKind::Schema) if the tables are newer than this program: nothing
    /// was changed.
    pub async fn migrate(url: &str, options: &PostgresOptions) -> Result<Migrated> {
        options.check()?;
        Self::migrate_with(pool_of(url, options)?, options).await
    }

    /// Migrates with a pool of your own; see [`migrate`](Self::migrate).
    ///
    /// # Errors
    ///
    /// As [`migrate`](Self::migrate).
    pub async fn migrate_with(pool: Pool, options: &PostgresOptions) -> Result<Migrated> {
        options.check()?;
        let connections = Connections { pool, answer_max: options.answer_max };
        schema::migrate(&connections, options).await
    }

    /// Returns the pool of connections, for statements of your own.
    pub fn pool(&self) -> &Pool {
        &self.connections.pool
    }

    /// Returns the options.
    pub fn options(&self) -> &PostgresOptions {
        &self.options
    }

    fn own(&self) -> Own {
        let ms = self.options.answer_max.as_millis();
        let lock_ms = Some(i32::try_from(ms).unwrap_or(i32::MAX));
        Own { lock_ms, is_relaxed: !self.options.synchronous_commit }
    }

    async fn told(&self, what: &'static str, sql: &str, params: &[Param<'_>]) -> Result<Told> {
        Told::read(what, &self.connections.ask(what, sql, params).await?)
    }

    /// Asks for one value.
    async fn value<T: FromSqlOwned>(
        &self,
        what: &'static str,
        sql: &str,
        params: &[Param<'_>],
    ) -> Result<T> {
        value(what, &self.connections.ask(what, sql, params).await?)
    }

    /// Makes a move of one id that is answered by yes or no.
    async fn change(
        &self,
        what: &'static str,
        sql: &str,
        namespace: &str,
        id: &[u8],
    ) -> Result<bool> {
        check_namespace(what, namespace)?;
        check_id(what, id)?;
        let (namespace, own) = (namespace.as_bytes(), self.own());
        let params: [Param<'_>; 4] = [
            (&namespace, Type::BYTEA),
            (&id, Type::BYTEA),
            (&own.lock_ms, Type::INT4),
            (&own.is_relaxed, Type::BOOL),
        ];
        self.value(what, sql, &params).await
    }
}

impl PostgresStore {
    /// Claims distinct ids, in as many statements.
    pub(crate) async fn claim_batch_of(
        &self,
        namespace: &str,
        statements: &[&[&[u8]]],
        ttl: Ttl,
        call: Call,
    ) -> Result<Vec<Answer>> {
        let claiming = Claiming::new(namespace, ttl, call)?;
        let own = self.own();
        let mut answers = Vec::new();
        for ids in statements {
            let params = claiming.params(ids, &own);
            let rows = self.connections.ask(claims::WHAT, &self.statements.claim, &params).await?;
            answers.extend(claims::answers(&rows, ids.len())?);
        }
        Ok(answers)
    }
}

/// Returns the one value of an answer.
pub(crate) fn value<T: FromSqlOwned>(what: &'static str, rows: &[Row]) -> Result<T> {
    let [row] = rows else { return Err(damaged(what, "the server sent no row, or several")) };
    row.try_get(0).map_err(|error| damaged(what, error.to_string()))
}

impl DedupStore for PostgresStore {
    async fn claim_batch(
        &self,
        namespace: &str,
        ids: &[&[u8]],
        ttl: Ttl,
        call: Call,
    ) -> Result<Vec<Claim>> {
        let batch = Batch::new(ids)?;
        let statements: Vec<&[&[u8]]> = batch.distinct.chunks(STATEMENT_IDS_MAX).collect();
        let answers = self.claim_batch_of(namespace, &statements, ttl, call).await?;
        batch.claims(&answers)
    }

    async fn contains(&self, namespace: &str, id: &[u8]) -> Result<bool> {
        const WHAT: &str = "look for a claim";
        check_namespace(WHAT, namespace)?;
        check_id(WHAT, id)?;
        let namespace = namespace.as_bytes();
        let params: [Param<'_>; 2] = [(&namespace, Type::BYTEA), (&id, Type::BYTEA)];
        self.value(WHAT, &self.statements.contains, &params).await
    }

    async fn forget(&self, namespace: &str, id: &[u8]) -> Result<bool> {
        self.change("forget a claim", &self.statements.forget, namespace, id).await
    }

    async fn begin(
        &self,
        namespace: &str,
        id: &[u8],
        start: &Start<'_>,
        policy: &Policy,
        call: Call,
    ) -> Result<Begun> {
        const WHAT: &str = "begin";
        let beginning = Beginning::new(WHAT, namespace, id, start, policy, call)?;
        let own = self.own();
        begun(WHAT, self.told(WHAT, &self.statements.begin, &beginning.params(&own)).await?)
    }

    async fn renew(
        &self,
        namespace: &str,
        id: &[u8],
        token: u64,
        lease: Duration,
    ) -> Result<(), MoveError> {
        const WHAT: &str = "renew";
        check_namespace(WHAT, namespace)?;
        check_id(WHAT, id)?;
        let (namespace, own) = (namespace.as_bytes(), self.own());
        let (token, lease_ms) = (token_of(token), lease_ms(WHAT, lease)?);
        let params: [Param<'_>; 6] = [
            (&namespace, Type::BYTEA),
            (&id, Type::BYTEA),
            (&token, Type::INT8),
            (&lease_ms, Type::INT8),
            (&own.lock_ms, Type::INT4),
            (&own.is_relaxed, Type::BOOL),
        ];
        refused(WHAT, self.told(WHAT, &self.statements.renew, &params).await?)
    }

    async fn end(
        &self,
        namespace: &str,
        id: &[u8],
        token: u64,
        ending: &Ending<'_>,
        policy: &Policy,
    ) -> Result<(), MoveError> {
        const WHAT: &str = "end";
        let ending = EndingOf::new(WHAT, namespace, id, token_of(token), ending, policy)?;
        let own = self.own();
        refused(WHAT, self.told(WHAT, &self.statements.end, &ending.params(&own)).await?)
    }

    async fn record(&self, namespace: &str, id: &[u8]) -> Result<Option<Record>> {
        const WHAT: &str = "read a record";
        check_namespace(WHAT, namespace)?;
        check_id(WHAT, id)?;
        let namespace = namespace.as_bytes();
        let params: [Param<'_>; 2] = [(&namespace, Type::BYTEA), (&id, Type::BYTEA)];
        Ok(self.told(WHAT, &self.statements.record, &params).await?.record)
    }

    async fn redrive(&self, namespace: &str, id: &[u8]) -> Result<bool> {
        self.change("redrive", &self.statements.redrive, namespace, id).await
    }

    async fn settle(&self, namespace: &str, id: &[u8], result: &[u8], ttl: Ttl) -> Result<bool> {
        const WHAT: &str = "settle";
        check_namespace(WHAT, namespace)?;
        check_id(WHAT, id)?;
        check_result(WHAT, result)?;
        let (namespace, ttl_ms, own) = (namespace.as_bytes(), ttl_ms(WHAT, ttl)?, self.own());
        let params: [Param<'_>; 6] = [
            (&namespace, Type::BYTEA),
            (&id, Type::BYTEA),
            (&result, Type::BYTEA),
            (&ttl_ms, Type::INT8),
            (&own.lock_ms, Type::INT4),
            (&own.is_relaxed, Type::BOOL),
        ];
        self.value(WHAT, &self.statements.settle, &params).await
    }

    async fn forget_record(&self, namespace: &str, id: &[u8]) -> Result<bool> {
        self.change("forget a record", &self.statements.forget_record, namespace, id).await
    }

    async fn dead_letters(
        &self,
        namespace: &str,
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<Vec<u8>>> {
        const WHAT: &str = "list dead letters";
        check_namespace(WHAT, namespace)?;
        let namespace = namespace.as_bytes();
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let params: [Param<'_>; 3] =
            [(&namespace, Type::BYTEA), (&after, Type::BYTEA), (&limit, Type::INT8)];
        self.value(WHAT, &self.statements.dead_letters, &params).await
    }

    /// Claims and records are counted up to ten thousand of each, and beyond that as the server's planner estimates them: from the
    /// sizes of its tables, and from samples that its autovacuum takes.
    async fn stats(&self, namespace: &str) -> Result<Stats> {
        const WHAT: &str = "read stats";
        check_namespace(WHAT, namespace)?;
        let namespace = namespace.as_bytes();
        let params: [Param<'_>; 1] = [(&namespace, Type::BYTEA)];
        let counts: Vec<i64> = self.value(WHAT, &self.statements.stats, &params).await?;
        let [claims, records, dead] = counts[..] else {
            return Err(damaged(WHAT, "the server sent another number of counts"));
        };
        let count = |count: i64| Some(count.max(0).cast_unsigned());
        let mut stats = Stats::default();
        (stats.claims, stats.records, stats.dead_letters) =
            (count(claims), count(records), count(dead));
        Ok(stats)
    }

    fn id_bytes_max(&self) -> usize {
        ID_BYTES_MAX
    }

    fn result_bytes_max(&self) -> usize {
        RESULT_BYTES_MAX
    }
}

/// Returns a token as the server counts; one that it has never given if there is no such number.
pub(crate) fn token_of(token: u64) -> i64 {
    i64::try_from(token).unwrap_or(0)
}
