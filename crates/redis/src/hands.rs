//! Which entries this process has, from the server to their last answer.

use crate::entry::EntryId;
use crate::lock::lock;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};

/// The entries that this process has. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Hands(Arc<Mutex<HashMap<EntryId, u32>>>);

/// That an entry is in hand, until this is dropped.
#[derive(Debug)]
pub(crate) struct InHand {
    id: EntryId,
    hands: Hands,
}

impl Hands {
    pub(crate) fn take(&self, id: EntryId) -> InHand {
        *lock(&self.0).entry(id).or_default() += 1;
        InHand { id, hands: self.clone() }
    }

    pub(crate) fn have(&self, id: EntryId) -> bool {
        lock(&self.0).contains_key(&id)
    }
}

impl Drop for InHand {
    fn drop(&mut self) {
        let mut hands = lock(&self.hands.0);
        // It may have been delivered twice.
        if let Some(count) = hands.get_mut(&self.id) {
            *count -= 1;
            if *count == 0 {
                hands.remove(&self.id);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_delivered_twice_is_in_hand_until_both_are_gone() {
        let (hands, id) = (Hands::default(), EntryId { ms: 7, seq: 1 });
        assert!(!hands.have(id));
        let (first, second) = (hands.take(id), hands.take(id));
        drop(first);
        assert!(hands.have(id));
        drop(second);
        assert!(!hands.have(id));
    }
}
