//! The consumer group at the server: how entries are read, claimed, kept and acknowledged.

use crate::counters::RedisWatch;
use crate::entry::{EntryId, RedisEntry};
use crate::error::RedisError;
use crate::hands::Hands;
use crate::link::Link;
use crate::lock::lock;
use crate::names::new_consumer;
use crate::options::{RedisIds, RedisOptions};
use crate::reply::Reply;
use crate::scripts;
use crate::standing::Skipped;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::time::Instant;

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
    pub(crate) position: Mutex<EntryId>,
    pub(crate) skipped: Mutex<Skipped>,
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
            skipped: Mutex::default(),
        }
    }

    pub(crate) fn answer_max(&self) -> Duration {
        self.options.answer_max
    }

    pub(crate) fn min_idle_ms(&self) -> u64 {
        millis(self.options.min_idle)
    }

    /// Returns a command with the stream as first argument.
    pub(crate) fn command(&self, name: &str) -> redis::Cmd {
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
            // One that is gone is found by the next search, and told.
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
}

fn deliveries(count: &Reply) -> u32 {
    // What is delivered again was delivered at least twice, whatever is counted.
    count.number().map_or(2, |count| u32::try_from(count).unwrap_or(u32::MAX))
}

pub(crate) fn millis(duration: Duration) -> u64 {
    // As Redis keeps times in 63 bits.
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX).min(1 << 53)
}
