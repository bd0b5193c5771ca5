//! What the documents of the design say must be there: sections that are cited, names in files, and tests.

use super::{assert_none, files, looks_like_a_file, own_tests, root, rust_files, words};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;

/// The documents whose sections have numbers that the rest of the repository cites.
const NUMBERED: [&str; 3] = ["docs/DESIGN.md", "docs/FORMATS.md", "docs/CRASH_POINTS.md"];

/// The text on one line, without the marks of comments.
fn flat(text: &str) -> String {
    let marks = ["//!", "///", "//", "#"];
    let lines = text.lines().map(|line| {
        let line = line.trim();
        marks.iter().find_map(|mark| line.strip_prefix(mark)).unwrap_or(line).trim()
    });
    lines.collect::<Vec<_>>().join(" ")
}

/// Numbers of the sections: `## 3. Bytes on disk`.
fn sections(document: &str) -> BTreeSet<&str> {
    let titles = document.lines().filter_map(|line| line.strip_prefix("## "));
    titles.filter_map(|title| title.split_once(". ").map(|(number, _)| number)).collect()
}

/// The name of the document that the text before a citation ends with: `docs/X.md,` or `[X.md],`.
fn cited(before: &str) -> Option<&str> {
    let before = before.trim_end().trim_end_matches(',').trim_end_matches([']', '`']);
    let path = before.rsplit(|c: char| !(c.is_alphanumeric() || "._/-".contains(c))).next()?;
    path.rsplit('/').next().filter(|name| name.strip_suffix(".md").is_some())
}

/// Citations of sections that are not there. A number without a document before it is one of the document itself.
fn complain_about_citations(
    path: &str,
    text: &str,
    documents: &BTreeMap<String, String>,
) -> Vec<String> {
    let flat = flat(text);
    let text_of = |name: &str| {
        let found = documents.get(&format!("docs/{name}")).or_else(|| documents.get(name));
        found.map_or("", String::as_str)
    };
    let mut complaints = Vec::new();
    for (at, _) in flat.match_indices("section") {
        let rest = flat[at..].trim_start_matches("section").trim_start_matches('s');
        let own = || path.strip_prefix("docs/").filter(|_| NUMBERED.contains(&path));
        let Some(document) = cited(&flat[..at]).or_else(own) else { continue };
        let mut next = words(rest);
        let numbers = match [next.next(), next.next(), next.next()] {
            [first, Some("and"), second] => [first, second],
            [first, ..] => [first, None],
        };
        let there = sections(text_of(document));
        let numbers = numbers.into_iter().flatten().filter(|word| word.parse::<u32>().is_ok());
        let missing = numbers.filter(|number| !there.contains(number));
        complaints.extend(missing.map(|n| format!("{path}: {document} has no section {n}")));
    }
    for (at, found) in flat.match_indices(".md, \"") {
        let title = flat[at + found.len()..].split('"').next().unwrap_or_default();
        let document = cited(&flat[..at + ".md".len()]).unwrap_or_default();
        let is_heading = |line: &str| line.starts_with('#') && line.ends_with(&format!(" {title}"));
        if !text_of(document).lines().any(is_heading) {
            complaints.push(format!("{path}: {document} has no section {title:?}"));
        }
    }
    complaints
}

