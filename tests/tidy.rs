//! Tidy: those rules of the house that a machine can check, read off the tree itself.
//!
//! What fails here in the field is nothing at once, and everything later: an upward import that makes two layers
//! one, an ordering whose partner nobody knows any more, a rule of the format that no test pins. Each check is a
//! function from a tree to its findings; the tests at the top run it on this tree, those in `planted` on small trees
//! with a fault in them, so that a check which has gone blind is red as well.

use std::collections::{BTreeMap, BTreeSet};

#[path = "tidy/planted.rs"]
mod planted;
#[path = "tidy/rust.rs"]
mod rust;
#[path = "tidy/tree.rs"]
mod tree;

use rust::{has_word, inline_modules, is_word, references, resolve, tokens};
use tree::{Declared, Finding, Source, Tree, finding};

/// What lib.rs groups its modules under, from the bottom up.
const HEADINGS: [&str; 8] = ["Words", "Machine", "Mechanisms", "Logs", "Broker", "Clients", "Network", "Face"];

/// Where the keyword may stand.
const UNSAFE_HOMES: [&str; 2] = ["src/ring/", "src/storage/mmap.rs"];

/// The longest file of src, the longest ARCHITECTURE.md, in lines.
const SOURCE_LINES_MAX: usize = 900;
const ARCHITECTURE_LINES_MAX: usize = 200;

/// What the platform offers, and the files through which it is to be had. Files, clocks and sockets have their doors
/// in clippy.toml; these are here because `crate::sync` re-exports the very types that are refused elsewhere.
const DOORS: [(&[&str], &[&str], &str); 4] = [
    // A `Clock` and a file's words lie outside every model and must stay plain memory under loom.
    (
        &["std", "sync", "atomic"],
        &["src/sync.rs", "src/time.rs", "src/fs/", "src/storage/mmap.rs"],
        "atomics come through crate::sync",
    ),
    (&["core", "sync", "atomic"], &["src/sync.rs"], "atomics come through crate::sync"),
    (&["parking_lot"], &["src/sync.rs", "src/fs/"], "locks come through crate::sync"),
    (&["loom"], &["src/sync.rs"], "loom comes through crate::sync"),
];

/// std's locks, which poison.
const STD_LOCKS: [&str; 3] = ["Mutex", "RwLock", "Condvar"];

const ORDERINGS: [&str; 5] = ["Relaxed", "Acquire", "Release", "AcqRel", "SeqCst"];

/// Words of unfinished work, and where some machine keeps its files. Put together from halves: this file is read too.
const UNWANTED_WORDS: [&str; 5] = [
    concat!("TO", "DO"),
    concat!("FIX", "ME"),
    concat!("XX", "X"),
    concat!("to", "do!"),
    concat!("unimple", "mented!"),
];
const MACHINE_PATHS: [&str; 5] = [
    concat!("/ho", "me/"),
    concat!("/ro", "ot/"),
    concat!("/wo", "rk/"),
    concat!("/Us", "ers/"),
    concat!("C:", "\\Us"),
];

// ── The checks on this tree ──

#[test]
fn a_module_uses_only_modules_above_it_and_names_the_owner() {
    expect_none(&layers(&Tree::of_this_crate()));
}

#[test]
fn every_module_stands_under_a_heading_of_lib_rs_and_no_file_is_left_out() {
    expect_none(&headings(&Tree::of_this_crate()));
}

#[test]
fn every_rust_file_says_first_what_it_is_for() {
    expect_none(&purposes(&Tree::of_this_crate()));
}

#[test]
fn unsafe_code_stands_only_in_the_ring_and_in_the_map() {
    expect_none(&unsafe_homes(&Tree::of_this_crate()));
}

#[test]
fn every_rule_of_the_format_is_kept_by_code_and_pinned_by_a_test() {
    expect_none(&format_rules(&Tree::of_this_crate()));
}

