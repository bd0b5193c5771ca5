//! Rooms: what those of the engine import from each other, circles of files, long functions, and rooms that hold too
//! much. A room is a module under the crate root, or one of the engine's own.

use super::{assert_none, code, files, first_names, quoted, root, words};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;

const FUNCTION_LINES_MAX: usize = 80;

/// A room holds at most one line in so many.
const SHARE_MIN: usize = 5;

/// What a room of the engine may import from the others; bottom up. The same table stands in docs/DESIGN.md, "Arrows".
const ROOMS: [(&str, &[&str]); 5] = [
    ("catalog", &[]),
    ("core", &["catalog"]),
    ("write", &["catalog", "core"]),
    ("upkeep", &["catalog", "core"]),
    ("recovery", &["catalog", "core"]),
];

/// Files of the engine that compose its rooms, and may name all of them.
const FACADE: [&str; 2] = ["mod", "threads"];

/// Functions that are longer for now.
const LONG: [(&str, &str); 0] = [];

/// The path of the module in a file under `src`: the names that lead to it from the crate root.
fn module(path: &str) -> Vec<&str> {
    let inside = path.trim_start_matches("src/").trim_end_matches(".rs");
    let mut names: Vec<&str> = inside.split('/').collect();
    if matches!(names.last(), Some(&"mod" | &"lib")) {
        names.pop();
    }
    names
}

fn room<'a>(module: &[&'a str]) -> Vec<&'a str> {
    let is_ours = |name: &&&str| ROOMS.iter().any(|(room, _)| room == *name);
    match module {
        ["engine", rest @ ..] => {
            std::iter::once("engine").chain(rest.first().filter(is_ours).copied()).collect()
        }
        other => other.first().copied().into_iter().collect(),
    }
}

fn complain_about_rooms(path: &str, text: &str) -> Vec<String> {
    let Some(inside) = path.strip_prefix("src/engine/") else { return Vec::new() };
    let own = inside.split('/').next().unwrap_or_default().trim_end_matches(".rs");
    if FACADE.contains(&own) {
        return Vec::new();
    }
    let Some((_, allowed)) = ROOMS.iter().find(|(room, _)| *room == own) else {
        return vec![format!("{path}: not in the table of rooms")];
    };
    let mut complaints = Vec::new();
    let lines: Vec<&str> = code(text).map(|(_, line)| line).collect();
    let joined = lines.join("\n");
    for (at, found) in joined.match_indices("engine") {
        let rest = &joined[at + found.len()..];
        let is_word = |c: char| c.is_alphanumeric() || c == '_';
        if joined[..at].ends_with(is_word) || rest.starts_with(is_word) {
            continue;
        }
        if let Some(rest) = rest.strip_prefix("::") {
            let names = first_names(rest).into_iter();
            let others = names.filter(|name| *name != own && !allowed.contains(name));
            complaints.extend(others.map(|name| format!("{path}: {own} imports engine::{name}")));
        } else if joined[..at].ends_with("crate::") && !rest.starts_with(')') {
            complaints.push(format!("{path}: {own} imports the whole engine"));
        }
    }
    // `super` must not be a way round: outside of test modules, one level for each folder of the room.
    let depth = inside.matches('/').count() - usize::from(path.ends_with("/mod.rs"));
    let too_far = "super::".repeat(depth + 1);
    let far = lines.iter().filter(|line| line.contains(&too_far) && !line.starts_with(' '));
    complaints.extend(far.map(|line| format!("{path}: leaves its room by `super`: {line}")));
    complaints
}

/// The paths that a tree of imports names: `a::{b, c::d}` names `a::b` and `a::c::d`.
fn leaves<'a>(tree: &'a str, before: &[&'a str], found: &mut Vec<Vec<&'a str>>) {
    let tree = tree.trim();
    if let Some(list) = tree.strip_prefix('{') {
        let (mut depth, mut start) = (0, 0);
        for (at, c) in list.char_indices() {
            match c {
                ',' | '}' if depth == 0 => {
                    leaves(&list[start..at], before, found);
                    start = at + 1;
                }
                '{' => depth += 1,
                '}' => depth -= 1,
                _ => {}
            }
        }
        return;
    }
    let Some(name) = words(tree).next() else { return };
    let path = [before, &[name]].concat();
    match tree.split_once("::") {
        Some((_, rest)) => leaves(rest, &path, found),
        None => found.push(path),
    }
}

