//! The filter: answers "surely not sealed" for almost every new id, and decides nothing (I2, I3).

mod blocked;
mod snapshot;

pub(crate) use blocked::{Filter, FilterBuilder};
pub(crate) use snapshot::{FilterOwner, decode, encode};