#[test]
fn every_atomic_access_names_its_partner() {
    expect_none(&orderings(&Tree::of_this_crate()));
}

#[test]
fn atomics_and_locks_come_through_their_door() {
    expect_none(&doors(&Tree::of_this_crate()));
}

#[test]
fn nothing_is_left_unfinished_and_nothing_names_a_machine() {
    expect_none(&unwanted_words(&Tree::of_this_crate()));
}

#[test]
fn no_source_file_is_too_long_to_be_read() {
    expect_none(&lengths(&Tree::of_this_crate()));
}

#[test]
fn the_architecture_is_short_and_names_every_module() {
    expect_none(&architecture(&Tree::of_this_crate()));
}

#[test]
fn the_readme_shows_how_to_try_it_and_how_to_test_it() {
    expect_none(&readme(&Tree::of_this_crate()));
}

#[test]
fn lock_file_and_licences_are_there_and_the_crate_is_no_workspace() {
    expect_none(&package(&Tree::of_this_crate()));
}

/// Fails with all findings, one a line, as `file:line: message`.
#[track_caller]
fn expect_none(findings: &[Finding]) {
    let lines: Vec<String> = findings.iter().map(Finding::to_string).collect();
    assert!(findings.is_empty(), "{} findings:\n{}", lines.len(), lines.join("\n"));
}

// ── The checks ──

/// A path may lead to a module declared above, never to one below, and never over a facade that re-exports it.
fn layers(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, source, module) in tree.modules() {
        let tokens = tokens(&source.code);
        let inline = inline_modules(&tokens);
        for reference in references(&tokens, &["crate", "super", "self"]) {
            let around = inline.iter().filter(|m| (m.first_line..=m.last_line).contains(&reference.line));
            let from: Vec<String> = module.iter().cloned().chain(around.map(|m| m.name.clone())).collect();
            let to = resolve(&from, &reference.path);
            // The place where the two ways part: the parent decides about the order of its children.
            let shared = from.iter().zip(&to).take_while(|(a, b)| a == b).count();
            let (Some(user), Some(used)) = (from.get(shared), to.get(shared)) else { continue };
            let parent = &from[..shared];
            let Some(parent_file) = tree.file_of(parent) else { continue };
            let declared = parent_file.declared();
            let place = |name: &str| declared.iter().position(|module| module.name == name);
            let written = reference.path.join("::");
            match (place(user), place(used)) {
                // Not a file of its own, such as a `mod tests`.
                (None, _) => {}
                // Tests may use what is there for tests only.
                (_, Some(used_at)) if declared[used_at].is_test && source.is_test[reference.line - 1] => {}
                (Some(user_at), Some(used_at)) if used_at > user_at => findings.push(finding(
                    path,
                    reference.line,
                    format!("`{written}` is upward: `{user}` stands above `{used}`"),
                )),
                (Some(_), Some(_)) => {}
                (Some(_), None) if parent.is_empty() => findings.push(finding(
                    path,
                    reference.line,
                    format!("`{written}` goes over the facade: name the module that owns it"),
                )),
                (Some(_), None) => {
                    let owner = reexports(parent_file, &declared).remove(used.as_str());
                    if let Some(owner) = owner {
                        let message = format!("`{written}` goes over the facade: it is `super::{owner}::{used}`");
                        findings.push(finding(path, reference.line, message));
                    } else if used == "*" && !source.is_test[reference.line - 1] {
                        let message = format!("`{written}` hides what is used: name it");
                        findings.push(finding(path, reference.line, message));
                    }
                }
            }
        }
    }
    findings
}

/// The names that a directory's mod.rs takes out of its children, each with the child.
fn reexports(file: &Source, children: &[Declared]) -> BTreeMap<String, String> {
    let tokens = tokens(&file.code);
    let roots: Vec<&str> = children.iter().map(|child| child.name.as_str()).collect();
    let uses = references(&tokens, &roots).into_iter().chain(references(&tokens, &["self"]));
    let mut owners = BTreeMap::new();
    for reference in uses {
        let path = reference.path.iter().filter(|part| *part != "self").collect::<Vec<_>>();
        if let [child, .., name] = path[..]
            && roots.contains(&child.as_str())
        {
            owners.insert(name.clone(), child.clone());
        }
    }
    owners
}

