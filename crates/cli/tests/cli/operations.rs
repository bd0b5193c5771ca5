//! The commands of docs/OPERATIONS.md.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

fn page() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/OPERATIONS.md");
    std::fs::read_to_string(path).unwrap()
}

/// The shell commands of a section.
fn commands(section: &str) -> String {
    let page = page();
    let from = page.find(&format!("\n## {section}\n")).expect("the section");
    let section = page[from..].split("\n## ").nth(1).unwrap();
    let blocks = section.split("```sh\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    blocks.collect()
}

#[test]
fn the_commands_for_moving_in_move_every_id() {
    let dir = tempfile::tempdir().unwrap();
    let mut redis = String::new();
    let mut postgres = String::new();
    for n in 0..1_000_u64 {
        // What PEXPIRETIME returns: no expiry, already expired, no such key, the year 2100.
        let end = match n % 10 {
            0 => "-1",
            1 => "1700000000000",
            2 => "-2",
            _ => "4102444800000",
        };
        writeln!(redis, "{end} dedup:evt-{n}").unwrap();
        let line = serde_json::json!({
            "id": format!("evt-{n}"), "first_seen": 1_767_225_600_000_u64, "deadline": 4_102_444_800_000_u64
        });
        writeln!(postgres, "{line}").unwrap();
    }
    std::fs::write(dir.path().join("redis.txt"), redis).unwrap();
    std::fs::write(dir.path().join("from-postgres.ndjson"), postgres).unwrap();
    let binary = PathBuf::from(env!("CARGO_BIN_EXE_firstseen"));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let ours = std::iter::once(binary.parent().unwrap().to_owned());
    let path = std::env::join_paths(ours.chain(std::env::split_paths(&path))).unwrap();
    let ended = Command::new("sh")
        .args(["-eu", "-c", &commands("Moving in")])
        .current_dir(dir.path())
        .env("PATH", path)
        .output()
        .unwrap();
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
    let summary = String::from_utf8(ended.stdout).unwrap();
    assert!(summary.contains("\"added\":1000"), "{summary}");
    let store = firstseen::Store::open(dir.path().join("seen-redis")).unwrap();
    for n in 0..1_000_u64 {
        let seen = store.get(format!("evt-{n}")).unwrap();
        assert_eq!(seen.is_some(), n % 10 != 1 && n % 10 != 2, "evt-{n}");
        let never = seen.is_some_and(|seen| seen.deadline == firstseen::Timestamp::NEVER);
        assert_eq!(never, n % 10 == 0, "evt-{n}");
    }
    let store = firstseen::Store::open(dir.path().join("seen-postgres")).unwrap();
    assert_eq!(store.get("evt-7").unwrap().unwrap().first_seen.as_millis(), 1_767_225_600_000);
}
