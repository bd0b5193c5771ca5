//! Windows over event time.
mod handle;
mod index;
mod options;
mod row;

pub use handle::{ClosedWindow, Windows};
pub use options::{Emit, Window, WindowOptions};
