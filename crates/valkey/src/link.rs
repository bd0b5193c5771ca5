//! Connections that are made again when they break, and exchanges of bounded length.
//!
//! A call is sent once. What fails before it is sent, or is refused without having been done, is tried again until the time
//! for an answer is over. What may have been done and has no answer is an error: only the caller knows whether it may be
//! repeated.

use crate::fault::{self, Verdict};
use crate::keys;
use crate::options::{Durability, ValkeyOptions};
use crate::scripts::{Invocation, OPEN};
use crate::server::Server;
use firstseen_shared::{Error, ErrorKind, Result};
use redis::aio::MultiplexedConnection;
use redis::{
    AsyncConnectionConfig, Client, ProtocolVersion, PushInfo, PushKind, RedisResult, Value,
};
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep_until, timeout_at};

const CONNECTING: &str = "connecting to the server";

/// The pauses between two tries: the first, doubled up to the longest.
const PAUSE: Duration = Duration::from_millis(5);
const PAUSE_MAX: Duration = Duration::from_millis(500);

/// The way to a server.
pub(crate) struct Link {
    client: Client,
    options: ValkeyOptions,
    slots: Vec<Mutex<Slot>>,
    turn: AtomicUsize,
    /// Whether a connection was made before: then its data must be there.
    is_known: AtomicBool,
}

/// A place for a connection. Who connects holds its lock, and the others wait for that.
#[derive(Default)]
struct Slot {
    live: Option<Live>,
    failures: u32,
    /// Not before this is it tried again.
    again: Option<Instant>,
}

#[derive(Clone)]
struct Live {
    connection: MultiplexedConnection,
    /// Whether it has ended: what is sent on it is not heard.
    is_down: Arc<AtomicBool>,
}

impl Live {
    /// Has the next call make another connection. Calls that are under way keep this one.
    fn leave(&self) {
        self.is_down.store(true, Ordering::Release);
    }
}

/// What the commands of a call share.
#[derive(Clone, Copy)]
struct Asked {
    what: &'static str,
    deadline: Instant,
    /// Whether replicas or disks have to confirm the answer.
    waits: bool,
}

impl Link {
    /// Connects.
    pub(crate) async fn open(client: Client, options: ValkeyOptions) -> Result<Self> {
        // RESP3, because only there the client tells of a connection that has ended.
        let info = client.get_connection_info().clone();
        let settings = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
        let client = Client::open(info.set_redis_settings(settings));
        let client = client.map_err(|error| fault::of_connection(CONNECTING, error))?;
        let mut slots = Vec::new();
        slots.resize_with(options.connections, Mutex::default);
        let (turn, is_known) = (AtomicUsize::new(0), AtomicBool::new(false));
        let link = Self { client, options, slots, turn, is_known };
        let deadline = Instant::now() + link.options.answer_max;
        link.live(&link.slots[0], Asked { what: CONNECTING, deadline, waits: false }).await?;
        Ok(link)
    }

    pub(crate) fn options(&self) -> &ValkeyOptions {
        &self.options
    }

    /// Makes calls that change something, and returns their answers in order.
    pub(crate) async fn change(
        &self,
        what: &'static str,
        calls: &[Invocation],
    ) -> Result<Vec<Value>> {
        self.ask(what, calls, self.options.durability != Durability::Server).await
    }

    /// Makes calls that only look.
    pub(crate) async fn look(
        &self,
        what: &'static str,
        calls: &[Invocation],
    ) -> Result<Vec<Value>> {
        self.ask(what, calls, false).await
    }

