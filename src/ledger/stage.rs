//! Stages: steps of the work whose results are kept, so that the next attempt does not do them again.

use crate::codec::{Reader, Undecodable, put_bytes, stored};
use crate::ledger::attempt::Attempt;
use crate::ledger::error::{AttemptError, Failure};
use crate::ledger::rows::{StageWrite, undecodable};
use crate::ledger::value::{check_size, decode, encode};
use crate::limits;
use serde::Serialize;
use serde::de::DeserializeOwned;

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
        let stages = &mut self.attempt.work.inside.lock().stages;
        stages.is_open = false;
        if !self.is_over {
            stages.reached.pop();
        }
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
    /// yet. If the future is dropped, nothing is saved.
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
        let mut reached = self.reach(name)?;
        if let Some(done) = reached.done() {
            return Ok(done?);
        }
        let value = work().await.map_err(Into::into)?;
        reached.finish(value)
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
        let number = reached.number;
        let position = match &reached.saved {
            Some(saved) => Some(decode("the position of a cursor", &saved.value)?),
            None => None,
        };
        let mut cursor = Cursor { attempt: self, name, number, position, bytes: reached.bytes };
        let value = work(&mut cursor).map_err(Into::into)?;
        reached.bytes = cursor.bytes;
        reached.finish(value)
    }

    /// Notes that the attempt has come to a stage, and reads what is saved of it.
    fn reach<'a>(&'a self, name: &'a str) -> Result<Reached<'a>, AttemptError> {
        if name.is_empty() || name.len() > limits::LEDGER_NAME_BYTES_MAX {
            let why = format!("it has 1 to {} bytes", limits::LEDGER_NAME_BYTES_MAX);
            return Err(AttemptError::Value { what: "the name of a stage", why });
        }
        let (number, saved) = {
            let mut inside = self.work.inside.lock();
            // Before any work: its effect would come to nothing.
            self.work.check_open(&mut inside)?;
            let stages = &mut inside.stages;
            if stages.reached.iter().any(|reached| reached == name) {
                return Err(AttemptError::StageTwice { name: name.to_owned() });
            }
            if stages.is_open {
                return Err(AttemptError::StageOpen { name: name.to_owned() });
            }
            if stages.reached.len() >= limits::LEDGER_STAGES_MAX as usize {
                let why = format!("an id has at most {}", limits::LEDGER_STAGES_MAX);
                return Err(AttemptError::Value { what: "one stage more", why });
            }
            stages.is_open = true;
            stages.reached.push(name.to_owned());
            (stages.reached.len() as u32 - 1, stages.saved)
        };
        let mut reached =
            Reached { attempt: self, name, number, saved: None, bytes: 0, is_over: false };
        if number >= saved {
            return Ok(reached);
        }
        let (ledger, id) = (&self.work.ledger, self.work.id());
        let row = ledger.rows().stage(id, number)?;
        reached.bytes = row.as_ref().map_or(0, |row| row.len() as u64);
        let saved = row.as_deref().map_or(Err(Undecodable::Damaged), Saved::decode);
        if saved.as_ref().map_or(true, |saved| saved.name != name) {
            // Somebody who took over may have completed the id, which drops its stages, or have saved others.
            self.work.refresh(&mut self.work.inside.lock())?;
        }
        // A saved stage that is not there is an error (I11): doing it again would be worse.
        let engine = ledger.inner.store.engine();
        let saved =
            saved.map_err(|why| undecodable(engine, &format!("stage {number}"), id, why))?;
        if saved.name != name {
            let (stored, asked) = (saved.name, name.to_owned());
            return Err(AttemptError::StageOrder { number, stored, asked });
        }
        reached.saved = Some(saved);
        Ok(reached)
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
        let mut inside = self.work.inside.lock();
        let kept = inside.found.record.kept_bytes().saturating_sub(*bytes) + value.len() as u64;
        if kept > limits::LEDGER_KEPT_BYTES_MAX {
            return Err(AttemptError::TooLarge {
                what: "the payload and the saved stages of an id",
                bytes: kept as usize,
                bytes_max: limits::LEDGER_KEPT_BYTES_MAX as usize,
            });
        }
        self.work.save(&mut inside, StageWrite { number, value: &value }, *bytes)?;
        *bytes = value.len() as u64;
        Ok(())
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

impl Reached<'_> {
    /// Returns the saved result, if the stage is done.
    fn done<T: DeserializeOwned>(&mut self) -> Option<Result<T, AttemptError>> {
        let saved = self.saved.as_ref().filter(|saved| saved.is_done)?;
        let value = decode("the saved result of a stage", &saved.value);
        self.is_over = value.is_ok();
        Some(value)
    }

    /// Saves the result of the stage.
    fn finish<T: Serialize + DeserializeOwned>(&mut self, value: T) -> Result<T, Failure> {
        // The stage was done: what cannot be stored must not make it be done again.
        let name = self.name;
        let lost = |error| Failure::last(format!("stage {name:?} was done, but {error}"));
        let bytes = encode_to_save("the result of a stage", &value).map_err(lost)?;
        match self.attempt.save((name, self.number), true, &bytes, &mut self.bytes) {
            Err(error @ AttemptError::TooLarge { .. }) => return Err(lost(error)),
            saved => saved?,
        }
        self.is_over = true;
        Ok(value)
    }
}

/// The position within a stage; see [`Attempt::stage_with_cursor`].
#[derive(Debug)]
pub struct Cursor<'a, P> {
    attempt: &'a Attempt,
    name: &'a str,
    number: u32,
    position: Option<P>,
    /// The size of what is saved.
    bytes: u64,
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
        let bytes = encode_to_save("the position of a cursor", &position)?;
        self.attempt.save((self.name, self.number), false, &bytes, &mut self.bytes)?;
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
