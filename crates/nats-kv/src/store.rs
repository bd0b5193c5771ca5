//! The store.

use crate::check;
use crate::code::{Claimed, Reader, Writer, is_newer};
use crate::link::{Kept, Link, Put, unavailable};
use crate::moves::{self, NEVER_MS, Row, STORED_MS};
use crate::options::NatsKvOptions;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use firstseen_shared::{
    Begun, Call, Claim, DedupStore, Ending, Error, ErrorKind, Fingerprint, MoveError, Policy,
    Record, Result, Start, Stats, Timestamp, Ttl,
};
use futures_util::{StreamExt, TryStreamExt, stream};
use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// How many compare-and-sets of a batch are under way at once.
const UNDER_WAY_MAX: usize = 512;
const RESULT_BYTES_MAX: usize = 512 << 10;
/// How long it is kept that an id was forgotten: until the server has surely noted that what was there before is gone.
const FORGOTTEN_MS: u64 = 3_600_000;

/// A dedup store in a stream of JetStream. A handle: clones share a connection.
#[derive(Clone)]
pub struct NatsKvStore {
    link: Arc<Link>,
}

impl fmt::Debug for NatsKvStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NatsKvStore").field("options", &self.link.options).finish_non_exhaustive()
    }
}

/// What a move does.
enum Write {
    Nothing,
    Row(Box<Row>),
    Forgotten,
}

fn damaged(what: &'static str) -> Error {
    Error::new(ErrorKind::Damaged, what, "a message of the stream cannot be read")
}

/// Returns why a message cannot be read.
fn unreadable(what: &'static str, kept: &Kept) -> Error {
    if is_newer(&kept.payload) {
        let why = "a newer version of this program has written it; use that one";
        return Error::new(ErrorKind::Schema, what, why);
    }
    damaged(what)
}

fn token_of(hashed: &[u8], bytes: usize) -> String {
    URL_SAFE_NO_PAD.encode(&Fingerprint::of_bytes(hashed).as_bytes()[..bytes])
}

impl NatsKvStore {
    /// Connects to a server, and creates the stream if it is not there.
    ///
    /// # Errors
    ///
    /// The server does not answer, or the stream is unsuitable.
    pub async fn connect(url: &str, options: NatsKvOptions) -> Result<Self> {
        let client =
            async_nats::connect(url).await.map_err(|error| unavailable("connecting", error))?;
        Ok(Self { link: Arc::new(Link::open(client, options).await?) })
    }

    /// Returns what was asked of the server: messages stored, messages read, and how many of these pairs were for its clock.
    pub fn asked(&self) -> [u64; 3] {
        let asked = &self.link.asked;
        [&asked.puts, &asked.gets, &asked.clocks].map(|count| count.load(Ordering::Relaxed))
    }

    fn subject(&self, namespace: &str, kind: char, id: &[u8]) -> String {
        format!("{}{}", self.prefix(namespace, kind), token_of(id, 24))
    }

    fn prefix(&self, namespace: &str, kind: char) -> String {
        format!("{}.{kind}.{}.", self.link.options.stream, token_of(namespace.as_bytes(), 16))
    }

    async fn within<T, E: From<Error>>(
        &self,
        what: &'static str,
        call: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        let answer = tokio::time::timeout(self.link.options.answer_max, call).await;
        answer.unwrap_or_else(|_| Err(unavailable(what, "there is no answer in time").into()))
    }

    fn read<'a>(what: &'static str, kept: &'a Kept, id: &[u8]) -> Result<Option<Reader<'a>>> {
        let read = Reader::new(&kept.payload, kept.stored_ms, kept.sequence);
        let (stored, reader) = read.ok_or_else(|| unreadable(what, kept))?;
        if stored != id {
            return Err(Error::new(ErrorKind::Damaged, what, "two ids have one subject"));
        }
        Ok((!reader.is_at_end()).then_some(reader))
    }

