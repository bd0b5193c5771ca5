//! The lock of an attempt. Whoever waits for its record is woken once it is unlocked: a waker is code of an executor,
//! which may run a task that asks the attempt (I9).

use crate::engine::Bells;
use crate::sync::{Mutex, MutexGuard};
use std::ops::{Deref, DerefMut};

/// What has bells to be rung once it is unlocked.
pub(super) trait HasBells {
    fn bells(&mut self) -> &mut Bells;
}

#[derive(Debug)]
pub(super) struct Quiet<T>(Mutex<T>);

/// Fields are dropped in order: first the lock is released, then the bells ring.
pub(super) struct QuietGuard<'a, T: HasBells> {
    inside: MutexGuard<'a, T>,
    bells: Bells,
}

impl<T: HasBells> Quiet<T> {
    pub(super) fn new(inside: T) -> Self {
        Self(Mutex::new(inside))
    }

    /// Returns the lock if nobody has it.
    pub(super) fn try_lock(&self) -> Option<QuietGuard<'_, T>> {
        let inside = self.0.try_lock()?;
        Some(QuietGuard { inside, bells: Bells::default() })
    }

    pub(super) fn lock(&self) -> QuietGuard<'_, T> {
        QuietGuard { inside: self.0.lock(), bells: Bells::default() }
    }
}

impl<T: HasBells> Drop for QuietGuard<'_, T> {
    fn drop(&mut self) {
        self.bells = std::mem::take(self.inside.bells());
    }
}

impl<T: HasBells> Deref for QuietGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.inside
    }
}

impl<T: HasBells> DerefMut for QuietGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.inside
    }
}
