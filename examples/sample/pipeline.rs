//! What the pipelines share: their command line, their input, the price of a run, and kills at random moments.
#![allow(dead_code, reason = "no program needs all of it")]

use super::generate::{self, Kind};
use super::outside::{Answer, Outside};
use serde::de::DeserializeOwned;
use std::fmt::Display;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio, exit};
use std::time::{Duration, Instant};

/// Says that steps are to be counted, so that kills can be aimed at them.
const WATCHED: &str = "FIRSTSEEN_EXAMPLE_WATCHED";

/// The command line: `[INPUT] [--generate N] [--folder DIR] [--batch N] [--kills N]`, and flags of a program.
///
/// The input is a file of NDJSON, or `-` for the standard input. `--generate` makes one of N deliveries in the folder.
/// `--kills` kills the program so many times at random, and starts it again.
pub(crate) struct Args {
    pub(crate) folder: PathBuf,
    pub(crate) input: PathBuf,
    pub(crate) batch: usize,
    kills: u64,
    flags: Vec<String>,
}

impl Args {
    /// Ends the program if it is asked for help, or cannot read what it is told.
    pub(crate) fn parse(program: &str, kind: Kind, batch: usize, flags: &[&str]) -> Answer<Self> {
        let own: Vec<String> = flags.iter().map(|flag| format!("[{flag}]")).collect();
        let usage = format!(
            "usage: {program} [INPUT | --generate N] [--folder DIR] [--batch N] [--kills N] {}",
            own.join(" ")
        );
        if std::env::args().any(|word| word == "--help" || word == "-h") {
            say(usage)?;
            exit(0);
        }
        Self::read(program, kind, batch, flags).or_else(|why| {
            writeln!(io::stderr().lock(), "{why}\n{usage}")?;
            exit(2)
        })
    }

    fn read(program: &str, kind: Kind, batch: usize, flags: &[&str]) -> Answer<Self> {
        let folder = std::env::temp_dir().join(format!("firstseen-example-{program}"));
        let mut args = Self { folder, input: PathBuf::new(), batch, kills: 0, flags: Vec::new() };
        let (mut given, mut deliveries) = (None, 100_000);
        let mut words = std::env::args().skip(1);
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or(format!("{word} needs a value"));
            match &*word {
                "--generate" => deliveries = number(&word, &value()?)?,
                "--folder" => args.folder = value()?.into(),
                "--batch" => args.batch = usize::try_from(number(&word, &value()?)?)?.max(1),
                "--kills" => args.kills = number(&word, &value()?)?,
                flag if flags.contains(&flag) => args.flags.push(word),
                option if option.starts_with("--") => {
                    return Err(format!("unknown option {option}").into());
                }
                _ => given = Some(PathBuf::from(word)),
            }
        }
        std::fs::create_dir_all(&args.folder)?;
        args.input = match given {
            Some(path) => path,
            None => {
                let path = args.folder.join(format!("events-{deliveries}.ndjson"));
                generate::file(&path, kind, deliveries)?;
                path
            }
        };
        keep_to_one_input(&args.folder, &args.input)?;
        Ok(args)
    }

    pub(crate) fn has(&self, flag: &str) -> bool {
        self.flags.iter().any(|given| given == flag)
    }

    pub(crate) fn outside(&self) -> Outside {
        let is_watched = std::env::var_os(WATCHED).is_some();
        Outside::new(&self.folder, if is_watched { u64::MAX } else { 0 })
    }

    /// Kills the program as often as the command line says, at random. Then the caller runs it to its end.
    pub(crate) fn kill_first(&self) -> Answer {
        if self.kills == 0 || std::env::var_os(WATCHED).is_some() {
            return Ok(());
        }
        let steps = 2 * lines_in(&self.input)? / self.batch as u64;
        let mut kills = Kills::new(&self.folder, self.kills, steps, 1);
        while kills.are_left() {
            let mut program = Command::new(std::env::current_exe()?);
            program.args(std::env::args().skip(1)).env(WATCHED, "1").stdout(Stdio::null());
            if !kills.kill(program.spawn()?)? {
                break;
            }
        }
        say(format!("killed {} times", kills.killed))
    }
}

