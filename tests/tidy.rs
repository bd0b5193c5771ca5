//! Rules that no lint covers: import arrows, where sled and `unsafe` may be used, file length, leftovers, documents
//! that name missing things, Rust versions, and the package.
//!
//! Each rule is a function from text to complaints, so that a test can make it fail.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

#[path = "tidy/documents.rs"]
mod documents;
#[path = "tidy/rooms.rs"]
mod rooms;

const LINES_MAX: usize = 800;

/// Number of guarantees.
const INVARIANTS: u32 = 15;

const BASICS: [&str; 5] = ["error", "health", "limits", "metrics", "sync"];

/// What a module may import besides the basics, bottom up. The same table is in docs/DESIGN.md, "Arrows".
const ARROWS: [(&str, &[&str]); 23] = [
    ("disk", &[]),
    ("id", &[]),
    ("time", &[]),
    ("codec", &[]),
    ("expiry", &["time"]),
    ("blocks", &["disk"]),
    ("filter", &["codec", "id"]),
    ("snapshot", &["codec", "disk"]),
    ("wal", &["codec", "disk", "expiry", "id", "time"]),
    ("memtable", &["expiry", "id", "wal", "time"]),
    ("run", &["blocks", "codec", "disk", "expiry", "id", "wal", "memtable", "time"]),
    ("shard", &["blocks", "expiry", "filter", "id", "wal", "memtable", "run", "time"]),
    (
        "engine",
        &[
            "blocks", "codec", "disk", "expiry", "filter", "id", "wal", "memtable", "run", "shard",
            "snapshot", "time",
        ],
    ),
    ("store", &["blocks", "disk", "engine", "snapshot", "time"]),
    ("ledger", &["codec", "engine", "id", "store", "time"]),
    ("offsets", &["codec", "engine", "id", "store", "time"]),
    ("outbox", &["codec", "engine", "id", "ledger", "store", "time"]),
    ("table", &["codec", "engine", "id", "store", "time"]),
    ("event_time", &["codec", "engine", "id", "store", "time"]),
    (
        "transaction",
        &["engine", "event_time", "id", "ledger", "offsets", "outbox", "store", "table", "time"],
    ),
    (
        "replay",
        &["engine", "event_time", "id", "ledger", "offsets", "outbox", "store", "table", "time"],
    ),
    ("testing", &["engine", "id", "store", "time"]),
    // Entry points of the fuzz targets, behind a feature; nothing imports it.
    ("fuzzing", &["codec", "disk", "engine", "filter", "id", "wal", "run", "store", "testing"]),
];

/// What the basics may import.
const BASIC_ARROWS: [(&str, &[&str]); 5] = [
    ("error", &[]),
    ("limits", &[]),
    ("sync", &[]),
    ("health", &["error", "sync"]),
    ("metrics", &["error", "sync"]),
];

fn allowed(module: &str) -> Option<BTreeSet<&'static str>> {
    // The crate root is in no table: it may import everything.
    let of = |table: &'static [(&str, &[&'static str])]| {
        table.iter().find(|(name, _)| *name == module).map(|(_, own)| own.iter().copied())
    };
    match of(&BASIC_ARROWS) {
        Some(own) => Some(own.collect()),
        None => Some(of(&ARROWS)?.chain(BASICS).collect()),
    }
}

/// The module that a name re-exported at the crate root comes from.
fn home(name: &str) -> &str {
    match name {
        "Error" | "ErrorKind" | "Result" => "error",
        "Store" | "Builder" => "store",
        "Clock" | "ManualClock" | "SystemClock" | "Timestamp" | "Ttl" => "time",
        other => other,
    }
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Files with one of these extensions under a folder, by path from the repository root.
fn files(folder: &str, endings: &[&str]) -> BTreeMap<String, String> {
    fn walk(at: &Path, endings: &[&str], found: &mut BTreeMap<String, String>) {
        let entries = fs::read_dir(at).into_iter().flatten().flatten();
        for path in entries.map(|entry| entry.path()) {
            if path.is_dir() {
                // Build output need not be tidy.
                if path.file_name().is_none_or(|name| name != "target") {
                    walk(&path, endings, found);
                }
            } else if endings.iter().any(|e| path.extension().is_some_and(|own| own == *e)) {
                let name = path.strip_prefix(root()).expect("under the root");
                let text = fs::read_to_string(&path).expect("a text file");
                found.insert(name.to_string_lossy().into_owned(), text);
            }
        }
    }
    let mut found = BTreeMap::new();
    walk(&root().join(folder), endings, &mut found);
    assert!(!found.is_empty(), "there are files in {folder}");
    found
}

/// All Rust files but the fuzz targets and this file, which has to name what it bans.
fn rust_files() -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    for folder in ["src", "crates", "tests", "benches", "examples"] {
        all.extend(files(folder, &["rs"]));
    }
    all.remove("tests/tidy.rs");
    all
}