    /// Returns a claim and the sequence of its subject.
    async fn claimed(
        &self,
        what: &'static str,
        subject: &str,
        id: &[u8],
    ) -> Result<(Option<Claimed>, u64)> {
        let Some(kept) = self.link.last(what, subject).await? else { return Ok((None, 0)) };
        let Some(reader) = Self::read(what, &kept, id)? else { return Ok((None, kept.sequence)) };
        let claimed = reader.claim().ok_or_else(|| damaged(what))?;
        if claimed.ends_ms != NEVER_MS && claimed.ends_ms <= self.link.now(what).await? {
            return Ok((None, kept.sequence));
        }
        Ok((Some(claimed), kept.sequence))
    }

    async fn claim_one(
        &self,
        what: &'static str,
        namespace: &str,
        id: &[u8],
        ttl: Ttl,
        call: Call,
    ) -> Result<Claim> {
        let subject = self.subject(namespace, 'c', id);
        let mut expected = 0;
        loop {
            let mut claim = Writer::new(id, self.link.shift_ms());
            claim.claim(moves::end_of(STORED_MS, ttl), call.as_bytes());
            if let Put::Stored(_) =
                self.link.put(what, &subject, Some(expected), claim.done()).await?
            {
                return Ok(Claim::FirstSeen);
            }
            let (claimed, sequence) = self.claimed(what, &subject, id).await?;
            match claimed {
                Some(claimed) if claimed.by == *call.as_bytes() => return Ok(Claim::FirstSeen),
                Some(Claimed { made_ms, .. }) => {
                    let first_seen = Timestamp::from_millis(made_ms);
                    return Ok(Claim::Duplicate { first_seen });
                }
                None => expected = sequence,
            }
        }
    }

    /// Returns when the claim of an id was made, or the present if it is gone.
    async fn made_ms(&self, what: &'static str, namespace: &str, id: &[u8]) -> Result<u64> {
        let subject = self.subject(namespace, 'c', id);
        match self.claimed(what, &subject, id).await?.0 {
            Some(claimed) => Ok(claimed.made_ms),
            None => self.link.now(what).await,
        }
    }

    /// Returns the row of an id, the sequence of its subject, and the time at which it is looked at, if that was read.
    async fn row(
        &self,
        what: &'static str,
        subject: &str,
        id: &[u8],
        needs_time: bool,
    ) -> Result<(Option<Row>, u64, u64)> {
        let reads = async {
            let Some(kept) = self.link.last(what, subject).await? else { return Ok((None, 0)) };
            let Some(reader) = Self::read(what, &kept, id)? else {
                return Ok((None, kept.sequence));
            };
            let row = reader.row().ok_or_else(|| damaged(what))?;
            Ok::<_, Error>((Some(row), kept.sequence))
        };
        let (row, sequence, now_ms) = if needs_time {
            let ((row, sequence), now_ms) = tokio::try_join!(reads, self.link.now(what))?;
            (row, sequence, now_ms)
        } else {
            let (row, sequence) = reads.await?;
            let ends = row.as_ref().is_some_and(|row| row.ends_ms != NEVER_MS);
            let now_ms = if ends { self.link.now(what).await? } else { STORED_MS };
            (row, sequence, now_ms)
        };
        let row = row.filter(|row| row.ends_ms == NEVER_MS || row.ends_ms > now_ms);
        Ok((row, sequence, now_ms))
    }

    /// Has a record make a move, and returns its answer and the sequence of what was stored.
    async fn make<T>(
        &self,
        what: &'static str,
        namespace: &str,
        id: &[u8],
        needs_time: bool,
        mut decide: impl FnMut(Option<Row>, u64) -> (Write, T),
    ) -> Result<(T, u64)> {
        let subject = self.subject(namespace, 'r', id);
        let mut needs_time = needs_time;
        loop {
            let (row, expected, now_ms) = self.row(what, &subject, id, needs_time).await?;
            let was_letter = row.as_ref().is_some_and(Row::is_dead_letter);
            let is_timeless = row.is_some() && now_ms == STORED_MS;
            let (write, answer) = decide(row, now_ms);
            match &write {
                // The answer may tell of the time.
                Write::Nothing if is_timeless => {
                    needs_time = true;
                    continue;
                }
                Write::Nothing => return Ok((answer, expected)),
                _ => {}
            }
            if let Some(sequence) =
                self.store_row(what, namespace, id, &write, was_letter, expected).await?
            {
                return Ok((answer, sequence));
            }
        }
    }

