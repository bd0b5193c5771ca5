//! Stages: steps of the work whose results are kept, so that the next attempt does not do them again.

use crate::codec::{Reader, Undecodable, put_bytes, stored};
use crate::engine::{RestsOn, WaitBudget};
use crate::ledger::attempt::Attempt;
use crate::ledger::changes::{self, Change, Now};
use crate::ledger::error::{AttemptError, Failure};
use crate::ledger::rows::{StageWrite, undecodable};
use crate::ledger::value::{check_size, decode, encode};
use crate::ledger::work::{Inside, Unanswered, Work};
use crate::limits;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt;

/// A stage that an attempt has reached. Unless it is saved, it can be reached again.
struct Reached<'a> {
    attempt: &'a Attempt,
    name: &'a str,
    number: u32,
    saved: Option<Saved>,
    /// The size of what is saved of it.
    bytes: u64,
    is_over: bool,
}

impl Drop for Reached<'_> {
    fn drop(&mut self) {
        self.attempt.work.inside.lock().stages.close(self.number, self.is_over);
    }
}

/// What is stored of a stage.
#[derive(Debug, PartialEq, Eq)]
struct Saved {
    name: String,
    /// Otherwise the value is the position of a cursor.
    is_done: bool,
    value: Vec<u8>,
}

const VERSION: u8 = 1;

impl Saved {
    fn encode(name: &str, is_done: bool, value: &[u8]) -> Vec<u8> {
        let mut out = vec![VERSION, u8::from(is_done)];
        put_bytes(&mut out, name.as_bytes());
        out.extend_from_slice(value);
        out
    }

    fn decode(bytes: &[u8]) -> Result<Self, Undecodable> {
        Self::take(&mut stored(bytes, VERSION)?).ok_or(Undecodable::Damaged)
    }

    fn take(r: &mut Reader<'_>) -> Option<Self> {
        let is_done = match r.u8()? {
            0 => false,
            1 => true,
            _ => return None,
        };
        let len = usize::try_from(r.varint()?).ok()?;
        let name = String::from_utf8(r.bytes(len)?.to_vec()).ok()?;
        Some(Self { name, is_done, value: r.rest().to_vec() })
    }
}

impl Attempt {
    /// Does a stage of the work, unless an earlier attempt has done it: then its saved result is returned and `work` is
    /// not called. Saving it also extends the lease, and is refused when another attempt has taken over.
    ///
    /// Stages are told apart by name and order. A program that comes to a stage under another name than the saved one
    /// gets [`AttemptError::StageOrder`], and runs nothing.
    ///
    /// A crash between the end of `work` and the save makes the next attempt do the stage again: its effect needs an
    /// idempotency key of its own, such as the id with the name of the stage.
    ///
    /// ```
    /// # use firstseen::{Store, ledger::{Begin, Failure}};
    /// # let dir = tempfile::tempdir()?;
    /// # let ledger = Store::open(dir.path().join("seen.db"))?.ledger("payments")?;
    /// # let Begin::Started(attempt) = ledger.begin("p-1")? else { panic!() };
    /// let score: u32 = attempt.stage("fraud", || Ok::<_, std::io::Error>(17)).map_err(Failure::into_error)?;
    /// assert_eq!(score, 17);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// The failure of `work`; [`AttemptError`] turned into one if the stage could not be read or saved.
    pub fn stage<T, E>(&self, name: &str, work: impl FnOnce() -> Result<T, E>) -> Result<T, Failure>
    where
        T: Serialize + DeserializeOwned,
        E: Into<Failure>,
    {
        let mut reached = self.reach(name)?;
        if let Some(done) = reached.done() {
            return Ok(done?);
        }
        let value = work().map_err(Into::into)?;
        reached.finish(value)
    }

    /// Does a stage whose work is a future; see [`stage`](Self::stage). `work` is called only if the stage is not saved
    /// yet. The future waits for the disk without a thread. Dropped while the work goes on, it has saved nothing.
    ///
    /// # Errors
    ///
    /// As [`stage`](Self::stage).
    pub async fn stage_async<T, E, F>(
        &self,
        name: &str,
        work: impl FnOnce() -> F,
    ) -> Result<T, Failure>
    where
        T: Serialize + DeserializeOwned,
        E: Into<Failure>,
        F: Future<Output = Result<T, E>>,
    {
        let mut reached = self.reach_async(name).await?;
        if let Some(done) = reached.done() {
            return Ok(done?);
        }
        let value = work().await.map_err(Into::into)?;
        reached.finish_async(value).await
    }

