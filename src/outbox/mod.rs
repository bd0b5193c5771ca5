//! The outbox: messages that must go out, written in the same commit as what they tell of.

mod message;
mod topic;

pub use message::MessageId;
pub(crate) use message::PlannedMessage;
pub use topic::Outbox;
