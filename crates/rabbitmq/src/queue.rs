//! The queues of a source: what they have to be so that the server drops nothing.

use crate::error::RabbitError;
use crate::options::RabbitOptions;
use lapin::options::QueueDeclareOptions;
use lapin::protocol::{AMQPErrorKind, AMQPSoftError};
use lapin::types::{AMQPValue, FieldTable, LongString, ShortString};
use lapin::{Channel, ErrorKind};

/// The first major version whose quorum queues have a delivery limit unless they are told otherwise, and take a negative
/// one for none. Earlier ones take it for zero, and drop what comes back.
const LIMITED_SINCE: u32 = 4;

/// A queue and that of its dead letters, as they are to be.
#[derive(Debug)]
pub(crate) struct Queues {
    pub(crate) queue: ShortString,
    pub(crate) dead: ShortString,
    arguments: FieldTable,
    dead_arguments: FieldTable,
}

impl Queues {
    /// Refuses arguments by which the server would drop messages.
    pub(crate) fn new(
        queue: &str,
        options: &RabbitOptions,
        major_version: u32,
    ) -> Result<Self, RabbitError> {
        let unsuitable =
            |why: &str| RabbitError::Unsuitable { queue: queue.to_owned(), why: why.to_owned() };
        let short = |text: &str| {
            ShortString::try_new(text)
                .map_err(|error| unsuitable(&format!("{text:?} is too long a name: {error}")))
        };
        if let Some(why) = why_not(&options.arguments) {
            return Err(unsuitable(&why));
        }
        let mut arguments = FieldTable::default();
        arguments.insert(short("x-queue-type")?, text("quorum"));
        let mut dead_arguments = arguments.clone();
        let no_limit = (major_version >= LIMITED_SINCE).then_some(-1);
        let limit = match options.delivery_limit {
            Some(0) => return Err(unsuitable("a delivery limit of 0 drops what comes back once")),
            Some(limit) => Some(i64::from(limit)),
            None => no_limit,
        };
        for (table, limit) in [(&mut arguments, limit), (&mut dead_arguments, no_limit)] {
            if let Some(limit) = limit {
                table.insert(short("x-delivery-limit")?, AMQPValue::LongLongInt(limit));
            }
        }
        for (name, value) in &options.arguments {
            arguments.insert(short(name)?, value.clone());
        }
        let dead = options.dead_letters.clone().unwrap_or_else(|| format!("{queue}.dead"));
        Ok(Self { queue: short(queue)?, dead: short(&dead)?, arguments, dead_arguments })
    }

    /// Creates both queues, or has the server compare them with those that it has.
    pub(crate) async fn declare(&self, channel: &Channel) -> Result<(), RabbitError> {
        for (name, arguments) in
            [(&self.queue, &self.arguments), (&self.dead, &self.dead_arguments)]
        {
            let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
            let declared = channel.queue_declare(name.clone(), options, arguments.clone()).await;
            declared.map_err(|error| refusal(name, error))?;
        }
        Ok(())
    }

    /// Looks whether the queue is there. Afterwards it is not created anew: whoever has deleted it has deleted its
    /// bindings, too, and without them it would stay empty and nobody would hear of it.
    pub(crate) async fn expect(&self, channel: &Channel) -> Result<u64, RabbitError> {
        let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        let found = channel.queue_declare(self.queue.clone(), options, FieldTable::default()).await;
        let found = found.map_err(RabbitError::of("asking for the queue"))?;
        Ok(found.message_count().into())
    }
}

