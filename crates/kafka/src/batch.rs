//! Records that are handled together.

use crate::record::Record;
use std::sync::Arc;

/// Records of one partition, in its order, that are handled in one transaction. Never empty.
#[derive(Debug, Clone)]
pub struct Batch {
    pub(crate) topic: Arc<str>,
    pub(crate) partition: i32,
    pub(crate) records: Vec<Record>,
}

impl Batch {
    /// Returns the topic.
    pub fn topic(&self) -> &str {
        &self.topic
    }

    /// Returns the partition.
    pub fn partition(&self) -> i32 {
        self.partition
    }

    /// Returns the records.
    pub fn records(&self) -> &[Record] {
        &self.records
    }

    /// Passes the records on, one after the other.
    pub fn iter(&self) -> std::slice::Iter<'_, Record> {
        self.records.iter()
    }

    /// Returns the offset behind the last record: where reading goes on once this batch is committed.
    pub fn next_offset(&self) -> i64 {
        self.records.last().map_or(0, |record| record.place.offset + 1)
    }
}

impl<'a> IntoIterator for &'a Batch {
    type Item = &'a Record;
    type IntoIter = std::slice::Iter<'a, Record>;

    fn into_iter(self) -> Self::IntoIter {
        self.records.iter()
    }
}
