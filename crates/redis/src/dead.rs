//! Dead letters: added to another stream in the step that acknowledges the entry.

use crate::entry::RedisEntry;
use crate::error::RedisError;
use crate::group::Group;
use crate::scripts;
use crate::setup::not_a_stream;
use redis::{ErrorKind, ServerErrorKind};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::{AtomicBool, Ordering};

/// How long it is remembered that an entry is a dead letter, in milliseconds: a day. It is asked for only when the entry
/// itself does not say so any more, because the stream was trimmed meanwhile.
const MARK_MS: u64 = 24 * 60 * 60 * 1000;

/// Names of fields that a dead letter has besides those of its entry.
const PREFIX: &str = "firstseen-";

/// Where dead letters are kept.
#[derive(Debug)]
pub(crate) struct DeadLetters {
    stream: String,
    /// How keys begin that are at the same node of a cluster.
    beside: String,
    /// The node of the entries does not keep dead letters: two steps.
    is_elsewhere: AtomicBool,
}

impl DeadLetters {
    /// Checks that dead letters can be kept there.
    pub(crate) async fn open(group: &Group, stream: &str) -> Result<Self, RedisError> {
        let unsuitable = |why: &str| RedisError::Unsuitable {
            subject: format!("the key {stream}"),
            why: why.to_owned(),
        };
        if stream == &*group.stream {
            return Err(unsuitable("is the stream itself: keep dead letters in another"));
        }
        let tag = hash_tag(stream);
        if tag.contains('}') {
            return Err(unsuitable(
                "has a brace by which no other key comes to its node: use another key for dead letters",
            ));
        }
        let kind = group.kind_of(stream).await?;
        if !matches!(kind.as_str(), "stream" | "none") {
            return Err(not_a_stream(stream, &kind));
        }
        let beside = format!("{{{tag}}}:firstseen-dead");
        Ok(Self { stream: stream.to_owned(), beside, is_elsewhere: AtomicBool::new(false) })
    }

    /// Adds an entry and acknowledges it.
    ///
    /// One script does both where both streams are at one node. In a cluster where they are not, it is added first: if this
    /// process dies before the acknowledgement, the entry comes again, and its mark says that it was added.
    pub(crate) async fn bury(
        &self,
        group: &Group,
        entry: &RedisEntry,
        message_id: Option<&[u8]>,
        reason: &str,
    ) -> Result<(), RedisError> {
        let mark = self.mark(group, entry);
        let id = entry.id.to_string();
        let letter = letter(group, entry, message_id, reason);
        let what = "adding a dead letter";
        if !self.is_elsewhere.load(Ordering::Relaxed) {
            let mut call = scripts::BURY.key(&*group.stream);
            call.key(&self.stream).key(&mark).arg(&group.name).arg(&id).arg(MARK_MS).arg(&letter);
            match group.run(what, &call).await {
                Err(error) if is_elsewhere(&error) => {
                    self.is_elsewhere.store(true, Ordering::Relaxed);
                }
                done => return done.map(drop),
            }
        }
        let mut call = group.script(&scripts::MAY_BURY);
        if group.run(what, call.arg(&id)).await?.number()? == 0 {
            return Ok(());
        }
        let mut call = scripts::LAY.key(&self.stream);
        group.run(what, call.key(&mark).arg(MARK_MS).arg(&letter)).await?;
        group.acknowledge(entry.id).await
    }

    /// Returns the key that says that an entry is a dead letter of its group.
    ///
    /// It has the length of the stream's key, since that may have the sign that stands between it and the group; and what is
    /// in the entry, since a stream that was deleted and made again has other entries of the same ids where producers choose
    /// those.
    ///
    /// The hash may be another one after an upgrade of the compiler: an entry that is buried twice around that is added twice.
    fn mark(&self, group: &Group, entry: &RedisEntry) -> String {
        let mut fields = DefaultHasher::new();
        entry.fields.hash(&mut fields);
        let (stream, fields) = (&*group.stream, fields.finish());
        let place = format!("{}:{stream}:{}:{}", stream.len(), group.name, entry.id);
        format!("{}:{place}:{fields:016x}", self.beside)
    }
}

fn is_elsewhere(error: &RedisError) -> bool {
    let RedisError::Server { source, .. } = error else { return false };
    source.kind() == ErrorKind::Server(ServerErrorKind::CrossSlot)
}

/// Returns the part of a key by which a cluster chooses its node.
fn hash_tag(key: &str) -> &str {
    let tag = key.split_once('{').and_then(|(_, rest)| rest.split_once('}'));
    tag.map(|(tag, _)| tag).filter(|tag| !tag.is_empty()).unwrap_or(key)
}

/// Returns the fields of a dead letter.
fn letter(
    group: &Group,
    entry: &RedisEntry,
    message_id: Option<&[u8]>,
    reason: &str,
) -> Vec<Vec<u8>> {
    // What is said of a dead letter that was added to the stream again is not true of this one.
    let own = entry.fields.iter().filter(|(name, _)| !name.starts_with(PREFIX.as_bytes()));
    let mut letter: Vec<Vec<u8>> =
        own.flat_map(|(name, value)| [name.to_vec(), value.to_vec()]).collect();
    let id = entry.id.to_string();
    let mut add = |name: &str, value: &[u8]| {
        letter.push(format!("{PREFIX}{name}").into_bytes());
        letter.push(value.to_vec());
    };
    add("reason", reason.as_bytes());
    add("stream", group.stream.as_bytes());
    add("group", group.name.as_bytes());
    add("entry", id.as_bytes());
    if let Some(message_id) = message_id {
        add("id", message_id);
    }
    letter
}

#[cfg(test)]
mod tests {
    use super::hash_tag;

    #[test]
    fn the_part_of_a_key_that_chooses_its_node_is_the_first_in_braces_unless_it_is_empty() {
        for (key, tag) in [
            ("orders", "orders"),
            ("{orders}:dead", "orders"),
            ("a{b}{c}", "b"),
            ("a{}{c}", "a{}{c}"),
            ("a{b", "a{b"),
            ("a}b{c}d", "c"),
            ("a{{b}}", "{b"),
        ] {
            assert_eq!(hash_tag(key), tag, "{key}");
        }
    }
}
