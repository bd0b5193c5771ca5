//! `firstseen bench` counts correctly, prints a report and leaves nothing behind.

use super::Shell;

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