/// Lines that are not comments.
fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let numbered = text.lines().enumerate().map(|(n, line)| (n + 1, line));
    numbered.filter(|(_, line)| !line.trim_start().starts_with("//"))
}

/// The top-level module that a file in `src` belongs to.
fn module_of(path: &str) -> &str {
    let inside = path.trim_start_matches("src/");
    inside.split('/').next().expect("never empty").trim_end_matches(".rs")
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !(c.is_alphanumeric() || c == '_')).filter(|word| !word.is_empty())
}

fn is_call(line: &str, name: &str) -> bool {
    line.match_indices(name).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        !before.is_some_and(|c| c.is_alphanumeric() || c == '_')
    })
}

/// The names right after `crate::`: one, or those of a list in braces.
fn first_names(rest: &str) -> Vec<&str> {
    let Some(list) = rest.trim_start().strip_prefix('{') else {
        // A glob is no name and never allowed.
        return vec![words(rest).next().filter(|_| !rest.starts_with('*')).unwrap_or("*")];
    };
    let (mut depth, mut start, mut names) = (0, 0, Vec::new());
    for (at, c) in list.char_indices() {
        match c {
            '{' => depth += 1,
            ',' | '}' if depth == 0 => {
                names.extend(words(&list[start..at]).next());
                start = at + 1;
                if c == '}' {
                    break;
                }
            }
            '}' => depth -= 1,
            _ => {}
        }
    }
    names
}

fn complain_about_arrows(path: &str, text: &str) -> Vec<String> {
    let module = module_of(path);
    let Some(allowed) = allowed(module) else {
        let known = module == "lib";
        return if known { Vec::new() } else { vec![format!("{path}: not in the table")] };
    };
    let mut complaints = Vec::new();
    // Joined, because an import may span several lines.
    let lines: Vec<&str> = code(text).map(|(_, line)| line).collect();
    let joined = lines.join("\n");
    for (at, found) in joined.match_indices("crate::") {
        // Skip `$crate` in a macro and the end of another word.
        if joined[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == '$') {
            continue;
        }
        for name in first_names(&joined[at + found.len()..]).into_iter().map(home) {
            if name != module && !allowed.contains(name) {
                complaints.push(format!("{path}: {module} imports {name}"));
            }
        }
    }
    // `super` must not bypass this: outside test modules, at most one level for each folder.
    let depth = path.matches('/').count() - usize::from(path.ends_with("/mod.rs"));
    let too_far = "super::".repeat(depth.max(1));
    for line in lines.iter().filter(|line| line.contains(&too_far)) {
        if !line.starts_with(' ') {
            complaints.push(format!("{path}: reaches the crate root by `super`: {line}"));
        }
    }
    complaints
}

fn complain_about_doors(path: &str, text: &str) -> Vec<String> {
    let mut complaints = Vec::new();
    for (n, line) in code(text) {
        let mut only = |what: &str, found: bool, homes: &[&str]| {
            if found && !homes.contains(&path) {
                complaints.push(format!("{path}:{n}: {what} belongs in {homes:?}"));
            }
        };
        let names_sled = line.contains("sled::") && !line.contains("use sled::SledBlocks");
        let homes = ["src/blocks/sled.rs", "src/blocks/sled/tests.rs", "benches/claim.rs"];
        only("sled", names_sled, &homes);
        let is_unsafe = words(line).any(|word| word == "unsafe" || word == "unsafe_code");
        let homes =
            ["src/disk/mapped.rs", "src/sync/heap.rs", "src/sync/home.rs", "tests/it/fork.rs"];
        only("unsafe", is_unsafe, &homes);
        let reads_time = line.contains("SystemTime::now");
        only("the system clock", reads_time, &["src/time/system.rs"]);
    }
    complaints
}

