//! How far a group is in its stream, and what was removed before it came there.

use crate::entry::EntryId;
use crate::error::RedisError;
use crate::reply::Reply;

/// How a group stands in its stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Standing {
    /// What the server says. It does not always know, and before Redis 8.2 is wrong after trimming.
    lag: Option<u64>,
    /// How many entries the group has read, as far as the server knows.
    read: Option<u64>,
    pub(crate) delivered: EntryId,
    length: u64,
    /// How many were ever added to the stream.
    pub(crate) added: Option<u64>,
    pub(crate) last: EntryId,
    pub(crate) first: Option<EntryId>,
}

impl Standing {
    /// Reads the answer of [`scripts::STANDING`](crate::scripts::STANDING).
    pub(crate) fn read(reply: Reply) -> Result<Self, RedisError> {
        let [lag, read, delivered, length, added, last, first] = reply.parts()?;
        let maybe = |reply: Reply| reply.some().map(|number| number.number()).transpose();
        Ok(Self {
            lag: maybe(lag)?,
            read: maybe(read)?,
            delivered: delivered.entry_id()?,
            length: length.number()?,
            added: maybe(added)?,
            last: last.entry_id()?,
            first: first.some().map(Reply::entry_id).transpose()?,
        })
    }

    /// Whether something was added behind the group, and all that the stream has is to be delivered.
    fn is_before_all(&self) -> bool {
        self.delivered < self.last && self.first.is_none_or(|first| first > self.delivered)
    }

    /// Returns how many wait to be delivered, where that is known.
    pub(crate) fn lag(&self) -> Option<u64> {
        if self.delivered >= self.last {
            Some(0)
        } else if self.is_before_all() {
            Some(self.length)
        } else {
            self.lag
        }
    }

    /// Returns how many were removed before they were delivered; `None` where it cannot be seen. It can where all that is
    /// there is still to be delivered, and is less than was added since.
    pub(crate) fn missing(&self) -> Option<u64> {
        let (read, added) = (self.read?, self.added?);
        self.is_before_all().then(|| added.saturating_sub(read).saturating_sub(self.length))
    }
}

/// How many entries are known to be missing.
#[derive(Debug, Default)]
pub(crate) struct Skipped(u64);

impl Skipped {
    /// Returns how many more are missing than were noted.
    ///
    /// Once the group has gone on, some servers count those that it has skipped as read, and others (before Redis 8.2) count
    /// them as missing for ever: then the number stays, or grows by what is missing besides.
    pub(crate) fn note(&mut self, missing: u64) -> u64 {
        let before = std::mem::replace(&mut self.0, missing);
        if missing < before { missing } else { missing - before }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(ms: u64) -> EntryId {
        EntryId { ms, seq: 0 }
    }

    /// Ten were added, and four read.
    fn standing(first: Option<u64>, length: u64) -> Standing {
        let (read, added) = (Some(4), Some(10));
        Standing {
            lag: Some(77),
            read,
            delivered: id(4),
            length,
            added,
            last: id(10),
            first: first.map(id),
        }
    }

    #[test]
    fn the_lag_is_counted_where_it_can_be_and_the_servers_word_otherwise() {
        assert_eq!(standing(Some(2), 9).lag(), Some(77));
        assert_eq!(standing(Some(7), 4).lag(), Some(4), "only what is to be delivered is there");
        assert_eq!(standing(None, 0).lag(), Some(0));
        assert_eq!(Standing { delivered: id(10), ..standing(Some(2), 9) }.lag(), Some(0));
        assert_eq!(Standing { lag: None, ..standing(Some(2), 9) }.lag(), None);
    }

    #[test]
    fn what_is_missing_is_seen_when_all_that_is_there_is_to_be_delivered() {
        assert_eq!(standing(Some(5), 6).missing(), Some(0));
        assert_eq!(standing(Some(7), 4).missing(), Some(2));
        assert_eq!(standing(None, 0).missing(), Some(6), "all of it was removed");
        assert_eq!(standing(Some(2), 9).missing(), None);
        assert_eq!(Standing { delivered: id(10), ..standing(None, 0) }.missing(), None);
        assert_eq!(Standing { read: None, ..standing(Some(7), 4) }.missing(), None);
    }

    #[test]
    fn what_is_missing_is_told_once_however_the_server_goes_on_counting() {
        let mut skipped = Skipped::default();
        // The server counts them as missing for ever.
        let told = [0, 5, 5, 5, 7].map(|missing| skipped.note(missing));
        assert_eq!(told, [0, 5, 0, 0, 2]);
        // The server sets its count right when the group goes on.
        let told = [0, 3, 3, 1].map(|missing| skipped.note(missing));
        assert_eq!(told, [0, 3, 0, 1]);
    }
}
