//! What the system has: programs, users and ports.

use std::ffi::OsStr;
use std::fs;
use std::net::TcpListener;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::chown;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

/// Finds a program: in the folder that `FIRSTSEEN_SERVERS_BIN` names, where scripts/servers.sh installs, where Debian has
/// those of servers, and in `PATH`.
///
/// # Panics
///
/// It is nowhere. The message says how to install it.
pub(crate) fn program(name: &str, install: &str) -> PathBuf {
    let asked_for = std::env::var_os("FIRSTSEEN_SERVERS_BIN").map(PathBuf::from);
    let installed = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/servers/bin");
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = asked_for
        .into_iter()
        .chain([installed, "/usr/lib/rabbitmq/bin".into()])
        .chain(postgres_folders())
        .chain(std::env::split_paths(&path))
        .chain(["/usr/sbin".into()])
        .map(|folder| folder.join(name))
        .find(|program| program.is_file());
    found.unwrap_or_else(|| {
        panic!("{name} is not installed, and this test needs the real server: {install}")
    })
}

/// The newest first.
fn postgres_folders() -> Vec<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut folders: Vec<PathBuf> = versions.map(|version| version.path()).collect();
    let number = |folder: &PathBuf| {
        folder.file_name().and_then(OsStr::to_str).and_then(|name| name.parse::<u32>().ok())
    };
    folders.sort_by_key(|folder| std::cmp::Reverse(number(folder)));
    folders.into_iter().map(|folder| folder.join("bin")).collect()
}

/// Another user to run a server as.
#[derive(Debug, Clone, Copy)]
pub(crate) struct User {
    uid: u32,
    gid: u32,
}

impl User {
    /// Returns the system's user for a server that refuses to run as root; `None` if this is not root, and the server
    /// runs as whoever this is.
    pub(crate) fn of(name: &str, install: &str) -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            return None;
        }
        let users = fs::read_to_string("/etc/passwd").expect("the users of the system");
        let of = |line: &str| {
            let fields: Vec<&str> = line.split(':').collect();
            let [found, _, uid, gid, ..] = fields[..] else { return None };
            (found == name).then_some(Self { uid: uid.parse().ok()?, gid: gid.parse().ok()? })
        };
        let user = users.lines().find_map(of);
        Some(user.unwrap_or_else(|| panic!("there is no user {name} to run the server: {install}")))
    }

    /// Has the command run as this user, in no other group.
    pub(crate) fn run(self, command: &mut Command) {
        command.uid(self.uid).gid(self.gid);
    }

    /// Makes the file or folder this user's.
    pub(crate) fn own(self, path: &Path) {
        chown(path, Some(self.uid), Some(self.gid)).expect("root can give files away");
    }
}

/// Returns a port of loopback that nobody listens on, and that no server of these tests has, in this process or in
/// another, also while it is killed: the port is this process's until that ends. It is below those that the system
/// gives to connections: one that tries a port of its own again and again may connect to itself.
pub fn free_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    loop {
        let number =
            std::process::id().wrapping_mul(97).wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
        let port = 10_000 + (number % 20_000) as u16;
        let Some(reservation) = reserve(port) else { continue };
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            // For as long as this process lives; its children do not inherit it.
            std::mem::forget(reservation);
            return port;
        }
    }
}

/// Takes a port among the processes of these tests; `None` if one of them has it. It is theirs again when what is
/// returned is dropped, or its process ends. A name of a socket, which is in no folder, so that nothing is left behind
/// by a kill.
fn reserve(port: u16) -> Option<UnixListener> {
    let name = format!("firstseen-servers-{port}");
    let name = SocketAddr::from_abstract_name(name).expect("a short name");
    UnixListener::bind_addr(&name).ok()
}

#[cfg(test)]
mod tests {
    use super::{free_port, reserve};

    #[test]
    fn a_port_is_kept_though_nobody_listens_on_it() {
        let port = free_port();
        // As while its server is killed: another process may ask for a port then.
        assert!(reserve(port).is_none(), "{port} would be given to two servers");
        let next = free_port();
        assert_ne!(port, next);
    }

    #[test]
    fn a_port_that_is_given_up_can_be_had_again() {
        let port = 9_999;
        let first = reserve(port);
        assert!(first.is_some() && reserve(port).is_none());
        drop(first);
        assert!(reserve(port).is_some());
    }
}