fn complain_about_leftovers(path: &str, text: &str) -> Vec<String> {
    let mut complaints = Vec::new();
    let lines = text.lines().count();
    if lines > LINES_MAX {
        complaints.push(format!("{path}: {lines} lines, more than {LINES_MAX}"));
    }
    for (n, line) in text.lines().enumerate() {
        let marks = ["TODO", "FIXME", "XXX"];
        let marked = marks.iter().find(|mark| words(line).any(|word| word == **mark));
        let calls = ["todo!(", "unimplemented!(", "dbg!("];
        let called = calls.iter().find(|call| is_call(line, call));
        let ignored = line.trim_start().starts_with("#[ignore").then_some(&"#[ignore]");
        if let Some(what) = marked.or(called).or(ignored) {
            complaints.push(format!("{path}:{}: {what}", n + 1));
        }
    }
    complaints
}

/// Text in backticks outside code blocks.
fn quoted(text: &str) -> Vec<&str> {
    let mut quoted = Vec::new();
    let mut in_block = false;
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            in_block = !in_block;
        } else if !in_block {
            quoted.extend(line.split('`').skip(1).step_by(2));
        }
    }
    quoted
}

fn looks_like_a_file(text: &str) -> bool {
    const ENDINGS: [&str; 6] = [".rs", ".md", ".toml", ".sh", ".ndjson", ".lock"];
    const FOLDERS: [&str; 8] =
        ["src/", "tests/", "docs/", "examples/", "scripts/", "benches/", "fuzz/", ".ci/"];
    let plain = text.chars().all(|c| c.is_ascii_alphanumeric() || "._-/".contains(c));
    plain
        && (ENDINGS.iter().any(|e| text.ends_with(e) && text.len() > e.len())
            || FOLDERS.iter().any(|f| text.starts_with(f)))
}

fn complain_about_names(path: &str, text: &str, exists: impl Fn(&str) -> bool) -> Vec<String> {
    let links = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    let beside = Path::new(path).parent().unwrap_or(Path::new(""));
    // `[name]: target`, on a line of its own.
    let defined = text.lines().filter(|line| line.starts_with('['));
    let defined = defined.filter_map(|line| line.split_once("]: ").map(|(_, target)| target));
    let links = links.chain(defined).filter(|link| !link.contains("://") && !link.starts_with('#'));
    let linked = links.map(|link| beside.join(link).to_string_lossy().into_owned());
    let named = quoted(text).into_iter().filter(|q| looks_like_a_file(q)).map(str::to_owned);
    let missing = named.chain(linked).filter(|name| !exists(name));
    missing.map(|name| format!("{path}: {name} is not there")).collect()
}

/// Names of test functions.
fn tests_in(text: &str) -> Vec<&str> {
    let mut tests = Vec::new();
    let mut is_test = false;
    for line in text.lines().map(str::trim) {
        let function = line.strip_prefix("async ").unwrap_or(line).strip_prefix("fn ");
        if line.starts_with("#[test]") || line.starts_with("#[tokio::test") {
            is_test = true;
        } else if let Some(rest) = function.filter(|_| is_test) {
            tests.extend(words(rest).next());
            is_test = false;
        } else if !line.starts_with("#[") {
            // Inside `proptest!`, attributes and comments may come in between.
            is_test &= line.starts_with("//") || line.is_empty();
        }
    }
    tests
}

fn own_tests(text: &str) -> Vec<String> {
    tests_in(text).into_iter().map(str::to_owned).collect()
}

/// The invariants that docs/INVARIANTS.md lists, each with its text.
fn invariants(listed: &str) -> BTreeMap<u32, String> {
    let mut found: BTreeMap<u32, String> = BTreeMap::new();
    let mut current = None;
    for line in listed.lines() {
        let number = line.strip_prefix("- **I").and_then(|rest| words(rest).next());
        if let Some(number) = number.and_then(|n| n.parse().ok()) {
            current = Some(number);
        } else if !line.starts_with("  ") {
            current = None;
        }
        if let Some(number) = current {
            let text = found.entry(number).or_default();
            text.push_str(line);
            text.push('\n');
        }
    }
    found
}

fn complain_about_invariants(listed: &str, tests: &BTreeSet<String>) -> Vec<String> {
    let invariants = invariants(listed);
    let mut complaints = Vec::new();
    if !invariants.keys().copied().eq(1..=INVARIANTS) {
        complaints
            .push(format!("the document lists {:?}, not I1 to I{INVARIANTS}", invariants.keys()));
    }
    for (number, text) in &invariants {
        let citing = |test: &String| test.split('_').any(|part| part == format!("i{number}"));
        if !tests.iter().any(citing) && !text.contains("**Not in force yet.**") {
            complaints.push(format!("no test has i{number} in its name"));
        }
        let listed = text.split("Tests:").nth(1).unwrap_or_default();
        let listed: Vec<&str> = quoted(listed);
        if listed.is_empty() && !text.contains("**Not in force yet.**") {
            complaints.push(format!("I{number} names no tests"));
        }
        let missing = listed.into_iter().filter(|name| !tests.contains(*name));
        complaints.extend(missing.map(|name| format!("I{number}: there is no test {name}")));
    }
    complaints
}