/// The code of a file without imports, names of modules, comments and test modules.
fn body(text: &str) -> String {
    let text = text.split("\n#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    let mut body = String::new();
    let mut in_use = false;
    for (_, line) in code(text) {
        in_use |= use_of(line).is_some();
        let is_module = line.ends_with(';') && words(line).any(|word| word == "mod");
        if !in_use && !is_module {
            body.push_str(line);
            body.push('\n');
        }
        in_use &= !line.ends_with(';');
    }
    body
}

/// The start of what a line at the left margin imports, and whether that is a re-export.
fn use_of(line: &str) -> Option<(&str, bool)> {
    let rest = line.strip_prefix("pub").map_or(line, |rest| match rest.strip_prefix('(') {
        Some(inside) => inside.split_once(')').map_or("", |(_, rest)| rest),
        None => rest,
    });
    let is_export = rest.len() < line.len();
    let rest = if is_export { rest.strip_prefix(' ')? } else { rest };
    rest.strip_prefix("use ").map(|tree| (tree, is_export))
}

/// The modules that a file imports from, of all those in `modules`. A re-export is a door for others, and an import only
/// if the file uses the name itself. What test modules import is not counted.
fn imports<'a>(own: &[&'a str], text: &'a str, modules: &BTreeSet<Vec<&str>>) -> Vec<Vec<&'a str>> {
    let mut found = Vec::new();
    let body = body(text);
    let used: BTreeSet<&str> = words(&body).collect();
    let lines = text.lines().filter_map(use_of);
    for (tree, is_export) in lines {
        // The line begins the rest of the text, in which the import may span several lines.
        let at = tree.as_ptr() as usize - text.as_ptr() as usize;
        let tree = text[at..].split(';').next().unwrap_or_default();
        let mut paths = Vec::new();
        leaves(tree, &[], &mut paths);
        paths.retain(|path| !is_export || path.last().is_some_and(|name| used.contains(name)));
        for path in paths {
            let ups = path.iter().take_while(|name| **name == "super").count();
            let mut path = match path[0] {
                "crate" => path[1..].to_vec(),
                "super" => [&own[..own.len().saturating_sub(ups)], &path[ups..]].concat(),
                "self" => [own, &path[1..]].concat(),
                _ => [own, &path[..]].concat(),
            };
            // Of an item, the module that holds it.
            while !path.is_empty() && !modules.contains(&path) {
                path.pop();
            }
            found.push(path);
        }
    }
    found.retain(|path| path != own && room(path) == room(own));
    found
}

/// The files from which imports inside their room lead back to themselves.
fn in_a_circle(all: &BTreeMap<String, String>) -> Vec<&str> {
    let modules: BTreeSet<Vec<&str>> = all.keys().map(|path| module(path)).collect();
    let edges: BTreeMap<Vec<&str>, Vec<Vec<&str>>> = all
        .iter()
        .map(|(path, text)| (module(path), imports(&module(path), text, &modules)))
        .collect();
    let leads_back = |path: &&String| {
        let own = module(path);
        let (mut seen, mut next) = (BTreeSet::new(), vec![&own]);
        while let Some(at) = next.pop() {
            for import in edges.get(at).into_iter().flatten() {
                if *import == own {
                    return true;
                }
                if seen.insert(import) {
                    next.push(import);
                }
            }
        }
        false
    };
    all.keys().filter(leads_back).map(String::as_str).collect()
}