    /// Does a stage in steps: the next attempt goes on from the position that was saved last.
    ///
    /// # Errors
    ///
    /// As [`stage`](Self::stage).
    pub fn stage_with_cursor<P, T, E>(
        &self,
        name: &str,
        work: impl FnOnce(&mut Cursor<'_, P>) -> Result<T, E>,
    ) -> Result<T, Failure>
    where
        P: Serialize + DeserializeOwned,
        T: Serialize + DeserializeOwned,
        E: Into<Failure>,
    {
        let mut reached = self.reach(name)?;
        if let Some(done) = reached.done() {
            return Ok(done?);
        }
        let mut cursor = reached.cursor()?;
        let value = work(&mut cursor).map_err(Into::into)?;
        reached.bytes = cursor.bytes;
        reached.finish(value)
    }

    /// Does a stage in steps whose work is a future; see [`stage_with_cursor`](Self::stage_with_cursor) and
    /// [`stage_async`](Self::stage_async). The work saves its positions with [`Cursor::advance_async`].
    ///
    /// ```
    /// # use firstseen::{Store, ledger::{Begin, Cursor, Failure}};
    /// # async fn send(_page: u32) -> Result<(), std::io::Error> { Ok(()) }
    /// # async fn pages(attempt: &firstseen::ledger::Attempt) -> Result<u32, Failure> {
    /// attempt.stage_with_cursor_async("pages", async |cursor: &mut Cursor<'_, u32>| {
    ///     while cursor.position().is_none_or(|done| *done < 9) {
    ///         let page = cursor.position().map_or(1, |done| done + 1);
    ///         send(page).await?;
    ///         cursor.advance_async(page).await?;
    ///     }
    ///     Ok::<_, Failure>(9)
    /// })
    /// .await
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`stage`](Self::stage).
    pub async fn stage_with_cursor_async<P, T, E>(
        &self,
        name: &str,
        work: impl AsyncFnOnce(&mut Cursor<'_, P>) -> Result<T, E>,
    ) -> Result<T, Failure>
    where
        P: Serialize + DeserializeOwned,
        T: Serialize + DeserializeOwned,
        E: Into<Failure>,
    {
        let mut reached = self.reach_async(name).await?;
        if let Some(done) = reached.done() {
            return Ok(done?);
        }
        let mut cursor = reached.cursor()?;
        let value = work(&mut cursor).await.map_err(Into::into)?;
        reached.bytes = cursor.bytes;
        reached.finish_async(value).await
    }

    /// Returns the saved result of the stage that comes next, as [`stage`](Self::stage) would without doing it; `None` if
    /// it is still to be done. For a stage whose result is saved by a transaction; see
    /// [`Transaction::save_stage`](crate::transaction::Transaction::save_stage).
    ///
    /// At [`Durability::Disk`](crate::Durability::Disk) it waits until what it has read is on disk: after a power cut
    /// nobody may have acted on a result, or on an attempt, that is gone.
    ///
    /// # Errors
    ///
    /// As [`stage`](Self::stage), and [`Value`](AttemptError::Value) if the result is of another type.
    pub fn saved_stage<T: Serialize + DeserializeOwned>(
        &self,
        name: &str,
    ) -> Result<Option<T>, AttemptError> {
        self.reach(name)?.done().transpose()
    }

    /// Returns the saved result of the stage that comes next, as a future: it waits for the disk without a thread; see
    /// [`saved_stage`](Self::saved_stage).
    ///
    /// # Errors
    ///
    /// As [`saved_stage`](Self::saved_stage).
    pub async fn saved_stage_async<T: Serialize + DeserializeOwned>(
        &self,
        name: &str,
    ) -> Result<Option<T>, AttemptError> {
        self.reach_async(name).await?.done().transpose()
    }

    /// Returns the position that was saved last in the stage that comes next; `None` if there is none, or the stage is done.
    /// For a position that is saved by a transaction; see
    /// [`Transaction::save_cursor`](crate::transaction::Transaction::save_cursor).
    ///
    /// # Errors
    ///
    /// As [`saved_stage`](Self::saved_stage).
    pub fn saved_cursor<P: DeserializeOwned>(&self, name: &str) -> Result<Option<P>, AttemptError> {
        self.reach(name)?.position()
    }

    /// Returns the position that was saved last in the stage that comes next, as a future; see
    /// [`saved_cursor`](Self::saved_cursor) and [`saved_stage_async`](Self::saved_stage_async).
    ///
    /// # Errors
    ///
    /// As [`saved_stage`](Self::saved_stage).
    pub async fn saved_cursor_async<P: DeserializeOwned>(
        &self,
        name: &str,
    ) -> Result<Option<P>, AttemptError> {
        self.reach_async(name).await?.position()
    }

    /// Notes that the attempt has come to a stage, and reads what is saved of it.
    fn reach<'a>(&'a self, name: &'a str) -> Result<Reached<'a>, AttemptError> {
        let (reached, rests_on) = self.reach_only(name);
        self.work.await_durable(rests_on)?;
        reached
    }

    /// Does what [`reach`](Self::reach) does, as a future.
    async fn reach_async<'a>(&'a self, name: &'a str) -> Result<Reached<'a>, AttemptError> {
        let (reached, rests_on) = self.reach_only(name);
        self.work.durable(rests_on).await?;
        reached
    }

    /// Comes to a stage, and returns without waiting for it what the durability of what it has read rests on.
    fn reach_only<'a>(
        &'a self,
        name: &'a str,
    ) -> (Result<Reached<'a>, AttemptError>, Option<RestsOn>) {
        let (reached, rests_on) = self.work.locked_only(|inside, _| {
            check_name(name)?;
            // Before any work: its effect would come to nothing.
            self.work.check_open(inside)?;
            let number = inside.stages.open(name)?;
            match self.work.read_stage(inside, number, name) {
                Ok(read) => Ok((number, read)),
                Err(error) => {
                    inside.stages.close(number, false);
                    Err(error)
                }
            }
        });
        let reached = reached.map(|(number, (saved, bytes))| {
            let (attempt, is_over) = (self, false);
            Reached { attempt, name, number, saved, bytes, is_over }
        });
        (reached, rests_on)
    }

