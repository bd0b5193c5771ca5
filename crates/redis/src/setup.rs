//! How a group is made, and made again when it is gone; how far it is; and what is beside it at the server: the stream's
//! mark, and consumers that are gone.

use crate::entry::EntryId;
use crate::error::RedisError;
use crate::group::{Group, millis};
use crate::lock::lock;
use crate::names::{CONSUMER_PREFIX, MARK_PREFIX, new_mark};
use crate::options::RedisStart;
use crate::scripts;
use crate::standing::Standing;

impl Group {
    /// Creates the group if it is not there. Refuses servers that do not tell of entries that were trimmed.
    pub(crate) async fn ensure(&self) -> Result<(), RedisError> {
        let position = match self.options.start {
            RedisStart::Beginning => EntryId::ZERO.to_string(),
            RedisStart::End => "$".to_owned(),
            RedisStart::After(id) => id.to_string(),
        };
        self.create(&position).await?;
        let Some(standing) = self.standing().await? else { return Ok(()) };
        if standing.added.is_none() {
            let why = "is older than Redis 7.0, which does not tell of trimmed entries: \
                       use Redis 7.0, Valkey, or newer";
            let subject = "the server".to_owned();
            return Err(RedisError::Unsuitable { subject, why: why.to_owned() });
        }
        *lock(&self.position) = standing.delivered;
        Ok(())
    }

    /// Creates the group again after it is gone: from the beginning of the stream, or, where the group was not to have what
    /// was there before it, from where it was.
    pub(crate) async fn make_again(&self) -> Result<(), RedisError> {
        let was = *lock(&self.position);
        let from = match self.options.start {
            RedisStart::Beginning => EntryId::ZERO,
            _ if self.is_shorter_than(was).await? => EntryId::ZERO,
            _ => was,
        };
        self.create(&from.to_string()).await?;
        self.watch.group_made_again();
        tracing::warn!(
            stream = %self.stream, group = %self.name, after = %from,
            "the group is gone, after FLUSHALL, a failover, or XGROUP DESTROY, and was made again: what it had \
             acknowledged comes again, and is a duplicate as far as the ledger remembers"
        );
        Ok(())
    }

    /// Whether the stream ends before this entry: then it is another stream.
    async fn is_shorter_than(&self, id: EntryId) -> Result<bool, RedisError> {
        let mut command = self.command("XREVRANGE");
        command.arg("+").arg(id.to_string()).arg("COUNT").arg(1);
        let from_there = self.ask("looking for the end of the stream", &command).await?;
        Ok(from_there.list()?.is_empty())
    }

    async fn create(&self, position: &str) -> Result<(), RedisError> {
        self.check_kind().await?;
        let mut call = self.script(&scripts::CREATE);
        call.arg(position).arg(u8::from(self.options.creates_stream));
        match self.run("creating the group", &call).await {
            // It is there.
            Err(error) if error.code() == Some("BUSYGROUP") => Ok(()),
            created => created.map(drop),
        }
    }

    async fn check_kind(&self) -> Result<(), RedisError> {
        let kind = self.kind_of(&self.stream).await?;
        match kind.as_str() {
            "stream" => Ok(()),
            "none" if self.options.creates_stream => Ok(()),
            "none" => Err(RedisError::NoStream { stream: self.stream.to_string() }),
            _ => Err(not_a_stream(&self.stream, &kind)),
        }
    }

    pub(crate) async fn kind_of(&self, key: &str) -> Result<String, RedisError> {
        let mut command = redis::cmd("TYPE");
        self.ask("asking for the kind of a key", command.arg(key)).await?.text()
    }

    /// Returns the stream's mark; see [`scripts::MARK`].
    pub(crate) async fn mark(&self) -> Result<String, RedisError> {
        let mut call = scripts::MARK.key(&*self.stream);
        call.arg(MARK_PREFIX).arg(new_mark());
        self.run("asking for the stream's mark", &call).await?.text()
    }

    /// Removes consumers that are gone. Returns how many.
    pub(crate) async fn prune(&self) -> Result<u64, RedisError> {
        let mut call = self.script(&scripts::PRUNE);
        call.arg(&self.consumer).arg(millis(self.options.consumers_expire)).arg(CONSUMER_PREFIX);
        let removed = self.run("removing dead consumers", &call).await?.number()?;
        self.watch.consumers_removed(removed);
        Ok(removed)
    }

    /// Returns how many entries wait to be delivered; `None` if the server does not know. Tells of those that were removed
    /// before they were delivered.
    pub(crate) async fn lag(&self) -> Result<Option<u64>, RedisError> {
        let Some(standing) = self.standing().await? else { return Ok(None) };
        if let Some(missing) = standing.missing() {
            let more = lock(&self.skipped).note(missing);
            if more > 0 {
                let before = standing.first.unwrap_or(standing.last);
                self.watch.skipped(more, standing.delivered, before);
            }
        }
        Ok(standing.lag())
    }

    async fn standing(&self) -> Result<Option<Standing>, RedisError> {
        let reply = self.run("asking for the lag", &self.script(&scripts::STANDING)).await?;
        reply.some().map(Standing::read).transpose()
    }
}

pub(crate) fn not_a_stream(key: &str, kind: &str) -> RedisError {
    let why = format!("is a {kind} and not a stream: choose another key");
    RedisError::Unsuitable { subject: format!("the key {key}"), why }
}
