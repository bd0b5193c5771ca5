//! `firstseen outbox redrive` and `purge`: messages that could not be delivered.

use firstseen::outbox::{DeadMessages, MessageId};

use super::names::{self, Kind};
use super::outbox::message_id;
use crate::args::outbox::OutboxDeadArgs;
use crate::output::{self, Exit, Failure, grouped, printable};

/// What is done with dead messages.
#[derive(Debug, Clone, Copy)]
pub(super) enum Step {
    Redrive,
    Purge,
}

impl Step {
    fn one(self, dead: &DeadMessages, id: MessageId) -> firstseen::Result<bool> {
        match self {
            Self::Redrive => dead.redrive(id),
            Self::Purge => dead.purge(id),
        }
    }

    fn all(self, dead: &DeadMessages) -> firstseen::Result<usize> {
        match self {
            Self::Redrive => dead.redrive_all(),
            Self::Purge => dead.purge_all(),
        }
    }

    /// What a person reads of one that is done, and the name of the answer in JSON.
    fn done(self) -> &'static str {
        match self {
            Self::Redrive => "redriven",
            Self::Purge => "purged",
        }
    }
}

pub(super) fn run(args: &OutboxDeadArgs, step: Step) -> Result<Exit, Failure> {
    let ids = args.ids.iter().map(|id| message_id(id)).collect::<Result<Vec<_>, _>>()?;
    let store = super::open_existing(&args.store)?;
    names::check(&store, &args.topic, Kind::Topic)?;
    let dead = store.outbox(&args.topic)?.dead_letters();
    if args.all {
        let changed = step.all(&dead)?;
        drop(dead);
        store.close()?;
        if args.store.json {
            output::print_json(&serde_json::json!({ step.done(): changed }))?;
        } else {
            output::print(format_args!("{} {}", grouped(changed as u64), step.done()))?;
        }
        return Ok(if changed > 0 { Exit::Done } else { Exit::NotSeen });
    }
    let answers: Vec<_> =
        ids.into_iter().map(|id| step.one(&dead, MessageId::from_bytes(id))).collect();
    drop(dead);
    store.close()?;
    let mut exit = Exit::Done;
    for (text, answer) in args.ids.iter().zip(answers) {
        match answer {
            Ok(is_done) => {
                if !is_done && exit == Exit::Done {
                    exit = Exit::NotSeen;
                }
                tell(args, step, text, is_done)?;
            }
            // The others were done all the same.
            Err(error) => exit = output::ended(Err(Failure::from(error).about(text))),
        }
    }
    Ok(exit)
}

fn tell(args: &OutboxDeadArgs, step: Step, id: &str, is_done: bool) -> Result<(), Failure> {
    if args.store.json {
        output::print_json(&serde_json::json!({ "id": id, step.done(): is_done }))
    } else if is_done {
        output::print(format_args!("{id} {}", step.done()))
    } else {
        output::print(format_args!("{id} is not dead in {}", printable(&args.topic)))
    }
}
