//! `kill -9` at random moments: the combined output of all runs has every distinct line.

use std::collections::HashSet;
use std::process::Stdio;
use std::time::Duration;

use firstseen::{Clock as _, SystemClock};

use super::{Random, Shell, append_to, ends, many_lines, pause};

/// Runs over the same input until one run completes, killing the others; returns the number of kills.
fn run_and_kill(shell: &Shell, level: &str, kills: u32, random: &mut Random) -> u32 {
    let args = ["dedup", "--store", "S", "input", "--durability", level];
    let spawn = |out: &str| {
        shell
            .command(args)
            .stdin(Stdio::null())
            .stdout(append_to(&shell.path(out)))
            .stderr(Stdio::null())
            .spawn()
            .expect("run the binary")
    };
    // The length of a whole run is the range for the moment of the kill.
    let started = SystemClock.elapsed_ms();
    let whole = shell.run(["dedup", "--store", "other", "input", "--durability", level], "");
    assert_eq!(whole.code, 0, "{}", whole.err);
    let whole_ms = SystemClock.elapsed_ms() - started;

    let mut killed = 0;
    for _ in 0..kills {
        let mut child = spawn("output");
        pause(Duration::from_micros(random.below(whole_ms * 1000 + 1)));
        child.kill().expect("kill the child");
        killed += u32::from(!child.wait().expect("wait for the child").success());
    }
    assert_eq!(ends(spawn("output")), 0);
    killed
}

#[test]
fn no_line_is_lost_to_a_kill() {
    for (level, seed) in [("process", 11), ("buffered", 12), ("disk", 13)] {
        let shell = Shell::new();
        let input = many_lines(150_000, seed);
        shell.write("input", &input);
        let killed = run_and_kill(&shell, level, 20, &mut Random(seed));
        let distinct: HashSet<_> = input.split(|byte| *byte == b'\n').collect();
        let output = shell.read("output");
        let printed: HashSet<_> = output.split(|byte| *byte == b'\n').collect();
        let lost = distinct.iter().filter(|line| !printed.contains(*line)).count();
        assert_eq!(lost, 0, "{level}: {lost} of {} lines lost in {killed} kills", distinct.len());

        // Anything else is the beginning of a line, torn by a kill: at most one per kill.
        let torn: Vec<_> = printed.iter().filter(|line| !distinct.contains(*line)).collect();
        assert!(torn.len() <= killed as usize, "{level}: {torn:?}");
        assert!(torn.iter().all(|line| line.starts_with(b"e") && line.len() < 31), "{torn:?}");

        // At most the lines in flight at a kill are printed twice, unless the level allows more.
        let lines = output.split_inclusive(|byte| *byte == b'\n').count();
        let twice = lines - distinct.len().min(lines);
        if level != "buffered" {
            assert!(twice <= killed as usize * 8200, "{level}: {twice} in {killed} kills");
        }
    }
}

#[test]
fn no_record_from_a_pipe_is_lost_to_a_kill_in_the_middle_of_a_write() {
    // Lines of many kilobytes, so that kills often hit a write.
    let shell = Shell::new();
    let mut random = Random(14);
    let wide: Vec<String> = (0..3_000u32)
        .map(|at| format!("{at}\t{}", "x".repeat(random.below(9_000) as usize)))
        .collect();
    shell.write("input", wide.join("\n") + "\n");
    let spawn = || {
        shell
            .command(["dedup", "--store", "S", "--field", "1", "input"])
            .stdin(Stdio::null())
            .stdout(append_to(&shell.path("output")))
            .stderr(Stdio::null())
            .spawn()
            .expect("run the binary")
    };
    for _ in 0..15 {
        let mut child = spawn();
        pause(Duration::from_micros(random.below(60_000)));
        child.kill().expect("kill the child");
        child.wait().expect("wait for the child");
    }
    assert_eq!(ends(spawn()), 0);
    let output = shell.read("output");
    let printed: HashSet<_> = output.split(|byte| *byte == b'\n').collect();
    let lost = wide.iter().filter(|line| !printed.contains(line.as_bytes())).count();
    assert_eq!(lost, 0, "lines lost");
}
