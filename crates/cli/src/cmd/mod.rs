//! One file per subcommand.

mod bench;
mod bytes;
mod claim;
mod dead_letter;
mod dedup;
mod describe;
mod entry;
mod export;
mod forget;
mod get;
mod history;
mod import;
mod ledger;
mod list;
mod names;
mod offsets;
mod outbox;
mod outbox_dead;
mod prepared;
mod record;
mod repair;
mod replay;
mod snapshot;
mod stats;
mod table;
mod verify;

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::Path;
use std::thread;
use std::time::Duration;

use firstseen::{
    Builder, ClaimOptions, Clock as _, ErrorKind, Namespace, ReadOnly, Store, SystemClock, Ttl,
};

use crate::args::{Command, IdArgs, StoreArgs, WaitArgs};
use crate::output::{Exit, Failure};
use crate::streams;

/// Runs a command.
pub(crate) fn run(command: Command) -> Result<Exit, Failure> {
    // Before anything is claimed or forgotten. Only `import` prints nothing there.
    if !matches!(command, Command::Import(_)) {
        streams::check_stdout()?;
    }
    match command {
        Command::Dedup(args) => dedup::run(args),
        Command::Claim(args) => claim::run(args),
        Command::Get(args) => get::run(args),
        Command::Forget(args) => forget::run(args),
        Command::Stats(args) => stats::run(&args.store),
        Command::Verify(args) => verify::run(&args.store),
        Command::Repair(args) => repair::run(&args.store),
        Command::Snapshot(args) => snapshot::take(&args),
        Command::Restore(args) => snapshot::restore(&args),
        Command::Export(args) => export::run(&args),
        Command::Import(args) => import::run(args),
        Command::Ledger(command) => ledger::run(command),
        Command::DeadLetter(command) => dead_letter::run(command),
        Command::Table(command) => table::run(command),
        Command::Offsets(args) => offsets::run(&args),
        Command::Outbox(command) => outbox::run(command),
        Command::Prepared(command) => prepared::run(command),
        Command::Replay(command) => replay::run(command),
        Command::History(args) => history::run(args),
        Command::Bench(args) => bench::run(&args),
        Command::Completions { shell } => describe::completions(shell),
        Command::Man { subcommand } => describe::man(&subcommand),
    }
}

/// Returns the builder used by every command: lines may be of any length, and so may ids.
fn builder(path: &Path) -> Builder {
    Store::builder(path).hash_long_ids(true)
}

/// Opens a store that must exist: a query of a misspelt folder must not create one.
fn open_existing(args: &StoreArgs) -> Result<Store, Failure> {
    Ok(waiting(args.wait, || builder(&args.dir).create(false).open())?)
}

/// Opens a store that must exist, for reading only.
fn open_read_only(path: &Path, wait: WaitArgs) -> Result<ReadOnly, Failure> {
    Ok(waiting(wait, || builder(path).create(false).open_read_only())?)
}

/// Name of the default namespace.
const DEFAULT: &str = "default";

/// A store opened for queries.
enum Opened {
    /// Opened normally, with all that makes it fast.
    Whole(Store),
    /// Opened read-only: its folder cannot be written to, or the disk is full.
    ReadOnly(Box<ReadOnly>),
}

impl Opened {
    fn to_read(path: &Path, wait: WaitArgs) -> Result<Self, Failure> {
        Self::open(path, wait, cannot_be_written)
    }

    /// Also opens a damaged store: read-only, for a command that passes over what is damaged.
    fn to_read_around_damage(path: &Path, wait: WaitArgs) -> Result<Self, Failure> {
        Self::open(path, wait, |error| {
            cannot_be_written(error) || error.kind() == ErrorKind::Repair
        })
    }

    /// Opens a store, read-only after an error that `is_only_read` tells.
    fn open(
        path: &Path,
        wait: WaitArgs,
        is_only_read: impl FnOnce(&firstseen::Error) -> bool,
    ) -> Result<Self, Failure> {
        match waiting(wait, || builder(path).create(false).open()) {
            Err(error) if is_only_read(&error) => {
                Ok(Self::ReadOnly(Box::new(open_read_only(path, wait)?)))
            }
            other => Ok(Self::Whole(other?)),
        }
    }

    /// Rejects a namespace that does not exist.
    fn check_namespace(&self, name: &str) -> Result<(), Failure> {
        match self {
            Self::Whole(store) => known_namespace(store, Some(name)).map(drop),
            Self::ReadOnly(store) => check_read_only(store, name),
        }
    }
}

/// Returns whether a store that was opened with this error may still be read.
fn cannot_be_written(error: &firstseen::Error) -> bool {
    match error {
        firstseen::Error::Io { source, .. } => matches!(
            source.kind(),
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem
        ),
        // Moving claims to another disk is the way out of a full one.
        error => error.kind() == ErrorKind::StorageFull,
    }
}

