//! The transaction of firstseen.

use super::{Event, Pipeline};
use anyhow::{Result, ensure};
use firstseen::offsets::Source;
use firstseen::outbox::Outbox;
use firstseen::table::Table;
use firstseen::{Durability, Store};
use std::ops::ControlFlow;
use std::path::Path;

pub fn open(dir: &Path, disk: bool) -> Result<Box<dyn Pipeline>> {
    let level = if disk { Durability::Disk } else { Durability::Process };
    let store = Store::builder(dir.join("seen.db")).durability(level).open()?;
    Ok(Box::new(Own {
        points: store.table("points")?,
        orders: store.source("orders")?,
        awarded: store.outbox("awarded")?,
        store,
    }))
}

struct Own {
    store: Store,
    points: Table<u64>,
    orders: Source,
    awarded: Outbox,
}

impl Pipeline for Own {
    fn apply(&mut self, events: &[Event]) -> Result<()> {
        let mut transaction = self.store.transaction();
        for event in events {
            if transaction.claim_if_new(event.id)? {
                let user = event.user.to_le_bytes();
                let points = transaction.get(&self.points, user)?.unwrap_or(0) + 1;
                transaction.put(&self.points, user, &points)?;
                transaction.emit_keyed(&self.awarded, user, points.to_le_bytes())?;
            }
            transaction.advance(&self.orders, 0, event.offset + 1);
        }
        ensure!(transaction.commit()?.is_committed(), "nobody else writes");
        Ok(())
    }

    fn totals(&mut self) -> Result<(u64, u64, u64)> {
        let mut points = 0;
        self.points.scan(|_, entry| match entry {
            Ok(entry) => {
                points += entry.value;
                ControlFlow::Continue(())
            }
            Err(_) => ControlFlow::Break(()),
        })?;
        let next = self.orders.position(0)?.unwrap_or_default().next;
        Ok((points, next, self.awarded.pending()?.count as u64))
    }
}
