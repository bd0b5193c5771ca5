//! The store.

use crate::batch::{self, Calls};
use crate::check;
use crate::fault;
use crate::keys::{Keys, Kind, PARTITIONS, partition};
use crate::link::Link;
use crate::options::ValkeyOptions;
use crate::reply::{self, Told};
use crate::scripts::{
    BEGIN, CONTAINS, DEAD, END, FORGET, FORGET_RECORD, Invocation, REDRIVE, RENEW, SETTLE, SHOW,
    STATS, Script,
};
use firstseen_shared::{
    Begun, Call, Claim, DedupStore, Ending, Error, ErrorKind, MoveError, OnLeaseEnd, Policy,
    Record, Result, Start, Stats, Timestamp, Ttl,
};
use redis::Client;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// Ids of one exchange.
const EXCHANGE_IDS_MAX: usize = 16_384;
/// Dead letters that one partition is asked for at a time.
const LETTERS_MAX: usize = 100;

/// A dedup store on Valkey or Redis. Clones share its connections.
#[derive(Clone)]
pub struct ValkeyStore {
    link: Arc<Link>,
}

impl fmt::Debug for ValkeyStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("ValkeyStore");
        shown.field("options", self.link.options()).finish_non_exhaustive()
    }
}

impl ValkeyStore {
    /// Connects to a server: `redis://localhost:6379/`, with a user and a password before the host and a database after the
    /// slash where there are some.
    ///
    /// # Errors
    ///
    /// - [`Invalid`](ErrorKind::Invalid): the address or the options are wrong.
    /// - [`Unavailable`](ErrorKind::Unavailable): no server has answered within
    ///   [`answer_max`](ValkeyOptions::answer_max), or it is a replica.
    /// - [`Environment`](ErrorKind::Environment): the server will not do. It is too old, removes keys when its memory is full,
    ///   lacks what the [`Durability`](crate::Durability) needs, or does not let this user in.
    /// - [`Schema`](ErrorKind::Schema): another version of this program has other keys there.
    pub async fn connect(url: &str, options: ValkeyOptions) -> Result<Self> {
        let client =
            Client::open(url).map_err(|error| fault::of_connection("an address", error))?;
        Self::with_client(client, options).await
    }

    /// Connects with a client of the `redis` crate, which may have settings that no address has, such as TLS.
    ///
    /// # Errors
    ///
    /// As [`connect`](Self::connect).
    pub async fn with_client(client: Client, options: ValkeyOptions) -> Result<Self> {
        check::options(&options)?;
        Ok(Self { link: Arc::new(Link::open(client, options).await?) })
    }

    /// Returns what all scripts are told first: the clock, and whether the answer waits.
    fn first_arguments(&self) -> Vec<Vec<u8>> {
        let options = self.link.options();
        let waits = options.durability != crate::Durability::Server;
        let waits = if waits { b"1".to_vec() } else { b"0".to_vec() };
        vec![options.clock.told(), waits]
    }

    fn keys(&self, what: &'static str, namespace: &str) -> Result<Keys> {
        check::namespace(what, namespace)?;
        Ok(Keys::new(&self.link.options().prefix, namespace))
    }

    /// Returns the call of a script about a claim.
    fn about_claim(
        &self,
        what: &'static str,
        script: &'static Script,
        namespace: &str,
        id: &[u8],
    ) -> Result<Invocation> {
        let keys = self.keys(what, namespace)?;
        check::id(what, id)?;
        let place = partition(id);
        let names = vec![keys.of(place, Kind::Meta), keys.of_id(place, Kind::Claim, id)];
        Ok(script.with(names, self.first_arguments()))
    }

    /// Returns the call of a script about a record, with the id as first argument of its own.
    fn about_record(
        &self,
        what: &'static str,
        script: &'static Script,
        namespace: &str,
        id: &[u8],
    ) -> Result<Invocation> {
        let keys = self.keys(what, namespace)?;
        check::id(what, id)?;
        let place = partition(id);
        let names = vec![
            keys.of(place, Kind::Meta),
            keys.of(place, Kind::Letters),
            keys.of(place, Kind::LettersByEnd),
            keys.of_id(place, Kind::Record, id),
        ];
        let mut arguments = self.first_arguments();
        arguments.push(id.to_vec());
        Ok(script.with(names, arguments))
    }

    /// Returns the call of a script about a partition.
    fn about_partition(
        &self,
        script: &'static Script,
        keys: &Keys,
        place: usize,
        arguments: impl IntoIterator<Item = Vec<u8>>,
    ) -> Invocation {
        let kinds = [Kind::Meta, Kind::Letters, Kind::LettersByEnd];
        let names = kinds.map(|kind| keys.of(place, kind)).to_vec();
        let mut all = self.first_arguments();
        all.extend(arguments);
        script.with(names, all)
    }

