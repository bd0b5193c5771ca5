//! The moves of a ledger: what they send, and what is heard of them.

use crate::check::{
    check_id, check_namespace, check_policy, check_result, check_worker, delay_ms, kept, lease_ms,
    ttl_ms,
};
use crate::connections::Param;
use crate::error::{damaged, invalid};
use crate::row::{Answer, Told, code_of, code_of_policy};
use crate::store::Own;
use firstseen_shared::{Begun, Call, Ending, MoveError, Policy, Record, Result, Start};
use tokio_postgres::types::Type;

/// The parameters of `begin`.
pub(crate) struct Beginning<'a> {
    namespace: &'a [u8],
    id: &'a [u8],
    lease_ms: i64,
    worker: &'a [u8],
    fingerprint: Option<Vec<u8>>,
    on_lease_end: i32,
    attempts_max: i64,
    dead_ttl_ms: Option<i64>,
    call: Vec<u8>,
}

impl<'a> Beginning<'a> {
    pub(crate) fn new(
        what: &'static str,
        namespace: &'a str,
        id: &'a [u8],
        start: &Start<'a>,
        policy: &Policy,
        call: Call,
    ) -> Result<Self> {
        check_namespace(what, namespace)?;
        check_id(what, id)?;
        check_worker(what, start.worker)?;
        check_policy(what, policy)?;
        let on_lease_end = code_of_policy(policy.on_lease_end).ok_or_else(|| {
            invalid(what, format!("{:?} is not known to this store", policy.on_lease_end))
        })?;
        Ok(Self {
            namespace: namespace.as_bytes(),
            id,
            lease_ms: lease_ms(what, start.lease)?,
            worker: start.worker.as_bytes(),
            fingerprint: start.fingerprint.map(|print| print.as_bytes().to_vec()),
            on_lease_end,
            attempts_max: policy.attempts_max.into(),
            dead_ttl_ms: ttl_ms(what, policy.dead_ttl)?,
            call: call.as_bytes().to_vec(),
        })
    }

    pub(crate) fn params<'p>(&'p self, own: &'p Own) -> [Param<'p>; 11] {
        [
            (&self.namespace, Type::BYTEA),
            (&self.id, Type::BYTEA),
            (&self.lease_ms, Type::INT8),
            (&self.worker, Type::BYTEA),
            (&self.fingerprint, Type::BYTEA),
            (&self.on_lease_end, Type::INT4),
            (&self.attempts_max, Type::INT8),
            (&self.dead_ttl_ms, Type::INT8),
            (&self.call, Type::BYTEA),
            (&own.lock_ms, Type::INT4),
            (&own.is_relaxed, Type::BOOL),
        ]
    }
}

/// The parameters of `end`.
pub(crate) struct EndingOf<'a> {
    namespace: &'a [u8],
    id: &'a [u8],
    token: i64,
    end: i32,
    reason: &'a [u8],
    result: Option<&'a [u8]>,
    is_failure: bool,
    ttl_ms: Option<i64>,
    retry_after_ms: i64,
    attempts_max: i64,
    dead_ttl_ms: Option<i64>,
}

impl<'a> EndingOf<'a> {
    pub(crate) fn new(
        what: &'static str,
        namespace: &'a str,
        id: &'a [u8],
        token: i64,
        ending: &Ending<'a>,
        policy: &Policy,
    ) -> Result<Self> {
        check_namespace(what, namespace)?;
        check_id(what, id)?;
        check_policy(what, policy)?;
        let mut sent = Self {
            namespace: namespace.as_bytes(),
            id,
            token,
            end: code_of(ending),
            reason: b"",
            result: None,
            is_failure: false,
            ttl_ms: None,
            retry_after_ms: 0,
            attempts_max: policy.attempts_max.into(),
            dead_ttl_ms: ttl_ms(what, policy.dead_ttl)?,
        };
        match *ending {
            Ending::Completed { result, is_failure, ttl } => {
                check_result(what, result)?;
                (sent.result, sent.is_failure) = (Some(result), is_failure);
                sent.ttl_ms = ttl_ms(what, ttl)?;
            }
            Ending::Failed { retry_after, reason } => {
                (sent.retry_after_ms, sent.reason) = (delay_ms(retry_after), kept(reason));
            }
            Ending::Final { reason } | Ending::Held { reason } => sent.reason = kept(reason),
            Ending::Released => {}
        }
        Ok(sent)
    }

    pub(crate) fn params<'p>(&'p self, own: &'p Own) -> [Param<'p>; 13] {
        [
            (&self.namespace, Type::BYTEA),
            (&self.id, Type::BYTEA),
            (&self.token, Type::INT8),
            (&self.end, Type::INT4),
            (&self.reason, Type::BYTEA),
            (&self.result, Type::BYTEA),
            (&self.is_failure, Type::BOOL),
            (&self.ttl_ms, Type::INT8),
            (&self.retry_after_ms, Type::INT8),
            (&self.attempts_max, Type::INT8),
            (&self.dead_ttl_ms, Type::INT8),
            (&own.lock_ms, Type::INT4),
            (&own.is_relaxed, Type::BOOL),
        ]
    }
}

/// Returns what a caller of `begin` is told.
pub(crate) fn begun(what: &'static str, told: Told) -> Result<Begun> {
    let record = Told::record(what, told.record)?;
    Ok(match told.answer {
        Answer::Done => {
            let Record { token, attempts: attempt, .. } = record;
            Begun::Started { token, attempt }
        }
        Answer::InProgress => Begun::InProgress(record),
        Answer::RetryAt => Begun::RetryAt(record),
        Answer::Held => Begun::Held(record),
        Answer::Completed => Begun::Completed(record),
        Answer::Dead => Begun::Dead(record),
        Answer::Mismatch => Begun::Mismatch(record),
        Answer::Fenced | Answer::Over | Answer::LeaseEnded => {
            return Err(strange(what, told.answer));
        }
    })
}

/// Returns what an attempt is told of its move.
pub(crate) fn refused(what: &'static str, told: Told) -> Result<(), MoveError> {
    Err(match told.answer {
        Answer::Done => return Ok(()),
        Answer::Fenced => MoveError::Fenced(told.record.map(Box::new)),
        Answer::Over => MoveError::Over(Box::new(Told::record(what, told.record)?)),
        Answer::LeaseEnded => MoveError::LeaseEnded,
        answer => strange(what, answer).into(),
    })
}

fn strange(what: &'static str, answer: Answer) -> firstseen_shared::Error {
    damaged(what, format!("the server answered {answer:?}, which is no answer to this"))
}
