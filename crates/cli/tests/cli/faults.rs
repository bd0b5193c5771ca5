//! Stores that cannot be used: error messages and exit codes.

use std::io::Write as _;

use super::pipes::start;
use super::{SOON, Shell, ends};

#[test]
fn a_store_that_another_process_has_open_says_so() {
    let shell = Shell::new();
    let (mut child, answers) = start(&shell, &[], b'\n');
    let mut input = child.stdin.take().expect("its standard input");
    input.write_all(b"a\n").expect("write a line");
    assert_eq!(answers.recv_timeout(SOON).expect("an answer"), b"a\n");

    for args in [&["get", "a", "--store", "S"][..], &["dedup", "--store", "S"]] {
        let ended = shell.run(args, "b\n");
        ended.complains(3, &["open in another process"]);
        assert!(ended.out.is_empty());
    }
    drop(input);
    assert_eq!(ends(child), 0);
    assert_eq!(shell.run(["get", "a", "--store", "S"], "").code, 0);
}

#[test]
fn a_folder_that_is_not_a_store_is_left_alone() {
    let shell = Shell::new();
    std::fs::create_dir(shell.path("S")).expect("create a folder");
    shell.write("S/letter.txt", "dear");
    for args in [
        &["dedup", "--store", "S"][..],
        &["get", "a", "--store", "S"],
        &["verify", "--store", "S"],
        &["repair", "--store", "S"],
        &["import", "--store", "S"],
    ] {
        shell.run(args, "").complains(2, &["S is not a firstseen store"]);
    }
    let names =
        || std::fs::read_dir(shell.path("S")).unwrap().map(|entry| entry.unwrap().file_name());
    assert_eq!(names().collect::<Vec<_>>(), ["letter.txt"]);
}

#[test]
fn an_empty_folder_becomes_a_store() {
    let shell = Shell::new();
    std::fs::create_dir(shell.path("S")).expect("create a folder");
    assert_eq!(shell.prints(&[], "a\na\n"), "a\n");
}

#[test]
fn a_file_in_the_way_is_named() {
    let shell = Shell::new();
    shell.write("file", "x");
    for store in ["file", "file/S"] {
        let ended = shell.run(["dedup", "--store", store], "a\n");
        assert!(ended.code == 2 || ended.code == 3, "{ended:?}");
        ended.complains(ended.code, &["file"]);
        assert!(ended.out.is_empty());
    }
    assert_eq!(shell.read("file"), b"x");
}

#[test]
fn a_duplicates_file_that_cannot_be_opened_is_a_wrong_call() {
    let shell = Shell::new();
    let ended = shell.dedup(&["--duplicates-to", "no/such/folder"], "a\n");
    ended.complains(2, &["no/such/folder"]);
    assert_eq!(shell.prints(&[], "a\n"), "a\n", "nothing was claimed");
}
