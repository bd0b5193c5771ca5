//! firstseen with its default settings, except for the durability level.

use crate::store::{Session, Settings, Store};
use crate::workload::Sync;
use anyhow::Result;
use firstseen::Durability;
use serde_json::Value;
use std::time::Duration;

pub fn open(settings: &Settings, unsynced: Durability) -> Result<Box<dyn Store>> {
    let level = if settings.sync == Sync::Each { Durability::Disk } else { unsynced };
    let mut builder = firstseen::Store::builder(settings.dir.join("store")).durability(level);
    if settings.ttl_s > 0 {
        builder = builder.ttl(Duration::from_secs(settings.ttl_s));
    }
    Ok(Box::new(Ours(builder.open()?)))
}

struct Ours(firstseen::Store);

impl Store for Ours {
    fn session(&self) -> Result<Box<dyn Session + '_>> {
        Ok(Box::new(Handle(self.0.clone())))
    }

    fn close(self: Box<Self>) -> Result<()> {
        Ok(self.0.close()?)
    }

    fn details(&self) -> Value {
        serde_json::to_value(self.0.stats()).unwrap_or_default()
    }
}

struct Handle(firstseen::Store);

impl Session for Handle {
    fn claim(&mut self, id: &[u8]) -> Result<bool> {
        Ok(self.0.claim(id)?.is_first_seen())
    }

    fn claim_batch(&mut self, ids: &[&[u8]]) -> Result<u64> {
        let answers = self.0.claim_batch(ids)?;
        Ok(answers.iter().filter(|answer| answer.is_first_seen()).count() as u64)
    }

    fn sync(&mut self) -> Result<()> {
        Ok(self.0.sync()?)
    }
}