/// Rejects a namespace that does not exist.
fn check_read_only(store: &ReadOnly, name: &str) -> Result<(), Failure> {
    let known = store.summary()?.namespaces;
    if known.iter().any(|known| known.name == name) {
        return Ok(());
    }
    Err(unknown_namespace(name, known.into_iter().map(|known| known.name)))
}

/// Longest pause between two attempts to open a store that is in use.
const TRY_AGAIN_MS: u64 = 200;

/// Opens something; while another process has it open, retries until the wait time is over.
fn waiting<T>(
    wait: WaitArgs,
    mut open: impl FnMut() -> firstseen::Result<T>,
) -> firstseen::Result<T> {
    let wait_ms = u64::try_from(wait.wait.unwrap_or_default().as_millis()).unwrap_or(u64::MAX);
    let deadline = SystemClock.elapsed_ms().saturating_add(wait_ms);
    let mut pause_ms = 10;
    loop {
        let left_ms = deadline.saturating_sub(SystemClock.elapsed_ms());
        match open() {
            Err(error) if error.kind() == ErrorKind::Locked && left_ms > 0 => {
                thread::park_timeout(Duration::from_millis(left_ms.min(pause_ms)));
                pause_ms = TRY_AGAIN_MS.min(pause_ms * 2);
            }
            other => return other,
        }
    }
}

/// Returns the namespace named on the command line, or the default one.
fn namespace(store: &Store, name: Option<&str>) -> Result<Namespace, Failure> {
    match name {
        Some(name) => Ok(store.namespace(name)?),
        None => Ok(store.default_namespace()),
    }
}

/// Returns an error if an id cannot be used. The engine would reject an empty one, too, but not say on which line it
/// is.
fn check_id(id: &[u8], bytes_max: usize) -> Result<(), String> {
    match id.len() {
        0 => Err("the id is empty".to_owned()),
        bytes if bytes > bytes_max => {
            Err(format!("the id has {bytes} bytes; --max-id allows {bytes_max}"))
        }
        _ => Ok(()),
    }
}

/// Returns the bytes of an id from the command line.
fn id_bytes(id: OsString, is_hex: bool) -> Result<Vec<u8>, Failure> {
    if is_hex { from_hex(&id, "the id") } else { Ok(id.into_vec()) }
}

/// Returns the bytes of a key or gid from the command line. How long it may be, the engine says.
fn key_bytes(key: OsString, is_hex: bool, what: &str) -> Result<Vec<u8>, Failure> {
    let key = if is_hex {
        from_hex(&key, &format!("{what} {:?}", key.to_string_lossy()))?
    } else {
        key.into_vec()
    };
    if key.is_empty() {
        return Err(Failure::call(format!("{what} is empty")));
    }
    Ok(key)
}

/// Returns the bytes that hexadecimal digits on the command line stand for.
fn from_hex(digits: &OsStr, what: &str) -> Result<Vec<u8>, Failure> {
    record::from_hex(digits.as_bytes()).ok_or_else(|| {
        Failure::call(format!("{what} is not hexadecimal: two digits for each byte"))
    })
}

/// Returns the namespace named on the command line, which must exist: with a misspelt one, everything would be "not
/// seen".
fn known_namespace(store: &Store, name: Option<&str>) -> Result<Namespace, Failure> {
    let Some(name) = name else { return Ok(store.default_namespace()) };
    store.find_namespace(name).ok_or_else(|| {
        unknown_namespace(name, store.stats().namespaces.into_iter().map(|known| known.name))
    })
}

fn unknown_namespace(name: &str, known: impl Iterator<Item = String>) -> Failure {
    let known = names::some_of(known);
    Failure::call(format!("there is no namespace {name:?}; there are: {known}"))
}

/// What is wrong with an empty line, and the way out.
const EMPTY_LINE: &str = "the line is empty; --skip-empty leaves such lines out";

/// Returns the options of a claim, with the ttl of the command line if there is one.
pub(super) fn claim_options(ttl: Option<Ttl>) -> ClaimOptions {
    ttl.map_or_else(ClaimOptions::new, |ttl| ClaimOptions::new().ttl(ttl))
}

/// Returns the bytes of an id from the command line, after checking it.
fn checked_id(id: OsString, is_hex: bool) -> Result<Vec<u8>, Failure> {
    let id = id_bytes(id, is_hex)?;
    check_id(&id, usize::MAX).map_err(Failure::call)?;
    Ok(id)
}

/// Opens the store and the namespace for a command on one id.
fn open_for_id(args: IdArgs) -> Result<(Store, Namespace, Vec<u8>), Failure> {
    let id = checked_id(args.id, args.hex)?;
    let store = open_existing(&args.store)?;
    let namespace = known_namespace(&store, args.namespace.as_deref())?;
    Ok((store, namespace, id))
}

/// Describes what is wrong with a JSON text of one line: the column says where.
fn json_fault(error: &serde_json::Error) -> String {
    let text = error.to_string();
    match text.rsplit_once(" at line ") {
        Some((what, _)) => format!("{what} (column {})", error.column()),
        None => text,
    }
}