    async fn ask(
        &self,
        what: &'static str,
        calls: &[Invocation],
        waits: bool,
    ) -> Result<Vec<Value>> {
        let deadline = Instant::now() + self.options.answer_max;
        let asked = Asked { what, deadline, waits };
        let slot = &self.slots[self.turn.fetch_add(1, Ordering::Relaxed) % self.slots.len()];
        let mut answers: Vec<Option<Value>> = vec![None; calls.len()];
        // Which have no answer yet, and whether the server may lack their scripts.
        let mut open: Vec<(usize, bool)> = (0..calls.len()).map(|index| (index, false)).collect();
        let mut pause = PAUSE;
        loop {
            let live = self.live(slot, asked).await?;
            let replies = self.send(&live, calls, &open, asked).await?;
            let mut later = None;
            let mut left = Vec::new();
            for ((index, has_source), reply) in open.into_iter().zip(replies) {
                match fault::judge(what, reply) {
                    Verdict::Answer(answer) => answers[index] = Some(answer),
                    // Even its source was not known: a proxy makes up its answers.
                    Verdict::Unknown if has_source => return Err(fault::strange(what)),
                    Verdict::Unknown => left.push((index, true)),
                    Verdict::Later { elsewhere, error } => {
                        left.push((index, has_source));
                        later = Some((elsewhere, error));
                    }
                    Verdict::Failed(error) => return Err(error),
                }
            }
            if left.is_empty() {
                let answers: Option<Vec<Value>> = answers.into_iter().collect();
                return answers.ok_or_else(|| fault::strange(what));
            }
            open = left;
            if let Some((elsewhere, error)) = later {
                if elsewhere {
                    live.leave();
                }
                if Instant::now() + pause >= deadline {
                    return Err(Error::new(ErrorKind::Unavailable, what, error));
                }
                sleep_until(Instant::now() + pause).await;
                pause = (pause * 2).min(PAUSE_MAX);
            }
        }
    }

    /// Sends the open calls, and returns their replies.
    async fn send(
        &self,
        live: &Live,
        calls: &[Invocation],
        open: &[(usize, bool)],
        asked: Asked,
    ) -> Result<Vec<Value>> {
        let mut pipeline = redis::Pipeline::with_capacity(open.len() + 1);
        for &(index, has_source) in open {
            pipeline.add_command(calls[index].command(has_source));
        }
        if asked.waits {
            pipeline.add_command(self.wait(asked));
        }
        let count = pipeline.len();
        let mut connection = live.connection.clone();
        let sent = connection.send_packed_commands(&pipeline, 0, count);
        let replies: RedisResult<Vec<Value>> = match timeout_at(asked.deadline, sent).await {
            Ok(replies) => replies,
            Err(_) => {
                // Perhaps the way is dead, and nobody has said so: the next call goes another.
                live.leave();
                let max = self.options.answer_max;
                return Err(fault::unavailable(
                    asked.what,
                    format!("no answer within {max:?}; the call may have been made"),
                ));
            }
        };
        let mut replies = match replies {
            Ok(replies) if replies.len() == count => replies,
            Ok(_) => return Err(fault::strange(asked.what)),
            Err(error) => {
                live.leave();
                let why =
                    format!("the connection has ended ({error}); the call may have been made");
                return Err(fault::unavailable(asked.what, why));
            }
        };
        if asked.waits {
            let confirmed = replies.pop().ok_or_else(|| fault::strange(asked.what))?;
            // What was refused has nothing to be confirmed.
            if !replies.iter().all(|reply| matches!(reply, Value::ServerError(_))) {
                self.check_confirmed(confirmed, asked)?;
            }
        }
        Ok(replies)
    }

    fn wait(&self, asked: Asked) -> redis::Cmd {
        let left = asked.deadline.saturating_duration_since(Instant::now()) / 2;
        let ms = self.options.wait_max.min(left).as_millis().max(1) as u64;
        let mut command = redis::Cmd::new();
        match self.options.durability {
            Durability::Disk { replicas } => {
                command.arg("WAITAOF").arg(1).arg(replicas).arg(ms);
            }
            Durability::Replicas(replicas) => {
                command.arg("WAIT").arg(replicas).arg(ms);
            }
            Durability::Server => {
                command.arg("PING");
            }
        }
        command
    }

    fn check_confirmed(&self, reply: Value, asked: Asked) -> Result<()> {
        let reply = match fault::judge(asked.what, reply) {
            Verdict::Answer(reply) => reply,
            Verdict::Failed(error) => return Err(error),
            Verdict::Unknown => return Err(fault::strange(asked.what)),
            Verdict::Later { error, .. } => {
                return Err(Error::new(ErrorKind::Unavailable, asked.what, error));
            }
        };
        let (disks, replicas) = match (self.options.durability, reply) {
            (Durability::Server, _) => return Ok(()),
            (Durability::Replicas(_), Value::Int(replicas)) => (1, replicas),
            (Durability::Disk { .. }, Value::Array(counts)) => match counts[..] {
                [Value::Int(disks), Value::Int(replicas)] => (disks, replicas),
                _ => return Err(fault::strange(asked.what)),
            },
            _ => return Err(fault::strange(asked.what)),
        };
        let wanted = match self.options.durability {
            Durability::Server => 0,
            Durability::Replicas(wanted) | Durability::Disk { replicas: wanted } => wanted,
        };
        if disks >= 1 && replicas >= i64::from(wanted) {
            return Ok(());
        }
        let why = format!(
            "the server has done it, but only {replicas} of {wanted} replicas and {disks} of 1 disks of the server have confirmed it in time: repeat the call"
        );
        Err(fault::unavailable(asked.what, why))
    }

