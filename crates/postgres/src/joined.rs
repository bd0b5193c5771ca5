//! Claims and ends of attempts in a transaction of the caller: one commit with the effect.

use crate::claims::{self, Answer, Batch, Claiming, STATEMENT_IDS_MAX};
use crate::connections::{Param, bounded};
use crate::error::Fault;
use crate::ledger::{EndingOf, refused};
use crate::row::Told;
use crate::store::{Own, PostgresStore, token_of};
use firstseen_shared::{Call, Claim, Ending, MoveError, OnLeaseEnd, Policy, Result, Ttl};
use tokio::time::Instant;
use tokio_postgres::{Row, Transaction};

impl PostgresStore {
    /// Claims an id in a transaction of the caller, so that claim and effect are one commit: both are there afterwards, or
    /// neither. See [`claim_batch_in`](Self::claim_batch_in).
    ///
    /// ```no_run
    /// # use firstseen_postgres::PostgresStore;
    /// # use firstseen_shared::Ttl;
    /// # async fn pay(store: &PostgresStore) -> Result<(), Box<dyn std::error::Error>> {
    /// let mut client = store.pool().get().await?;
    /// let transaction = client.transaction().await?;
    /// if store.claim_in(&transaction, "orders", b"order-17", Ttl::FOREVER).await?.is_first_seen() {
    ///     transaction.execute("UPDATE accounts SET balance = balance - 10 WHERE id = 7", &[]).await?;
    /// }
    /// transaction.commit().await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`claim_batch_in`](Self::claim_batch_in).
    pub async fn claim_in(
        &self,
        transaction: &Transaction<'_>,
        namespace: &str,
        id: &[u8],
        ttl: Ttl,
    ) -> Result<Claim> {
        let claims = self.claim_batch_in(transaction, namespace, &[id], ttl).await?;
        Ok(claims[0])
    }

    /// Claims ids in a transaction of the caller. It is of the database in which this store is, and READ COMMITTED. Rolled
    /// back, there are no claims.
    ///
    /// Others who ask about these ids meanwhile wait until the transaction has ended, for
    /// [`answer_max`](crate::PostgresOptions::answer_max) at most: so claim late, and commit soon. Two transactions that claim
    /// the same ids by several calls in different orders are a deadlock, of which Postgres undoes one: claim by one call, or
    /// in ascending order.
    ///
    /// The first claims of a namespace, and those with a longer ttl than any before, change its row: until the transaction
    /// has ended, others of the namespace that have to change it as well wait, too, whatever their ids.
    /// [`register`](Self::register) does it beforehand.
    ///
    /// It takes no [`Call`], since the commit has the answer: if that is lost, make the transaction again from its start. A
    /// duplicate then means that the first one was committed, with its effect.
    ///
    /// The commit is as durable as the caller's settings say: with `synchronous_commit` off a crash may take claim and effect
    /// along, both.
    ///
    /// # Errors
    ///
    /// As [`claim_batch`](firstseen_shared::DedupStore::claim_batch), and
    /// [`Invalid`](firstseen_shared::ErrorKind::Invalid) if the transaction is not READ COMMITTED. After any error the
    /// transaction can only be rolled back.
    pub async fn claim_batch_in(
        &self,
        transaction: &Transaction<'_>,
        namespace: &str,
        ids: &[&[u8]],
        ttl: Ttl,
    ) -> Result<Vec<Claim>> {
        let claiming = Claiming::new(namespace, ttl, Call::new())?;
        let batch = Batch::new(ids)?;
        let mut answers: Vec<Answer> = Vec::with_capacity(batch.distinct.len());
        for ids in batch.distinct.chunks(STATEMENT_IDS_MAX) {
            let params = claiming.params(&ids, &Own::NOT);
            let sql = &self.statements.claim;
            let rows = self.ask_in(transaction, claims::WHAT, sql, &params).await?;
            answers.extend(claims::answers(&rows, ids.len())?);
        }
        batch.claims(&answers)
    }

    /// Makes a namespace known, with the longest ttl that it will be claimed with, in a transaction of its own: at start, before
    /// [`claim_in`](Self::claim_in), so that no transaction of yours keeps others of the namespace waiting. Again, it does
    /// nothing.
    ///
    /// # Errors
    ///
    /// As [`claim_batch`](firstseen_shared::DedupStore::claim_batch).
    pub async fn register(&self, namespace: &str, ttl_max: Ttl) -> Result<()> {
        // A claim of no id.
        self.claim_batch_of(namespace, &[&[]], ttl_max, Call::new()).await.map(drop)
    }

    /// Completes an attempt in a transaction of the caller, so that effect and result are one commit; see
    /// [`end_in`](Self::end_in).
    ///
    /// # Errors
    ///
    /// As [`end_in`](Self::end_in).
    pub async fn complete_in(
        &self,
        transaction: &Transaction<'_>,
        namespace: &str,
        id: &[u8],
        token: u64,
        result: &[u8],
        ttl: Ttl,
    ) -> Result<(), MoveError> {
        let ending = Ending::Completed { result, is_failure: false, ttl };
        // What a policy says is for other endings.
        let policy =
            Policy { on_lease_end: OnLeaseEnd::Retry, attempts_max: 1, dead_ttl: Ttl::FOREVER };
        self.end_in(transaction, namespace, id, token, &ending, &policy).await
    }

    /// Ends an attempt in a transaction of the caller. Rolled back, the attempt goes on, and its lease runs.
    ///
    /// `Fenced` means that another attempt has the record or may have made the effect: roll back. `Over` after a commit whose
    /// answer was lost means that it was committed, if the record is what it was to be.
    ///
    /// From here to the end of the transaction nobody else can begin, renew or end the id: they wait, for
    /// [`answer_max`](crate::PostgresOptions::answer_max) at most.
    ///
    /// # Errors
    ///
    /// As [`end`](firstseen_shared::DedupStore::end). After [`MoveError::Store`] the transaction can only be rolled back.
    pub async fn end_in(
        &self,
        transaction: &Transaction<'_>,
        namespace: &str,
        id: &[u8],
        token: u64,
        ending: &Ending<'_>,
        policy: &Policy,
    ) -> Result<(), MoveError> {
        const WHAT: &str = "end in a transaction";
        let ending = EndingOf::new(WHAT, namespace, id, token_of(token), ending, policy)?;
        let params = ending.params(&Own::NOT);
        let rows = self.ask_in(transaction, WHAT, &self.statements.end, &params).await?;
        refused(WHAT, Told::read(WHAT, &rows)?)
    }

    async fn ask_in(
        &self,
        transaction: &Transaction<'_>,
        what: &'static str,
        sql: &str,
        params: &[Param<'_>],
    ) -> Result<Vec<Row>> {
        let within = self.options.answer_max;
        let asked = transaction.query_typed(sql, params);
        let rows = bounded(what, asked, Instant::now() + within, within).await;
        rows.map_err(|Fault { error, .. }| error)
    }
}
