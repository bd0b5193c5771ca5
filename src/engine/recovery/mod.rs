//! Turns a folder into a store: open, replay, heal, verify, repair.

pub(in crate::engine) mod heal;
pub(in crate::engine) mod inspect;
pub(in crate::engine) mod open;
pub(in crate::engine) mod repair;
pub(in crate::engine) mod verify;