/// What is in a folder belongs to one input: with another, sums and offsets would be of both.
pub(crate) fn keep_to_one_input(folder: &Path, input: &Path) -> Answer {
    let (note, input) = (folder.join("input"), input.to_string_lossy());
    let before = fs::read_to_string(&note).unwrap_or_default();
    if before.is_empty() {
        return Ok(fs::write(note, input.as_bytes())?);
    }
    if before == input {
        return Ok(());
    }
    let folder = folder.display();
    Err(format!("{folder} was filled from {before}: remove it, or give another --folder").into())
}

fn number(option: &str, text: &str) -> Answer<u64> {
    text.parse().map_err(|_| format!("{option} needs a number, not {text:?}").into())
}

/// Prints a line.
pub(crate) fn say(line: impl Display) -> Answer {
    writeln!(io::stdout().lock(), "{line}")?;
    Ok(())
}

/// Kills at random moments: most between two steps of a program, one in eight while it starts.
pub(crate) struct Kills {
    folder: PathBuf,
    left: u64,
    /// How many steps a run has that nobody disturbs, about.
    undisturbed: u64,
    random: u64,
    pub(crate) killed: u64,
    pub(crate) has_hung: bool,
}

impl Kills {
    /// `undisturbed`: how many steps a run has that nobody disturbs, about.
    pub(crate) fn new(folder: &Path, kills: u64, undisturbed: u64, seed: u64) -> Self {
        let (folder, random) = (folder.to_owned(), generate::mix(seed));
        Self { folder, left: kills, undisturbed, random, killed: 0, has_hung: false }
    }

    pub(crate) fn are_left(&self) -> bool {
        self.left > 0
    }

    /// Kills a program that was just started. Returns false if it ended by itself before. One that takes no step for long
    /// hangs: that is an error.
    pub(crate) fn kill(&mut self, mut program: Child) -> Answer<bool> {
        self.left -= 1;
        self.random = generate::mix(self.random);
        if self.random.is_multiple_of(8) {
            pause((self.random >> 8) % 40_000);
        } else {
            let target = self.count() + (self.random >> 8) % self.reach();
            let mut watch = Watch::new(&self.folder, STEP_MAX);
            while self.count() <= target && program.try_wait()?.is_none() {
                watch.check(&mut program).inspect_err(|_| self.has_hung = true)?;
                pause(100);
            }
            // Anywhere within the step.
            pause((self.random >> 40) % 500);
        }
        let was_alive = program.try_wait()?.is_none();
        // SIGKILL.
        program.kill()?;
        let status = program.wait()?;
        self.killed += u64::from(was_alive);
        if !was_alive && !status.success() {
            return Err(format!("it ended by itself: {status}").into());
        }
        Ok(was_alive)
    }

    /// Asks for the last kill once more: the program had died by itself before it came.
    pub(crate) fn again(&mut self) {
        self.left += 1;
    }

    /// Returns within how many steps the next kill comes: so that the kills spread over what is ahead, counted anew each time,
    /// as a machine that is busy kills late. Never close to the end, where the program might be over before.
    fn reach(&self) -> u64 {
        let ahead = self.undisturbed.saturating_sub(self.count()) * 4 / 5;
        (2 * ahead / (self.left + 1)).clamp(1, ahead.max(1))
    }

    fn count(&self) -> u64 {
        steps_in(&self.folder.join("steps"))
    }
}

/// How long a program may take from one step to the next. Then it hangs.
pub(crate) const STEP_MAX: Duration = Duration::from_secs(120);

/// Looks whether a program goes on.
pub(crate) struct Watch {
    steps: PathBuf,
    seen: u64,
    since: Instant,
    most: Duration,
}

impl Watch {
    /// `most`: how long it may take from one step to the next.
    pub(crate) fn new(folder: &Path, most: Duration) -> Self {
        Self { steps: folder.join("steps"), seen: 0, since: now(), most }
    }

