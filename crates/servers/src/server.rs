//! A server: started, killed, started again, frozen, and stopped.

use crate::probe::Probe;
use crate::process::Process;
use crate::system::free_port;
use std::fmt;
use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

/// How long a server may take to start, on a machine with other work.
const LATE: Duration = Duration::from_secs(300);

/// How a server is started, the first time and each time after it was killed.
pub(crate) struct Recipe {
    pub(crate) name: &'static str,
    pub(crate) probe: Probe,
    pub(crate) command: Box<dyn Fn(&Place) -> Command + Send + Sync>,
}

/// Where a server runs.
pub(crate) struct Place {
    pub(crate) dir: TempDir,
    pub(crate) port: u16,
}

/// A server that runs on a free port of loopback, in a temporary folder of its own. Both end with this value, and also with this
/// process, if it exits or is killed before.
pub struct Server {
    /// `None` while it is killed. Dropped before its folder.
    running: Option<Process>,
    /// What it needs beside it, and what is not killed with it.
    _beside: Vec<Process>,
    recipe: Recipe,
    place: Place,
}

impl Place {
    /// A new folder with a folder `data` in it, and a free port.
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        fs::create_dir(dir.path().join("data")).expect("a folder for data");
        Self { dir, port: free_port() }
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.path().join("data")
    }
}

impl Recipe {
    fn spawn(&self, place: &Place) -> Process {
        let log = place.path().join("server.log");
        let log = OpenOptions::new().create(true).append(true).open(log).expect("a log");
        let errors = log.try_clone().expect("a log");
        let mut command = (self.command)(place);
        let started = Process::start(command.stdout(log).stderr(errors), place.path());
        started.unwrap_or_else(|error| panic!("{} cannot be started: {error}", self.name))
    }
}

impl Server {
    pub(crate) async fn start(recipe: Recipe, place: Place) -> Self {
        Self::start_beside(recipe, place, Vec::new()).await
    }

    pub(crate) async fn start_beside(recipe: Recipe, place: Place, beside: Vec<Process>) -> Self {
        let running = Some(recipe.spawn(&place));
        let mut server = Self { running, _beside: beside, recipe, place };
        server.wait_until_ready().await;
        server
    }

    /// Returns the port of 127.0.0.1 that it listens on, also after it was killed.
    pub fn port(&self) -> u16 {
        self.place.port
    }

    /// Returns `127.0.0.1:PORT`.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.place.port)
    }

    /// Returns its folder: its data in `data`, and what it prints in `server.log`.
    pub fn dir(&self) -> &Path {
        self.place.path()
    }

    /// Returns its process id.
    ///
    /// # Panics
    ///
    /// It is killed.
    pub fn pid(&self) -> u32 {
        self.running().id()
    }

    /// Kills it and its children by `SIGKILL`, and returns once they are gone. Does nothing if it is killed already.
    pub fn kill(&mut self) {
        if let Some(mut running) = self.running.take() {
            running.kill();
        }
    }

    /// Starts it again, on the same port and folder, after killing it if it runs. Returns once it answers.
    ///
    /// # Panics
    ///
    /// It does not answer; the message has the end of what it prints.
    pub async fn restart(&mut self) {
        self.kill();
        self.running = Some(self.recipe.spawn(&self.place));
        self.wait_until_ready().await;
    }

    /// Stops it and its children by `SIGSTOP`: connections stay, and nothing is answered.
    ///
    /// # Panics
    ///
    /// It is killed.
    pub fn freeze(&self) {
        self.running().freeze();
    }

    /// Has it go on after [`freeze`](Self::freeze).
    ///
    /// # Panics
    ///
    /// It is killed.
    pub fn thaw(&self) {
        self.running().thaw();
    }

    fn running(&self) -> &Process {
        self.running.as_ref().expect("the server runs")
    }

    async fn wait_until_ready(&mut self) {
        let end = Instant::now() + LATE;
        while !self.recipe.probe.is_answered(self.place.port).await {
            let has_ended = self.running.as_mut().is_none_or(Process::has_ended);
            if has_ended || Instant::now() > end {
                let why = if has_ended { "has ended" } else { "does not answer" };
                let port = self.place.port;
                panic!("{} {why} on port {port}; it says:\n{}", self.recipe.name, self.said());
            }
            sleep(Duration::from_millis(10)).await;
        }
    }

    /// Returns the end of what it has printed.
    fn said(&self) -> String {
        let log = fs::read(self.dir().join("server.log")).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct(self.recipe.name);
        shown.field("address", &self.address()).field("dir", &self.dir());
        shown.field("running", &self.running).finish_non_exhaustive()
    }
}
