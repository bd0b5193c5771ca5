//! A dedup store on Postgres, shared by many machines: one statement for each move.

mod check;
mod claims;
mod connections;
mod error;
mod joined;
mod ledger;
mod maintain;
mod options;
mod row;
mod schema;
mod statements;
mod store;
#[cfg(feature = "testing")]
#[doc(hidden)]
pub mod testing;

pub use deadpool_postgres;
pub use maintain::Maintained;
pub use options::PostgresOptions;
pub use schema::{MIGRATIONS, Migrated, VERSION};
pub use store::PostgresStore;
pub use tokio_postgres;
