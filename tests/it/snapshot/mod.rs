//! Snapshots and what is restored from them (I15).

mod copies;
mod crashes;
mod damage;
mod everything;
mod incremental;
mod places;
mod threads;

use crate::support::{AT, claim_all_first, clock, settle, sim};
use firstseen::disk::Disk as _;
use firstseen::disk::sim::SimDisk;
use firstseen::snapshot::SnapshotTarget;
use firstseen::{ManualClock, Store};
use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Mutex;

type Hook = Box<dyn FnMut(&str) -> io::Result<()> + Send>;

/// A place in memory that counts, and calls the test before it stores an object.
#[derive(Default)]
pub(crate) struct Place {
    pub(crate) objects: Mutex<BTreeMap<String, Vec<u8>>>,
    pub(crate) stored: Mutex<Vec<String>>,
    hook: Mutex<Option<Hook>>,
}

impl Place {
    pub(crate) fn before_put(&self, hook: impl FnMut(&str) -> io::Result<()> + Send + 'static) {
        *self.hook.lock().unwrap() = Some(Box::new(hook));
    }

    pub(crate) fn without_hook(&self) {
        *self.hook.lock().unwrap() = None;
    }

    /// The names stored since this was last asked.
    pub(crate) fn take_stored(&self) -> Vec<String> {
        std::mem::take(&mut self.stored.lock().unwrap())
    }

    pub(crate) fn names(&self) -> Vec<String> {
        self.objects.lock().unwrap().keys().cloned().collect()
    }

    pub(crate) fn change(&self, name: &str, change: impl FnOnce(&mut Vec<u8>)) {
        change(self.objects.lock().unwrap().get_mut(name).expect("is there"));
    }

    /// A copy without counts and hook.
    pub(crate) fn twin(&self) -> Self {
        Self { objects: Mutex::new(self.objects.lock().unwrap().clone()), ..Self::default() }
    }
}

impl SnapshotTarget for Place {
    fn put_new(&self, name: &str, bytes: &[u8]) -> io::Result<bool> {
        let hook = self.hook.lock().unwrap().take();
        if let Some(mut hook) = hook {
            let called = hook(name);
            self.hook.lock().unwrap().get_or_insert(hook);
            called?;
        }
        let mut objects = self.objects.lock().unwrap();
        if objects.contains_key(name) {
            return Ok(false);
        }
        objects.insert(name.to_owned(), bytes.to_vec());
        self.stored.lock().unwrap().push(name.to_owned());
        Ok(true)
    }

    fn get(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        Ok(self.objects.lock().unwrap().get(name).cloned())
    }

    fn list(&self, folder: &str) -> io::Result<Vec<String>> {
        let of = |name: &String| name.strip_prefix(folder)?.strip_prefix('/').map(str::to_owned);
        Ok(self.objects.lock().unwrap().keys().filter_map(of).collect())
    }

    fn delete(&self, name: &str) -> io::Result<()> {
        self.objects.lock().unwrap().remove(name);
        Ok(())
    }
}

/// Restores the newest snapshot on a new disk and opens it.
pub(crate) fn restored(place: &dyn SnapshotTarget, clock: &ManualClock) -> Store {
    restored_on(&SimDisk::new(), place, clock)
}

pub(crate) fn restored_on(
    disk: &SimDisk,
    place: &dyn SnapshotTarget,
    clock: &ManualClock,
) -> Store {
    let builder = Store::builder(AT).disk(disk.clone());
    builder.restore(place, firstseen::snapshot::RestoreOptions::new()).expect("restores");
    sim(disk, clock).open().expect("opens")
}

/// All live claims, as lines in order.
pub(crate) fn claims_of(store: &Store) -> Vec<String> {
    let mut claims = Vec::new();
    let count = store.export(|entry| {
        claims.push(format!("{entry:?}"));
        Ok(())
    });
    assert_eq!(count.expect("exports"), claims.len() as u64);
    claims.sort();
    claims
}

/// Names of the log's segments on a simulated disk.
pub(crate) fn segments(disk: &SimDisk) -> Vec<String> {
    let names = disk.list(&Path::new(AT).join("log")).expect("lists");
    names.iter().map(|name| name.to_string_lossy().into_owned()).collect()
}

pub(crate) fn new_store() -> (SimDisk, ManualClock, Store) {
    let (disk, clock) = (SimDisk::new(), clock());
    let store = sim(&disk, &clock).open().expect("opens");
    (disk, clock, store)
}

/// Claims many ids of a store without background threads.
pub(crate) fn claim_many(store: &Store, numbers: std::ops::Range<u64>) {
    for first in numbers.clone().step_by(500) {
        claim_all_first(store, first..numbers.end.min(first + 500));
        settle(store);
    }
}
