//! The outbox: messages that must go out, written in the same commit as what they tell of.
//!
//! A message that is sent before a commit may tell of what never happened; one that is sent after it may never be sent. So
//! a [transaction](crate::transaction) emits it: it waits in a topic from the commit on, and leaves it once it was
//! delivered and acknowledged. Between these two a crash may let it be delivered again, with the same id: receivers
//! recognise it by that.
//!
//! ```
//! use firstseen::Store;
//! # let dir = tempfile::tempdir()?;
//! # let path = dir.path().join("seen.db");
//! let store = Store::open(&path)?;
//! let mails = store.outbox("mails")?;
//!
//! let mut transaction = store.transaction();
//! transaction.claim("order-17");
//! transaction.emit_keyed(&mails, "anna", "your order was accepted")?;
//! transaction.emit_keyed(&mails, "anna", "your invoice is ready")?;
//! assert!(transaction.commit()?.is_committed());
//!
//! // In the order of commits. What is read stays until it is acknowledged.
//! let batch = mails.read(100)?;
//! assert_eq!(batch[0].payload, b"your order was accepted");
//! mails.acknowledge(&batch)?;
//! assert_eq!(mails.pending()?.count, 0);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! A [`Relay`] does this with a [`Sink`]: several workers, the messages of a key in order, retries with pauses that grow,
//! and [dead letters](Outbox::dead_letters) for what cannot be delivered.
//!
//! ```
//! use firstseen::Store;
//! use firstseen::outbox::{Delivery, Message, RelayOptions};
//! # let dir = tempfile::tempdir()?;
//! # let path = dir.path().join("seen.db");
//! # let store = Store::open(&path)?;
//! # let mails = store.outbox("mails")?;
//! # let mut transaction = store.transaction();
//! # transaction.claim("order-17");
//! # transaction.emit_keyed(&mails, "anna", "your order was accepted")?;
//! # transaction.emit_keyed(&mails, "nobody", "your order was accepted")?;
//! # assert!(transaction.commit()?.is_committed());
//! let sink = |batch: &[Message]| {
//!     let mut delivery = Delivery::all();
//!     for (n, message) in batch.iter().enumerate() {
//!         if message.key == b"nobody" {
//!             delivery = delivery.refuse(n, "no such user");
//!         }
//!     }
//!     delivery
//! };
//! // `run` and `spawn` go on until they are stopped; `drain` delivers what waits now.
//! let report = mails.relay(RelayOptions::new().workers(4))?.drain(&sink)?;
//! assert_eq!((report.delivered, report.dead), (1, 1));
//! let dead = mails.dead_letters().list(None, 10)?.messages;
//! assert_eq!(dead[0].reason, "no such user");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

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
