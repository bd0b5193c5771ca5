//! `snapshot` and `restore`.

use serde_json::Value;

use super::Shell;

fn run(shell: &Shell, line: &str) -> super::Ended {
    shell.run(line.split(' '), "")
}

fn object(shell: &Shell, line: &str) -> Value {
    let ended = run(shell, &format!("{line} --json"));
    assert_eq!(ended.code, 0, "{ended:?}");
    serde_json::from_str(ended.out()).unwrap()
}

#[test]
fn i15_a_store_comes_back_from_its_snapshots() {
    let shell = Shell::new();
    shell.prints(&[], "a\nb\n");
    let first = object(&shell, "snapshot --store S --to copies/seen");
    assert_eq!((&first["number"], &first["segments_sent"]), (&1.into(), &1.into()));
    shell.prints(&[], "c\n");
    let second = object(&shell, "snapshot --store S --to copies/seen");
    assert_eq!(second["number"], 2);
    let told = object(&shell, "restore --from copies/seen --store T");
    assert_eq!((&told["number"], &told["epoch"]), (&2.into(), &1.into()));
    let again = shell.run(["dedup", "--store", "T"], "a\nb\nc\nd\n");
    assert_eq!(again.out(), "d\n");
    run(&shell, "restore --from copies/seen --store U --number 1 --epoch 9");
    let again = shell.run(["dedup", "--store", "U"], "a\nb\nc\nd\n");
    assert_eq!(again.out(), "c\nd\n");
    let third = object(&shell, "snapshot --store S --to copies/seen --keep-last 1");
    assert_eq!((&third["number"], &third["removed"]), (&3.into(), &2.into()));
    let text = run(&shell, "snapshot --store S --to copies/seen");
    assert!(text.out().contains("snapshot  4 (epoch 0)"), "{text:?}");
}

#[test]
fn i15_what_cannot_be_restored_is_told_by_the_exit_code() {
    let shell = Shell::new();
    shell.prints(&[], "a\n");
    run(&shell, "snapshot --store S --to copies");
    run(&shell, "restore --from copies --store S").complains(2, &["not empty"]);
    run(&shell, "restore --from nowhere --store T").complains(2, &["nowhere: ", "no snapshot"]);
    run(&shell, "restore --from copies --store T --number 7").complains(2, &["no snapshot 7"]);
    run(&shell, "restore --from copies --store T --epoch 0").complains(2, &["epoch"]);
    run(&shell, "snapshot --store nowhere --to copies").complains(2, &["nowhere"]);
    assert_eq!(run(&shell, "snapshot --store S --to copies --keep-last 0").code, 2);
    let part = std::fs::read_dir(shell.path("copies/segments")).unwrap().next().unwrap();
    let part = part.unwrap().path();
    let mut bytes = std::fs::read(&part).unwrap();
    bytes[4_100] ^= 1;
    std::fs::write(&part, bytes).unwrap();
    run(&shell, "restore --from copies --store T").complains(3, &["restore another snapshot"]);
    // Half a store is no store.
    shell.run(["dedup", "--store", "T"], "a\n").complains(2, &["restore"]);
    run(&shell, "repair --store T").complains(2, &["restore"]);
}
