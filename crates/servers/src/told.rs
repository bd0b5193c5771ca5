//! What an operator is told: the events of `tracing`. The tests of `firstseen` itself read this file, too.

use std::fmt::{Debug, Write};
use std::sync::{Arc, Mutex};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

/// Keeps all events that are sent while it is the subscriber.
#[derive(Debug, Clone, Default)]
pub struct Told(Arc<Mutex<Vec<(Level, String)>>>);

impl Told {
    /// Returns whether there was an event of this level with these words.
    ///
    /// # Panics
    ///
    /// A thread has panicked while it sent an event.
    pub fn has(&self, level: Level, words: &str) -> bool {
        self.0.lock().unwrap().iter().any(|(at, text)| *at == level && text.contains(words))
    }
}

struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, _: &Field, value: &dyn Debug) {
        let _ = write!(self.0, "{value:?} ");
    }
}

impl Subscriber for Told {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut text = Text(String::new());
        event.record(&mut text);
        self.0.lock().unwrap().push((*event.metadata().level(), text.0));
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}