/// Functions by name, with the line where each begins and how many lines it has. Rustfmt puts the brace that closes a
/// function in the column where the function begins.
fn functions(text: &str) -> Vec<(&str, usize, usize)> {
    let lines: Vec<&str> = text.lines().collect();
    let mut found = Vec::new();
    for (n, line) in lines.iter().enumerate() {
        let indent = line.len() - line.trim_start().len();
        let Some((before, after)) = line[indent..].split_once("fn ") else { continue };
        let may_precede = ["pub", "crate", "super", "in", "engine", "const", "async", "unsafe"];
        let is_function = words(before).all(|word| may_precede.contains(&word));
        let Some(name) = words(after).next().filter(|_| is_function && !before.contains('/'))
        else {
            continue;
        };
        let ends = |(at, line): (usize, &&str)| {
            let here = line.get(indent..).is_some_and(|l| !l.starts_with([' ', '/', '#']));
            let is_last = line.trim_start() == "}" || line.ends_with(';');
            here && line.starts_with(&" ".repeat(indent))
                && (is_last || (at == 0 && line.ends_with('}')))
        };
        let last = lines[n..].iter().enumerate().position(ends).unwrap_or(0);
        found.push((name, n + 1, last + 1));
    }
    found
}

fn complain_about_length(path: &str, text: &str) -> Vec<String> {
    let long = functions(text)
        .into_iter()
        .filter(|(name, _, lines)| *lines > FUNCTION_LINES_MAX && !LONG.contains(&(path, *name)));
    long.map(|(name, n, lines)| format!("{path}:{n}: {name} has {lines} lines")).collect()
}

fn complain_about_size(all: &BTreeMap<String, String>) -> Vec<String> {
    let mut sizes: BTreeMap<Vec<&str>, usize> = BTreeMap::new();
    for (path, text) in all {
        *sizes.entry(room(&module(path))).or_default() += text.lines().count();
    }
    let total: usize = sizes.values().sum();
    let large = sizes.into_iter().filter(|(_, lines)| lines * SHARE_MIN > total);
    large.map(|(room, lines)| format!("{}: {lines} of {total} lines", room.join("::"))).collect()
}

fn rust(folders: &[&str]) -> BTreeMap<String, String> {
    folders.iter().flat_map(|folder| files(folder, &["rs"])).collect()
}

#[test]
fn imports_between_rooms_follow_the_table() {
    let all = rust(&["src"]);
    let complaints = all.iter().flat_map(|(path, text)| complain_about_rooms(path, text));
    assert_none(&complaints.collect::<Vec<_>>());
}

#[test]
fn the_design_shows_the_same_table_of_rooms() {
    let design = fs::read_to_string(root().join("docs/DESIGN.md")).expect("the design");
    let table = design.split("| room |").nth(1).expect("a table of rooms");
    for (room, own) in ROOMS {
        let row = table.lines().find(|line| line.starts_with(&format!("| `{room}` |")));
        let row = row.unwrap_or_else(|| panic!("the table of rooms has no row for {room}"));
        assert_eq!(quoted(row.split('|').nth(2).expect("a cell")), own, "the row for {room}");
    }
}

#[test]
fn no_file_leads_back_to_itself() {
    let all = rust(&["src"]);
    assert_eq!(in_a_circle(&all), [""; 0], "a circle of files");
}

#[test]
fn functions_fit_a_screen() {
    let all = rust(&["src", "crates"]);
    let complaints = all.iter().flat_map(|(path, text)| complain_about_length(path, text));
    assert_none(&complaints.collect::<Vec<_>>());
    for (path, name) in LONG {
        let is_long =
            |(own, _, lines): &(&str, usize, usize)| *own == name && *lines > FUNCTION_LINES_MAX;
        assert!(functions(&all[path]).iter().any(is_long), "{name} is not long any more");
    }
}

#[test]
fn no_room_holds_more_than_its_share() {
    assert_none(&complain_about_size(&rust(&["src"])));
}

