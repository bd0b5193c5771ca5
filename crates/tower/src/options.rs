//! Options of a ledger that suit requests.

use firstseen_shared::{Backoff, LedgerOptions};
use std::time::Duration;

/// Returns options for the ledger of a layer. Change what does not fit:
///
/// | option | here | why |
/// |---|---|---|
/// | `result_ttl`, `dead_ttl` | 24 hours | so long a client may retry; after that its key counts as new |
/// | `attempts_max` | 100 | a request that fails may be sent again often, and one that kills its process not for ever |
/// | `backoff` | none | the client chooses when it comes again |
/// | `lease` | 30 seconds | renewed while a handler runs; so long a key is in use after its machine has died |
/// | `on_lease_end` | `Retry` | after a crash the request runs again. `Hold` asks an operator instead |
/// | `patience` | 10 seconds | so long a call is repeated while the store is away |
pub fn ledger_options() -> LedgerOptions {
    const DAY: Duration = Duration::from_secs(24 * 3_600);
    LedgerOptions::new()
        .result_ttl(DAY)
        .dead_ttl(DAY)
        .attempts_max(100)
        .backoff(Backoff::constant(Duration::ZERO))
        .lease(Duration::from_secs(30))
        .patience(Duration::from_secs(10))
}
