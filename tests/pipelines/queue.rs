//! A broker: it delivers the events of an input in their order, and again what nobody has acknowledged.

use crate::harness::Answer;
use serde_json::Value;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;

/// What is not acknowledged. Who asks for the next delivery acknowledges the one before.
pub(crate) struct Queue {
    deliveries: std::vec::IntoIter<Value>,
    /// A byte for each delivery that was acknowledged.
    acknowledged: File,
    is_at_work: bool,
}

impl Queue {
    pub(crate) fn open(folder: &Path, input: &Path) -> Answer<Self> {
        let path = folder.join("acknowledged");
        let acknowledged = OpenOptions::new().create(true).append(true).open(path)?;
        let done = acknowledged.metadata()?.len() as usize;
        let text = std::fs::read_to_string(input)?;
        let deliveries = text.lines().skip(done).map(serde_json::from_str);
        let deliveries = deliveries.collect::<Result<Vec<_>, _>>()?.into_iter();
        Ok(Self { deliveries, acknowledged, is_at_work: false })
    }

    /// Acknowledges so many deliveries.
    pub(crate) fn acknowledge(&mut self, deliveries: usize) -> Answer {
        Ok(self.acknowledged.write_all(&vec![b'.'; deliveries])?)
    }

    /// Returns the ids of what is not acknowledged, to be acknowledged by the caller.
    pub(crate) fn ids(&self) -> Vec<String> {
        self.deliveries.as_slice().iter().map(id).collect()
    }
}

impl Iterator for Queue {
    type Item = Value;

    fn next(&mut self) -> Option<Value> {
        if self.is_at_work {
            self.acknowledge(1).expect("is acknowledged");
        }
        self.is_at_work = true;
        self.deliveries.next()
    }
}

pub(crate) fn id(event: &Value) -> String {
    event["id"].as_str().expect("an id").to_owned()
}