/// A check that has never failed proves nothing.
#[test]
fn each_rule_of_rooms_can_fail() {
    let rooms = |path, text| complain_about_rooms(path, text).len();
    assert_eq!(rooms("src/engine/write/claim.rs", "use crate::engine::core::Core;"), 0);
    assert_eq!(rooms("src/engine/write/claim.rs", "use crate::engine::upkeep::Upkeep;"), 1);
    assert_eq!(rooms("src/engine/write/claim.rs", "    crate::engine::recovery::heal(core);"), 1);
    assert_eq!(rooms("src/engine/write/claim.rs", "use crate::engine::{core::Core, Engine};"), 1);
    assert_eq!(rooms("src/engine/write/claim.rs", "use crate::{engine::upkeep, id};"), 1);
    assert_eq!(rooms("src/engine/write/claim.rs", "use crate::engine;"), 1);
    assert_eq!(rooms("src/engine/write/claim.rs", "pub(in crate::engine) fn f() {}"), 0);
    assert_eq!(rooms("src/engine/write/claim.rs", "// as crate::engine::upkeep does"), 0);
    assert_eq!(rooms("src/engine/write/claim.rs", "use super::decide::decide;"), 0);
    assert_eq!(rooms("src/engine/write/claim.rs", "use super::super::upkeep::Upkeep;"), 1);
    assert_eq!(rooms("src/engine/write/mod.rs", "use super::upkeep::Upkeep;"), 1);
    assert_eq!(rooms("src/engine/catalog/layout.rs", "use crate::engine::core::Core;"), 1);
    assert_eq!(rooms("src/engine/threads.rs", "use crate::engine::upkeep::Upkeep;"), 0);
    assert_eq!(rooms("src/engine/novelty.rs", ""), 1);

    let circle = |list: &[(&str, &str)]| {
        let all =
            list.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect();
        in_a_circle(&all).len()
    };
    let there = ("src/run/a.rs", "use crate::run::b::B;\n");
    assert_eq!(circle(&[there, ("src/run/b.rs", "use crate::id::Id;\n")]), 0);
    assert_eq!(circle(&[there, ("src/run/b.rs", "use super::a::A;\n")]), 2);
    assert_eq!(circle(&[there, ("src/run/b.rs", "use crate::{id, run::{a::{A, C}, d}};\n")]), 2);
    assert_eq!(circle(&[there, ("src/run/b.rs", "mod tests {\n    use super::a::A;\n}\n")]), 0);
    assert_eq!(circle(&[there, ("src/run/mod.rs", "pub use a::A;\n")]), 0);
    let up = ("src/run/a.rs", "use super::Run;\n");
    assert_eq!(circle(&[up, ("src/run/mod.rs", "mod a;\nuse a::A;\n")]), 2);
    assert_eq!(circle(&[up, ("src/run/mod.rs", "mod a;\npub use a::A;\n")]), 0);
    let uses = "mod a;\npub(crate) use a::{\n    A, B,\n};\n\nfn f(_: B) {}\n";
    assert_eq!(circle(&[up, ("src/run/mod.rs", uses)]), 2);
    assert_eq!(circle(&[up, ("src/run/mod.rs", &uses.replace("_: B", "_: C"))]), 0);
    assert_eq!(circle(&[up, ("src/run/mod.rs", "mod a;\npub use a::A;\n// uses A\n")]), 0);

    let length = |lines: usize| {
        let body = "        let _ = 1;\n".repeat(lines - 2);
        let text = format!("impl X {{\n    pub(in crate::engine) fn f() {{\n{body}    }}\n}}\n");
        complain_about_length("src/x.rs", &text).len()
    };
    assert_eq!((length(FUNCTION_LINES_MAX), length(FUNCTION_LINES_MAX + 1)), (0, 1));
    let several = "trait X {\n    fn a(\n        b: u8,\n    );\n    fn c() {}\n}\n\nfn d() {\n}\n";
    assert_eq!(functions(several), [("a", 2, 3), ("c", 5, 1), ("d", 8, 2)]);

    let size = |lines: usize| {
        let rest = (0..4).map(|n| (format!("src/m{n}.rs"), "\n".repeat(10)));
        let all = rest.chain([("src/engine/write/a.rs".to_owned(), "\n".repeat(lines))]).collect();
        complain_about_size(&all).len()
    };
    assert_eq!((size(10), size(11)), (0, 1));
}
