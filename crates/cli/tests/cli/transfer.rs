//! `export` and `import`: everything survives the round trip.

use std::collections::BTreeSet;

use super::{Shell, many_lines};

fn export(shell: &Shell, store: &str) -> BTreeSet<String> {
    let ended = shell.run(["export", "--store", store], "");
    assert_eq!(ended.code, 0, "{}", ended.err);
    let lines: BTreeSet<_> = ended.out().lines().map(str::to_owned).collect();
    assert_eq!(lines.len(), ended.out().lines().count(), "a claim was printed twice");
    lines
}

#[test]
fn a_store_survives_the_round_trip() {
    let shell = Shell::new();
    shell.dedup(&[], b"plain\n\xff\xfe\n\"quoted\"\n\0\n\xc3\xa9\n\xed\xa0\x80\n");
    shell.prints(&["--ttl", "1h", "--namespace", "n\u{e9}"], "plain\nother\n");
    let lines = export(&shell, "S");
    assert_eq!(lines.len(), 8);
    assert!(lines.iter().any(|line| line.contains("\"id_hex\":\"fffe\"")));

    let text = lines.iter().flat_map(|line| [line.as_str(), "\n"]).collect::<String>();
    let ended = shell.run(["import", "--store", "T", "--json"], &text);
    assert_eq!(ended.code, 0, "{ended:?}");
    assert_eq!(ended.summary()["lines"], 8);
    assert_eq!(ended.summary()["added"], 8);
    assert_eq!(export(&shell, "T"), lines);

    let ended = shell.run(["import", "--store", "T", "--json"], &text);
    assert_eq!(ended.summary()["added"], 0);
    assert_eq!(ended.summary()["skipped"], 8);
    assert_eq!(export(&shell, "T"), lines);
}

#[test]
fn many_claims_survive_the_round_trip() {
    let shell = Shell::new();
    shell.write("input", many_lines(30_000, 3));
    shell.prints(&["input"], "");
    let ended = shell.run(["export", "--store", "S"], "");
    shell.write("claims", &ended.out);
    let ended = shell.run(["import", "--store", "T", "claims"], "");
    assert_eq!(ended.code, 0, "{ended:?}");
    assert_eq!(export(&shell, "S"), export(&shell, "T"));
    let ended = shell.run(["dedup", "--store", "T", "input"], "");
    assert!(ended.code == 0 && ended.out.is_empty());
}

#[test]
fn one_namespace_may_be_exported_and_put_into_another() {
    let shell = Shell::new();
    shell.prints(&["--namespace", "one"], "a\n");
    shell.prints(&["--namespace", "two"], "b\n");
    let ended = shell.run(["export", "--store", "S", "--namespace", "two"], "");
    assert_eq!(ended.out().lines().count(), 1);
    let into = shell.run(["import", "--store", "S", "--namespace", "three", "-"], ended.out());
    assert_eq!(into.code, 0, "{into:?}");
    assert_eq!(shell.prints(&["--namespace", "three"], "a\nb\n"), "a\n");
}

#[test]
fn a_line_without_namespace_belongs_to_the_default_one() {
    let shell = Shell::new();
    let ended =
        shell.run(["import", "--store", "S"], "{\"id\":\"a\",\"first_seen\":1700000000000}");
    assert_eq!(ended.code, 0, "{ended:?}");
    assert_eq!(shell.prints(&[], "a\nb\n"), "b\n");
}

#[test]
fn a_wrong_line_is_named_and_the_lines_before_it_are_there() {
    let good = "{\"id\":\"a\",\"first_seen\":1700000000000,\"deadline\":null}";
    for bad in [
        "",
        "{}",
        "{\"id\":\"b\"}",
        "{\"id\":\"b\",\"first_seen\":-1}",
        "{\"id\":\"\",\"first_seen\":1}",
        "{\"id\":\"b\",\"id_hex\":\"62\",\"first_seen\":1}",
        "{\"id_hex\":\"6\",\"first_seen\":1}",
        "{\"id\":\"b\",\"first_seen\":1,\"dedline\":2}",
        "{\"id_blake3\":\"6262\",\"first_seen\":1}",
    ] {
        let shell = Shell::new();
        shell.write("claims", format!("{good}\n{bad}\n{good}\n"));
        let ended = shell.run(["import", "--store", "S", "claims"], "");
        ended.complains(3, &["claims:2: "]);
        assert_eq!(shell.run(["get", "a", "--store", "S"], "").code, 0);
        assert_eq!(shell.run(["get", "b", "--store", "S"], "").code, 1);
    }
}

#[test]
fn a_missing_file_creates_no_store() {
    let shell = Shell::new();
    shell.run(["import", "--store", "S", "nothing"], "").complains(2, &["nothing"]);
    assert!(!shell.path("S").exists());
}
