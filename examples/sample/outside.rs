//! The world outside of the examples: a file that notes every effect, as a bank's books or a mailbox would, and kills, one
//! at every step.
#![allow(dead_code, reason = "no program needs all of it")]

use std::error::Error;
use std::fmt::Display;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio, abort};
use std::sync::{Mutex, PoisonError};

pub(crate) type Answer<T = ()> = Result<T, Box<dyn Error>>;

/// Of memory, in bytes; some machines have larger ones.
const PAGE: usize = 4_096;

const FOLDER: &str = "FIRSTSEEN_EXAMPLE_FOLDER";
const KILLED_AT: &str = "FIRSTSEEN_EXAMPLE_KILLED_AT";

pub(crate) struct Outside {
    folder: PathBuf,
    killed_at: u64,
}

impl Outside {
    /// `killed_at` is the step at which the process ends, counted over all starts in this folder; zero: steps are not
    /// even counted.
    pub(crate) fn new(folder: &Path, killed_at: u64) -> Self {
        Self { folder: folder.to_owned(), killed_at }
    }

    /// Whether somebody looks at the steps, and may kill the process at one.
    pub(crate) fn is_watched(&self) -> bool {
        self.killed_at != 0
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Something happens that the ledger cannot take back. A kill cuts a write between two pages at most, so that no line
    /// may cross one: what would is put behind empty lines.
    pub(crate) fn effect(&self, line: impl Display) -> io::Result<()> {
        static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
        let _one = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut file, line) = (self.append_to("effects")?, format!("{line}\n"));
        let left = PAGE - file.metadata()?.len() as usize % PAGE;
        let empty = if line.len() > left { "\n".repeat(left) } else { String::new() };
        file.write_all(format!("{empty}{line}").as_bytes())
    }

    pub(crate) fn effects(&self) -> Vec<String> {
        let text = fs::read_to_string(self.file("effects")).unwrap_or_default();
        text.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect()
    }

    /// A moment at which somebody outside could see how far the program has come. If this is the one it is to be killed
    /// at, the process ends here: nothing is dropped, flushed or said.
    pub(crate) fn step(&self, name: &str) {
        if !self.is_watched() {
            return;
        }
        let steps = self.append_to("steps").and_then(|mut file| {
            file.write_all(b".")?;
            Ok(file.metadata()?.len())
        });
        if steps.expect("steps are counted") == self.killed_at {
            fs::write(self.file("killed"), name).expect("it is noted where it was killed");
            abort();
        }
    }

    /// A file that others read line by line, such as the log of a broker. Half a line, which a kill has left, is cut off.
    pub(crate) fn lines(&self, name: &str) -> io::Result<File> {
        let path = self.file(name);
        let mut file = OpenOptions::new().create(true).append(true).read(true).open(path)?;
        let (mut end, mut byte) = (file.metadata()?.len(), [0]);
        while end > 0 {
            file.seek(SeekFrom::Start(end - 1))?;
            file.read_exact(&mut byte)?;
            if byte == *b"\n" {
                break;
            }
            end -= 1;
        }
        file.set_len(end)?;
        Ok(file)
    }

    fn append_to(&self, name: &str) -> io::Result<File> {
        OpenOptions::new().create(true).append(true).open(self.file(name))
    }
}

/// The `main` of these examples. For each step there is, in a fresh folder: kills the program at that step, starts it
/// again until it ends by itself, and prints what came of it outside. Ends with a run that nobody kills.
pub(crate) fn killed_at_every_step(name: &str, run: fn(&Outside) -> Answer) -> Answer {
    // This is one of the processes started below.
    if let Some(folder) = std::env::var_os(FOLDER) {
        let killed_at = std::env::var(KILLED_AT)?.parse()?;
        return run(&Outside::new(Path::new(&folder), killed_at));
    }
    let folder = std::env::temp_dir().join(format!("firstseen-example-{name}"));
    let mut out = io::stdout().lock();
    for step in 1.. {
        if folder.exists() {
            fs::remove_dir_all(&folder)?;
        }
        fs::create_dir_all(&folder)?;
        let mut child = Command::new(std::env::current_exe()?);
        child.env(FOLDER, &folder).env(KILLED_AT, step.to_string()).stderr(Stdio::null());
        let mut starts = 1;
        while !child.status()?.success() {
            starts += 1;
            if starts > 20 {
                return Err("it does not end by itself".into());
            }
        }
        let killed = fs::read_to_string(folder.join("killed"));
        let how =
            killed.as_ref().map_or("nobody kills it".into(), |step| format!("killed: {step}"));
        writeln!(out, "{how}; it ends at start {starts}, and this happened outside:")?;
        for line in Outside::new(&folder, 0).effects() {
            writeln!(out, "    {line}")?;
        }
        if killed.is_err() {
            break;
        }
    }
    writeln!(out, "the files of the last run are in {}", folder.display())?;
    Ok(())
}