    async fn store_row(
        &self,
        what: &'static str,
        namespace: &str,
        id: &[u8],
        write: &Write,
        was_letter: bool,
        expected: u64,
    ) -> Result<Option<u64>> {
        let mut payload = Writer::new(id, self.link.shift_ms());
        let mut is_letter = false;
        if let Write::Row(row) = write {
            payload.row(row);
            is_letter = row.is_dead_letter();
        }
        let mark = self.subject(namespace, 'd', id);
        let mut marked = None;
        if is_letter {
            // Before the record, and after it was read: whoever removes marks of an earlier letter leaves this one.
            self.link.put(what, &mark, None, Writer::new(id, 0).done()).await?;
        } else if was_letter {
            marked = self.link.last(what, &mark).await?;
        }
        let subject = self.subject(namespace, 'r', id);
        match self.link.put(what, &subject, Some(expected), payload.done()).await? {
            Put::Moved => Ok(None),
            Put::Stored(sequence) => {
                if let Some(marked) = marked {
                    // Only listings are longer for it if this fails.
                    let _ = self.link.remove(what, &mark, marked.sequence).await;
                }
                Ok(Some(sequence))
            }
        }
    }

    /// Removes messages of claims and records that have ended, and of those forgotten more than an hour ago. Returns how many.
    ///
    /// The server does not do it by itself. Each message of the stream is read, one after the other, so let one process do it
    /// at a time, seldom. Nothing depends on it but the size of the stream.
    ///
    /// # Errors
    ///
    /// The server does not answer, or a message cannot be read. What was removed until then is removed.
    pub async fn sweep(&self) -> Result<u64> {
        let what = "sweeping";
        let mut removed = 0;
        for kind in ['c', 'r'] {
            let subjects = format!("{}.{kind}.>", self.link.options.stream);
            let mut now_ms = self.link.now(what).await?;
            let mut from = 1;
            while let Some(kept) = self.link.next(what, &subjects, from).await? {
                from = kept.sequence + 1;
                // A time that has been is always right: less has ended.
                if from % 1_024 == 0 {
                    now_ms = self.link.now(what).await?;
                }
                let ends_ms = Self::may_be_removed_at(what, kind, &kept)?;
                if ends_ms != NEVER_MS && ends_ms <= now_ms {
                    self.link.remove(what, &kept.subject, kept.sequence).await?;
                    removed += 1;
                }
            }
        }
        Ok(removed)
    }

    fn may_be_removed_at(what: &'static str, kind: char, kept: &Kept) -> Result<u64> {
        let read = Reader::new(&kept.payload, kept.stored_ms, kept.sequence);
        let (_, reader) = read.ok_or_else(|| unreadable(what, kept))?;
        if reader.is_at_end() {
            return Ok(reader.stored_ms().saturating_add(FORGOTTEN_MS));
        }
        let ends_ms = match kind {
            'c' => reader.claim().map(|claimed| claimed.ends_ms),
            _ => reader.row().map(|row| row.ends_ms),
        };
        ends_ms.ok_or_else(|| damaged(what))
    }

    async fn letters(&self, what: &'static str, namespace: &str) -> Result<Vec<Vec<u8>>> {
        let marks = format!("{}>", self.prefix(namespace, 'd'));
        let mut marked = Vec::new();
        let mut from = 1;
        while let Some(kept) = self.link.next(what, &marks, from).await? {
            from = kept.sequence + 1;
            let read = Reader::new(&kept.payload, 0, 0);
            marked.push(read.ok_or_else(|| unreadable(what, &kept))?.0.to_vec());
        }
        let looks = stream::iter(marked).map(|id| async move {
            let subject = self.subject(namespace, 'r', &id);
            let (row, _, _) = self.row(what, &subject, &id, false).await?;
            Ok::<_, Error>(row.filter(Row::is_dead_letter).map(|_| id))
        });
        let letters: Vec<Option<Vec<u8>>> = looks.buffered(UNDER_WAY_MAX).try_collect().await?;
        let mut letters: Vec<Vec<u8>> = letters.into_iter().flatten().collect();
        letters.sort_unstable();
        Ok(letters)
    }
}