/// The numbers of the rules that are in the names of tests end here.
const RULES: u32 = 98;

/// The header of a planted fault: what goes wrong, which invariants and rules that breaks, and which tests catch it.
fn complain_about_planted(path: &str, text: &str, tests: &BTreeSet<String>) -> Vec<String> {
    let header: Vec<&str> = text.lines().take_while(|line| !line.starts_with("--- ")).collect();
    let field = |name: &str| -> Vec<&str> {
        let values = header.iter().filter_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        values.collect()
    };
    let mut complaints = Vec::new();
    if field("what").len() != 1 || !field("what").iter().all(|what| what.ends_with('.')) {
        complaints.push(format!("{path}: one sentence says what goes wrong"));
    }
    let number = |part: &str, kind| part.strip_prefix(kind).and_then(|n| n.parse::<u32>().ok());
    let known = |part: &str| {
        number(part, 'I').is_some_and(|n| (1..=INVARIANTS).contains(&n))
            || number(part, 'R').is_some_and(|n| (1..=RULES).contains(&n))
    };
    if !matches!(field("breaks")[..], [list] if list.split(' ').all(known)) {
        complaints
            .push(format!("{path}: breaks is a list of I1 to I{INVARIANTS} and R1 to R{RULES}"));
    }
    let checks = field("caught by");
    if checks.is_empty() {
        complaints.push(format!("{path}: caught by nothing"));
    }
    for check in checks {
        let name = check.rsplit(' ').next().unwrap_or_default();
        if !tests.contains(name) {
            complaints.push(format!("{path}: there is no test {name}"));
        }
    }
    complaints
}

#[track_caller]
fn assert_none(complaints: &[String]) {
    assert!(complaints.is_empty(), "\n{}", complaints.join("\n"));
}

#[test]
fn imports_follow_the_arrows() {
    let all = files("src", &["rs"]);
    assert_none(
        &all.iter().flat_map(|(path, text)| complain_about_arrows(path, text)).collect::<Vec<_>>(),
    );
}

#[test]
fn the_table_has_no_way_up() {
    for table in [&BASIC_ARROWS[..], &ARROWS[..]] {
        for (at, (module, own)) in table.iter().enumerate() {
            for import in *own {
                let below = table[..at].iter().any(|(name, _)| name == import);
                assert!(below, "{module} imports {import}, which does not stand below it");
            }
        }
    }
}

/// Rows of the table of arrows in the design: the modules of each, and what they may import.
fn rows_of_arrows(design: &str) -> Vec<(Vec<&str>, Vec<&str>)> {
    let table = design.split("| level | module |").nth(1).expect("a table of arrows");
    let rows = table.lines().skip(2).take_while(|line| line.starts_with("| "));
    let cells = rows.map(|row| row.split('|').skip(2).map(quoted));
    cells.filter_map(|mut cells| Some((cells.next()?, cells.next()?))).collect()
}

/// The binary, which is no module.
const BINARY: &str = "crates/cli";

#[test]
fn the_design_shows_the_same_table() {
    let design = fs::read_to_string(root().join("docs/DESIGN.md")).expect("the design");
    let mut above: Vec<&str> = Vec::new();
    for (modules, own) in rows_of_arrows(&design) {
        for module in modules.iter().filter(|module| **module != BINARY) {
            let known = BASIC_ARROWS.iter().chain(&ARROWS).find(|(name, _)| name == module);
            let (_, allowed) = known.unwrap_or_else(|| panic!("there is no module {module}"));
            // It may import all rows above it, and the design says so in words.
            if *module != "engine" {
                assert_eq!(own, *allowed, "the row for {module}");
            }
            let from_above = allowed.iter().all(|import| above.contains(import));
            assert!(from_above, "{module} imports from below");
        }
        above.extend(modules);
    }
    let all = BASIC_ARROWS.iter().chain(&ARROWS);
    let missing: Vec<_> = all.filter(|(module, _)| !above.contains(module)).collect();
    assert!(missing.is_empty(), "the table of arrows has no row for {missing:?}");
}

/// A claim is followed through at most this many files.
const PATH_FILES_MAX: usize = 10;

