//! The consumer group at the server: each call that is made of it.

use crate::counters::RedisWatch;
use crate::entry::{EntryId, RedisEntry};
use crate::error::RedisError;
use crate::hands::Hands;
use crate::link::Link;
use crate::options::{RedisIds, RedisOptions, RedisStart};
use crate::reply::Reply;
use crate::scripts;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// Names that are given to consumers begin so. Only such are removed.
pub(crate) const CONSUMER_PREFIX: &str = "firstseen-consumer-";

/// The mark of a stream is a group whose name begins so.
const MARK_PREFIX: &str = "firstseen-stream-";

/// No more ids than this go into one call of a script.
pub(crate) const IDS_MAX: usize = 256;

/// A group of a stream, and one of its consumers.
pub(crate) struct Group {
    /// For all but what waits at the server.
    pub(crate) link: Link,
    /// For what waits.
    pub(crate) waiting: Link,
    pub(crate) stream: Arc<str>,
    pub(crate) name: String,
    pub(crate) consumer: String,
    pub(crate) options: RedisOptions,
    pub(crate) watch: RedisWatch,
    pub(crate) hands: Hands,
    /// The last entry that was delivered here, or that the group was at when it was opened.
    position: Mutex<EntryId>,
    /// How many were told to be skipped while the group has stood where it stands.
    skipped: Mutex<u64>,
}

/// Entries of one answer of the server.
#[derive(Debug)]
pub(crate) struct Batch {
    pub(crate) entries: Vec<(RedisEntry, u32)>,
    /// When they were taken, or a little later.
    pub(crate) taken: Instant,
    /// The stream's mark after that, where ids are by entry.
    pub(crate) mark: Option<String>,
}

/// What has become of an entry whose idle time was set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kept {
    /// It is set.
    Ours,
    /// Another consumer has the entry.
    Taken,
    /// It was trimmed or deleted, and nobody waits for it any more.
    Gone,
    /// It is acknowledged.
    Acknowledged,
}

impl Group {
    pub(crate) fn new(
        link: Link,
        waiting: Link,
        stream: String,
        name: String,
        options: RedisOptions,
    ) -> Self {
        let consumer = options.consumer.clone().unwrap_or_else(new_consumer);
        Self {
            link,
            waiting,
            stream: stream.into(),
            name,
            consumer,
            options,
            watch: RedisWatch::default(),
            hands: Hands::default(),
            position: Mutex::new(EntryId::ZERO),
            skipped: Mutex::new(0),
        }
    }

    pub(crate) fn answer_max(&self) -> Duration {
        self.options.answer_max
    }

    pub(crate) fn min_idle_ms(&self) -> u64 {
        millis(self.options.min_idle)
    }

    /// Returns a command with the stream as first argument.
    fn command(&self, name: &str) -> redis::Cmd {
        let mut command = redis::cmd(name);
        command.arg(&*self.stream);
        command
    }

