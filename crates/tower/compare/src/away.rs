//! Stores that are away: one for each of the two.

use firstseen_shared as shared;
use ruts::Id;
use ruts::store::{Error, SessionMap, SessionStore, Ttl};
use serde::{Serialize, de::DeserializeOwned};
use std::marker::PhantomData;
use std::time::Duration;

#[derive(Clone)]
pub struct Away;

fn away<T>() -> Result<T, Error> {
    Err(Error::Backend("connection refused".to_owned()))
}

impl SessionStore for Away {
    async fn get<T>(&self, _: &Id, _: &str) -> Result<Option<T>, Error>
    where
        T: Send + Sync + DeserializeOwned,
    {
        away()
    }

    async fn get_all(&self, _: &Id) -> Result<Option<SessionMap>, Error> {
        away()
    }

    async fn set<T>(
        &self,
        _: &Id,
        _: &str,
        _: &T,
        _: Ttl,
        _: Option<PhantomData<()>>,
    ) -> Result<(), Error>
    where
        T: Send + Sync + Serialize,
    {
        away()
    }

    async fn set_and_rename<T>(
        &self,
        _: &Id,
        _: &Id,
        _: &str,
        _: &T,
        _: Ttl,
        _: Option<PhantomData<()>>,
    ) -> Result<(), Error>
    where
        T: Send + Sync + Serialize,
    {
        away()
    }

    async fn rename_session_id(&self, _: &Id, _: &Id) -> Result<bool, Error> {
        away()
    }

    async fn remove(&self, _: &Id, _: &str) -> Result<bool, Error> {
        away()
    }

    async fn delete(&self, _: &Id) -> Result<bool, Error> {
        away()
    }

    async fn expire_field(&self, _: &Id, _: &str, _: Ttl) -> Result<bool, Error> {
        away()
    }
}

/// The store of firstseen that is away.
pub struct SharedAway;

fn unavailable() -> shared::Error {
    shared::Error::new(shared::ErrorKind::Unavailable, "the store", "connection refused")
}

impl shared::DedupStore for SharedAway {
    async fn claim_batch(
        &self,
        _: &str,
        _: &[&[u8]],
        _: shared::Ttl,
        _: shared::Call,
    ) -> shared::Result<Vec<shared::Claim>> {
        Err(unavailable())
    }

    async fn contains(&self, _: &str, _: &[u8]) -> shared::Result<bool> {
        Err(unavailable())
    }

    async fn forget(&self, _: &str, _: &[u8]) -> shared::Result<bool> {
        Err(unavailable())
    }

    async fn begin(
        &self,
        _: &str,
        _: &[u8],
        _: &shared::Start<'_>,
        _: &shared::Policy,
        _: shared::Call,
    ) -> shared::Result<shared::Begun> {
        Err(unavailable())
    }

    async fn renew(
        &self,
        _: &str,
        _: &[u8],
        _: u64,
        _: Duration,
    ) -> shared::Result<(), shared::MoveError> {
        Err(unavailable().into())
    }

    async fn end(
        &self,
        _: &str,
        _: &[u8],
        _: u64,
        _: &shared::Ending<'_>,
        _: &shared::Policy,
    ) -> shared::Result<(), shared::MoveError> {
        Err(unavailable().into())
    }

    async fn record(&self, _: &str, _: &[u8]) -> shared::Result<Option<shared::Record>> {
        Err(unavailable())
    }

    async fn redrive(&self, _: &str, _: &[u8]) -> shared::Result<bool> {
        Err(unavailable())
    }

    async fn settle(&self, _: &str, _: &[u8], _: &[u8], _: shared::Ttl) -> shared::Result<bool> {
        Err(unavailable())
    }

    async fn forget_record(&self, _: &str, _: &[u8]) -> shared::Result<bool> {
        Err(unavailable())
    }

    async fn dead_letters(
        &self,
        _: &str,
        _: Option<&[u8]>,
        _: usize,
    ) -> shared::Result<Vec<Vec<u8>>> {
        Err(unavailable())
    }

    async fn stats(&self, _: &str) -> shared::Result<shared::Stats> {
        Err(unavailable())
    }

    fn id_bytes_max(&self) -> usize {
        1_024
    }

    fn result_bytes_max(&self) -> usize {
        1 << 20
    }
}
