//! `firstseen claim`: claims ids from the command line, as `SET NX` does for a key.

use firstseen::Claim;
use serde::Serialize;

use crate::args::ClaimArgs;
use crate::output::{self, Exit, Failure};
use crate::utc;

/// The JSON output, one for each id.
#[derive(Debug, Serialize)]
struct Answer {
    claimed: bool,
    first_seen: Option<u64>,
    first_seen_utc: Option<String>,
}

pub(super) fn run(args: ClaimArgs) -> Result<Exit, Failure> {
    let mut ids = Vec::with_capacity(args.ids.len());
    for id in args.ids {
        ids.push(super::checked_id(id, args.hex)?);
    }
    let builder = super::builder(&args.store.dir).durability(args.durability.into());
    let store = super::waiting(args.store.wait, || builder.clone().open())?;
    let namespace = super::namespace(&store, args.namespace.as_deref())?;
    let answers = namespace.claim_batch_with(&ids, super::claim_options(args.ttl))?;
    drop(namespace);
    store.close()?;
    for answer in &answers {
        let since = match answer {
            Claim::FirstSeen => None,
            Claim::Duplicate { first_seen } => Some(*first_seen),
        };
        if args.store.json {
            output::print_json(&Answer {
                claimed: since.is_none(),
                first_seen: since.map(firstseen::Timestamp::as_millis),
                first_seen_utc: since.map(utc::text),
            })?;
        } else if let Some(since) = since {
            output::print(format_args!("duplicate, first seen {}", utc::text(since)))?;
        } else {
            output::print("first seen")?;
        }
    }
    let all_new = answers.iter().all(|answer| answer.is_first_seen());
    Ok(if all_new { Exit::Done } else { Exit::DUPLICATE })
}