/// Names that a document places in a file (`name` in `file`) where they are not, and tests that are not there.
fn complain_about_places(
    path: &str,
    text: &str,
    tests: &BTreeSet<String>,
    text_of: impl Fn(&str) -> Option<String>,
) -> Vec<String> {
    let flat = flat(text);
    let parts: Vec<&str> = flat.split('`').collect();
    let mut complaints = Vec::new();
    for three in parts.windows(3).skip(1).step_by(2) {
        let [name, between, file] = three else { continue };
        let last = name.rsplit("::").next().and_then(|last| words(last).next());
        if *between == " in " && looks_like_a_file(file) && !looks_like_a_file(name) {
            let text = text_of(file).unwrap_or_default();
            if !words(&text).any(|word| Some(word) == last) {
                complaints.push(format!("{path}: there is no {name} in {file}"));
            }
        }
    }
    let is_test = |name: &&str| {
        let number = name.trim_start_matches("loom_").strip_prefix('i');
        let number = number.and_then(|rest| rest.split_once('_')).map(|(number, _)| number);
        !name.ends_with('_') && number.is_some_and(|number| number.parse::<u32>().is_ok())
    };
    let missing = parts.iter().skip(1).step_by(2).copied().filter(is_test);
    let missing = missing.filter(|name| !tests.contains(*name));
    complaints.extend(missing.map(|name| format!("{path}: there is no test {name}")));
    complaints
}

/// The table of tests among the crash points: each section is in it, and each test is there.
fn complain_about_crash_points(text: &str, tests: &BTreeSet<String>) -> Vec<String> {
    let table = text.split("| sections | tests |").nth(1).unwrap_or_default();
    let rows: Vec<&str> = table.lines().skip(2).take_while(|row| row.starts_with('|')).collect();
    let covered: BTreeSet<&str> =
        rows.iter().flat_map(|row| words(row.split('|').nth(1).unwrap_or_default())).collect();
    let bare = sections(text).into_iter().filter(|number| !covered.contains(number));
    let mut complaints: Vec<String> =
        bare.map(|number| format!("no test stops at each step of section {number}")).collect();
    let named = rows.iter().flat_map(|row| super::quoted(row));
    let missing = named.filter(|name| !tests.contains(*name));
    complaints.extend(missing.map(|name| format!("there is no test {name}")));
    complaints
}

const DEPENDS: &str = "//! A project of its own depends on";

/// Complains about packages that an example uses and its head, for who copies it, does not name.
fn complain_about_dependencies(path: &str, text: &str) -> Vec<String> {
    let roots = text.lines().filter_map(|line| {
        let rest = line.strip_prefix("use ")?;
        Some(rest.split(|c: char| !(c.is_alphanumeric() || c == '_')).next().unwrap_or_default())
    });
    let inside =
        ["tokio", "serde_json"].into_iter().filter(|name| text.contains(&format!("{name}::")));
    let all: BTreeSet<&str> = roots.chain(inside).filter(|name| *name != "std").collect();
    let missing = all.into_iter().filter(|name| {
        let names = |line: &str| line.starts_with(&format!("//! {} = ", name.replace('_', "-")));
        // Some packages have the underline in their name.
        !text.lines().any(|line| names(line) || line.starts_with(&format!("//! {name} = ")))
    });
    missing.map(|name| format!("{path}: its head does not name {name}")).collect()
}

#[test]
fn an_example_to_copy_names_what_it_depends_on() {
    let mut all = files("crates", &["rs"]);
    all.retain(|path, text| path.contains("/examples/") && text.contains(DEPENDS));
    assert!(all.len() >= 8, "those of brokers, HTTP and shared stores: {:?}", all.keys());
    let complaints = all.iter().flat_map(|(path, text)| complain_about_dependencies(path, text));
    assert_none(&complaints.collect::<Vec<_>>());
}

fn documents() -> BTreeMap<String, String> {
    let mut all = files("docs", &["md"]);
    for name in ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "clippy.toml", "deny.toml"] {
        all.insert(name.to_owned(), fs::read_to_string(root().join(name)).expect("a text file"));
    }
    all.retain(|path, _| !path.starts_with("docs/notes"));
    all
}

fn all_tests() -> BTreeSet<String> {
    rust_files().values().flat_map(|text| own_tests(text)).collect()
}

#[test]
fn sections_that_are_cited_are_there() {
    let documents = documents();
    let mut all = rust_files();
    all.extend(documents.clone());
    all.remove("tests/tidy/documents.rs");
    let complaints =
        all.iter().flat_map(|(path, text)| complain_about_citations(path, text, &documents));
    assert_none(&complaints.collect::<Vec<_>>());
}

