//! `firstseen forget`: an id becomes unseen.

use serde::Serialize;

use crate::args::IdArgs;
use crate::output::{self, Exit, Failure};

/// The answer for a program.
#[derive(Debug, Serialize)]
struct Answer {
    forgotten: bool,
}

pub(super) fn run(args: IdArgs) -> Result<Exit, Failure> {
    let as_json = args.json;
    let (store, namespace, id) = super::open_for_id(args)?;
    let forgotten = namespace.map(|namespace| namespace.forget(&id)).transpose()?;
    let forgotten = forgotten.unwrap_or(false);
    store.close()?;
    if as_json {
        output::print_json(&Answer { forgotten })?;
    } else {
        output::print(if forgotten { "forgotten" } else { "not seen" })?;
    }
    Ok(if forgotten { Exit::Done } else { Exit::NotSeen })
}
