//! `firstseen bench` counts correctly, prints a report and leaves nothing behind.

use super::Shell;
use serde_json::Value;

/// Runs `bench` in an empty folder with these words, and returns its object.
#[track_caller]
fn measured(shell: &Shell, words: &str) -> Value {
    let args = ["bench", "--dir", ".", "--json"].into_iter().chain(words.split(' '));
    let ended = shell.run(args, "");
    assert_eq!(ended.code, 0, "{}", ended.err);
    serde_json::from_str(ended.out()).expect("JSON")
}

#[test]
fn bench_counts_the_ids_of_a_file_right_and_removes_its_store() {
    let shell = Shell::new();
    let lines: Vec<String> = (0..30).map(|n| format!("event-{}", n % 20)).collect();
    shell.write("ids", lines.join("\n"));
    let ended = shell.run(["bench", "--dir", ".", "--ids", "ids", "--seconds", "20", "--json"], "");
    assert_eq!(ended.code, 0, "{}", ended.err);
    let report: serde_json::Value = serde_json::from_str(ended.out()).expect("JSON");
    for row in report["rows"].as_array().expect("rows").iter().chain([&report["limit"]]) {
        assert_eq!((&row["claims"], &row["first_seen"]), (&30.into(), &20.into()), "{row}");
    }
    let left: Vec<_> = std::fs::read_dir(shell.path(".")).unwrap().flatten().collect();
    assert_eq!(left.len(), 1, "the ids and nothing else: {left:?}");
}

#[test]
fn bench_prints_a_table_for_people() {
    let shell = Shell::new();
    let ended = shell.run(["bench", "--dir", ".", "--seconds", "1", "--id-bytes", "36"], "");
    assert_eq!(ended.code, 0, "{}", ended.err);
    for part in ["random ids of 36 bytes", "claims/s", "claim on disk, 64 threads", "opened in"] {
        assert!(ended.out().contains(part), "{part} is missing:\n{}", ended.out());
    }
}

#[test]
fn bench_by_threads_counts_every_claim_in_each_mode() {
    let shell = Shell::new();
    let report = measured(&shell, "--threads 1,7 --rounds 2 --claims 3000 --duplicates 50");
    let rows = report["rows"].as_array().expect("rows");
    let own =
        |row: &Value| (row["what"].as_str().unwrap().to_owned(), row["threads"].as_u64().unwrap());
    let modes = [
        ("claim", 3_000),
        ("claim_batch of 1,000", 3_000),
        ("claim, on disk", 60), // a fiftieth
        ("claim_batch of 1,000, on disk", 3_000),
    ];
    let asked =
        modes.iter().flat_map(|(what, _)| [1, 7].map(|threads| ((*what).to_owned(), threads)));
    assert_eq!(rows.iter().map(own).collect::<Vec<_>>(), asked.collect::<Vec<_>>());
    for row in rows {
        let (what, threads) = own(row);
        let claims = modes.iter().find(|mode| mode.0 == what).unwrap().1;
        let [all, first, duplicates] =
            ["claims", "first_seen", "duplicates"].map(|name| row[name].as_u64().unwrap());
        // In two rounds, and as many from each thread: with 7 that leaves some out.
        assert_eq!(all, 2 * (claims / threads * threads), "{row}");
        assert_eq!(first + duplicates, all, "{row}");
        assert!((all / 4..all * 3 / 4).contains(&duplicates), "half were seen before: {row}");
        assert!(row["processor_ns"].as_f64().unwrap() > 0.0, "{row}");
        assert!(row["times_first"].as_f64().unwrap() > 0.0, "{row}");
        assert_eq!(row["threads"] == 1, row["times_first"] == 1.0, "{row}");
    }
    assert_eq!(std::fs::read_dir(shell.path(".")).unwrap().count(), 0, "nothing is left");
}

#[test]
fn bench_by_threads_claims_each_line_of_a_file_once_a_run() {
    let shell = Shell::new();
    // Every id comes twice in a row, so that two threads race for it.
    let lines: Vec<String> = (0..600).map(|n| format!("event-{}", n / 2)).collect();
    shell.write("ids", lines.join("\n"));
    let report = measured(&shell, "--ids ids --threads 2,4 --rounds 1 --seconds 600");
    for row in report["rows"].as_array().expect("rows") {
        assert_eq!((&row["claims"], &row["first_seen"]), (&600.into(), &300.into()), "{row}");
    }
}

#[test]
fn bench_by_threads_prints_a_table_with_the_threads_that_were_asked_for() {
    let shell = Shell::new();
    let args = "bench --dir . --threads 5,2 --rounds 1 --claims 50";
    let ended = shell.run(args.split(' '), "");
    assert_eq!(ended.code, 0, "{}", ended.err);
    let head = ended.out().lines().find(|line| line.contains("claims/s")).expect("a head");
    for part in ["threads", "× 5 threads", "processor", "half in", "worst"] {
        assert!(head.contains(part), "{part} is missing: {head}");
    }
    let threads: Vec<&str> = (ended.out().lines())
        .filter_map(|line| {
            line.strip_prefix("claim")?.split("  ").find(|cell| cell.trim().parse::<u64>().is_ok())
        })
        .collect();
    assert_eq!(threads.iter().map(|cell| cell.trim()).collect::<Vec<_>>(), ["5", "2"].repeat(4));
}

#[test]
fn bench_refuses_numbers_of_threads_that_mean_nothing() {
    let shell = Shell::new();
    for (words, parts) in [
        ("--threads 0", &["--threads", "from 1 to 1024", "1,2,4,8"][..]),
        ("--threads 1,two", &["--threads", "1,two", "1,2,4,8"]),
        ("--threads 2,1,2", &["--threads", "2 is there twice"]),
        ("--threads 1025", &["--threads", "from 1 to 1024"]),
        ("--threads 1 --rounds 0", &["--rounds"]),
        ("--threads 1 --claims 0", &["--claims"]),
        ("--threads 1 --claims 9 --seconds 9", &["--claims", "--seconds", "cannot be used with"]),
        ("--rounds 2", &["--threads"]),
        ("--claims 9", &["--threads"]),
        ("--threads 1,8 --claims 7", &["--claims 7", "8 threads"]),
        (
            "--threads 1,2 --rounds 9 --seconds 3",
            &["--seconds 3", "72 runs", "2 numbers", "9 rounds", "4 at least"],
        ),
    ] {
        let ended = shell.run(["bench", "--dir", "."].into_iter().chain(words.split(' ')), "");
        assert_eq!(ended.code, 2, "{words}: {ended:?}");
        for part in parts {
            assert!(ended.err.contains(part), "{words}: no {part:?} in {}", ended.err);
        }
    }
    assert_eq!(std::fs::read_dir(shell.path(".")).unwrap().count(), 0, "a refusal makes nothing");
}
