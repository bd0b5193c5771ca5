//! A coordinator of two-phase commits. Its decisions are in a store of its own, and its recovery needs nothing else.
//!
//! Presumed abort: only "commit" is ever written down. What is in doubt somewhere and has no decision was never decided, and
//! is rolled back.
#![allow(dead_code, reason = "no program needs all of it")]

use super::outside::{Answer, Outside};
use firstseen::offsets::{Owner, Source};
use firstseen::table::RawTable;
use firstseen::transaction::{CommitOutcome, EndOutcome};
use firstseen::{Durability, ErrorKind, Store};
use std::hash::{BuildHasher, RandomState};
use std::ops::ControlFlow;
use std::path::Path;
use std::time::Duration;

/// How often an earlier coordinator is fenced off before giving up.
const FENCES_MAX: u32 = 100;

/// How often a store is opened that another process holds, every ten milliseconds.
const OPENINGS_MAX: u32 = 1_000;

/// Opens a store at `Disk`. If a run was killed while it was starting another program, such as `psql`, what is to become that
/// program holds the lock of the store for a moment longer.
pub(crate) fn open_store(path: &Path) -> firstseen::Result<Store> {
    let open = || Store::builder(path).durability(Durability::Disk).open();
    for _ in 0..OPENINGS_MAX {
        match open() {
            Err(error) if error.kind() == ErrorKind::Locked => {
                std::thread::park_timeout(Duration::from_millis(10));
            }
            opened => return opened,
        }
    }
    open()
}

/// Somebody who can prepare a transaction, and commit it or roll it back when told so, once or many times.
pub(crate) trait Participant {
    fn name(&self) -> &'static str;

    /// Belongs to the coordinator of this name from now on; an error if it belongs to another, whose decisions are not in
    /// this one's store. A store that only one process can open needs nothing for that.
    fn belong_to(&self, _coordinator: &str) -> Answer {
        Ok(())
    }

    /// Makes sure that nothing which an earlier coordinator has begun is prepared from now on. Returns false if something of
    /// it is still at work. A store in this process needs nothing for that: what had begun it is dead.
    fn fence(&self, _epoch: u64) -> Answer<bool> {
        Ok(true)
    }

    /// The names of what is prepared and has not ended.
    fn in_doubt(&self) -> Answer<Vec<String>>;

    /// Commits what was prepared under this name. May be repeated.
    fn commit(&self, gid: &str) -> Answer;

    /// Rolls back what was prepared under this name, if anything was. May be repeated.
    fn rollback(&self, gid: &str) -> Answer;
}

pub(crate) struct Coordinator<'a> {
    store: Store,
    source: Source,
    owner: Owner,
    decisions: RawTable,
    participants: [&'a dyn Participant; 2],
    outside: &'a Outside,
}