/// Functions that the path of a claim in the design names and that are not where it says.
fn complain_about_the_path(design: &str, text_of: impl Fn(&str) -> Option<String>) -> Vec<String> {
    let table = design.split("**From `claim` to bytes.**").nth(1).unwrap_or_default();
    let rows = table.lines().skip_while(|line| !line.starts_with("| "));
    let rows = rows.take_while(|line| line.starts_with('|')).skip(2);
    let mut files = BTreeSet::new();
    let mut complaints = Vec::new();
    for row in rows {
        let mut cells = row.split('|').skip(2).map(quoted);
        let (file, functions) =
            (cells.next().unwrap_or_default(), cells.next().unwrap_or_default());
        let [file] = file[..] else {
            complaints.push(format!("no file: {row}"));
            continue;
        };
        let Some(text) = text_of(file) else {
            complaints.push(format!("{file} is not there"));
            continue;
        };
        files.insert(file.to_owned());
        for function in functions {
            let name = function.rsplit("::").next().unwrap_or_default();
            let is_here = |line: &str| {
                line.split_once("fn ").is_some_and(|(_, rest)| words(rest).next() == Some(name))
            };
            if !code(&text).any(|(_, line)| is_here(line)) {
                complaints.push(format!("{file} has no function {function}"));
            }
        }
    }
    if !(1..=PATH_FILES_MAX).contains(&files.len()) {
        complaints.push(format!("a claim passes through {} files", files.len()));
    }
    complaints
}

#[test]
fn the_path_of_a_claim_leads_to_functions_that_are_there() {
    let design = fs::read_to_string(root().join("docs/DESIGN.md")).expect("the design");
    assert_none(&complain_about_the_path(&design, |file| {
        fs::read_to_string(root().join(file)).ok()
    }));
}

#[test]
fn sled_unsafe_and_the_clock_have_one_door_each() {
    let all = rust_files();
    let ours = all.iter().filter(|(path, _)| path.starts_with("src/"));
    assert_none(
        &ours.flat_map(|(path, text)| complain_about_doors(path, text)).collect::<Vec<_>>(),
    );
}

#[test]
fn files_are_short_and_nothing_is_left_over() {
    let all = rust_files();
    assert_none(
        &all.iter()
            .flat_map(|(path, text)| complain_about_leftovers(path, text))
            .collect::<Vec<_>>(),
    );
}

#[test]
fn documents_name_only_what_is_there() {
    let mut documents = files("docs", &["md"]);
    for name in ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"] {
        let text = fs::read_to_string(root().join(name)).expect("a document");
        documents.insert(name.to_owned(), text);
    }
    let exists = |name: &str| root().join(name).exists();
    assert_none(
        &documents
            .iter()
            .flat_map(|(path, text)| complain_about_names(path, text, exists))
            .collect::<Vec<_>>(),
    );
}

fn cargo(args: &[&str]) -> String {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let ended = Command::new(cargo).args(args).current_dir(root()).output().expect("cargo runs");
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
    String::from_utf8(ended.stdout).expect("cargo prints UTF-8")
}

/// Parses a version so that 1.89 equals 1.89.0.
fn rust_version(text: &str) -> Vec<u32> {
    let mut numbers: Vec<u32> = text.split('.').map_while(|part| part.parse().ok()).collect();
    numbers.resize(3, 0);
    numbers
}

/// No package in the lock file may need a newer Rust than we declare.
fn complain_about_rust_versions(metadata: &str) -> Vec<String> {
    let metadata: serde_json::Value = serde_json::from_str(metadata).expect("metadata is JSON");
    let packages = metadata["packages"].as_array().expect("packages");
    let declared = |p: &serde_json::Value| p["rust_version"].as_str().map(str::to_owned);
    let name = |p: &serde_json::Value| format!("{} {}", p["name"], p["version"]);
    let ours = packages.iter().find(|p| p["name"] == "firstseen").and_then(declared);
    let ours = ours.expect("we declare one");
    let newer = packages.iter().filter_map(|p| {
        let wants = declared(p).filter(|wants| rust_version(wants) > rust_version(&ours))?;
        Some(format!("{} needs Rust {wants}, and we declare {ours}", name(p)))
    });
    newer.collect()
}

#[test]
fn no_dependency_needs_a_newer_rust_than_we_declare() {
    let metadata = cargo(&["metadata", "--format-version", "1", "--locked", "--offline"]);
    assert!(metadata.contains("\"name\":\"sled\""), "all packages are there");
    assert_none(&complain_about_rust_versions(&metadata));
}

