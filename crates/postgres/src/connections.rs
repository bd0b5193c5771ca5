//! Statements on pooled connections: each one round trip, and each with an end.

use crate::error::Fault;
use crate::options::PostgresOptions;
use deadpool_postgres::{Manager, ManagerConfig, Object, Pool, RecyclingMethod};
use firstseen_shared::{Error, ErrorKind, Result};
use std::future::Future;
use std::ops::{Deref, DerefMut};
use std::time::Duration;
use tokio::time::{Instant, timeout_at};
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Config, NoTls, Row};

/// A parameter of a statement, with its type: so that the server need not be asked for it.
pub(crate) type Param<'a> = (&'a (dyn ToSql + Sync), Type);

/// How often a statement is repeated that the server has undone because of others.
const CONFLICTS_MAX: u32 = 10;

/// Returns a pool for a server without TLS.
pub(crate) fn pool_of(url: &str, options: &PostgresOptions) -> Result<Pool> {
    let wrong = |error: tokio_postgres::Error| {
        let why = std::error::Error::source(&error)
            .map_or_else(|| error.to_string(), |reason| format!("{error}: {reason}"));
        Error::new(ErrorKind::Invalid, "the address of the server", why)
    };
    let mut config: Config = url.parse().map_err(wrong)?;
    if config.get_connect_timeout().is_none() {
        config.connect_timeout(options.answer_max);
    }
    if config.get_application_name().is_none() {
        config.application_name("firstseen");
    }
    // Nothing is left behind in a session that would have to be cleaned up.
    let manager = ManagerConfig { recycling_method: RecyclingMethod::Fast };
    let manager = Manager::from_config(config, NoTls, manager);
    let pool = Pool::builder(manager).max_size(options.connections_max).build();
    pool.map_err(|error| Error::new(ErrorKind::Environment, "the pool", error.to_string()))
}

/// The connections of a store.
#[derive(Debug, Clone)]
pub(crate) struct Connections {
    pub(crate) pool: Pool,
    pub(crate) answer_max: Duration,
}

impl Connections {
    /// Makes a statement, and repeats it if the server has undone it because of others.
    pub(crate) async fn ask(
        &self,
        what: &'static str,
        sql: &str,
        params: &[Param<'_>],
    ) -> Result<Vec<Row>> {
        let deadline = Instant::now() + self.answer_max;
        let mut conflicts = 0;
        loop {
            match self.ask_once(what, sql, params, deadline).await {
                Ok(rows) => return Ok(rows),
                Err(fault) if fault.is_conflict() && conflicts < CONFLICTS_MAX => {
                    conflicts += 1;
                    tracing::debug!(error = %fault.error, "undone because of others; once more");
                }
                Err(fault) => return Err(fault.error),
            }
        }
    }

    /// Makes a statement once.
    pub(crate) async fn ask_once(
        &self,
        what: &'static str,
        sql: &str,
        params: &[Param<'_>],
        deadline: Instant,
    ) -> Result<Vec<Row>, Fault> {
        let lease = self.lease(what, deadline).await?;
        // Without a name: nothing stays in the session, which may be another the next time (pgbouncer).
        let asked = lease.query_typed(sql, params);
        let rows = bounded(what, asked, deadline, self.answer_max).await;
        lease.settle(rows)
    }

    /// Takes a connection from the pool.
    pub(crate) async fn lease(
        &self,
        what: &'static str,
        deadline: Instant,
    ) -> Result<Lease, Fault> {
        let late = || {
            let status = self.pool.status();
            let waited_for = if status.available == 0 && status.size >= status.max_size {
                "all connections of the pool were in use, and none became free"
            } else {
                "the server did not let us connect"
            };
            Fault::late(what, waited_for, self.answer_max)
        };
        match timeout_at(deadline, self.pool.get()).await {
            Ok(Ok(object)) => Ok(Lease(Some(object))),
            Ok(Err(error)) => Err(Fault::of_pool(what, error)),
            Err(_) => Err(late()),
        }
    }
}

/// Waits for the server, until a deadline.
pub(crate) async fn bounded<T>(
    what: &'static str,
    asked: impl Future<Output = Result<T, tokio_postgres::Error>>,
    deadline: Instant,
    within: Duration,
) -> Result<T, Fault> {
    match timeout_at(deadline, asked).await {
        Ok(answer) => answer.map_err(|error| Fault::of(what, error)),
        Err(_) => Err(Fault::late(what, "the server did not answer", within)),
    }
}

/// A connection of the pool. It goes back only by [`settle`](Self::settle): dropped, its answer may still be on its way, and it
/// is closed instead.
pub(crate) struct Lease(Option<Object>);

impl Lease {
    /// Gives the connection back, if the answer leaves it in order.
    pub(crate) fn settle<T>(mut self, answer: Result<T, Fault>) -> Result<T, Fault> {
        if answer.as_ref().err().is_none_or(Fault::spares_connection) {
            drop(self.0.take());
        }
        answer
    }
}

impl Deref for Lease {
    type Target = Object;

    fn deref(&self) -> &Object {
        self.0.as_ref().expect("it is there until it is settled")
    }
}

impl DerefMut for Lease {
    fn deref_mut(&mut self) -> &mut Object {
        self.0.as_mut().expect("it is there until it is settled")
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(object) = self.0.take() {
            // Out of the pool, and closed.
            drop(Object::take(object));
        }
    }
}