impl DedupStore for NatsKvStore {
    async fn claim_batch(
        &self,
        namespace: &str,
        ids: &[&[u8]],
        ttl: Ttl,
        call: Call,
    ) -> Result<Vec<Claim>> {
        let what = "claiming";
        check::namespace(what, namespace)?;
        check::ttl(what, ttl)?;
        let (mut places, mut unique) = (HashMap::new(), Vec::new());
        for id in ids {
            check::id(what, id)?;
            places.entry(*id).or_insert_with(|| {
                unique.push(*id);
                unique.len() - 1
            });
        }
        // Each has its time: a batch may be so large that it takes longer.
        let claim = |id| self.within(what, self.claim_one(what, namespace, id, ttl, call));
        let claims: Vec<_> = unique.iter().map(|id| claim(*id)).collect();
        let claims: Vec<Claim> = stream::iter(claims).buffered(UNDER_WAY_MAX).try_collect().await?;
        let mut is_told = vec![false; claims.len()];
        let mut answers = Vec::with_capacity(ids.len());
        for id in ids {
            let place = places[id];
            let mut claim = claims[place];
            if std::mem::replace(&mut is_told[place], true) && claim.is_first_seen() {
                let made_ms = self.within(what, self.made_ms(what, namespace, id)).await?;
                claim = Claim::Duplicate { first_seen: Timestamp::from_millis(made_ms) };
            }
            answers.push(claim);
        }
        Ok(answers)
    }

    async fn contains(&self, namespace: &str, id: &[u8]) -> Result<bool> {
        let what = "looking a claim up";
        check::namespace(what, namespace)?;
        check::id(what, id)?;
        let subject = self.subject(namespace, 'c', id);
        self.within(what, async { Ok(self.claimed(what, &subject, id).await?.0.is_some()) }).await
    }

    async fn forget(&self, namespace: &str, id: &[u8]) -> Result<bool> {
        let what = "forgetting a claim";
        check::namespace(what, namespace)?;
        check::id(what, id)?;
        let subject = self.subject(namespace, 'c', id);
        let forgets = async {
            loop {
                let (claimed, sequence) = self.claimed(what, &subject, id).await?;
                if claimed.is_none() {
                    return Ok(false);
                }
                let nothing = Writer::new(id, self.link.shift_ms()).done();
                if let Put::Stored(_) =
                    self.link.put(what, &subject, Some(sequence), nothing).await?
                {
                    return Ok(true);
                }
            }
        };
        self.within(what, forgets).await
    }

    async fn begin(
        &self,
        namespace: &str,
        id: &[u8],
        start: &Start<'_>,
        policy: &Policy,
        call: Call,
    ) -> Result<Begun> {
        let what = "beginning an attempt";
        check::namespace(what, namespace)?;
        check::id(what, id)?;
        check::start(what, start)?;
        check::policy(what, policy)?;
        let begins = async {
            // Most ids are new.
            let (_, row) = moves::begin(None, STORED_MS, start, policy, call);
            let write = row.map_or(Write::Nothing, |row| Write::Row(row.into()));
            if let Some(token) = self.store_row(what, namespace, id, &write, false, 0).await? {
                return Ok(Begun::Started { token, attempt: 1 });
            }
            let decide = |row: Option<Row>, now_ms| {
                let (answer, row) = moves::begin(row, now_ms, start, policy, call);
                let attempt = row.as_ref().map_or(0, |row| row.record.attempts);
                (row.map_or(Write::Nothing, |row| Write::Row(row.into())), (answer, attempt))
            };
            let ((answer, attempt), token) = self.make(what, namespace, id, true, decide).await?;
            Ok(answer.unwrap_or(Begun::Started { token, attempt }))
        };
        self.within(what, begins).await
    }