    /// Saves a stage; `bytes` is the size of what is saved of it, before and after.
    fn save(
        &self,
        (name, number): (&str, u32),
        is_done: bool,
        value: &[u8],
        bytes: &mut u64,
    ) -> Result<(), AttemptError> {
        let value = Saved::encode(name, is_done, value);
        let stage = (number, &value[..]);
        self.work.locked(|inside, budget| self.work.save_stage(inside, budget, stage, bytes))
    }

    /// Saves a stage as [`save`](Self::save) does, as a future.
    async fn save_async(
        &self,
        (name, number): (&str, u32),
        is_done: bool,
        value: &[u8],
        bytes: &mut u64,
    ) -> Result<(), AttemptError> {
        let value = Saved::encode(name, is_done, value);
        let stage = (number, &value[..]);
        let save = |inside: &mut Inside, budget: &mut WaitBudget| {
            self.work.save_stage(inside, budget, stage, bytes)
        };
        self.work.locked_async(save).await
    }
}

impl Work {
    /// Reads what is saved of a stage, and its size. An error if it is another stage.
    fn read_stage(
        &self,
        inside: &mut Inside,
        number: u32,
        name: &str,
    ) -> Result<(Option<Saved>, u64), AttemptError> {
        if number >= inside.stages.saved {
            return Ok((None, 0));
        }
        let (row, rests_on) = self.ledger.rows().look_stage(self.id(), number)?;
        inside.rest_on(rests_on);
        let bytes = row.as_ref().map_or(0, |row| row.len() as u64);
        let saved = row.as_deref().map_or(Err(Undecodable::Damaged), Saved::decode);
        if saved.as_ref().map_or(true, |saved| saved.name != name) {
            // Somebody who took over may have completed the id, which drops its stages, or have saved others.
            self.refresh(inside)?;
        }
        // A saved stage that is not there is an error (I11): doing it again would be worse.
        let engine = self.ledger.inner.store.engine();
        let saved =
            saved.map_err(|why| undecodable(engine, &format!("stage {number}"), self.id(), why))?;
        if saved.name != name {
            let (stored, asked) = (saved.name, name.to_owned());
            return Err(AttemptError::StageOrder { number, stored, asked });
        }
        Ok((Some(saved), bytes))
    }

    /// Saves a stage, and notes its size in `bytes` once it is saved: before the caller waits for the disk, which may fail
    /// or be given up.
    fn save_stage(
        &self,
        inside: &mut Inside,
        budget: &mut WaitBudget,
        (number, value): (u32, &[u8]),
        bytes: &mut u64,
    ) -> Result<(), AttemptError> {
        check_kept(inside, value, *bytes)?;
        self.save(inside, budget, StageWrite { number, value }, *bytes)?;
        *bytes = value.len() as u64;
        Ok(())
    }
}

fn check_name(name: &str) -> Result<(), AttemptError> {
    if name.is_empty() || name.len() > limits::LEDGER_NAME_BYTES_MAX {
        let why = format!("it has 1 to {} bytes", limits::LEDGER_NAME_BYTES_MAX);
        return Err(AttemptError::Value { what: "the name of a stage", why });
    }
    Ok(())
}

