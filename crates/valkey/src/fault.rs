//! What the server's errors mean.

use firstseen_shared::{Error, ErrorKind};
use redis::{RedisError, ServerError, Value};

/// What to do about a reply.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// It is an answer.
    Answer(Value),
    /// The server does not have the script, and has done nothing: send its source along.
    Unknown,
    /// The server has done nothing, and may do it later.
    Later {
        /// Whether another connection may lead to a server that does.
        elsewhere: bool,
        error: ServerError,
    },
    /// Repeating it changes nothing.
    Failed(Error),
}

/// Judges a reply.
pub(crate) fn judge(what: &'static str, reply: Value) -> Verdict {
    let Value::ServerError(error) = reply else { return Verdict::Answer(reply) };
    match error.code() {
        "NOSCRIPT" => Verdict::Unknown,
        "READONLY" | "MASTERDOWN" => Verdict::Later { elsewhere: true, error },
        "LOADING" | "BUSY" | "CLUSTERDOWN" | "TRYAGAIN" | "NOREPLICAS" => {
            Verdict::Later { elsewhere: false, error }
        }
        _ => Verdict::Failed(failed(what, &error)),
    }
}

/// Returns what an error of the server means that ends a call.
fn failed(what: &'static str, error: &ServerError) -> Error {
    let said = error.details().unwrap_or_default();
    match error.code() {
        "FSLAYOUT" => layout(what, said),
        "FSDAMAGED" | "WRONGTYPE" => Error::new(
            ErrorKind::Damaged,
            what,
            format!("what is stored of this id cannot be read ({said}): look at it, and forget it"),
        ),
        "FSNUMBERS" => Error::new(
            ErrorKind::Environment,
            what,
            "the server cannot write times of six bytes in its scripts: take a build for 64 bits",
        ),
        "OOM" => Error::new(
            ErrorKind::Environment,
            what,
            "the memory of the server is full, and it refuses to write: give it more (maxmemory)",
        ),
        "MOVED" | "ASK" => Error::new(
            ErrorKind::Unavailable,
            what,
            format!(
                "the key is at another server of a cluster ({said}): connect through a proxy, or to a server that has all slots"
            ),
        ),
        // It has become a replica while the call waited.
        "UNBLOCKED" => Error::new(ErrorKind::Unavailable, what, error.clone()),
        _ => Error::new(ErrorKind::Environment, what, error.clone()),
    }
}

fn layout(what: &'static str, found: &str) -> Error {
    let found = found.split(' ').next().unwrap_or_default();
    let why = format!(
        "the layout of the keys has version {found}, and this program knows 1: run the program of that version, or another prefix"
    );
    Error::new(ErrorKind::Schema, what, why)
}

/// Returns the error of a connection. Nobody knows what was done.
pub(crate) fn of_connection(what: &'static str, error: RedisError) -> Error {
    use redis::ErrorKind as Kind;
    let kind = match error.kind() {
        Kind::InvalidClientConfig => ErrorKind::Invalid,
        Kind::AuthenticationFailed | Kind::RESP3NotSupported => ErrorKind::Environment,
        // Refused while it connected.
        Kind::Server(_) | Kind::Extension if !is_passing(&error) => ErrorKind::Environment,
        _ => ErrorKind::Unavailable,
    };
    Error::new(kind, what, error)
}

fn is_passing(error: &RedisError) -> bool {
    matches!(error.code(), Some("LOADING" | "BUSY" | "MASTERDOWN" | "CLUSTERDOWN" | "TRYAGAIN"))
}

/// Returns the error of a reply that a script of ours does not give.
pub(crate) fn strange(what: &'static str) -> Error {
    let why =
        "the server has given an answer that none of its scripts gives: is there a proxy between?";
    Error::new(ErrorKind::Environment, what, why)
}

/// Returns the error of a call that may have been made.
pub(crate) fn unavailable(what: &'static str, why: impl Into<String>) -> Error {
    Error::new(ErrorKind::Unavailable, what, why.into())
}