    /// Returns a connection, and makes one if there is none. Waits for its turn, and between two tries.
    async fn live(&self, slot: &Mutex<Slot>, asked: Asked) -> Result<Live> {
        let late = |error: Option<Error>| {
            let why = error.map_or_else(String::new, |error| format!(": {error}"));
            let max = self.options.answer_max;
            fault::unavailable(asked.what, format!("no connection within {max:?}{why}"))
        };
        let mut failed = None;
        loop {
            let Ok(mut slot) = timeout_at(asked.deadline, slot.lock()).await else {
                return Err(late(failed));
            };
            if let Some(live) = &slot.live
                && !live.is_down.load(Ordering::Acquire)
            {
                return Ok(live.clone());
            }
            slot.live = None;
            if let Some(again) = slot.again {
                if again >= asked.deadline {
                    return Err(late(failed));
                }
                sleep_until(again).await;
            }
            let made = match timeout_at(asked.deadline, self.connect()).await {
                Ok(made) => made,
                Err(_) => Err(fault::unavailable(CONNECTING, "it has not answered")),
            };
            match made {
                Ok(live) => {
                    *slot = Slot { live: Some(live.clone()), failures: 0, again: None };
                    return Ok(live);
                }
                Err(error) => {
                    slot.failures = slot.failures.saturating_add(1);
                    let pause = PAUSE.saturating_mul(1 << slot.failures.min(10)).min(PAUSE_MAX);
                    slot.again = Some(Instant::now() + pause);
                    if error.kind() != ErrorKind::Unavailable {
                        return Err(error);
                    }
                    failed = Some(error);
                }
            }
        }
    }

    async fn connect(&self) -> Result<Live> {
        let is_down = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&is_down);
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.options.answer_max))
            .set_response_timeout(None)
            .set_push_sender(move |push: PushInfo| {
                if push.kind == PushKind::Disconnection {
                    told.store(true, Ordering::Release);
                }
                Ok::<(), Infallible>(())
            });
        let made = self.client.get_multiplexed_async_connection_with_config(&config).await;
        let mut connection = made.map_err(|error| fault::of_connection(CONNECTING, error))?;
        let server = Server::ask(&mut connection).await?;
        server.check(&self.options)?;
        self.look_at_layout(&mut connection, &server).await?;
        Ok(Live { connection, is_down })
    }

    /// Checks the layout of the keys, and tells what a person should know.
    async fn look_at_layout(
        &self,
        connection: &mut MultiplexedConnection,
        server: &Server,
    ) -> Result<()> {
        let key = keys::layout(&self.options.prefix).into_bytes();
        let command = OPEN.with(vec![key], Vec::new()).command(true);
        let reply = connection.send_packed_command(&command).await;
        let reply = reply.map_err(|error| fault::of_connection(CONNECTING, error))?;
        let is_new = match fault::judge(CONNECTING, reply) {
            Verdict::Answer(Value::Int(is_new)) => is_new == 1,
            Verdict::Failed(error) => return Err(error),
            Verdict::Later { error, .. } => {
                return Err(Error::new(ErrorKind::Unavailable, CONNECTING, error));
            }
            _ => return Err(fault::strange(CONNECTING)),
        };
        let was_known = self.is_known.swap(true, Ordering::AcqRel);
        if was_known && is_new {
            tracing::error!(
                server = server.name(),
                "the server has lost its data: ids that were claimed before are first again"
            );
        }
        if !was_known && !server.has_append_only_file() {
            tracing::warn!(
                server = server.name(),
                "the server has no append-only file: a restart loses the claims since its last snapshot, or all, and their ids are first again"
            );
        }
        Ok(())
    }
}