/// Checks what is kept beside the record: whatever ends it changes all of that in one commit.
fn check_kept(inside: &Inside, value: &[u8], bytes_before: u64) -> Result<(), AttemptError> {
    let kept = inside.found.record.kept_bytes().saturating_sub(bytes_before) + value.len() as u64;
    if kept > limits::LEDGER_KEPT_BYTES_MAX {
        return Err(AttemptError::TooLarge {
            what: "the payload and the saved stages of an id",
            bytes: kept as usize,
            bytes_max: limits::LEDGER_KEPT_BYTES_MAX as usize,
        });
    }
    Ok(())
}

/// The result of a stage, or a position within one, that a transaction saves.
#[derive(Debug)]
pub(super) struct ToSave {
    pub(super) name: String,
    is_done: bool,
    /// As it is stored.
    pub(super) value: Vec<u8>,
    /// What tells it from all else that is saved of any id of its ledger.
    pub(super) event: Vec<u8>,
}

impl ToSave {
    pub(super) fn result<T: Serialize + DeserializeOwned>(
        id: &[u8],
        name: &str,
        result: &T,
    ) -> Result<Self, AttemptError> {
        let value = encode_to_save("the result of a stage", result)?;
        let mut save = Self::of(id, name, true, &value)?;
        // Whatever its result: a stage is done once.
        put_bytes(&mut save.event, b"");
        Ok(save)
    }

    pub(super) fn position<P: Serialize + DeserializeOwned>(
        id: &[u8],
        name: &str,
        position: &P,
    ) -> Result<Self, AttemptError> {
        let value = encode_to_save("the position of a cursor", position)?;
        let mut save = Self::of(id, name, false, &value)?;
        put_bytes(&mut save.event, &[b"at", &value[..]].concat());
        Ok(save)
    }

    fn of(id: &[u8], name: &str, is_done: bool, value: &[u8]) -> Result<Self, AttemptError> {
        check_name(name)?;
        let mut event = Vec::new();
        put_bytes(&mut event, id);
        put_bytes(&mut event, name.as_bytes());
        let value = Saved::encode(name, is_done, value);
        Ok(Self { name: name.to_owned(), is_done, value, event })
    }

    /// Returns what saving it makes of the record, and the number of the stage. The attempt has not moved yet.
    pub(super) fn decide(
        &self,
        work: &Work,
        inside: &mut Inside,
        now: Now,
    ) -> Result<(Change, u32), AttemptError> {
        work.check_open(inside)?;
        let number = inside.stages.next_to_save(&self.name)?;
        let (saved, bytes_before) = work.read_stage(inside, number, &self.name)?;
        if saved.is_some_and(|saved| saved.is_done) {
            // What belongs to it was committed with it.
            return Err(AttemptError::StageSaved { name: self.name.clone() });
        }
        check_kept(inside, &self.value, bytes_before)?;
        let saved = changes::Saved { number, bytes: self.value.len() as u64, bytes_before };
        Ok((work.decide_save(inside, now, saved)?, number))
    }

    /// Notes that it was saved.
    pub(super) fn made(&self, inside: &mut Inside, number: u32) {
        inside.saved(number);
        if self.is_done {
            inside.stages.pass(&self.name);
        }
    }
}

/// Encodes a value that is to be read again.
fn encode_to_save<T: Serialize + DeserializeOwned>(
    what: &'static str,
    value: &T,
) -> Result<Vec<u8>, AttemptError> {
    let bytes = encode(what, value)?;
    check_size(what, bytes.len(), limits::LEDGER_VALUE_BYTES_MAX)?;
    // Not every type that can be encoded can be decoded.
    decode::<T>(what, &bytes)?;
    Ok(bytes)
}

impl<'a> Reached<'a> {
    /// Returns the saved position, if the stage has one and is not done.
    fn position<P: DeserializeOwned>(&self) -> Result<Option<P>, AttemptError> {
        let saved = self.saved.as_ref().filter(|saved| !saved.is_done);
        saved.map(|saved| decode("the position of a cursor", &saved.value)).transpose()
    }

