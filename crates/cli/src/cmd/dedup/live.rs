//! The state of a run in progress. Whoever ends the run, at the end of the input or on a signal, takes it as a whole,
//! and always between two batches.

use std::collections::HashSet;
use std::io;
use std::path::Path;

use firstseen::{BatchReservation, ClaimOptions, Namespace, Reserved, Store};

use crate::output::{Exit, Failure};
use crate::sink::Sink;
use crate::streams;

use super::batch::{Batch, Way, Ways};
use super::counted::Counted;
use super::plan::{Plan, Show};
use super::progress::Progress;
use super::summary::{self, Stopwatch, Tally, Voice};
use super::{RESERVE_PAUSE, RESERVE_TRIES};

/// A run in progress.
pub(super) struct Live {
    /// `None` in a dry run if the store does not exist yet.
    store: Option<Store>,
    /// `None` in a dry run if the namespace does not exist yet.
    namespace: Option<Namespace>,
    options: ClaimOptions,
    /// Whether duplicates extend their claims.
    sliding: bool,
    pub(super) out: Sink,
    pub(super) duplicates: Option<Sink>,
    ways: Ways,
    counted: Option<Counted>,
    /// In a dry run: the ids that would have been claimed so far.
    dry: Option<HashSet<Box<[u8]>>>,
    progress: Progress,
    pub(super) tally: Tally,
    watch: Stopwatch,
    voice: Voice,
}

impl Live {
    /// Opens what a run needs; nothing is created before everything that can be checked has been.
    pub(super) fn open(plan: &Plan, watch: Stopwatch) -> Result<Self, Failure> {
        let mut total_bytes = Some(0);
        for source in &plan.sources {
            let bytes = source.check()?;
            total_bytes = total_bytes.zip(bytes).map(|(sum, bytes)| sum + bytes);
        }
        streams::check_stdin(&plan.sources)?;
        streams::check_apart(&plan.sources, plan.duplicates_to.as_deref())?;
        let store = open_store(plan)?;
        let namespace = match (&store, plan.namespace.as_deref()) {
            (None, _) => None,
            (Some(store), Some(name)) if plan.dry_run => store.find_namespace(name),
            (Some(store), name) => Some(crate::cmd::namespace(store, name)?),
        };
        let mut options = crate::cmd::claim_options(plan.ttl);
        if plan.sliding {
            options = options.sliding(true);
        }
        let ways = match plan.show {
            Show::FirstSeen => Ways { first: Way::Out, again: Way::Aside },
            Show::Repeated => Ways { first: Way::Nowhere, again: Way::Out },
            Show::Counts => Ways { first: Way::Nowhere, again: Way::Aside },
        };
        let aside = plan.duplicates_to.as_deref();
        Ok(Self {
            store,
            namespace,
            options,
            sliding: plan.sliding && !plan.dry_run,
            out: Sink::stdout(plan.terminator)?,
            duplicates: aside.map(|path| Sink::append(path, plan.terminator)).transpose()?,
            ways,
            counted: (plan.show == Show::Counts).then(Counted::default),
            dry: plan.dry_run.then(HashSet::new),
            progress: Progress::new(total_bytes, !plan.voice.is_for_people(), watch),
            tally: Tally::default(),
            watch,
            voice: plan.voice,
        })
    }

    /// Writes the new lines of a batch, and then claims them.
    pub(super) fn answer(&mut self, batch: &Batch, input: &[u8]) -> Result<(), Failure> {
        let ids = batch.ids(input);
        let reservation =
            if ids.is_empty() || self.dry.is_some() { None } else { Some(self.reserve(&ids)?) };
        let looked = self.look(&ids)?;
        let answers = reservation.as_ref().map_or(&looked[..], BatchReservation::answers);
        let aside = self.duplicates.as_mut();
        let done = batch.write(input, answers, self.ways, &mut self.out, aside)?;
        let again = if self.sliding { duplicates(&ids, answers) } else { Vec::new() };
        if let Some(counted) = &mut self.counted {
            counted.note(ids.iter().copied().zip(batch.asked(input)), answers);
            counted.hold(reservation);
        } else if let Some(mut reservation) = reservation {
            reservation.confirm()?;
        }
        // A reservation leaves duplicates as they are; a claim of one extends it.
        if let Some(namespace) = &self.namespace
            && !again.is_empty()
        {
            namespace.claim_batch_with(&again, self.options)?;
        }
        self.tally.add(done);
        self.progress.show(&self.tally);
        Ok(())
    }