    async fn renew(
        &self,
        namespace: &str,
        id: &[u8],
        token: u64,
        lease: Duration,
    ) -> Result<(), MoveError> {
        let what = "renewing a lease";
        check::namespace(what, namespace)?;
        check::id(what, id)?;
        check::lease(what, lease)?;
        let decide = |row, now_ms| moved(moves::renew(row, now_ms, token, lease));
        self.within(what, async { self.make(what, namespace, id, true, decide).await?.0 }).await
    }

    async fn end(
        &self,
        namespace: &str,
        id: &[u8],
        token: u64,
        ending: &Ending<'_>,
        policy: &Policy,
    ) -> Result<(), MoveError> {
        let what = "ending an attempt";
        check::namespace(what, namespace)?;
        check::id(what, id)?;
        check::policy(what, policy)?;
        check::ending(what, ending, RESULT_BYTES_MAX)?;
        let decide = |row, now_ms| moved(moves::end(row, now_ms, token, ending, policy));
        self.within(what, async { self.make(what, namespace, id, false, decide).await?.0 }).await
    }

    async fn record(&self, namespace: &str, id: &[u8]) -> Result<Option<Record>> {
        let what = "reading a record";
        check::namespace(what, namespace)?;
        check::id(what, id)?;
        let subject = self.subject(namespace, 'r', id);
        self.within(what, async {
            let (row, _, now_ms) = self.row(what, &subject, id, true).await?;
            let read = Timestamp::from_millis(now_ms);
            Ok(row.map(|row| Record { read, ..row.record }))
        })
        .await
    }

    async fn redrive(&self, namespace: &str, id: &[u8]) -> Result<bool> {
        let what = "redriving a record";
        check::namespace(what, namespace)?;
        check::id(what, id)?;
        let decide = |row, now_ms| done(moves::redrive(row, now_ms));
        self.within(what, async { Ok(self.make(what, namespace, id, false, decide).await?.0) })
            .await
    }

    async fn settle(&self, namespace: &str, id: &[u8], result: &[u8], ttl: Ttl) -> Result<bool> {
        let what = "settling a record";
        check::namespace(what, namespace)?;
        check::id(what, id)?;
        check::result(what, result, RESULT_BYTES_MAX)?;
        check::ttl(what, ttl)?;
        let decide = |row, now_ms| done(moves::settle(row, now_ms, result, ttl));
        self.within(what, async { Ok(self.make(what, namespace, id, false, decide).await?.0) })
            .await
    }

    async fn forget_record(&self, namespace: &str, id: &[u8]) -> Result<bool> {
        let what = "forgetting a record";
        check::namespace(what, namespace)?;
        check::id(what, id)?;
        let decide = |row: Option<Row>, _| match row {
            Some(_) => (Write::Forgotten, true),
            None => (Write::Nothing, false),
        };
        self.within(what, async { Ok(self.make(what, namespace, id, false, decide).await?.0) })
            .await
    }

    async fn dead_letters(
        &self,
        namespace: &str,
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<Vec<u8>>> {
        let what = "listing dead letters";
        check::namespace(what, namespace)?;
        let mut letters = self.letters(what, namespace).await?;
        letters.retain(|id| after.is_none_or(|after| id.as_slice() > after));
        letters.truncate(limit);
        Ok(letters)
    }

    async fn stats(&self, namespace: &str) -> Result<Stats> {
        let what = "counting";
        check::namespace(what, namespace)?;
        let letters = self.letters(what, namespace).await?;
        let mut stats = Stats::default();
        stats.dead_letters = Some(letters.len() as u64);
        Ok(stats)
    }

    fn id_bytes_max(&self) -> usize {
        check::ID_BYTES_MAX
    }

    fn result_bytes_max(&self) -> usize {
        RESULT_BYTES_MAX
    }
}

fn moved(row: Result<Row, MoveError>) -> (Write, Result<(), MoveError>) {
    match row {
        Ok(row) => (Write::Row(row.into()), Ok(())),
        Err(error) => (Write::Nothing, Err(error)),
    }
}

fn done(row: Option<Row>) -> (Write, bool) {
    match row {
        Some(row) => (Write::Row(row.into()), true),
        None => (Write::Nothing, false),
    }
}
