//! Names of ledgers, tables, sources and topics on the command line. One that nothing in the store has is refused:
//! opening it would make it.

use std::ops::ControlFlow;

use firstseen::Store;

use crate::output::Failure;

/// Maximum number of names in a message.
pub(super) const NAMES_MAX: usize = 10;

/// Returns the first of some names, for a message.
pub(super) fn some_of(names: impl Iterator<Item = String>) -> String {
    let mut names: Vec<String> = names.take(NAMES_MAX + 1).collect();
    let more = if names.len() > NAMES_MAX { ", ..." } else { "" };
    names.truncate(NAMES_MAX);
    names.join(", ") + more
}

/// What a name is to be that of.
#[derive(Debug, Clone, Copy)]
pub(super) enum Kind {
    Ledger,
    Table,
    Source,
    Topic,
}

impl Kind {
    /// What it is called, and what it keeps.
    fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::Ledger => ("ledger", "records"),
            Self::Table => ("table", "values"),
            Self::Source => ("source", "offsets"),
            Self::Topic => ("topic", "messages"),
        }
    }

    /// Returns whether it keeps anything under this name. What cannot be read is something.
    fn keeps_any(self, store: &Store, name: &str) -> firstseen::Result<bool> {
        let mut has_any = false;
        let mut found = || {
            has_any = true;
            ControlFlow::Break(())
        };
        match self {
            Self::Ledger => store.ledger(name)?.list(|_, _| found())?,
            Self::Table => store.raw_table(name)?.scan(|_, _| found())?,
            Self::Source => return Ok(!store.source(name)?.positions()?.is_empty()),
            Self::Topic => {
                let topic = store.outbox(name)?;
                if topic.pending()?.count > 0 {
                    return Ok(true);
                }
                let dead = topic.dead_letters().list(None, 1)?;
                return Ok(!dead.messages.is_empty() || !dead.unreadable.is_empty());
            }
        }
        Ok(has_any)
    }
}

/// Rejects a name that nothing in the store has. The message has those that it may be meant for: any name may be opened as a
/// ledger or a topic, so they are those under which something of the kind is kept.
pub(super) fn check(store: &Store, name: &str, kind: Kind) -> Result<(), Failure> {
    if store.find_namespace(name).is_some() {
        return Ok(());
    }
    let (what, kept) = kind.words();
    let known = all(store).filter(|known| kind.keeps_any(store, known).unwrap_or(true));
    let known = match some_of(known) {
        none if none.is_empty() => format!("no {what} in this store has {kept}"),
        known => format!("{what}s with {kept}: {known}"),
    };
    Err(Failure::call(format!("there is no {what} {name:?}; {known}")))
}

/// Returns the name if there is one and it is known, or all names of a store. Any of them may be of the kind; one that
/// is not keeps nothing of it.
pub(super) fn chosen(
    store: &Store,
    name: Option<&str>,
    kind: Kind,
) -> Result<Vec<String>, Failure> {
    match name {
        Some(name) => check(store, name, kind).map(|()| vec![name.to_owned()]),
        None => Ok(all(store).collect()),
    }
}

fn all(store: &Store) -> impl Iterator<Item = String> {
    store.stats().namespaces.into_iter().map(|known| known.name)
}