/// Says why the server would drop messages of a queue with these arguments; `None`: it would not.
fn why_not(arguments: &[(String, AMQPValue)]) -> Option<String> {
    let refuses_when_full = arguments
        .iter()
        .any(|(name, value)| name == "x-overflow" && *value == text("reject-publish"));
    arguments.iter().find_map(|(name, _)| match name.as_str() {
        "x-queue-type" => Some("its type is quorum: leave x-queue-type out".to_owned()),
        "x-delivery-limit" => Some("a delivery limit is set by RabbitOptions::delivery_limit".to_owned()),
        "x-message-ttl" | "x-expires" => {
            Some(format!("with {name} the server drops messages that were not handled: leave it out"))
        }
        "x-max-length" | "x-max-length-bytes" if !refuses_when_full => Some(format!(
            "with {name} the server drops messages when the queue is full: set x-overflow to reject-publish, so that the producer hears of it"
        )),
        _ => None,
    })
}

fn text(text: &str) -> AMQPValue {
    AMQPValue::LongString(LongString::from(text))
}

/// A queue of this name is there, and is another one; or its right to be looked at is missing.
fn refusal(queue: &ShortString, error: lapin::Error) -> RabbitError {
    let is_refused = matches!(
        error.kind(),
        ErrorKind::ProtocolError(error) if matches!(
            error.kind(),
            AMQPErrorKind::Soft(
                AMQPSoftError::PRECONDITIONFAILED
                    | AMQPSoftError::RESOURCELOCKED
                    | AMQPSoftError::ACCESSREFUSED
            )
        )
    );
    if !is_refused {
        return RabbitError::of("declaring a queue")(error);
    }
    RabbitError::Unsuitable {
        queue: queue.as_str().to_owned(),
        why: format!(
            "{error}; it must be a durable quorum queue, not exclusive and not deleted automatically, with the arguments that \
             RabbitOptions name and no other, and without a delivery limit unless RabbitOptions::delivery_limit names it"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limit(queues: &Queues) -> Option<&AMQPValue> {
        queues.arguments.inner().get("x-delivery-limit")
    }

    #[test]
    fn only_servers_that_have_a_limit_by_default_are_told_that_there_is_none() {
        let options = RabbitOptions::new();
        let old = Queues::new("orders", &options, 3).unwrap();
        assert_eq!(limit(&old), None, "to version 3, a negative limit is zero");
        let new = Queues::new("orders", &options, 4).unwrap();
        assert_eq!(limit(&new), Some(&AMQPValue::LongLongInt(-1)));
        let limited = Queues::new("orders", &options.delivery_limit(1_000), 4).unwrap();
        assert_eq!(limit(&limited), Some(&AMQPValue::LongLongInt(1_000)));
        assert_eq!(limited.dead_arguments, new.dead_arguments, "dead letters have no limit");
    }

    #[test]
    fn arguments_by_which_the_server_would_drop_messages_are_refused() {
        let queues = |options: RabbitOptions| Queues::new("orders", &options, 3);
        let with = |name: &str| RabbitOptions::new().argument(name, AMQPValue::LongLongInt(1_000));
        for name in [
            "x-message-ttl",
            "x-expires",
            "x-max-length",
            "x-max-length-bytes",
            "x-queue-type",
            "x-delivery-limit",
        ] {
            let error = queues(with(name)).unwrap_err().to_string();
            let word = if name == "x-queue-type" { "quorum" } else { "drop" };
            let word = if name == "x-delivery-limit" { "delivery_limit" } else { word };
            assert!(error.contains(word), "{name}: {error}");
        }
        let error = queues(RabbitOptions::new().delivery_limit(0)).unwrap_err().to_string();
        assert!(error.contains("limit of 0"), "{error}");
        let bounded = with("x-max-length").argument("x-overflow", text("reject-publish"));
        queues(bounded).unwrap();
        let single = RabbitOptions::new();
        queues(single.argument("x-single-active-consumer", AMQPValue::Boolean(true))).unwrap();
    }

    #[test]
    fn a_name_that_the_protocol_cannot_carry_is_an_error() {
        let error = Queues::new(&"q".repeat(252), &RabbitOptions::new(), 3).unwrap_err();
        assert!(error.to_string().contains("too long a name"), "{error}");
    }
}
