//! Servers that live as long as the process that measures them, each with its own folder and port.
//!
//! `setpriv --pdeathsig` makes the kernel kill a server whose parent dies, however it dies, so that a failed or
//! interrupted run leaves nothing running.

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// For a server to answer its first connection, including log replay after a kill.
const START_MAX: Duration = Duration::from_mins(10);
/// For a clean shutdown.
const STOP_MAX: Duration = Duration::from_mins(2);
const POLL: Duration = Duration::from_millis(2);

#[derive(Debug)]
pub struct Server {
    child: Child,
    pub port: u16,
}

/// A port that nothing listens on now.
pub fn free_port() -> Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}

/// Whether a program of this name is in PATH.
pub fn has_program(name: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(name).is_file())
}

/// A command that runs as `user` if one is given, and dies with this thread.
pub fn command(program: &Path, user: Option<&str>) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL"]);
    if let Some(user) = user {
        command.args(["--reuid", user, "--regid", user, "--clear-groups"]);
    }
    command.arg("--").arg(program).stdin(Stdio::null()).stdout(Stdio::null());
    command
}

impl Server {
    /// Starts the command and waits until `answers` returns true.
    pub fn start(
        mut command: Command,
        port: u16,
        log: &Path,
        mut answers: impl FnMut() -> bool,
    ) -> Result<Self> {
        let file = std::fs::File::options().create(true).append(true).open(log)?;
        let child = command.stderr(file).spawn().context("starting the server")?;
        let mut server = Self { child, port };
        let began = Instant::now();
        while !answers() {
            if let Some(status) = server.child.try_wait()? {
                bail!("the server ended: {status}; see {}", log.display());
            }
            if began.elapsed() > START_MAX {
                bail!("the server does not answer; see {}", log.display());
            }
            std::thread::sleep(POLL);
        }
        Ok(server)
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Signals the server to end and waits until it has.
    pub fn stop(mut self, signal: Signal) -> Result<()> {
        kill_process(Pid::from_child(&self.child), signal)?;
        let began = Instant::now();
        while self.child.try_wait()?.is_none() {
            if began.elapsed() > STOP_MAX {
                bail!("the server does not end");
            }
            std::thread::sleep(POLL);
        }
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already, and a failure here cannot be handled.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
