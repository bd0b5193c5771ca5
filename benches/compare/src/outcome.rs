//! Results of a run, as stored and passed between processes.

use crate::workload::Workload;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Results of the first phase.
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
    /// User and system time of all threads, those in the background and of servers included, from the first claim to the
    /// last answer. Results from before it was measured have 0.
    #[serde(default)]
    pub processor_s: f64,
    /// Threads of the subject itself.
    #[serde(default)]
    pub own_threads: u64,
    /// Resident memory before the close, minus that of the process before it opened the store.
    pub memory_bytes: u64,
    /// The part in mapped files.
    pub memory_file_bytes: u64,
    pub close_s: f64,
    /// On disk after the close.
    pub disk_bytes: u64,
    pub details: Value,
}

/// Time from opening until one old id was recognised.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Opened {
    pub seconds: f64,
    /// Claims acknowledged before the kill, and those of them that were first seen again after it.
    pub claims: u64,
    pub lost: u64,
}

/// Everything about one run.
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
    /// Processor time of each claim, in nanoseconds.
    pub fn processor_ns(&self) -> f64 {
        let claims = self.workload.claims_each() * self.workload.threads;
        self.claims.processor_s * 1e9 / claims as f64
    }

    pub fn memory_per_id(&self) -> f64 {
        self.claims.memory_bytes as f64 / self.claims.first_seen as f64
    }

    pub fn disk_per_id(&self) -> f64 {
        self.claims.disk_bytes as f64 / self.claims.first_seen as f64
    }
}
