//! Servers that live as long as the process that measures them, in a folder of their own and on a port of their own.
//!
//! `setpriv --pdeathsig` has the kernel kill a server whose parent dies, however that dies, so that nothing
//! is left running after a failure or an interrupted run.

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// For a server to answer its first connection; replaying a log after a kill is part of it.
const START_MAX: Duration = Duration::from_mins(10);
/// For a server to end in order.
const STOP_MAX: Duration = Duration::from_mins(2);
const POLL: Duration = Duration::from_millis(2);

#[derive(Debug)]
pub struct Server {
    child: Child,
    pub port: u16,
}

/// A port on which nobody listens now.
pub fn free_port() -> Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}

/// Whether a program can be started by this name.
pub fn has_program(name: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(name).is_file())
}

/// A command that runs as this user where we may choose, and dies with this thread.
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
    /// Starts the command and waits until `answers` does.
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

    /// Asks the server to end, and waits until it has.
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
        // Nothing to be done about a failure here, and nothing to do if it has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
