//! How far an attempt has come in its stages. They are told apart by name and order.

use crate::ledger::error::AttemptError;
use crate::limits;

#[derive(Debug)]
pub(super) struct Stages {
    /// How many are saved, by this attempt or an earlier one.
    pub(super) saved: u32,
    /// Those that this attempt has reached, in order.
    reached: Vec<ReachedStage>,
    /// Whether one of them is under way.
    is_open: bool,
}

#[derive(Debug)]
struct ReachedStage {
    name: String,
    /// A transaction has saved it, and nobody has asked for its result since.
    is_unread: bool,
}

impl Stages {
    pub(super) fn new(saved: u32) -> Self {
        Self { saved, reached: Vec::new(), is_open: false }
    }

    /// Returns the number of the stage that comes next, under this name.
    pub(super) fn next(&self, name: &str) -> Result<u32, AttemptError> {
        if self.reached.iter().any(|reached| reached.name == name) {
            return Err(AttemptError::StageTwice { name: name.to_owned() });
        }
        if self.is_open {
            return Err(AttemptError::StageOpen { name: name.to_owned() });
        }
        if self.reached.len() >= limits::LEDGER_STAGES_MAX as usize {
            let why = format!("an id has at most {}", limits::LEDGER_STAGES_MAX);
            return Err(AttemptError::Value { what: "one stage more", why });
        }
        Ok(self.reached.len() as u32)
    }

    /// Returns the number of the stage that a transaction is to save. One that is over is saved, by this attempt too.
    pub(super) fn next_to_save(&self, name: &str) -> Result<u32, AttemptError> {
        if !self.is_open && self.reached.iter().any(|reached| reached.name == name) {
            return Err(AttemptError::StageSaved { name: name.to_owned() });
        }
        self.next(name)
    }

    /// Comes to a stage, and returns its number. One that a transaction has saved can be come to once more.
    pub(super) fn open(&mut self, name: &str) -> Result<u32, AttemptError> {
        let is_it = |reached: &ReachedStage| reached.is_unread && reached.name == name;
        let number = match self.reached.iter().position(is_it) {
            Some(_) if self.is_open => {
                return Err(AttemptError::StageOpen { name: name.to_owned() });
            }
            Some(number) => number as u32,
            None => {
                let number = self.next(name)?;
                self.push(name, false);
                number
            }
        };
        self.is_open = true;
        Ok(number)
    }

    /// Leaves a stage. Unless it is over, it can be come to again.
    pub(super) fn close(&mut self, number: u32, is_over: bool) {
        self.is_open = false;
        let number = number as usize;
        match self.reached.get_mut(number) {
            Some(reached) if is_over => reached.is_unread = false,
            Some(reached) if !reached.is_unread => self.reached.truncate(number),
            _ => {}
        }
    }

    /// Notes that a transaction has saved the stage that came next.
    pub(super) fn pass(&mut self, name: &str) {
        self.push(name, true);
    }

    fn push(&mut self, name: &str, is_unread: bool) {
        self.reached.push(ReachedStage { name: name.to_owned(), is_unread });
    }
}