/// The package has what a user needs and nothing else.
fn complain_about_package(list: &str) -> Vec<String> {
    let files: BTreeSet<&str> = list.lines().collect();
    let made_by_cargo = ["Cargo.toml", "Cargo.toml.orig", "Cargo.lock", ".cargo_vcs_info.json"];
    let ours = ["README.md", "CHANGELOG.md", "LICENSE-APACHE", "LICENSE-MIT"];
    let folders =
        [("src/", ".rs"), ("examples/", ".rs"), ("examples/sample/", ""), ("docs/", ".md")];
    let wanted = |file: &&str| {
        let inside = folders.iter().any(|(at, end)| file.starts_with(at) && file.ends_with(end));
        inside || made_by_cargo.contains(file) || ours.contains(file)
    };
    let odd = files.iter().filter(|file| !wanted(file));
    let mut complaints: Vec<String> = odd.map(|file| format!("{file} is in the package")).collect();
    let needed = ["src/lib.rs", "docs/OPERATIONS.md", "docs/GUARANTEES.md"];
    let missing = ours.iter().chain(&needed).filter(|file| !files.contains(*file));
    complaints.extend(missing.map(|file| format!("{file} is not in the package")));
    complaints
}

#[test]
fn the_package_has_what_a_user_needs_and_nothing_else() {
    assert_none(&complain_about_package(&cargo(&[
        "package",
        "--list",
        "--package",
        "firstseen",
        "--allow-dirty",
        "--offline",
    ])));
}

/// Rustdoc shows the README as its front page. Links to files lead nowhere there, so `lib.rs` gives them targets first.
fn complain_about_front_page(lib: &str, readme: &str) -> Vec<String> {
    let inline = readme.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    let inline = inline.filter(|link| !link.contains("://") && !link.starts_with('#'));
    let mut complaints: Vec<String> =
        inline.map(|link| format!("README.md: ({link}) leads nowhere in rustdoc")).collect();
    let before = lib.split("#![doc = include_str!(\"../README.md\")]").next().unwrap_or_default();
    for (name, target) in readme.lines().filter_map(|line| line.split_once("]: ")) {
        let wanted = format!("//! {name}]: crate::");
        if !target.contains("://") && !before.lines().any(|line| line.starts_with(&wanted)) {
            complaints.push(format!("README.md: {name}] leads nowhere in rustdoc"));
        }
    }
    complaints
}

#[test]
fn no_link_of_the_readme_leads_nowhere_on_the_front_page_of_rustdoc() {
    let read = |name: &str| fs::read_to_string(root().join(name)).expect("a text file");
    assert_none(&complain_about_front_page(&read("src/lib.rs"), &read("README.md")));
}

