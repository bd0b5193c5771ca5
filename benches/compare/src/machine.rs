//! What the system reports about memory, disk and the machine.

use serde::{Deserialize, Serialize};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;

/// Resident memory in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Memory {
    /// All resident pages.
    pub resident: u64,
    /// The part in mapped files, which the system can reclaim.
    pub of_files: u64,
}

impl Memory {
    /// Of this process.
    pub fn own() -> Self {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        Self { resident: kib(&status, "VmRSS:"), of_files: kib(&status, "RssFile:") }
    }

    /// Of a process and its children; shared pages count once.
    pub fn of_tree(process: u32) -> Self {
        let rollup = fs::read_to_string(format!("/proc/{process}/smaps_rollup"));
        let rollup = rollup.unwrap_or_default();
        let own = Self { resident: kib(&rollup, "Pss:"), of_files: kib(&rollup, "Pss_File:") };
        children(process).into_iter().map(Self::of_tree).fold(own, Self::plus)
    }

    pub fn plus(self, other: Self) -> Self {
        Self { resident: self.resident + other.resident, of_files: self.of_files + other.of_files }
    }

    pub fn minus(self, other: Self) -> Self {
        Self {
            resident: self.resident.saturating_sub(other.resident),
            of_files: self.of_files.saturating_sub(other.of_files),
        }
    }
}

/// What the threads of some processes use.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Threads {
    pub count: u64,
    /// User and system time in seconds, of ended threads and children, too.
    pub processor_s: f64,
}

impl Threads {
    /// Of this process.
    pub fn own() -> Self {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        Self {
            count: first_number(&status, "Threads:"),
            processor_s: crate::processor::time().as_secs_f64(),
        }
    }

    /// Of a process and its children, in hundredths of a second.
    pub fn of_tree(process: u32) -> Self {
        let text = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
        // After the name in parentheses: user and system time, own and of children that were waited for, are the 14th to
        // the 17th field, the number of threads is the 20th.
        let fields: Vec<u64> = (text.rsplit_once(')').map_or("", |(_, fields)| fields))
            .split_whitespace()
            .map(|field| field.parse().unwrap_or(0))
            .collect();
        let ticks: u64 = fields.iter().skip(11).take(4).sum();
        let count = fields.get(17).copied().unwrap_or(0);
        let own = Self { count, processor_s: ticks as f64 / 100.0 };
        children(process).into_iter().map(Self::of_tree).fold(own, Self::plus)
    }

    pub fn plus(self, other: Self) -> Self {
        Self { count: self.count + other.count, processor_s: self.processor_s + other.processor_s }
    }
}

fn children(process: u32) -> Vec<u32> {
    let text = fs::read_to_string(format!("/proc/{process}/task/{process}/children"));
    let text = text.unwrap_or_default();
    text.split_whitespace().filter_map(|id| id.parse().ok()).collect()
}

/// A line of `/proc` such as `VmRSS:   1234 kB`, in bytes.
fn kib(text: &str, name: &str) -> u64 {
    first_number(text, name) << 10
}

fn first_number(text: &str, name: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

/// How many threads were running or waited for a processor, on average over the last minute.
pub fn load() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().unwrap_or_default().to_owned()
}

/// Bytes that a folder occupies on disk: blocks, not lengths.
pub fn disk_bytes(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .map(|entry| match entry.metadata() {
            Ok(meta) if meta.is_dir() => disk_bytes(&entry.path()),
            Ok(meta) => meta.blocks() * 512,
            Err(_) => 0,
        })
        .sum()
}

/// Where results come from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    pub commit: String,
    pub machine: String,
    /// Claims of a run without syncs: the size of the plan.
    pub scale: u64,
}

/// The last line of a program's output: some print a heading first.
fn last_line(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    text.lines().last().map(|line| line.trim().to_owned()).filter(|line| !line.is_empty())
}

fn cpu() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let line = text.lines().find(|line| line.starts_with("model name"));
    let name = line.and_then(|line| line.split(": ").nth(1)).unwrap_or("unknown processor");
    name.to_owned()
}

/// Describes this machine to a reader, without its name. `data` is where the stores are.
pub fn describe(data: &Path) -> String {
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let gib = kib(&memory, "MemTotal:") as f64 / f64::from(1 << 30);
    let kernel = last_line("uname", &["-sr"]).unwrap_or_default();
    let folder = data.to_string_lossy();
    let file_system = last_line("df", &["--output=fstype", &folder]).unwrap_or_default();
    format!("{}, {cores} cores, {gib:.0} GiB, {kernel}, {file_system}", cpu())
}

/// The commit of the source, marked if the source has changed since.
pub fn commit(repository: &Path) -> String {
    let folder = repository.to_string_lossy();
    let git = |arguments: &[&str]| {
        let at = ["-C", &*folder];
        last_line("git", &[&at, arguments].concat())
    };
    let commit = git(&["rev-parse", "--short=10", "HEAD"]).unwrap_or_else(|| "unknown".to_owned());
    // Untracked files are not built, and the document that is written last does not affect results.
    let sources =
        ["status", "--porcelain", "--untracked-files=no", "--", "src", "benches", "Cargo.toml"];
    match git(&sources) {
        Some(_) => format!("{commit}-changed"),
        None => commit,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processor_time_is_that_of_all_threads_ended_ones_too() {
        let before = (Threads::own(), Threads::of_tree(std::process::id()));
        let busy = || {
            let began = crate::processor::time();
            while crate::processor::time().saturating_sub(began)
                < std::time::Duration::from_millis(200)
            {}
        };
        std::thread::spawn(busy).join().unwrap();
        let after = (Threads::own(), Threads::of_tree(std::process::id()));
        assert!(after.0.processor_s - before.0.processor_s >= 0.2);
        // In hundredths of a second, each of two figures rounded.
        assert!(after.1.processor_s - before.1.processor_s >= 0.17, "{before:?}, {after:?}");
        assert!(after.0.count >= 1 && after.1.count >= 1);
    }

    #[test]
    fn processor_time_of_a_tree_has_its_children() {
        use rustix::process::{Pid, Signal, kill_process};
        use std::io::BufRead;
        // A shell that waits, and a child of it that works.
        let mut shell = Command::new("sh")
            .args(["-c", "while :; do :; done & echo $!; wait"])
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        std::io::BufReader::new(shell.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let mut used = Threads::default();
        for _ in 0..500 {
            used = Threads::of_tree(shell.id());
            if used.processor_s >= 0.1 {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        kill_process(Pid::from_raw(line.trim().parse().unwrap()).unwrap(), Signal::KILL).unwrap();
        shell.wait().unwrap();
        assert!(used.processor_s >= 0.1 && used.count == 2, "{used:?}");
    }
}
