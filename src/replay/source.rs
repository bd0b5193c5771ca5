//! Sources that keep their events, and the loop that feeds them into a scope.

use crate::offsets::Position;
use crate::time::Timestamp;
use std::collections::BTreeMap;
use std::error::Error as StdError;
use std::fmt;
use std::ops::ControlFlow;

/// An event of a source that keeps its events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Retained<'a> {
    /// Where it is from.
    pub partition: u32,
    /// Its place there. The next one has a higher offset.
    pub offset: u64,
    /// When it happened, if the source knows.
    pub time: Option<Timestamp>,
    /// The event.
    pub bytes: &'a [u8],
}

impl<'a> Retained<'a> {
    /// Creates an event, for a source.
    pub fn new(partition: u32, offset: u64, time: Option<Timestamp>, bytes: &'a [u8]) -> Self {
        Self { partition, offset, time, bytes }
    }
}

/// Something that keeps events and gives them again: a topic of a broker, a folder of files. Each partition has its events
/// in an order of its own, by offset.
pub trait RetainedSource {
    /// Why it cannot be read.
    type Error: StdError + 'static;

    /// Returns the numbers of its partitions.
    ///
    /// # Errors
    ///
    /// As the source says.
    fn partitions(&self) -> Result<Vec<u32>, Self::Error>;

    /// Returns the offset of the first event that it still has, and the one after the last.
    ///
    /// # Errors
    ///
    /// As the source says.
    fn bounds(&self, partition: u32) -> Result<(u64, u64), Self::Error>;

    /// Returns the offset of the first event that happened at this time or later, as far as events are in order of time;
    /// the end, if there is none, and `None` if the source cannot tell.
    ///
    /// # Errors
    ///
    /// As the source says.
    fn offset_at(&self, partition: u32, time: Timestamp) -> Result<Option<u64>, Self::Error>;

    /// Passes the events from this offset on to `visit`, in order, until it says stop or there are no more. Returns the
    /// next offset to read.
    ///
    /// # Errors
    ///
    /// As the source says. Events before the failure have been passed.
    fn read(
        &self,
        partition: u32,
        from: u64,
        visit: &mut dyn FnMut(Retained<'_>) -> ControlFlow<()>,
    ) -> Result<u64, Self::Error>;
}

/// Where to begin in a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartAt {
    /// With the first event that the source still has.
    Beginning,
    /// With this offset: what is stored as the next one to read.
    Offset(u64),
    /// With the first event of this time or later.
    Time(Timestamp),
}

impl From<Option<Position>> for StartAt {
    /// Goes on where the offsets say, or begins.
    fn from(position: Option<Position>) -> Self {
        position.map_or(Self::Beginning, |position| Self::Offset(position.next))
    }
}

/// Why [`drive`] ended early.
#[derive(Debug)]
pub enum DriveError<S, E> {
    /// The source failed.
    Source(S),
    /// The code that takes the events failed.
    Event {
        /// The partition.
        partition: u32,
        /// The event that it failed on: where to go on.
        offset: u64,
        /// Its error.
        error: E,
    },
    /// The source does not have the first event any more. Beginning later would leave out what is missing, so that is up
    /// to the caller.
    Gone {
        /// The partition.
        partition: u32,
        /// The offset that was asked for.
        asked: u64,
        /// The first one that the source has.
        first: u64,
    },
    /// The source cannot tell offsets by time.
    NoTimes {
        /// The partition.
        partition: u32,
    },
}

impl<S: fmt::Display, E: fmt::Display> fmt::Display for DriveError<S, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Source(error) => write!(f, "the source cannot be read: {error}"),
            Self::Event { partition, offset, error } => {
                write!(f, "the event at offset {offset} of partition {partition} failed: {error}")
            }
            Self::Gone { partition, asked, first } => write!(
                f,
                "partition {partition} was to be read from offset {asked} and begins at {first}: begin there only if \
                 what is missing does not matter"
            ),
            Self::NoTimes { partition } => write!(
                f,
                "the source cannot find a time in partition {partition}: begin at an offset"
            ),
        }
    }
}

impl<S, E> StdError for DriveError<S, E>
where
    S: StdError + 'static,
    E: fmt::Debug + fmt::Display,
{
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self {
            Self::Source(error) => Some(error),
            Self::Event { .. } | Self::Gone { .. } | Self::NoTimes { .. } => None,
        }
    }
}

/// What [`drive`] has done.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Driven {
    /// How many events were passed.
    pub events: u64,
    /// The next offset of each partition.
    pub next: BTreeMap<u32, u64>,
}

/// Passes the events of a source to `each`, one partition after the other, each from where `start` says to the end that it
/// has when it gets there.
///
/// `each` does with an event what it does live, with handles from a [`ReplayScope`](crate::replay::ReplayScope). To go on
/// after a crash where the scope is, advance the scope's own offsets in the same transaction, and let `start` read them.
///
/// # Errors
///
/// [`DriveError`]. Events before the failure have been passed.
///
/// ```
/// use firstseen::Store;
/// use firstseen::replay::{NdjsonSegments, drive};
/// # let dir = tempfile::tempdir()?;
/// # let (path, folder) = (dir.path().join("seen.db"), dir.path().join("orders"));
/// let orders = NdjsonSegments::new(&folder).time_field("at");
/// orders.append(0, &[
///     r#"{"id":"a","at":"2026-11-29T10:00:00Z"}"#,
///     r#"{"id":"b","at":"2026-11-29T11:00:00Z"}"#,
/// ])?;
///
/// let store = Store::open(&path)?;
/// let scope = store.replay("november")?;
/// let (seen, read) = (scope.namespace("orders")?, scope.source("orders")?);
/// let replay = || {
///     let positions = read.positions()?;
///     drive(&orders, |partition| positions.get(&partition).copied().into(), |event| {
///         let mut transaction = store.transaction();
///         transaction.claim_in(&seen, event.bytes);
///         transaction.advance(&read, event.partition, event.offset + 1);
///         transaction.commit().map(drop)
///     })
///     .map_err(Box::<dyn std::error::Error>::from)
/// };
/// assert_eq!(replay()?.events, 2);
/// assert_eq!(replay()?.events, 0, "it goes on at the end");
/// assert_eq!(scope.count()?.ids(), 2);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn drive<S: RetainedSource, E>(
    source: &S,
    mut start: impl FnMut(u32) -> StartAt,
    mut each: impl FnMut(Retained<'_>) -> Result<(), E>,
) -> Result<Driven, DriveError<S::Error, E>> {
    let mut driven = Driven::default();
    for partition in source.partitions().map_err(DriveError::Source)? {
        let (first, _) = source.bounds(partition).map_err(DriveError::Source)?;
        let from = match start(partition) {
            StartAt::Beginning => first,
            StartAt::Offset(asked) if asked < first => {
                return Err(DriveError::Gone { partition, asked, first });
            }
            StartAt::Offset(offset) => offset,
            StartAt::Time(time) => {
                let found = source.offset_at(partition, time).map_err(DriveError::Source)?;
                found.ok_or_else(|| DriveError::NoTimes { partition })?
            }
        };
        let mut failed = None;
        let next = source.read(partition, from, &mut |event| match each(event) {
            Ok(()) => {
                driven.events += 1;
                ControlFlow::Continue(())
            }
            Err(error) => {
                failed = Some((event.offset, error));
                ControlFlow::Break(())
            }
        });
        if let Some((offset, error)) = failed {
            return Err(DriveError::Event { partition, offset, error });
        }
        driven.next.insert(partition, next.map_err(DriveError::Source)?);
    }
    Ok(driven)
}