#[test]
fn names_and_tests_of_documents_are_where_they_say() {
    let tests = all_tests();
    let text_of = |file: &str| match root().join(file) {
        folder if folder.is_dir() => Some(files(file, &["rs"]).into_values().collect()),
        file => fs::read_to_string(file).ok(),
    };
    let all = documents();
    let complaints =
        all.iter().flat_map(|(path, text)| complain_about_places(path, text, &tests, text_of));
    assert_none(&complaints.collect::<Vec<_>>());
}

#[test]
fn every_crash_point_has_a_test() {
    let text = fs::read_to_string(root().join("docs/CRASH_POINTS.md")).expect("the crash points");
    assert_none(&complain_about_crash_points(&text, &all_tests()));
}

/// A check that has never failed proves nothing.
#[test]
fn each_rule_of_documents_can_fail() {
    let design = "# X\n\n## 1. Idea\n\n## 2. The path\n".to_owned();
    let documents = BTreeMap::from([("docs/DESIGN.md".to_owned(), design)]);
    let cites = |path, text| complain_about_citations(path, text, &documents).len();
    assert_eq!(cites("src/id.rs", "// docs/DESIGN.md, section 2, says why"), 0);
    assert_eq!(cites("src/id.rs", "// docs/DESIGN.md, section 3, says why"), 1);
    assert_eq!(cites("src/id.rs", "//! as docs/DESIGN.md,\n//! section 3, says"), 1);
    assert_eq!(cites("docs/X.md", "([DESIGN.md], section 3)."), 1);
    assert_eq!(cites("docs/X.md", "[DESIGN.md], sections 2 and 3: which"), 1);
    assert_eq!(cites("docs/X.md", "docs/GONE.md, section 1"), 1);
    assert_eq!(cites("docs/X.md", "the rules of section 3"), 0);
    assert_eq!(cites("docs/DESIGN.md", "is joined (section 2)"), 0);
    assert_eq!(cites("docs/DESIGN.md", "is joined (section 3)"), 1);
    assert_eq!(cites("docs/DESIGN.md", "a section of the manifest"), 0);
    assert_eq!(cites("src/id.rs", "// (docs/DESIGN.md, \"Idea\")"), 0);
    assert_eq!(cites("src/id.rs", "// (docs/DESIGN.md, \"Arrows\")"), 1);

    let depends = |text| complain_about_dependencies("crates/a/examples/b.rs", text).len();
    assert_eq!(depends("//! a-b = \"1\"\nuse a_b::C;\nuse std::fs;"), 0);
    assert_eq!(depends("//! a-b = \"1\"\nuse a_b::C;\nuse a_c::D;\n tokio::spawn"), 2);

    let tests = BTreeSet::from(["i1_one".to_owned(), "others".to_owned()]);
    let text = |file: &str| (file == "src/a.rs").then(|| "fn f() {}".to_owned());
    let places = |document| complain_about_places("docs/X.md", document, &tests, text).len();
    assert_eq!(places("(`f` in `src/a.rs`) and `A::f` in\n`src/a.rs`, by `i1_one`"), 0);
    assert_eq!(places("(`g` in `src/a.rs`)"), 1);
    assert_eq!(places("(`f` in `src/b.rs`)"), 1);
    assert_eq!(places("`i1_gone` and `loom_i1_gone`, but not `id_one` or the prefix `i1_`"), 2);

    let points = |table: &str| {
        let text = format!("| sections | tests |\n|---|---|\n{table}\n## 1. A\n\n## 2. B\n");
        complain_about_crash_points(&text, &tests).len()
    };
    assert_eq!(points("| 1, 2 | `i1_one`, `others` |\n"), 0);
    assert_eq!(points("| 1 | `i1_one` |\n"), 1);
    assert_eq!(points("| 1, 2 | `gone` |\n"), 1);
    assert_eq!(points(""), 2);
}
