//! The `Idempotency-Key` header for `tower` services.

mod begin;
mod body;
mod counters;
mod fingerprint;
mod in_flight;
mod kept;
mod key;
mod keyed;
mod layer;
mod life;
mod options;
mod outcome;
mod policy;
mod problem;
mod reply;
mod scope;
mod state;
mod stored;
mod structured;

pub use body::Body;
pub use counters::Counters;
pub use kept::{DoNotStore, Fate, KeptHeaders};
pub use key::KeySyntax;
pub use layer::{Handle, Idempotency, IdempotencyLayer, LayerError};
pub use options::ledger_options;
pub use policy::{LargeRequest, Policy, UnkeptAnswer, Unrecorded, WhileRunning};
pub use scope::{KeySpace, Principals, record_id};
pub use stored::stored_response;
