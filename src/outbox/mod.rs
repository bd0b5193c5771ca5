//! The outbox: messages that must go out, written in the same commit as what they tell of.

mod acknowledge;
mod admission;
mod backlog;
mod batch;
mod dead;
mod entry;
mod message;
mod planned;
mod read;
mod relay;
mod relay_async;
mod schedule;
mod sink;
mod topic;
mod wait;

pub(crate) use admission::{Admission, Full};
pub use dead::{DeadMessage, DeadMessageCause, DeadMessageCursor, DeadMessagePage, DeadMessages};
pub use message::{Message, MessageId};
pub(crate) use planned::{PlannedAcknowledgement, PlannedMessage};
pub use read::{OldestMessage, Pending};
pub use relay::{Relay, RelayHandle, RelayOptions, RelayReport};
pub use sink::{AsyncSink, Delivery, Sink};
pub use topic::{OnFull, Outbox, OutboxOptions};
pub use wait::WaitForMessage;
