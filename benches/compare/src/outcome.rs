//! What a run has measured, as it is kept and handed from process to process.

use crate::workload::Workload;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What the first phase has measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Claims {
    pub first_seen: u64,
    pub seconds: f64,
    pub claims_per_s: f64,
    pub p50_ns: u64,
    pub p99_ns: u64,
    pub p999_ns: u64,
    pub worst_ns: u64,
    pub sampled_every: u64,
    /// Resident memory before the store is closed, over that of the process before it was opened.
    pub memory_bytes: u64,
    /// The part of it that is pages of mapped files.
    pub memory_file_bytes: u64,
    pub close_s: f64,
    /// On disk after the close.
    pub disk_bytes: u64,
    pub details: Value,
}

/// How long an opening took, until one old id was recognised.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Opened {
    pub seconds: f64,
    /// Claims that had been answered before the kill, and those of them that were first-seen once more.
    pub claims: u64,
    pub lost: u64,
}

/// All of one run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    pub store: String,
    pub workload: Workload,
    #[serde(flatten)]
    pub claims: Claims,
    pub after_close: Option<Opened>,
    pub after_kill: Option<Opened>,
}

impl Outcome {
    pub fn memory_per_id(&self) -> f64 {
        self.claims.memory_bytes as f64 / self.claims.first_seen as f64
    }

    pub fn disk_per_id(&self) -> f64 {
        self.claims.disk_bytes as f64 / self.claims.first_seen as f64
    }
}
