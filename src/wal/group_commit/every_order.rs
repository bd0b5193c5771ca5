//! Group commit under every interleaving. The disk is a number; only a sync makes more of it durable.

use super::GroupCommit;
use crate::error::{Error, Result};
use crate::health::Health;
use crate::sync::every_order::{explored, report};
use crate::sync::{Arc, Mutex, thread};
use crate::wal::Lsn;

struct Model {
    commit: GroupCommit,
    health: Health,
    /// End of the log, end of its durable part, and how many syncs will fail.
    disk: Mutex<(u64, u64, u32)>,
}

impl Model {
    fn new(failing_syncs: u32) -> Arc<Self> {
        let disk = Mutex::new((0, 0, failing_syncs));
        Arc::new(Self { commit: GroupCommit::new(Lsn(0)), health: Health::default(), disk })
    }

    /// Appends one record; returns once it is on disk, or an error.
    fn append(&self) -> Result<()> {
        let lsn = {
            let mut disk = self.disk.lock();
            disk.0 += 1;
            disk.0
        };
        self.commit.wait_for(Lsn(lsn), || self.health.check(), || self.lead())?;
        assert!(self.disk.lock().1 >= lsn, "I6: acknowledged before it was on disk");
        Ok(())
    }

    fn lead(&self) -> Result<()> {
        let target = self.disk.lock().0;
        // A sync covers what was there when it began; others append meanwhile.
        let mut disk = self.disk.lock();
        if disk.2 > 0 {
            disk.2 -= 1;
            self.health.stop("a sync failed");
            return Err(Error::Stopped { why: "a sync failed".to_owned() });
        }
        disk.1 = disk.1.max(target);
        drop(disk);
        self.commit.reached(Lsn(target));
        Ok(())
    }
}

/// Has this many threads append one record each; returns how many were acknowledged.
fn append_at_once(model: &Arc<Model>, threads: usize) -> usize {
    let others: Vec<_> = (1..threads)
        .map(|_| {
            let model = Arc::clone(model);
            thread::spawn(move || model.append().is_ok())
        })
        .collect();
    let own = model.append().is_ok();
    let others = others.into_iter().map(|other| other.join().expect("no panic"));
    others.chain([own]).filter(|acknowledged| *acknowledged).count()
}

/// Two callers in every interleaving. Three have too many: at most three preemptions.
const SIZES: [(usize, Option<usize>); 2] = [(2, None), (3, Some(3))];

#[test]
fn loom_i6_i12_who_is_acknowledged_is_on_disk_and_nobody_waits_in_vain() {
    for (threads, stops) in SIZES {
        let orders = explored(stops, move || {
            assert_eq!(append_at_once(&Model::new(0), threads), threads);
        });
        report(orders, "group commit (of three callers, with three stops at most)");
    }
}

#[test]
fn loom_i7_i12_a_sync_that_fails_is_heard_by_all_who_wait_for_it() {
    for (threads, stops) in SIZES {
        let orders = explored(stops, move || {
            let model = Model::new(1);
            let acknowledged = append_at_once(&model, threads);
            assert_eq!(acknowledged, 0, "I7: the first sync failed, and it is final");
            assert!(model.health.check().is_err());
        });
        report(
            orders,
            "group commit with a sync that fails (of three callers, with three stops at most)",
        );
    }
}