    /// Makes one call that changes something, and that answers yes or no.
    async fn decide(&self, what: &'static str, call: Invocation) -> Result<bool> {
        let answer = reply::only(what, self.link.change(what, &[call]).await?)?;
        Ok(reply::int(what, &answer)? == 1)
    }

    /// Makes one call that changes a record, or says why not.
    async fn tell(&self, what: &'static str, call: Invocation) -> Result<Told> {
        Told::of(what, reply::only(what, self.link.change(what, &[call]).await?)?)
    }
}

impl DedupStore for ValkeyStore {
    async fn claim_batch(
        &self,
        namespace: &str,
        ids: &[&[u8]],
        ttl: Ttl,
        call: Call,
    ) -> Result<Vec<Claim>> {
        let what = "claiming";
        let keys = self.keys(what, namespace)?;
        ids.iter().try_for_each(|id| check::id(what, id))?;
        let mut arguments = self.first_arguments();
        arguments.extend([check::ttl(what, ttl)?, call.as_bytes().to_vec()]);
        let ids_per_call = self.link.options().ids_per_call;
        let firsts = batch::firsts(ids);
        let wanted: Vec<usize> = firsts
            .iter()
            .enumerate()
            .filter(|(at, first)| at == *first)
            .map(|(at, _)| at)
            .collect();
        let mut found: Vec<Option<(Claim, Timestamp)>> = vec![None; ids.len()];
        for some in wanted.chunks(EXCHANGE_IDS_MAX) {
            let mut calls = Calls::new(&keys, ids, some, &arguments, ids_per_call);
            let made = std::mem::take(&mut calls.calls);
            let answers = self.link.change(what, &made).await?;
            calls.read(what, answers, &mut found)?;
        }
        let claim = |(at, &first): (usize, &usize)| {
            let (claim, first_seen) = found[first]?;
            // Of two equal ids the second is a duplicate, also if this call has claimed the first.
            Some(if at == first { claim } else { Claim::Duplicate { first_seen } })
        };
        let claims: Option<Vec<Claim>> = firsts.iter().enumerate().map(claim).collect();
        claims.ok_or_else(|| fault::strange(what))
    }

    async fn contains(&self, namespace: &str, id: &[u8]) -> Result<bool> {
        let what = "looking for a claim";
        let call = self.about_claim(what, &CONTAINS, namespace, id)?;
        let answer = reply::only(what, self.link.look(what, &[call]).await?)?;
        Ok(reply::int(what, &answer)? == 1)
    }

    async fn forget(&self, namespace: &str, id: &[u8]) -> Result<bool> {
        let what = "forgetting a claim";
        self.decide(what, self.about_claim(what, &FORGET, namespace, id)?).await
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
        let mut made = self.about_record(what, &BEGIN, namespace, id)?;
        check::policy(what, policy)?;
        check::worker(what, start)?;
        let fingerprint = start.fingerprint.map(|print| print.as_bytes().to_vec());
        let at_lease_end = match policy.on_lease_end {
            OnLeaseEnd::Retry => "retry",
            OnLeaseEnd::Hold => "hold",
            OnLeaseEnd::Fail => "fail",
            _ => {
                let why = "this store does not know what is to happen when a lease ends";
                return Err(Error::new(ErrorKind::Invalid, what, why));
            }
        };
        made.arguments.extend([
            call.as_bytes().to_vec(),
            start.worker.as_bytes().to_vec(),
            fingerprint.unwrap_or_default(),
            check::lease(what, start.lease)?,
            at_lease_end.as_bytes().to_vec(),
            policy.attempts_max.to_string().into_bytes(),
            check::ttl(what, policy.dead_ttl)?,
        ]);
        self.tell(what, made).await?.begun()
    }

    async fn renew(
        &self,
        namespace: &str,
        id: &[u8],
        token: u64,
        lease: Duration,
    ) -> Result<(), MoveError> {
        let what = "renewing a lease";
        let mut made = self.about_record(what, &RENEW, namespace, id)?;
        made.arguments.extend([token.to_string().into_bytes(), check::lease(what, lease)?]);
        self.tell(what, made).await?.moved()
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
        let mut made = self.about_record(what, &END, namespace, id)?;
        check::policy(what, policy)?;
        made.arguments.push(token.to_string().into_bytes());
        made.arguments.extend(check::ending(what, ending, self.result_bytes_max())?);
        made.arguments.push(policy.attempts_max.to_string().into_bytes());
        made.arguments.push(check::ttl(what, policy.dead_ttl)?);
        self.tell(what, made).await?.moved()
    }

