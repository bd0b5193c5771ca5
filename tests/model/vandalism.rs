//! The sled folder of a real store, harmed on purpose.
