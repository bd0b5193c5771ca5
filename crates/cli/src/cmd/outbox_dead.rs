//! `firstseen outbox redrive` and `purge`: messages that could not be delivered.

use firstseen::outbox::{DeadMessages, MessageId, Outbox};

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
    let topic = store.outbox(&args.topic)?;
    let done = if args.all { all(args, step, &topic) } else { each(args, step, &topic, &ids) };
    drop(topic);
    // What was done has been told by then, and stays done.
    let closed = store.close();
    let exit = done?;
    closed?;
    Ok(exit)
}

fn each(
    args: &OutboxDeadArgs,
    step: Step,
    topic: &Outbox,
    ids: &[[u8; 16]],
) -> Result<Exit, Failure> {
    let (dead, mut exit) = (topic.dead_letters(), Exit::Done);
    for (id, text) in ids.iter().zip(&args.ids) {
        match step.one(&dead, MessageId::from_bytes(*id)) {
            Ok(is_done) => {
                if !is_done && exit == Exit::Done {
                    exit = Exit::NotSeen;
                }
                tell(args, step, text, is_done)?;
            }
            // The others are done all the same.
            Err(error) => exit = output::ended(Err(Failure::from(error).about(text))),
        }
    }
    Ok(exit)
}

fn all(args: &OutboxDeadArgs, step: Step, topic: &Outbox) -> Result<Exit, Failure> {
    let dead = topic.dead_letters();
    let waiting = || topic.pending().map(|pending| pending.count);
    let before = waiting();
    let (changed, failed) = match step.all(&dead) {
        Ok(changed) => (changed, None),
        Err(error) => match (step, before, waiting()) {
            // Nobody else has the store open, so those that wait now were redriven here.
            (Step::Redrive, Ok(before), Ok(after)) => (after.saturating_sub(before), Some(error)),
            _ => {
                let what = format!("some of the messages may be {}", step.done());
                return Err(Failure::from(error).about(&what));
            }
        },
    };
    if args.store.json {
        output::print_json(&serde_json::json!({ step.done(): changed }))?;
    } else {
        output::print(format_args!("{} {}", grouped(changed as u64), step.done()))?;
    }
    match failed {
        Some(error) => {
            let what = format!("the oldest that is still dead in {}", printable(&args.topic));
            Err(Failure::from(error).about(&what))
        }
        None => Ok(if changed > 0 { Exit::Done } else { Exit::NotSeen }),
    }
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