    /// Returns what the answers would be, in a dry run.
    fn look(&mut self, ids: &[&[u8]]) -> Result<Vec<Reserved>, Failure> {
        let Some(dry) = &mut self.dry else { return Ok(Vec::new()) };
        let mut answers = Vec::with_capacity(ids.len());
        for &id in ids {
            if dry.contains(id) {
                answers.push(Reserved::SameBatch);
                continue;
            }
            let seen = self.namespace.as_ref().map(|ns| ns.get(id)).transpose()?.flatten();
            answers.push(match seen {
                Some(seen) => Reserved::Duplicate { first_seen: seen.first_seen },
                None => {
                    dry.insert(id.into());
                    Reserved::FirstSeen
                }
            });
        }
        Ok(answers)
    }

    /// Reserves ids. A process has its store to itself, so an id in progress is held by this run, which happens only
    /// with `--count`. If that changes, this waits for their release, and not forever (I12).
    fn reserve(&self, ids: &[&[u8]]) -> Result<BatchReservation, Failure> {
        let Some(namespace) = &self.namespace else {
            return Err(Failure::data("there is no namespace to claim in"));
        };
        for _ in 0..RESERVE_TRIES {
            let reservation = namespace.reserve_batch_with(ids, self.options)?;
            let held = reservation.answers().contains(&Reserved::InProgress);
            if !held || self.counted.is_some() {
                return Ok(reservation);
            }
            drop(reservation);
            std::thread::park_timeout(RESERVE_PAUSE);
        }
        Err(Failure::data("timed out waiting for ids that are reserved elsewhere"))
    }

    /// Ends the run and reports how it went. What was claimed before a failure stays claimed, and goes to disk like
    /// everything else.
    pub(super) fn end(mut self, mut result: Result<(), Failure>) -> Result<Exit, Failure> {
        drop(self.progress);
        if let Some(counted) = self.counted.take()
            && !matches!(result, Err(Failure::Closed))
        {
            result = counted.print(&mut self.out).and(result);
        }
        drop(self.namespace);
        let closed = self.store.map_or(Ok(()), Store::close);
        let result = match (result, closed) {
            (Ok(()) | Err(Failure::Stopped(_)), Err(error)) => Err(error.into()),
            (result, _) => result,
        };
        summary::finish(&self.tally, self.watch, self.voice, result)
    }
}

/// Returns the ids that were claimed before.
fn duplicates<'a>(ids: &[&'a [u8]], answers: &[Reserved]) -> Vec<&'a [u8]> {
    let both = ids.iter().zip(answers);
    let seen = both.filter(|(_, answer)| matches!(answer, Reserved::Duplicate { .. }));
    seen.map(|(id, _)| *id).collect()
}

fn is_missing_or_empty(folder: &Path) -> bool {
    std::fs::read_dir(folder)
        .map_or_else(|e| e.kind() == io::ErrorKind::NotFound, |mut names| names.next().is_none())
}

fn open_store(plan: &Plan) -> Result<Option<Store>, Failure> {
    // A dry run creates no store; if the folder is missing or empty, nothing was seen.
    if plan.dry_run && is_missing_or_empty(&plan.store) {
        return Ok(None);
    }
    let mut builder =
        crate::cmd::builder(&plan.store).durability(plan.durability).create(!plan.dry_run);
    if let Some(bytes) = plan.memory {
        builder = builder.memory_budget(bytes);
    }
    Ok(Some(crate::cmd::waiting(plan.wait, || builder.clone().open())?))
}