    /// Returns a call of a script with the stream as first key and the group as first argument.
    pub(crate) fn script<'a>(&self, script: &'a redis::Script) -> redis::ScriptInvocation<'a> {
        let mut call = script.key(&*self.stream);
        call.arg(&self.name);
        call
    }

    pub(crate) async fn run(
        &self,
        what: &'static str,
        call: &redis::ScriptInvocation<'_>,
    ) -> Result<Reply, RedisError> {
        self.link.script(what, call, self.answer_max()).await
    }

    pub(crate) async fn ask(
        &self,
        what: &'static str,
        command: &redis::Cmd,
    ) -> Result<Reply, RedisError> {
        self.link.command(what, command, self.answer_max()).await
    }

    /// Reads entries that were delivered to nobody. Waits for the first, at most for so long; `None`: not at all.
    pub(crate) async fn read_new(
        &self,
        count: usize,
        wait: Option<Duration>,
    ) -> Result<Batch, RedisError> {
        self.waiting.ask_name(self.answer_max()).await?;
        let mut command = redis::cmd("XREADGROUP");
        command.arg("GROUP").arg(&self.name).arg(&self.consumer).arg("COUNT").arg(count);
        if let Some(wait) = wait {
            // Zero: for ever.
            command.arg("BLOCK").arg(millis(wait).max(1));
        }
        command.arg("STREAMS").arg(&*self.stream).arg(">");
        let answer_max = self.answer_max() + wait.unwrap_or_default();
        let reply = self.waiting.command("reading entries", &command, answer_max).await?;
        let taken = Instant::now();
        let entries = reply.entries(&self.stream)?;
        if let Some(last) = entries.last() {
            *lock(&self.position) = last.id;
        }
        let entries = entries.into_iter().map(|entry| (entry, 1)).collect();
        self.batch(entries, taken).await
    }

    /// Reads what is pending for this consumer, after an id. Returns where to go on as well; `None`: that was all.
    pub(crate) async fn read_own(
        &self,
        after: EntryId,
        count: usize,
    ) -> Result<(Batch, Option<EntryId>), RedisError> {
        let what = "reading pending entries";
        let mut call = self.script(&scripts::OWN);
        call.arg(&self.consumer).arg(after.to_string()).arg(count);
        let reply = self.run(what, &call).await?;
        let taken = Instant::now();
        let [entries, counts, _] = reply.parts()?;
        let (entries, counts) = (entries.list()?, counts.list()?);
        let (mut read, mut last) = (Vec::new(), None);
        for (entry, count) in entries.into_iter().zip(counts) {
            let (id, entry) = entry.entry(&self.stream)?;
            last = Some(id);
            // One that is gone is found and told when it has been idle for long enough.
            read.extend(entry.map(|entry| (entry, deliveries(&count))));
        }
        Ok((self.batch(read, taken).await?, last))
    }

    /// Takes over what nobody was heard of for long, from an id on. Returns where to go on; `None`: that was all.
    pub(crate) async fn claim(
        &self,
        from: EntryId,
        count: usize,
    ) -> Result<(Batch, Option<EntryId>), RedisError> {
        let mut call = self.script(&scripts::CLAIM);
        call.arg(&self.consumer).arg(self.min_idle_ms()).arg(from.to_string()).arg(count);
        let reply = self.run("claiming entries", &call).await?;
        let [entries, counts, gone, next] = reply.parts()?;
        let batch = self.claimed([entries, counts, gone]).await?;
        let next = next.entry_id()?;
        Ok((batch, (next != EntryId::ZERO).then_some(next)))
    }

    /// Takes these, which were put off here, if they have been idle for long enough.
    pub(crate) async fn take(&self, ids: &[EntryId]) -> Result<Batch, RedisError> {
        let mut call = self.script(&scripts::TAKE);
        call.arg(&self.consumer).arg(self.min_idle_ms());
        for id in ids {
            call.arg(id.to_string());
        }
        let parts = self.run("taking what is due", &call).await?.parts()?;
        self.claimed(parts).await
    }

    async fn claimed(&self, [entries, counts, gone]: [Reply; 3]) -> Result<Batch, RedisError> {
        let taken = Instant::now();
        // Those that are in hand are not lost as long as this process lives.
        let gone = gone.entry_ids()?.into_iter().filter(|id| !self.hands.have(*id));
        self.watch.trimmed(&gone.collect::<Vec<_>>());
        let mut claimed = Vec::new();
        for (entry, count) in entries.list()?.into_iter().zip(counts.list()?) {
            let (_, entry) = entry.entry(&self.stream)?;
            claimed.extend(entry.map(|entry| (entry, deliveries(&count))));
        }
        self.batch(claimed, taken).await
    }

    /// Asks for the stream's mark, where ids need it.
    async fn batch(
        &self,
        entries: Vec<(RedisEntry, u32)>,
        taken: Instant,
    ) -> Result<Batch, RedisError> {
        let needs_mark = matches!(self.options.ids, RedisIds::Entry) && !entries.is_empty();
        let mark = if needs_mark { Some(self.mark().await?) } else { None };
        Ok(Batch { entries, taken, mark })
    }

    /// Sets the idle times of entries, as long as they are ours.
    pub(crate) async fn keep(
        &self,
        what: &'static str,
        idle: &[(EntryId, Duration)],
    ) -> Result<Vec<Kept>, RedisError> {
        let mut call = self.script(&scripts::KEEP);
        call.arg(&self.consumer);
        for (id, idle) in idle {
            call.arg(id.to_string()).arg(millis(*idle));
        }
        let said = self.run(what, &call).await?.list()?;
        if said.len() != idle.len() {
            return Err(RedisError::unreadable(what, "expected an answer for each entry"));
        }
        said.into_iter()
            .map(|said| match said.number()? {
                0 => Ok(Kept::Taken),
                1 => Ok(Kept::Ours),
                2 => Ok(Kept::Gone),
                3 => Ok(Kept::Acknowledged),
                n => Err(RedisError::unreadable(what, format!("no answer has the number {n}"))),
            })
            .collect()
    }

    /// Sets the idle time of one entry.
    pub(crate) async fn keep_one(
        &self,
        what: &'static str,
        id: EntryId,
        idle: Duration,
    ) -> Result<Kept, RedisError> {
        let kept = self.keep(what, &[(id, idle)]).await?;
        Ok(kept[0])
    }

    /// Acknowledges an entry, whoever has it.
    pub(crate) async fn acknowledge(&self, id: EntryId) -> Result<(), RedisError> {
        let mut command = self.command("XACK");
        command.arg(&self.name).arg(id.to_string());
        // Zero: it was acknowledged before, or the group has forgotten it, and then it comes again.
        self.ask("acknowledging", &command).await?.number().map(drop)
    }

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
        call.arg(MARK_PREFIX).arg(format!("{:016x}", random()));
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

    /// Returns how many entries wait to be delivered; `None` if the server does not know.
    pub(crate) async fn lag(&self) -> Result<Option<u64>, RedisError> {
        let Some(standing) = self.standing().await? else { return Ok(None) };
        let missing = standing.missing();
        let mut told = lock(&self.skipped);
        match (missing, standing.first) {
            (Some(missing), Some(first)) if missing > *told => {
                self.watch.skipped(missing - *told, standing.delivered, first);
                *told = missing;
            }
            (Some(0), _) => *told = 0,
            _ => {}
        }
        Ok(standing.lag())
    }

    pub(crate) async fn standing(&self) -> Result<Option<Standing>, RedisError> {
        let reply = self.run("asking for the lag", &self.script(&scripts::STANDING)).await?;
        let Some(reply) = reply.some() else { return Ok(None) };
        let [lag, read, delivered, pending, length, added, last, first] = reply.parts()?;
        let maybe = |reply: Reply| reply.some().map(|number| number.number()).transpose();
        Ok(Some(Standing {
            lag: maybe(lag)?,
            read: maybe(read)?,
            delivered: delivered.entry_id()?,
            pending: pending.number()?,
            length: length.number()?,
            added: maybe(added)?,
            last: last.entry_id()?,
            first: first.some().map(Reply::entry_id).transpose()?,
        }))
    }
}

