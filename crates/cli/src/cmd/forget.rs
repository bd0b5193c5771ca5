//! `firstseen forget`: makes an id, or all ids of a namespace, unseen.

use serde::Serialize;

use crate::args::{ForgetArgs, IdArgs};
use crate::output::{self, Exit, Failure, grouped};

/// The JSON output.
#[derive(Debug, Serialize)]
struct Answer {
    forgotten: bool,
}

/// The JSON output for a whole namespace.
#[derive(Debug, Serialize)]
struct All {
    forgotten: u64,
}

pub(super) fn run(args: ForgetArgs) -> Result<Exit, Failure> {
    let ForgetArgs { id, all: _, store: on, namespace, hex } = args;
    match id {
        Some(id) => one(IdArgs { id, store: on, namespace, hex }),
        None => {
            let store = super::open_existing(&on)?;
            let namespace = super::known_namespace(&store, namespace.as_deref())?;
            let forgotten = namespace.forget_all()?;
            drop(namespace);
            store.close()?;
            if on.json {
                output::print_json(&All { forgotten })?;
            } else {
                output::print(format_args!("{} forgotten", grouped(forgotten)))?;
            }
            Ok(if forgotten > 0 { Exit::Done } else { Exit::NotSeen })
        }
    }
}

fn one(args: IdArgs) -> Result<Exit, Failure> {
    let as_json = args.store.json;
    let (store, namespace, id) = super::open_for_id(args)?;
    let forgotten = namespace.forget(&id)?;
    drop(namespace);
    store.close()?;
    if as_json {
        output::print_json(&Answer { forgotten })?;
    } else {
        output::print(if forgotten { "forgotten" } else { "not seen" })?;
    }
    Ok(if forgotten { Exit::Done } else { Exit::NotSeen })
}