    async fn record(&self, namespace: &str, id: &[u8]) -> Result<Option<Record>> {
        let what = "reading a record";
        let made = self.about_record(what, &SHOW, namespace, id)?;
        Told::of(what, reply::only(what, self.link.look(what, &[made]).await?)?)?.shown()
    }

    async fn redrive(&self, namespace: &str, id: &[u8]) -> Result<bool> {
        let what = "redriving a record";
        self.decide(what, self.about_record(what, &REDRIVE, namespace, id)?).await
    }

    async fn settle(&self, namespace: &str, id: &[u8], result: &[u8], ttl: Ttl) -> Result<bool> {
        let what = "settling a record";
        let mut made = self.about_record(what, &SETTLE, namespace, id)?;
        check::result(what, result, self.result_bytes_max())?;
        made.arguments.extend([result.to_vec(), check::ttl(what, ttl)?]);
        self.decide(what, made).await
    }

    async fn forget_record(&self, namespace: &str, id: &[u8]) -> Result<bool> {
        let what = "forgetting a record";
        self.decide(what, self.about_record(what, &FORGET_RECORD, namespace, id)?).await
    }

    async fn dead_letters(
        &self,
        namespace: &str,
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<Vec<u8>>> {
        let what = "listing dead letters";
        let keys = self.keys(what, namespace)?;
        let mut letters: Vec<Vec<u8>> = Vec::new();
        // Which partitions may have more, and after which id.
        let mut open: Vec<(usize, Option<Vec<u8>>, usize)> =
            (0..PARTITIONS).map(|place| (place, after.map(<[u8]>::to_vec), 0)).collect();
        while limit > 0 && !open.is_empty() {
            let page = limit.min(LETTERS_MAX).to_string().into_bytes();
            let call = |(place, after, _): &(usize, Option<Vec<u8>>, usize)| {
                let from = after.as_ref().map_or(b"-".to_vec(), |id| [b"(", &id[..]].concat());
                self.about_partition(&DEAD, &keys, *place, [from, page.clone()])
            };
            let calls: Vec<Invocation> = open.iter().map(call).collect();
            let answers = self.link.look(what, &calls).await?;
            let mut more = Vec::new();
            for ((place, _, count), answer) in open.into_iter().zip(answers) {
                let (is_last, ids) = page_of(what, answer)?;
                let count = count + ids.len();
                // Of a partition that has given so many, no more can be among the first.
                if !is_last && count < limit {
                    more.push((place, ids.last().cloned(), count));
                }
                letters.extend(ids);
            }
            open = more;
        }
        letters.sort_unstable();
        letters.truncate(limit);
        Ok(letters)
    }

    async fn stats(&self, namespace: &str) -> Result<Stats> {
        let what = "counting";
        let keys = self.keys(what, namespace)?;
        let call = |place| self.about_partition(&STATS, &keys, place, []);
        let calls: Vec<Invocation> = (0..PARTITIONS).map(call).collect();
        let mut sums = [0_u64; 3];
        for answer in self.link.look(what, &calls).await? {
            let counts = reply::list(what, answer)?;
            if counts.len() != sums.len() {
                return Err(fault::strange(what));
            }
            for (sum, count) in sums.iter_mut().zip(&counts) {
                *sum += u64::try_from(reply::int(what, count)?).unwrap_or_default();
            }
        }
        let mut stats = Stats::default();
        (stats.claims, stats.records, stats.dead_letters) =
            (Some(sums[0]), Some(sums[1]), Some(sums[2]));
        Ok(stats)
    }

    fn id_bytes_max(&self) -> usize {
        check::ID_BYTES_MAX
    }

    fn result_bytes_max(&self) -> usize {
        self.link.options().result_bytes_max
    }
}

/// Reads a page of dead letters: whether it is the last, and the ids.
fn page_of(what: &'static str, answer: redis::Value) -> Result<(bool, Vec<Vec<u8>>)> {
    let mut parts = reply::list(what, answer)?.into_iter();
    let (Some(is_last), Some(ids)) = (parts.next(), parts.next()) else {
        return Err(fault::strange(what));
    };
    let ids: Option<Vec<Vec<u8>>> = reply::list(what, ids)?.into_iter().map(reply::bytes).collect();
    Ok((reply::int(what, &is_last)? == 1, ids.ok_or_else(|| fault::strange(what))?))
}
