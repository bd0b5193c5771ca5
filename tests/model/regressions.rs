//! Named regressions: each was a fault once.