    /// Kills the program, and says so, if it hangs.
    fn check(&mut self, program: &mut Child) -> Answer {
        let steps = steps_in(&self.steps);
        if steps != self.seen {
            (self.seen, self.since) = (steps, now());
        }
        if self.since.elapsed() <= self.most {
            return Ok(());
        }
        program.kill()?;
        program.wait()?;
        Err(format!("it hangs: no step in {:?} after {steps} of them; it was killed", self.most)
            .into())
    }

    /// Waits until the program ends by itself.
    pub(crate) fn wait(mut self, mut program: Child) -> Answer<ExitStatus> {
        loop {
            if let Some(status) = program.try_wait()? {
                return Ok(status);
            }
            self.check(&mut program)?;
            pause(500);
        }
    }
}

fn steps_in(file: &Path) -> u64 {
    file.metadata().map_or(0, |steps| steps.len())
}

#[allow(clippy::disallowed_methods, reason = "a run and its steps are timed by the real clock")]
fn now() -> Instant {
    Instant::now()
}

#[allow(clippy::disallowed_methods, reason = "kills come at moments of real time")]
fn pause(micros: u64) {
    std::thread::sleep(Duration::from_micros(micros));
}

/// Input as a log keeps it: it can be read again from any offset. The offset of a line is that of its first byte.
pub(crate) struct Input {
    lines: Box<dyn BufRead>,
    /// The offset of the next line.
    pub(crate) next: u64,
    line: Vec<u8>,
}

impl Input {
    pub(crate) fn open(path: &Path, from: u64) -> io::Result<Self> {
        let lines: Box<dyn BufRead> = if path == Path::new("-") {
            let mut lines = BufReader::with_capacity(1 << 20, io::stdin());
            io::copy(&mut lines.by_ref().take(from), &mut io::sink())?;
            Box::new(lines)
        } else {
            let mut file = File::open(path)?;
            file.seek(SeekFrom::Start(from))?;
            Box::new(BufReader::with_capacity(1 << 20, file))
        };
        Ok(Self { lines, next: from, line: Vec::new() })
    }

    /// Reads the next line. A line without its end is one that is still being written: it is not there yet.
    pub(crate) fn line(&mut self) -> io::Result<Option<&[u8]>> {
        self.line.clear();
        self.lines.read_until(b'\n', &mut self.line)?;
        let Some(line) = self.line.strip_suffix(b"\n") else { return Ok(None) };
        self.next += line.len() as u64 + 1;
        Ok(Some(line))
    }

    /// Reads the next events, at most so many. Empty at the end.
    ///
    /// A line that is no event ends the program: `order_pipeline` shows what else to do with it.
    pub(crate) fn batch<T: DeserializeOwned>(&mut self, most: usize) -> Answer<Vec<T>> {
        let mut events = Vec::with_capacity(most);
        while events.len() < most {
            let at = self.next;
            let Some(line) = self.line()? else { break };
            let event = serde_json::from_slice(line);
            events.push(event.map_err(|why| format!("the line at byte {at}: {why}"))?);
        }
        Ok(events)
    }
}

/// What a run costs.
pub(crate) struct Price {
    start: Instant,
}

impl Price {
    pub(crate) fn start() -> Self {
        Self { start: now() }
    }

    /// `events` are those of this run; `bytes` those on disk for all of the input, `events_ever`.
    pub(crate) fn text(&self, events: u64, bytes: u64, events_ever: u64) -> String {
        let seconds = self.start.elapsed().as_secs_f64();
        format!(
            "{events} events in {seconds:.2} s: {:.0} events/s, {:.1} bytes of disk an event",
            events as f64 / seconds,
            bytes as f64 / events_ever.max(1) as f64
        )
    }
}

/// The events of a file; none are counted of the standard input.
pub(crate) fn lines_in(path: &Path) -> io::Result<u64> {
    if path == Path::new("-") {
        return Ok(0);
    }
    let (mut lines, mut input) = (0, Input::open(path, 0)?);
    while input.line()?.is_some() {
        lines += 1;
    }
    Ok(lines)
}

/// Bytes of all files in a folder.
pub(crate) fn bytes_in(folder: &Path) -> io::Result<u64> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let file = entry.metadata()?;
        bytes += if file.is_dir() { bytes_in(&entry.path())? } else { file.len() };
    }
    Ok(bytes)
}
