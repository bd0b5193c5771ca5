//! Maintenance: partitions are opened, and those whose claims have all ended are dropped.

use crate::connections::Param;
use crate::store::{PostgresStore, value};
use firstseen_shared::Result;
use tokio::time::Instant;
use tokio_postgres::types::{FromSqlOwned, Type};

/// The most rows of one statement that deletes, and the most such statements in a maintenance.
const DELETED_MAX: i32 = 10_000;
const DELETES_MAX: usize = 100;

/// The most partitions that one maintenance drops.
const DROPS_MAX: usize = 100;

/// What a maintenance has done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Maintained {
    /// Partitions that were opened.
    pub opened: u32,
    /// Partitions that were dropped, with all their claims.
    pub dropped: u32,
    /// Ended claims that were deleted one by one: those without a partition to drop.
    pub claims_deleted: u64,
    /// Ended records that were deleted.
    pub records_deleted: u64,
    /// Another maintenance was under way, which does the rest.
    pub is_elsewhere: bool,
    /// Claims in open transactions, or a dump of the database, were in the way for too long; the next maintenance tries again.
    pub is_blocked: bool,
}

impl PostgresStore {
    /// Opens and drops partitions, and deletes what has ended and has none. Call it now and then, from as many processes as you
    /// like: once a minute is enough. Never called, the store gives the same answers, and grows.
    ///
    /// It needs the role that owns the tables. Claims wait for each partition that is opened or dropped: until the claims that
    /// are under way have ended, [`stall_max`](crate::PostgresOptions::stall_max) at most.
    ///
    /// # Errors
    ///
    /// Those of any call. What was done before an error stays done.
    pub async fn maintain(&self) -> Result<Maintained> {
        let mut done = Maintained::default();
        let stall_ms = i32::try_from(self.options.stall_max.as_millis()).unwrap_or(i32::MAX);
        let stall: Param<'_> = (&stall_ms, Type::INT4);
        let limit: Param<'_> = (&DELETED_MAX, Type::INT4);

        match self
            .step::<i32>(&self.statements.open_generations, std::slice::from_ref(&stall))
            .await?
        {
            Step::Done(Some(opened)) => done.opened = opened.unsigned_abs(),
            Step::Done(None) => return Ok(Maintained { is_elsewhere: true, ..done }),
            Step::Blocked => done.is_blocked = true,
        }
        for _ in 0..DROPS_MAX {
            match self
                .step::<i32>(&self.statements.drop_generation, std::slice::from_ref(&stall))
                .await?
            {
                Step::Done(Some(_)) => done.dropped += 1,
                Step::Done(None) => break,
                Step::Blocked => {
                    done.is_blocked = true;
                    break;
                }
            }
        }
        for (sql, deleted) in [
            (&self.statements.delete_ended_claims, &mut done.claims_deleted),
            (&self.statements.delete_ended_records, &mut done.records_deleted),
        ] {
            for _ in 0..DELETES_MAX {
                match self.step::<i64>(sql, &[limit.clone(), stall.clone()]).await? {
                    Step::Done(Some(count)) => *deleted += count.unsigned_abs(),
                    Step::Done(None) => break,
                    Step::Blocked => {
                        done.is_blocked = true;
                        break;
                    }
                }
                if *deleted % u64::from(DELETED_MAX.unsigned_abs()) != 0 || *deleted == 0 {
                    break;
                }
            }
        }
        Ok(done)
    }

    async fn step<T: FromSqlOwned>(&self, sql: &str, params: &[Param<'_>]) -> Result<Step<T>> {
        const WHAT: &str = "maintain";
        // Dropping a large partition takes its time.
        let deadline = Instant::now() + self.options.migration_max;
        match self.connections.ask_once(WHAT, sql, params, deadline).await {
            Ok(rows) => Ok(Step::Done(value(WHAT, &rows)?)),
            Err(fault) if fault.is_blocked() => Ok(Step::Blocked),
            Err(fault) => Err(fault.error),
        }
    }
}

/// What one step has come to.
enum Step<T> {
    /// `None`: there was nothing to do, or another maintenance does it.
    Done(Option<T>),
    /// Others held a lock for too long.
    Blocked,
}