#[test]
fn every_invariant_has_a_test_and_every_test_named_exists() {
    let read = |path: &str| fs::read_to_string(root().join(path)).expect("a document");
    let (design, listed) = (read("docs/DESIGN.md"), read("docs/INVARIANTS.md"));
    let titles = |document: &str| {
        let titles = document.lines().filter_map(|line| line.strip_prefix("- **I"));
        let titles = titles.filter_map(|title| title.split("**").next());
        titles.map(|title| title.trim_end_matches('.').to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(titles(&listed), titles(&design), "both documents list the same invariants");
    let all: BTreeMap<_, _> = rust_files().into_iter().chain(files("tests", &["rs"])).collect();
    let tests = all.values().flat_map(|text| own_tests(text)).collect();
    assert_none(&complain_about_invariants(&listed, &tests));
}

#[test]
fn planted_faults_say_what_they_break_and_which_test_notices() {
    let tests: BTreeSet<_> = rust_files().values().flat_map(|text| own_tests(text)).collect();
    let planted = files("tests/planted", &["patch"]);
    assert!(planted.len() >= 36, "{} planted faults", planted.len());
    assert_none(
        &planted
            .iter()
            .flat_map(|(path, text)| complain_about_planted(path, text, &tests))
            .collect::<Vec<_>>(),
    );
}

/// Where a patch no longer finds the lines that it changes.
fn complain_about_hunks(
    path: &str,
    patch: &str,
    read: impl Fn(&str) -> Option<String>,
) -> Vec<String> {
    let (mut complaints, mut text, mut old) = (Vec::new(), None, String::new());
    // A last line, so that the hunk before it ends, too.
    for line in patch.lines().skip_while(|line| !line.starts_with("--- ")).chain(["@@"]) {
        if line.starts_with("@@") || line.starts_with("--- a/") {
            let old = std::mem::take(&mut old);
            if !old.is_empty() && !text.as_deref().is_some_and(|text: &str| text.contains(&old)) {
                complaints.push(format!("{path}: it does not apply any more"));
            }
            if let Some(file) = line.strip_prefix("--- a/") {
                text = read(file);
            }
        } else if let Some(kept) = line.strip_prefix([' ', '-']) {
            old.push_str(kept);
            old.push('\n');
        } else if line.is_empty() {
            old.push('\n');
        }
    }
    complaints
}

#[test]
fn planted_faults_still_apply() {
    let read = |file: &str| fs::read_to_string(root().join(file)).ok();
    assert_none(
        &files("tests/planted", &["patch"])
            .iter()
            .flat_map(|(path, text)| complain_about_hunks(path, text, read))
            .collect::<Vec<_>>(),
    );
}

/// A check that has never failed proves nothing.
#[test]
fn each_rule_can_fail() {
    let arrows = |path, text| complain_about_arrows(path, text).len();
    assert_eq!(arrows("src/filter/mod.rs", "use crate::id::IdHash;\nuse crate::sync::Arc;"), 0);
    assert_eq!(arrows("src/filter/mod.rs", "use crate::run::RunMeta;"), 1);
    assert_eq!(arrows("src/filter/mod.rs", "    use\n        crate::run::RunMeta;"), 1);
    assert_eq!(arrows("src/filter/mod.rs", "/// see [`crate::run`]"), 0);
    assert_eq!(arrows("src/filter/mod.rs", "use crate::{run, id};"), 1);
    assert_eq!(arrows("src/filter/mod.rs", "use crate::{id::{Key, NsId}, log::Lsn, run};"), 2);
    assert_eq!(arrows("src/filter/mod.rs", "use crate::*;"), 1);
    assert_eq!(arrows("src/error.rs", "use crate::sync::Arc;"), 1);
    assert_eq!(arrows("src/blocks/mod.rs", "impl From<X> for crate::Error {}"), 0);
    assert_eq!(arrows("src/filter/mod.rs", "use super::run::RunMeta;"), 1);
    assert_eq!(arrows("src/filter/blocked.rs", "use super::super::run::RunMeta;"), 1);
    assert_eq!(arrows("src/filter/blocked.rs", "use super::Filter;"), 0);
    assert_eq!(arrows("src/novelty.rs", ""), 1);

    let doors = |path, text| complain_about_doors(path, text).len();
    assert_eq!(doors("src/engine/recovery/opening.rs", "let db = sled::open(path)?;"), 1);
    assert_eq!(doors("src/wal/writer.rs", "unsafe { *p }"), 1);
    assert_eq!(doors("src/wal/writer.rs", "// unsafe would be faster, and sled::open too"), 0);
    assert_eq!(doors("src/engine/recovery/open.rs", "let t = SystemTime::now();"), 1);

    let path = |row: &str| {
        let head = "**From `claim` to bytes.**\n\n| # | file | functions |\n|---|---|---|\n";
        let text = |file: &str| (file == "src/a.rs").then(|| "    fn f(x: u8) {".to_owned());
        complain_about_the_path(&format!("{head}{row}\n"), text).len()
    };
    assert_eq!(path("| 1 | `src/a.rs` | `A::f` |"), 0);
    assert_eq!(path("| 1 | `src/a.rs` | `A::f`, `g` |"), 1);
    assert_eq!(path("| 1 | `src/b.rs` | `f` |"), 2);
    assert_eq!(path(""), 1);

    let leftovers = |text: &str| complain_about_leftovers("src/x.rs", text).len();
    assert_eq!(leftovers("// TODO: later"), 1);
    assert_eq!(leftovers("    todo!()"), 1);
    assert_eq!(leftovers("    dbg!(x);"), 1);
    assert_eq!(leftovers("    #[ignore = \"slow\"]"), 1);
    assert_eq!(leftovers("the to-do list"), 0);
    assert_eq!(leftovers(&"\n".repeat(LINES_MAX + 1)), 1);

    let names = |text| complain_about_names("docs/X.md", text, |name| name == "src/id.rs").len();
    assert_eq!(names("see `src/id.rs`"), 0);
    assert_eq!(names("see `src/gone.rs` and [it](GONE.md)"), 2);
    assert_eq!(names("see [it]\n\n[it]: GONE.md"), 1);
    assert_eq!(names("```sh\ncat `src/gone.rs`\n```\n`Store::open`, `log/`, `x = 1.rs`"), 0);

    let versions = |own: &str, other: &str| {
        let package = |name: &str, rust: &str| serde_json::json!({"name": name, "version": "1.0.0", "rust_version": rust});
        let packages = [package("firstseen", own), package("other", other)];
        complain_about_rust_versions(&serde_json::json!({ "packages": packages }).to_string()).len()
    };
    assert_eq!(versions("1.89", "1.89.0"), 0);
    assert_eq!(versions("1.89", "1.89.1"), 1);
    assert_eq!(versions("1.89", "1.100"), 1);
    let whole = "src/lib.rs\ndocs/OPERATIONS.md\ndocs/GUARANTEES.md\nREADME.md\n\
                 CHANGELOG.md\nLICENSE-APACHE\nLICENSE-MIT\nCargo.toml\n";
    let package = |list: &str| complain_about_package(list).len();
    assert_eq!(package(whole), 0);
    assert_eq!(package(&format!("{whole}tests/it/main.rs\n.ci/run\ndocs/plots/disk.svg\n")), 3);
    assert_eq!(package(&whole.replace("src/lib.rs\n", "")), 1);

    let front = |lib: &str, readme: &str| complain_about_front_page(lib, readme).len();
    let shown = "#![doc = include_str!(\"../README.md\")]\n";
    let given = format!("//! [docs/A.md]: crate::guide::a\n{shown}");
    assert_eq!(front(&given, "[docs/A.md]\n\n[docs/A.md]: docs/A.md\n"), 0);
    assert_eq!(front(shown, "[docs/A.md]\n\n[docs/A.md]: docs/A.md\n"), 1);
    assert_eq!(front(&format!("{shown}{given}"), "[docs/A.md]: docs/A.md\n"), 1, "too late");
    assert_eq!(front(&given, "[it](docs/A.md) and [this](https://example.com)"), 1);

    let tests = BTreeSet::from(["i1_one".to_owned(), "i1_i2_both".to_owned()]);
    let all = (1..=INVARIANTS).map(|n| format!("- **I{n} x.**\n  Tests: `i1_one`.\n"));
    let all = all.collect::<Vec<_>>().concat();
    let complaints = complain_about_invariants(&all, &tests);
    let without = INVARIANTS as usize - 2;
    assert_eq!(complaints.len(), without, "only I1 and I2 have a test: {complaints:?}");
    let gone = all.replace("`i1_one`", "`i1_gone`");
    assert_eq!(complain_about_invariants(&gone, &tests).len(), without + INVARIANTS as usize);
    assert!(!complain_about_invariants("", &tests).is_empty());

    let planted = |text: &str| complain_about_planted("x.patch", text, &tests).len();
    let good =
        "what: It lies.\nbreaks: I1 I12\ncaught by: A=1 --test it i1_one\n\n--- a/src/id.rs\n";
    assert_eq!(planted(good), 0);
    assert_eq!(planted(&good.replace("I12", "R75")), 0);
    assert_eq!(planted(&good.replace("I12", "I16")), 1);
    assert_eq!(planted(&good.replace("I12", "R99")), 1);
    assert_eq!(planted(&good.replace("i1_one", "i1_gone")), 1);
    assert_eq!(planted(&good.replace("what", "why")), 1);
    assert_eq!(planted("--- a/src/id.rs\nwhat: Too late.\n"), 3);
    let hunks = |patch: &str| {
        let read = |file: &str| (file == "a.rs").then(|| "one\n\ntwo\nthree\n".to_owned());
        complain_about_hunks("x.patch", patch, read).len()
    };
    let good =
        "what: x\n\n--- a/a.rs\n+++ b/a.rs\n@@ -1 +1 @@\n one\n \n-two\n+2\n@@ -4 +4 @@\n-three\n";
    assert_eq!(hunks(good), 0);
    assert_eq!(hunks(&good.replace(" one", " 1")), 1);
    assert_eq!(hunks(&good.replace("-three", "-four")), 1);
    assert_eq!(hunks(&good.replace("a/a.rs", "a/b.rs")), 2);
    assert_eq!(
        tests_in("#[test]\nfn a() {}\nfn b() {}\n#[test]\n#[cfg(x)]\nfn c() {}"),
        ["a", "c"]
    );
    assert_eq!(tests_in("#[tokio::test(flavor = \"x\")]\nasync fn a() {}\nasync fn b() {}"), ["a"]);
}