/// lib.rs groups its modules under the headings, in their order, and every file is somebody's module.
fn headings(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    let Some(lib) = tree.get("src/lib.rs") else { return vec![finding("src/lib.rs", 1, "is missing")] };
    let mut last: Option<usize> = None;
    let mut declared = lib.declared().into_iter().peekable();
    for (index, comment) in lib.comments.iter().enumerate() {
        let line = index + 1;
        if let Some(title) = comment.trim().strip_prefix("// ── ") {
            let name = title.split([':', ' ']).next().unwrap_or_default();
            let place = HEADINGS.iter().position(|heading| *heading == name);
            if place.is_none() {
                findings.push(finding("src/lib.rs", line, format!("`{name}` is none of the headings {HEADINGS:?}")));
            } else if place <= last {
                findings.push(finding("src/lib.rs", line, format!("`{name}` stands too low: {HEADINGS:?}")));
            }
            last = place.max(last);
        }
        while let Some(Declared { name, .. }) = declared.next_if(|declared| declared.line == line) {
            if last.is_none() {
                findings.push(finding("src/lib.rs", line, format!("`{name}` stands under no heading")));
            }
        }
    }
    for (path, _, module) in tree.modules() {
        let Some((name, parent)) = module.split_last() else { continue };
        let is_declared =
            tree.file_of(parent).is_some_and(|file| file.declared().iter().any(|declared| declared.name == *name));
        if !is_declared {
            findings.push(finding(path, 1, format!("no file declares `mod {name}`: it is never compiled")));
        }
    }
    findings
}

fn purposes(tree: &Tree) -> Vec<Finding> {
    let files = tree.rust(&["src/", "tests/", "benches/", "examples/"]);
    let silent = files.filter(|(_, source)| !source.text.starts_with("//! "));
    silent.map(|(path, _)| finding(path, 1, "does not begin with `//! ` and its purpose")).collect()
}

fn unsafe_homes(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, source) in tree.rust(&["src/", "tests/", "benches/", "examples/"]) {
        // The comparison with other crates is a program of its own.
        if path.starts_with("benches/compare/") || UNSAFE_HOMES.iter().any(|home| path.starts_with(home)) {
            continue;
        }
        let keywords = tokens(&source.code).into_iter().filter(|token| token.text == "unsafe");
        findings.extend(keywords.map(|token| finding(path, token.line, format!("`unsafe` outside {UNSAFE_HOMES:?}"))));
    }
    findings
}

/// Every rule that format.md defines is cited where it is kept and where it is tested; no other rule is cited.
fn format_rules(tree: &Tree) -> Vec<Finding> {
    const FORMAT: &str = "src/docs/format.md";
    let Some(format) = tree.get(FORMAT) else {
        let has_docs = tree.files.keys().any(|path| path.starts_with("src/docs/"));
        let missing = finding(FORMAT, 1, "is missing, though src/docs is there");
        return if has_docs { vec![missing] } else { Vec::new() };
    };
    let mut findings = Vec::new();
    let mut defined = BTreeMap::new();
    for (index, line) in format.text.lines().enumerate() {
        let Some(rule) = line.strip_prefix("**").and_then(|rest| rest.split("**").next()).and_then(first_rule) else {
            continue;
        };
        if defined.insert(rule, index + 1).is_some() {
            findings.push(finding(FORMAT, index + 1, format!("F-{rule} is defined a second time")));
        }
    }
    if defined.is_empty() {
        findings.push(finding(FORMAT, 1, "defines no rule (a line that begins with `**F-1**`)"));
    }
    let (mut kept, mut tested) = (BTreeSet::new(), BTreeSet::new());
    for (path, source) in &tree.files {
        let is_in_docs = path.starts_with("src/docs/");
        if is_in_docs || !["src/", "tests/", "README.md", "ARCHITECTURE.md"].iter().any(|home| path.starts_with(home)) {
            continue;
        }
        // The planted trees cite rules of their own.
        if path.starts_with("tests/tidy") {
            continue;
        }
        for (index, line) in source.text.lines().enumerate() {
            for rule in rules(line) {
                let is_test = path.starts_with("tests/") || source.is_test.get(index) == Some(&true);
                if path.ends_with(".rs") {
                    if is_test { &mut tested } else { &mut kept }.insert(rule);
                }
                if !defined.contains_key(&rule) {
                    findings.push(finding(path, index + 1, format!("F-{rule} is not defined in {FORMAT}")));
                }
            }
        }
    }
    for (rule, line) in defined {
        if !kept.contains(&rule) {
            findings.push(finding(FORMAT, line, format!("F-{rule} is cited by no code in src")));
        }
        if !tested.contains(&rule) {
            findings.push(finding(FORMAT, line, format!("F-{rule} is cited by no test")));
        }
    }
    findings
}