    fn cursor<P: DeserializeOwned>(&self) -> Result<Cursor<'a, P>, AttemptError> {
        let Self { attempt, name, number, bytes, .. } = *self;
        Ok(Cursor { attempt, name, number, position: self.position()?, bytes })
    }

    /// Returns the saved result, if the stage is done.
    fn done<T: DeserializeOwned>(&mut self) -> Option<Result<T, AttemptError>> {
        let saved = self.saved.as_ref().filter(|saved| saved.is_done)?;
        let value = decode("the saved result of a stage", &saved.value);
        self.is_over = value.is_ok();
        Some(value)
    }

    /// Saves the result of the stage.
    fn finish<T: Serialize + DeserializeOwned>(&mut self, value: T) -> Result<T, Failure> {
        let unanswered = Unanswered::of(&self.attempt.work);
        let bytes = self.encode(&value)?;
        let saved = self.attempt.save((self.name, self.number), true, &bytes, &mut self.bytes);
        self.end(saved)?;
        unanswered.answered();
        Ok(value)
    }

    /// Saves the result of the stage, as a future.
    async fn finish_async<T>(&mut self, value: T) -> Result<T, Failure>
    where
        T: Serialize + DeserializeOwned,
    {
        let unanswered = Unanswered::of(&self.attempt.work);
        let bytes = self.encode(&value)?;
        let stage = (self.name, self.number);
        let saved = self.attempt.save_async(stage, true, &bytes, &mut self.bytes).await;
        self.end(saved)?;
        unanswered.answered();
        Ok(value)
    }

    fn encode<T: Serialize + DeserializeOwned>(&self, value: &T) -> Result<Vec<u8>, Failure> {
        encode_to_save("the result of a stage", value).map_err(|error| self.lost(&error))
    }

    /// The stage was done: what cannot be stored must not make it be done again.
    fn lost(&self, error: &AttemptError) -> Failure {
        Failure::last(format!("stage {:?} was done, but {error}", self.name))
    }

    /// Ends the stage, once its result is saved.
    fn end(&mut self, saved: Result<(), AttemptError>) -> Result<(), Failure> {
        match saved {
            Err(error @ AttemptError::TooLarge { .. }) => return Err(self.lost(&error)),
            saved => saved?,
        }
        self.is_over = true;
        Ok(())
    }
}

/// The position within a stage; see [`Attempt::stage_with_cursor`].
pub struct Cursor<'a, P> {
    attempt: &'a Attempt,
    name: &'a str,
    number: u32,
    position: Option<P>,
    /// The size of what is saved.
    bytes: u64,
}

impl<P> fmt::Debug for Cursor<'_, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cursor")
            .field("attempt", &self.attempt)
            .field("stage", &self.name)
            .finish_non_exhaustive()
    }
}

impl<P: Serialize + DeserializeOwned> Cursor<'_, P> {
    /// Returns the position that was saved last, by this attempt or an earlier one.
    pub fn position(&self) -> Option<&P> {
        self.position.as_ref()
    }

    /// Saves how far the stage has come, and extends the lease.
    ///
    /// # Errors
    ///
    /// As [`Attempt::renew`], except that an ended lease is no error while nobody has taken over.
    pub fn advance(&mut self, position: P) -> Result<(), AttemptError> {
        let unanswered = Unanswered::of(&self.attempt.work);
        let bytes = encode_to_save("the position of a cursor", &position)?;
        self.attempt.save((self.name, self.number), false, &bytes, &mut self.bytes)?;
        unanswered.answered();
        self.position = Some(position);
        Ok(())
    }

    /// Saves how far the stage has come, as a future; see [`advance`](Self::advance). Dropped while it waits for the disk,
    /// it may have saved the position, which [`position`](Self::position) does not show yet.
    ///
    /// # Errors
    ///
    /// As [`advance`](Self::advance).
    pub async fn advance_async(&mut self, position: P) -> Result<(), AttemptError> {
        let unanswered = Unanswered::of(&self.attempt.work);
        let bytes = encode_to_save("the position of a cursor", &position)?;
        let stage = (self.name, self.number);
        self.attempt.save_async(stage, false, &bytes, &mut self.bytes).await?;
        unanswered.answered();
        self.position = Some(position);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_saved_of_a_stage_comes_back() {
        for is_done in [false, true] {
            let bytes = Saved::encode("fraud", is_done, b"17");
            let saved = Saved { name: "fraud".to_owned(), is_done, value: b"17".to_vec() };
            assert_eq!(Saved::decode(&bytes), Ok(saved));
            for len in 0..8 {
                assert_eq!(Saved::decode(&bytes[..len]), Err(Undecodable::Damaged), "{len}");
            }
        }
        assert_eq!(Saved::decode(&[VERSION, 2, 0]), Err(Undecodable::Damaged));
        let newer = VERSION + 1;
        assert_eq!(Saved::decode(&[newer, 1, 0]), Err(Undecodable::Newer(newer)));
    }
}
