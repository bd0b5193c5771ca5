//! Lines and ids of any length.

use super::Shell;

fn lines(last: &str) -> String {
    format!("{}{last}\n", "x".repeat(5_000))
}

#[test]
fn a_long_line_is_an_id_like_any_other() {
    let shell = Shell::new();
    let input = lines("1") + &lines("2") + &lines("1") + "short\n";
    let ended = shell.run(["dedup", "--store", "seen"], input.as_bytes());
    assert_eq!((ended.code, ended.out()), (0, (lines("1") + &lines("2") + "short\n").as_str()));
    let again = shell.run(["dedup", "--store", "seen"], input.as_bytes());
    assert_eq!((again.code, again.out()), (0, ""));
    let id = lines("2");
    let id = id.trim_end();
    assert_eq!(shell.run(["get", id, "--store", "seen"], b"").code, 0);
    assert_eq!(shell.run(["forget", id, "--store", "seen"], b"").code, 0);
    assert_eq!(shell.run(["get", id, "--store", "seen"], b"").code, 1);
}

#[test]
fn ids_longer_than_was_asked_are_bad_input() {
    let shell = Shell::new();
    let input = "a\n".to_owned() + &lines("1") + "b\n";
    let ended = shell.run(["dedup", "--store", "seen", "--max-id", "1K"], input.as_bytes());
    ended.complains(3, &[":2:", "5001 bytes", "--max-id"]);
    assert_eq!(ended.out(), "a\n");
}

#[test]
fn a_long_id_goes_from_store_to_store_by_its_hash() {
    let shell = Shell::new();
    let input = lines("1") + "short\n";
    assert_eq!(shell.run(["dedup", "--store", "a"], input.as_bytes()).code, 0);
    let exported = shell.run(["export", "--store", "a"], b"");
    assert!(exported.out().contains("\"id_blake3\":\""), "{exported:?}");
    assert_eq!(shell.run(["import", "--store", "b"], &exported.out).code, 0);
    assert_eq!(shell.run(["dedup", "--store", "b"], input.as_bytes()).out(), "");
}