/// The numbers of the rules that a line cites.
fn rules(line: &str) -> Vec<u32> {
    let cited = line.match_indices("F-").filter(|(at, _)| !line[..*at].ends_with(is_word));
    cited.filter_map(|(at, _)| first_rule(&line[at..])).collect()
}

/// The number of the rule with which `text` begins.
fn first_rule(text: &str) -> Option<u32> {
    let digits = text.strip_prefix("F-")?;
    digits[..digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len())].parse().ok()
}

/// An ordering has a comment on its line, in its statement, or within the three lines above it, that names the
/// ordering or says with what it pairs.
fn orderings(tree: &Tree) -> Vec<Finding> {
    const LINES_ABOVE: usize = 3;
    let mut findings = Vec::new();
    for (path, source) in tree.rust(&["src/"]) {
        let tokens = tokens(&source.code);
        for reference in references(&tokens, &["Ordering", "atomic", "crate", "std"]) {
            let Some(at) = reference.path.iter().position(|part| part == "Ordering") else { continue };
            let index = reference.line - 1;
            let Some(name) = reference.path.get(at + 1) else { continue };
            if source.is_test[index] {
                continue;
            }
            let is_imported =
                source.code[index].trim_start().trim_start_matches("pub").trim_start().starts_with("use ");
            if is_imported && (name == "*" || ORDERINGS.contains(&name.as_str())) {
                findings.push(finding(path, index + 1, "orderings are named in full where they are used"));
                continue;
            }
            if !ORDERINGS.contains(&name.as_str()) {
                continue;
            }
            let is_end = |line: &String| line.trim_end().ends_with([';', '{', '}']);
            let start = source.code[..index].iter().rposition(is_end).map_or(0, |end| end + 1);
            // A comment's own lines are white in the code and belong to no statement.
            let start = (start..=index).find(|line| !source.code[*line].trim().is_empty()).unwrap_or(index);
            let near = source.comments[start.saturating_sub(LINES_ABOVE)..=index].join("\n");
            if !near.contains("pairs") && !has_word(&near, name) {
                findings.push(finding(path, index + 1, format!("`Ordering::{name}` does not say with what it pairs")));
            }
        }
    }
    findings
}

fn doors(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, source) in tree.rust(&["src/"]) {
        for reference in references(&tokens(&source.code), &["std", "core", "parking_lot", "loom"]) {
            if source.is_test[reference.line - 1] {
                continue;
            }
            let written = reference.path.join("::");
            let is_std_lock = reference.path.len() > 2
                && reference.path[..2] == ["std", "sync"]
                && STD_LOCKS.contains(&reference.path[2].as_str());
            if is_std_lock {
                findings.push(finding(path, reference.line, format!("`{written}`: locks come through crate::sync")));
            }
            for (door, homes, message) in DOORS {
                let is_behind =
                    reference.path.len() >= door.len() && reference.path.iter().zip(door).all(|(a, b)| a == b);
                if is_behind && !homes.iter().any(|home| path.starts_with(home)) {
                    findings.push(finding(path, reference.line, format!("`{written}`: {message}")));
                }
            }
        }
    }
    findings
}

