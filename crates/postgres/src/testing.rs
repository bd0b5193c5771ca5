//! A clock that a test sets. Not an API.

use crate::store::PostgresStore;
use firstseen_shared::Result;

impl PostgresStore {
    /// Has the server's clock stand still at this time for all who use this schema; `None` has it go on.
    #[doc(hidden)]
    pub async fn set_clock(&self, ms: Option<i64>) -> Result<()> {
        let now = match ms {
            Some(ms) => format!("{ms}::bigint"),
            None => "floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint".to_owned(),
        };
        let sql = format!(
            "CREATE OR REPLACE FUNCTION \"{}\".clock() RETURNS bigint LANGUAGE sql VOLATILE AS 'SELECT {now}'",
            self.options.schema
        );
        self.connections.ask("set the clock", &sql, &[]).await.map(drop)
    }
}
