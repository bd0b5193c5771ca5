//! `firstseen dedup` against programs that do the same to the lines of a file and persist nothing.

use crate::server::has_program;
use crate::workload::Workload;
use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// From Debian's package `time`: the shell's builtin does not report peak memory.
const TIME: &str = "/usr/bin/time";
pub const TOOLS: [&str; 3] = ["huniq", "runiq", "awk"];

/// One run of one program over the file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Tool {
    pub name: String,
    pub lines: u64,
    pub seconds: f64,
    pub peak_bytes: u64,
}

/// Where the programs are.
#[derive(Debug, Clone)]
pub struct Programs {
    /// Our own binary.
    pub firstseen: PathBuf,
    /// Folder with the programs that `cargo install` put there.
    pub bin: PathBuf,
}

impl Programs {
    fn find(&self, tool: &str) -> Option<PathBuf> {
        match tool {
            "firstseen" => Some(self.firstseen.clone()).filter(|path| path.is_file()),
            "awk" => has_program("awk").then(|| PathBuf::from("awk")),
            _ => Some(self.bin.join(tool)).filter(|path| path.is_file()),
        }
    }

    pub fn has(&self, tool: &str) -> bool {
        Path::new(TIME).is_file() && self.find(tool).is_some()
    }
}

/// Lines of 32 characters: 16-byte ids in hexadecimal.
pub fn write_lines(path: &Path, workload: &Workload) -> Result<()> {
    ensure!(workload.id_bytes == 16 && workload.threads == 1, "lines are made of ids of 16 bytes");
    let mut file = BufWriter::new(File::create(path)?);
    let mut draw = workload.draw(0);
    let mut id = [0; 16];
    for _ in 0..workload.claims {
        draw.next(&mut id);
        writeln!(file, "{:032x}", u128::from_be_bytes(id))?;
    }
    Ok(file.flush()?)
}

/// Runs one program over the lines and checks how many it wrote.
pub fn run(programs: &Programs, tool: &str, lines: &Path, workload: &Workload) -> Result<Tool> {
    let program = programs.find(tool).with_context(|| format!("{tool} is not installed"))?;
    let folder = lines.parent().context("the lines are in a folder")?;
    let [store, output, times] =
        ["dedup-store", "dedup-output", "dedup-times"].map(|n| folder.join(n));
    let mut command = Command::new(TIME);
    command.args(["-f", "%e %M", "-o"]).arg(&times).arg(&program);
    match tool {
        "firstseen" => {
            command.arg("dedup").arg("--store").arg(&store);
        }
        "runiq" => {
            command.arg("-");
        }
        "awk" => {
            command.arg("!seen[$0]++");
        }
        _ => {}
    }
    command.stdin(File::open(lines)?).stdout(File::create(&output)?).stderr(Stdio::null());
    let status = command.status()?;
    ensure!(status.success(), "{tool} ended: {status}");
    let written = BufReader::new(File::open(&output)?).split(b'\n').count() as u64;
    let expected = workload.first_seen();
    ensure!(written == expected, "{tool} wrote {written} lines, and {expected} would be right");
    if store.exists() {
        std::fs::remove_dir_all(&store)?;
    }
    let text = std::fs::read_to_string(&times)?;
    let mut numbers = text.split_whitespace().map(str::parse::<f64>);
    let mut next = || numbers.next().context("two numbers")?.context("a number");
    let (seconds, kib) = (next()?, next()?);
    let peak_bytes = (kib as u64) << 10;
    Ok(Tool { name: tool.to_owned(), lines: workload.claims, seconds, peak_bytes })
}