fn unwanted_words(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    // Figures and names made by others are not ours to word.
    let ours = tree.files.iter().filter(|(path, _)| !path.ends_with(".csv") && !path.ends_with("Cargo.lock"));
    for (path, source) in ours {
        for (index, line) in source.text.lines().enumerate() {
            let words = UNWANTED_WORDS.iter().filter(|word| has_word(line, word));
            let paths = MACHINE_PATHS.iter().filter(|start| has_word(line, start));
            findings.extend(words.map(|word| finding(path, index + 1, format!("`{word}` is unfinished work"))));
            findings
                .extend(paths.map(|start| finding(path, index + 1, format!("`{start}…` is a path of one machine"))));
        }
    }
    findings
}

fn lengths(tree: &Tree) -> Vec<Finding> {
    let counted = tree.files.iter().filter(|(path, _)| path.starts_with("src/"));
    let counted = counted.map(|(path, source)| (path, source.text.lines().count()));
    let long = counted.filter(|(_, lines)| *lines > SOURCE_LINES_MAX);
    long.map(|(path, lines)| finding(path, lines, format!("is longer than {SOURCE_LINES_MAX} lines"))).collect()
}

fn architecture(tree: &Tree) -> Vec<Finding> {
    const PATH: &str = "ARCHITECTURE.md";
    let (Some(text), Some(lib)) = (tree.get(PATH).map(|file| &file.text), tree.get("src/lib.rs")) else {
        // Until it is written, there is nothing to hold it to; lib.rs includes it, so it cannot get lost later.
        return Vec::new();
    };
    let mut findings = Vec::new();
    let lines = text.lines().count();
    if lines > ARCHITECTURE_LINES_MAX {
        findings.push(finding(PATH, lines, format!("is longer than {ARCHITECTURE_LINES_MAX} lines")));
    }
    for Declared { name: module, .. } in lib.declared() {
        let names = [format!("`{module}`"), format!("{module}.rs"), format!("{module}/")];
        if !names.iter().any(|name| has_word(text, name)) {
            findings.push(finding(PATH, 1, format!("does not name `{module}`")));
        }
    }
    findings
}

fn readme(tree: &Tree) -> Vec<Finding> {
    let Some(text) = tree.get("README.md").map(|file| &file.text) else { return Vec::new() };
    let has_line =
        |starts: &[&str]| text.lines().any(|line| starts.iter().any(|start| line.trim_start().starts_with(start)));
    let mut findings = Vec::new();
    if !has_line(&["cargo build", "cargo run"]) {
        findings.push(finding("README.md", 1, "has no line that begins with `cargo build` or `cargo run`"));
    }
    // .ci/run takes the line out of the README and runs it as it stands there.
    if !has_line(&["cargo test --all-features"]) {
        findings.push(finding("README.md", 1, "has no line that begins with `cargo test --all-features`"));
    }
    findings
}

fn package(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    let needed = [("Cargo.lock", "[[package]]"), ("LICENSE-MIT", "MIT License"), ("LICENSE-APACHE", "Apache License")];
    for (path, words) in needed {
        if !tree.get(path).is_some_and(|file| file.text.contains(words)) {
            findings.push(finding(path, 1, format!("is missing, or does not say `{words}`")));
        }
    }
    let manifest = tree.get("Cargo.toml").map_or("", |file| &file.text);
    for (index, line) in manifest.lines().enumerate() {
        if line.trim_start().starts_with("[workspace") {
            findings.push(finding("Cargo.toml", index + 1, "one crate is no workspace"));
        }
    }
    findings
}
