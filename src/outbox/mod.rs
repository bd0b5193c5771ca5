//! The outbox: messages that must go out, written in the same commit as what they tell of.

mod acknowledge;
mod admission;
mod backlog;
mod entry;
mod message;
mod planned;
mod read;
mod schedule;
mod topic;
mod wait;

pub(crate) use admission::{Admission, Full};
pub use message::{Message, MessageId};
pub(crate) use planned::{PlannedAcknowledgement, PlannedMessage};
pub use read::{OldestMessage, Pending};
pub use topic::{OnFull, Outbox, OutboxOptions};
pub use wait::WaitForMessage;
