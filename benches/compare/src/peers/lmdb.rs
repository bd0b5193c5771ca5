//! LMDB through heed.
//!
//! By its documentation: `NO_OVERWRITE` for "put if absent", many writes per transaction, and `MDB_NOSYNC` to leave
//! syncs to the application, which then calls `mdb_env_sync`. It has no cache of its own but uses the system's page
//! cache, which our budget does not bound. Its resident memory is mostly that.

use crate::store::{GROUP_CLAIMS, Session, Settings, Store};
use crate::workload::Sync;
use anyhow::Result;
use heed::types::Bytes;
use heed::{Database, Env, EnvFlags, EnvOpenOptions, MdbError, PutFlags, RwTxn};

/// Address space, not memory: more than any run needs.
const MAP_BYTES: usize = 256 << 30;
/// As long as the time that firstseen keeps for each id.
const VALUE: [u8; 8] = [0; 8];

struct Lmdb {
    env: Env,
    seen: Database<Bytes, Bytes>,
    grouped: bool,
}

pub fn open(settings: &Settings, grouped: bool) -> Result<Box<dyn Store>> {
    let mut options = EnvOpenOptions::new();
    options.map_size(MAP_BYTES);
    let env = open_env(&mut options, settings)?;
    let mut txn = env.write_txn()?;
    let seen = env.create_database(&mut txn, None)?;
    txn.commit()?;
    Ok(Box::new(Lmdb { env, seen, grouped }))
}

#[expect(
    unsafe_code,
    reason = "nobody else changes the mapped file, and losing what is not synced is meant"
)]
fn open_env(options: &mut EnvOpenOptions, settings: &Settings) -> Result<Env> {
    unsafe {
        if settings.sync != Sync::Each {
            options.flags(EnvFlags::NO_SYNC);
        }
        Ok(options.open(&settings.dir)?)
    }
}

impl Store for Lmdb {
    fn session(&self) -> Result<Box<dyn Session + '_>> {
        Ok(Box::new(Handle { lmdb: self, open: None, claims: 0 }))
    }

    fn close(self: Box<Self>) -> Result<()> {
        self.env.force_sync()?;
        self.env.prepare_for_closing().wait();
        Ok(())
    }
}

struct Handle<'a> {
    lmdb: &'a Lmdb,
    /// The open transaction of a group.
    open: Option<RwTxn<'a>>,
    claims: u64,
}

impl Lmdb {
    fn put(&self, txn: &mut RwTxn<'_>, id: &[u8]) -> Result<bool> {
        match self.seen.put_with_flags(txn, PutFlags::NO_OVERWRITE, id, &VALUE) {
            Ok(()) => Ok(true),
            Err(heed::Error::Mdb(MdbError::KeyExist)) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

impl Handle<'_> {
    fn claim_in_group(&mut self, id: &[u8]) -> Result<bool> {
        if self.claims.is_multiple_of(GROUP_CLAIMS) {
            self.finish()?;
        }
        self.claims += 1;
        let mut txn = match self.open.take() {
            Some(txn) => txn,
            None => self.lmdb.env.write_txn()?,
        };
        let first = self.lmdb.put(&mut txn, id)?;
        self.open = Some(txn);
        Ok(first)
    }
}

impl Session for Handle<'_> {
    fn claim(&mut self, id: &[u8]) -> Result<bool> {
        if self.lmdb.grouped {
            return self.claim_in_group(id);
        }
        Ok(self.claim_batch(&[id])? == 1)
    }

    fn claim_batch(&mut self, ids: &[&[u8]]) -> Result<u64> {
        let mut txn = self.lmdb.env.write_txn()?;
        let mut firsts = 0;
        for id in ids {
            firsts += u64::from(self.lmdb.put(&mut txn, id)?);
        }
        if firsts == 0 {
            txn.abort();
        } else {
            txn.commit()?;
        }
        Ok(firsts)
    }

    fn sync(&mut self) -> Result<()> {
        self.finish()?;
        Ok(self.lmdb.env.force_sync()?)
    }

    fn finish(&mut self) -> Result<()> {
        self.open.take().map_or(Ok(()), |txn| Ok(txn.commit()?))
    }
}