impl<'a> Coordinator<'a> {
    /// Opens it, and ends whatever an earlier one has left in doubt.
    pub(crate) fn open(
        outside: &'a Outside,
        participants: [&'a dyn Participant; 2],
    ) -> Answer<Self> {
        // A decision must not be taken back by a power cut: somebody may have acted on it.
        let store = open_store(&outside.file("coordinator.db"))?;
        let source = store.source("transfers")?;
        // The epoch grows with each start. Earlier coordinators can decide nothing from here on.
        let owner = source.own(0)?;
        let decisions = store.raw_table("decisions")?;
        let name = name_of(&store)?;
        participants.iter().try_for_each(|participant| participant.belong_to(&name))?;
        let this = Self { store, source, owner, decisions, participants, outside };
        outside.step("opened");
        this.recover()?;
        outside.step("recovered");
        Ok(this)
    }

    /// The next transfer to read.
    pub(crate) fn next(&self) -> u64 {
        self.owner.next()
    }

    pub(crate) fn epoch(&self) -> u64 {
        self.owner.epoch()
    }

    /// A name that was never used: what was rolled back under one cannot be prepared under it again.
    pub(crate) fn gid(&self, offset: u64) -> String {
        format!("transfers-{offset}@{}", self.owner.epoch())
    }

    fn recover(&self) -> Answer {
        for gid in self.decided()? {
            self.finish(&gid)?;
        }
        for participant in self.participants {
            let mut tries = 0..FENCES_MAX;
            // What is prepared holds the fence off, so it is rolled back in between.
            while !participant.fence(self.owner.epoch())? {
                self.roll_back_all(participant)?;
                tries.next().ok_or("what an earlier coordinator has begun does not end")?;
            }
            self.roll_back_all(participant)?;
        }
        Ok(())
    }

    /// Rolls back what has no decision: those that have one are finished already.
    fn roll_back_all(&self, participant: &dyn Participant) -> Answer {
        for gid in participant.in_doubt()? {
            participant.rollback(&gid)?;
            self.outside.step(&format!("rolled back in {}", participant.name()));
        }
        Ok(())
    }

    fn decided(&self) -> Answer<Vec<String>> {
        let (mut gids, mut failed) = (Vec::new(), None);
        self.decisions.scan(|gid, entry| {
            gids.push(String::from_utf8_lossy(gid).into_owned());
            failed = entry.err();
            if failed.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        failed.map_or(Ok(gids), |error| Err(error.into()))
    }

    /// Everybody has prepared `gid`: decides that it is committed, and tells them. From the first commit on, it has happened.
    pub(crate) fn commit(&self, gid: &str, next: u64) -> Answer {
        let mut decision = self.store.transaction();
        decision.put(&self.decisions, gid, b"commit".as_slice())?.advance_as(&self.owner, next);
        // After an error nobody knows whether it is decided. Nothing is rolled back then: the next start finds out.
        if let CommitOutcome::Rejected(why) = decision.commit()? {
            self.abort(gid)?;
            return Err(format!("another coordinator has taken over: {why:?}").into());
        }
        self.outside.step("decided");
        self.finish(gid)
    }

    /// Nobody may have decided that `gid` is committed.
    pub(crate) fn abort(&self, gid: &str) -> Answer {
        self.participants.iter().try_for_each(|participant| participant.rollback(gid))
    }

    fn finish(&self, gid: &str) -> Answer {
        for participant in self.participants {
            participant.commit(gid)?;
            self.outside.step(&format!("committed in {}", participant.name()));
        }
        self.decisions.delete(gid)?;
        self.outside.step("finished");
        Ok(())
    }

    pub(crate) fn close(self) -> Answer {
        let Self { store, source, owner, decisions, .. } = self;
        drop((source, owner, decisions));
        Ok(store.close()?)
    }
}

/// A name that no other coordinator has.
fn name_of(store: &Store) -> Answer<String> {
    let names = store.raw_table("coordinator")?;
    if let Some(known) = names.get("name")? {
        return Ok(String::from_utf8(known.value)?);
    }
    // Each has keys of its own, from the system's source of randomness.
    let [one, other] = [(); 2].map(|()| RandomState::new().hash_one(0));
    let name = format!("{one:016x}{other:016x}");
    names.put("name", name.as_bytes())?;
    Ok(name)
}

/// A store as one of the participants.
pub(crate) struct StoreBank {
    pub(crate) store: Store,
    pub(crate) name: &'static str,
}

impl Participant for StoreBank {
    fn name(&self) -> &'static str {
        self.name
    }

    fn in_doubt(&self) -> Answer<Vec<String>> {
        let prepared = self.store.prepared()?.into_iter();
        Ok(prepared.map(|prepared| String::from_utf8_lossy(&prepared.gid).into_owned()).collect())
    }

    fn commit(&self, gid: &str) -> Answer {
        match self.store.commit_prepared(gid)? {
            // Unknown: what is in doubt is never forgotten, so it was committed more than a week ago.
            EndOutcome::Done | EndOutcome::AlreadyDone | EndOutcome::Unknown => Ok(()),
            EndOutcome::EndedOtherwise => {
                Err(format!("{gid} was decided, and is rolled back in {}", self.name).into())
            }
        }
    }

    fn rollback(&self, gid: &str) -> Answer {
        match self.store.rollback_prepared(gid)? {
            EndOutcome::EndedOtherwise => {
                Err(format!("{gid} was not decided, and is committed in {}", self.name).into())
            }
            _ => Ok(()),
        }
    }
}