/// How a group stands in its stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Standing {
    /// What the server says; it does not always know, and before Redis 8.2 is wrong after trimming.
    pub(crate) lag: Option<u64>,
    /// How many entries the group has read, as far as the server knows.
    pub(crate) read: Option<u64>,
    pub(crate) delivered: EntryId,
    pub(crate) pending: u64,
    pub(crate) length: u64,
    /// How many were ever added to the stream.
    pub(crate) added: Option<u64>,
    pub(crate) last: EntryId,
    pub(crate) first: Option<EntryId>,
}

impl Standing {
    /// Whether all that the stream has is still to be delivered.
    fn is_before_all(&self) -> bool {
        self.first.is_some_and(|first| first > self.delivered)
    }

    pub(crate) fn lag(&self) -> Option<u64> {
        if self.delivered >= self.last {
            Some(0)
        } else if self.is_before_all() {
            Some(self.length)
        } else {
            self.lag
        }
    }

    /// Returns how many were removed before they were delivered, where it can be seen: all that is there is still to
    /// be delivered, and less than was added since.
    pub(crate) fn missing(&self) -> Option<u64> {
        let (read, added) = (self.read?, self.added?);
        self.is_before_all().then(|| added.saturating_sub(read).saturating_sub(self.length))
    }
}

pub(crate) fn not_a_stream(key: &str, kind: &str) -> RedisError {
    let why = format!("is a {kind} and not a stream: choose another key");
    RedisError::Unsuitable { subject: format!("the key {key}"), why }
}

fn deliveries(count: &Reply) -> u32 {
    // What is delivered again was delivered at least twice, whatever is counted.
    count.number().map_or(2, |count| u32::try_from(count).unwrap_or(u32::MAX))
}

fn new_consumer() -> String {
    format!("{CONSUMER_PREFIX}{}-{:016x}", std::process::id(), random())
}

/// A number that no other process has.
fn random() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(std::process::id())
}

fn millis(duration: Duration) -> u64 {
    // As Redis keeps times in 63 bits.
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX).min(1 << 53)
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
