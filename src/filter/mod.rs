//! The filter: returns "surely not flushed" for almost every new id, and decides nothing (I2, I3).

#[cfg_attr(
    feature = "reference-filter",
    expect(dead_code, reason = "the reference is in its place")
)]
mod blocked;
#[cfg(feature = "reference-filter")]
mod reference;
mod snapshot;

#[cfg(feature = "fuzzing")]
pub(crate) use blocked::BITS_PER_ID;
#[cfg(not(feature = "reference-filter"))]
pub(crate) use blocked::{Filter, FilterBuilder};
#[cfg(feature = "reference-filter")]
pub(crate) use reference::{Filter, FilterBuilder};
pub(crate) use snapshot::{FilterOwner, decode, encode};
