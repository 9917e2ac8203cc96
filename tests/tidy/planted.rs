//! The checks on small trees with a fault in them: each must find it, at its line, and nothing else.

use super::rust::split;
use super::tree::{Finding, Tree};
use super::*;

/// Runs a check on a small tree and compares where it found something.
#[track_caller]
fn expect(check: fn(&Tree) -> Vec<Finding>, files: &[(&str, &str)], places: &[&str]) {
    let found = check(&Tree::of(files));
    let found_places: Vec<String> = found.iter().map(|f| format!("{}:{}", f.path, f.line)).collect();
    assert_eq!(found_places, places, "{found:#?}");
}

const LIB: &str = concat!(
    "//! Lib.\n",
    "// ── Words: data ──\n",
    "mod error;\n",
    "// ── Machine ──\n",
    "pub mod fs;\n",
    "pub(crate) mod log;\n",
    "pub use log::Log;\n"
);
const FS: &str =
    concat!("//! Fs.\n", "mod disk;\n", "mod sim;\n", "pub use disk::{Disk, Open as Opened};\n", "pub trait File {}\n");

#[test]
fn paths_to_modules_above_and_to_the_parent_are_fine() {
    let disk = concat!(
        "//! Disk.\n",
        "use super::File;\n",
        "use crate::{error::{self, Error}, fs::File as F};\n",
        "fn f() -> self::X { crate::error::g() }\n",
        "#[cfg(test)]\n",
        "mod tests {\n",
        "    use super::*;\n",
        "    use super::super::File;\n",
        "}\n"
    );
    let log = concat!(
        "//! Log.\n",
        "//! See [`crate::Nobody`].\n",
        "use crate::fs::{Disk, disk};\n",
        "let s = \"crate::Nobody\"; // crate::Nobody\n"
    );
    let files = [("src/lib.rs", LIB), ("src/fs/mod.rs", FS), ("src/fs/disk.rs", disk), ("src/log.rs", log)];
    expect(layers, &files, &[]);
}

#[test]
fn an_upward_path_is_found_in_every_way_of_writing_it() {
    let error = concat!(
        "//! Error.\n",
        "use crate::log::Log;\n",
        "use crate::{\n",
        "    error::X,\n",
        "    fs::File,\n",
        "};\n",
        "fn f() { crate::log::g(); }\n",
        "mod inner {\n",
        "    use super::super::log::Log;\n",
        "}\n"
    );
    let files = [("src/lib.rs", LIB), ("src/error.rs", error)];
    expect(layers, &files, &["src/error.rs:2", "src/error.rs:5", "src/error.rs:7", "src/error.rs:9"]);
}

#[test]
fn a_path_over_the_facade_is_found() {
    let log = concat!(
        "//! Log.\n",
        "use crate::Error;\n",
        "use crate::{error::X, Log};\n",
        "use crate::*;\n",
        "pub(crate) fn f(_: crate::Error) {}\n"
    );
    let files = [("src/lib.rs", LIB), ("src/log.rs", log)];
    expect(layers, &files, &["src/log.rs:2", "src/log.rs:3", "src/log.rs:4", "src/log.rs:5"]);
}

#[test]
fn siblings_in_a_directory_keep_the_order_and_avoid_its_facade() {
    let disk = concat!("//! Disk.\n", "use super::sim::Sim;\n", "use crate::fs::sim;\n");
    let sim = concat!("//! Sim.\n", "use super::disk::Disk;\n", "use super::Disk;\n", "use super::*;\n");
    let files = [("src/lib.rs", LIB), ("src/fs/mod.rs", FS), ("src/fs/disk.rs", disk), ("src/fs/sim.rs", sim)];
    expect(layers, &files, &["src/fs/disk.rs:2", "src/fs/disk.rs:3", "src/fs/sim.rs:3", "src/fs/sim.rs:4"]);
}

#[test]
fn only_a_test_may_use_what_is_there_for_tests_only() {
    let fs = concat!("//! Fs.\n", "mod disk;\n", "#[cfg(test)]\n", "mod conformance;\n");
    let disk = concat!(
        "//! Disk.\n",
        "use super::conformance::run;\n",
        "#[cfg(test)]\n",
        "mod tests {\n",
        "    use crate::fs::conformance;\n",
        "}\n"
    );
    let files = [("src/lib.rs", LIB), ("src/fs/mod.rs", fs), ("src/fs/disk.rs", disk)];
    expect(layers, &files, &["src/fs/disk.rs:2"]);
}

#[test]
fn a_module_without_a_heading_and_a_file_without_a_module_are_found() {
    let lib =
        concat!("//! Lib.\n", "mod early;\n", "// ── Machine ──\n", "mod fs;\n", "// ── Words ──\n", "// ── Odds ──\n");
    let files = [
        ("src/lib.rs", lib),
        ("src/early.rs", ""),
        ("src/fs.rs", "mod disk;"),
        ("src/fs/disk.rs", ""),
        ("src/lost.rs", ""),
        ("src/fs/lost.rs", ""),
        ("src/bin/tool.rs", ""),
    ];
    let places = ["src/lib.rs:2", "src/lib.rs:5", "src/lib.rs:6", "src/fs/lost.rs:1", "src/lost.rs:1"];
    expect(headings, &files, &places);
    expect(headings, &[("src/lib.rs", LIB)], &[]);
}

#[test]
fn a_file_that_does_not_say_its_purpose_is_found() {
    let files =
        [("src/a.rs", "//! A.\n"), ("tests/b.rs", "use std;\n"), ("examples/c.rs", ""), ("benches/d.rs", "// D\n")];
    expect(purposes, &files, &["benches/d.rs:1", "examples/c.rs:1", "tests/b.rs:1"]);
}

#[test]
fn unsafe_outside_its_homes_is_found_but_not_in_words_and_texts() {
    let code = concat!(
        "// unsafe\n",
        "#![deny(unsafe_code)]\n",
        "let s = \"unsafe\"; let r = r#\"\" unsafe\"#; let c = '\"';\n",
        "fn f<'a>() { unsafe { g() } }\n",
        "/* unsafe /* x */ unsafe */\n"
    );
    let files =
        [("src/ring/a.rs", code), ("src/storage/mmap.rs", code), ("src/storage/b.rs", code), ("tests/c.rs", code)];
    expect(unsafe_homes, &files, &["src/storage/b.rs:4", "tests/c.rs:4"]);
}

#[test]
fn a_rule_that_is_not_kept_not_tested_or_not_defined_is_found() {
    let format = concat!(
        "# Format\n",
        "**F-1** one\n",
        "**F-2** two\n",
        "**F-3** three\n",
        "**F-12** twelve\n",
        "**F-3** again\n"
    );
    let code =
        concat!("//! F-1, F-2 and F-12, but not UTF-8.\n", "#[cfg(test)]\n", "mod tests {\n", "    // F-12\n", "}\n");
    let compat = "//! F-1\n// F-3, F-9\n";
    let files = [("src/docs/format.md", format), ("src/a.rs", code), ("tests/compat.rs", compat)];
    let places = ["src/docs/format.md:6", "tests/compat.rs:2", "src/docs/format.md:3", "src/docs/format.md:6"];
    expect(format_rules, &files, &places);
    expect(format_rules, &[("src/docs/mod.rs", "//! Docs.\n")], &["src/docs/format.md:1"]);
    expect(format_rules, &[("src/docs/format.md", "F-1\n")], &["src/docs/format.md:1"]);
}

#[test]
fn an_ordering_without_its_partner_is_found() {
    let silent = concat!(
        "//! A.\n",
        "fn f() {\n",
        "    a.load(Ordering::Acquire);\n",
        "    // Once.\n",
        "\n",
        "\n",
        "\n",
        "    b.store(1, atomic::Ordering::SeqCst);\n",
        "}\n"
    );
    expect(orderings, &[("src/a.rs", silent)], &["src/a.rs:3", "src/a.rs:8"]);
    let spoken = concat!(
        "//! A.\n",
        "fn f() {\n",
        "    // Acquire: pairs with g.\n",
        "    a.load(Ordering::Acquire);\n",
        "    let x = 1;\n",
        "    b.load(Ordering::Relaxed); // Relaxed: alone.\n",
        "}\n",
        "fn cmp() -> Ordering { Ordering::Less }\n",
        "fn g() {\n",
        "    // AcqRel: pairs with both; a failure is looked at again.\n",
        "    c\n",
        "        .compare_exchange(\n",
        "            0,\n",
        "            1,\n",
        "            Ordering::AcqRel,\n",
        "            Ordering::Relaxed,\n",
        "        );\n",
        "}\n",
        "#[cfg(all(test, not(loom)))]\n",
        "mod tests {\n",
        "    fn t() { a.load(Ordering::SeqCst); }\n",
        "}\n"
    );
    expect(orderings, &[("src/a.rs", spoken)], &[]);
    let elsewhere = concat!(
        "//! A.\n",
        "fn f() {\n",
        "    // Release: pairs with g.\n",
        "    let x = 1;\n",
        "    let y = 2;\n",
        "    let z = 3;\n",
        "    a.store(1, Ordering::Release);\n",
        "}\n",
        "use std::sync::atomic::Ordering::Relaxed;\n",
        "use std::sync::atomic::Ordering::*;\n"
    );
    expect(orderings, &[("src/a.rs", elsewhere)], &["src/a.rs:7", "src/a.rs:9", "src/a.rs:10"]);
}

#[test]
fn an_atomic_or_a_lock_taken_past_its_door_is_found() {
    let code = concat!(
        "//! A.\n",
        "use std::{io, sync::{Arc, atomic::AtomicU64}};\n",
        "use std::sync::Mutex;\n",
        "use parking_lot::RwLock;\n",
        "use std::sync::Arc;\n",
        "use loom::cell;\n",
        "#[cfg(test)]\n",
        "mod tests {\n",
        "    use std::sync::atomic::AtomicU64;\n",
        "}\n",
        "#[cfg(not(test))]\n",
        "mod imp {\n",
        "    use std::sync::atomic::AtomicU64;\n",
        "}\n"
    );
    let files = [("src/a.rs", code), ("src/ring/models.rs", code), ("tests/b.rs", code)];
    let ring = (
        "src/ring/mod.rs",
        concat!("//! Ring.\n", "mod slot;\n", "#[cfg(all(test, loom))]\n", "pub(crate) mod models;\n"),
    );
    let files = [&files[..], &[ring]].concat();
    expect(doors, &files, &["src/a.rs:2", "src/a.rs:3", "src/a.rs:4", "src/a.rs:6", "src/a.rs:13"]);
    expect(
        doors,
        &[("src/sync.rs", concat!("//! S.\n", "pub use std::sync::atomic::fence;\n", "use loom::cell;\n"))],
        &[],
    );
}

#[test]
fn a_word_of_unfinished_work_and_a_path_of_a_machine_are_found() {
    let text = format!(
        concat!("fine: {word}S, mktemp a.{triple}{triple}\n", "// {word}: later\n", "{mac}()\n", "see {home}me\n"),
        word = UNWANTED_WORDS[0],
        triple = UNWANTED_WORDS[2],
        mac = UNWANTED_WORDS[4],
        home = MACHINE_PATHS[0],
    );
    expect(unwanted_words, &[("notes.md", &text), ("a.csv", &text)], &["notes.md:2", "notes.md:3", "notes.md:4"]);
}

#[test]
fn a_file_that_is_too_long_is_found() {
    let lines = |count: usize| "//\n".repeat(count);
    let (fits, long) = (lines(SOURCE_LINES_MAX), lines(SOURCE_LINES_MAX + 1));
    expect(lengths, &[("src/a.rs", &fits), ("src/b.rs", &long), ("tests/c.rs", &long)], &["src/b.rs:901"]);
}

#[test]
fn an_architecture_that_is_long_or_forgets_a_module_is_found() {
    let text = format!("`error` and fs/ but no catalog\n{}", "\n".repeat(ARCHITECTURE_LINES_MAX));
    let places = ["ARCHITECTURE.md:201", "ARCHITECTURE.md:1"];
    expect(architecture, &[("src/lib.rs", LIB), ("ARCHITECTURE.md", &text)], &places);
    expect(architecture, &[("src/lib.rs", LIB), ("ARCHITECTURE.md", "error.rs `fs` log/\n")], &[]);
}

#[test]
fn a_readme_without_its_commands_is_found() {
    let good = concat!(
        "# H\n",
        "```sh\n",
        "cargo run --release --example quickstart\n",
        "cargo test --all-features\n",
        "```\n"
    );
    expect(readme, &[("README.md", good)], &[]);
    expect(readme, &[("README.md", "Say `cargo test --all-features`.\n")], &["README.md:1", "README.md:1"]);
}

#[test]
fn a_missing_lock_file_or_licence_and_a_workspace_are_found() {
    let files = [("Cargo.toml", "[package]\n[workspace]\n"), ("LICENSE-MIT", "MIT License"), ("LICENSE-APACHE", "")];
    expect(package, &files, &["Cargo.lock:1", "LICENSE-APACHE:1", "Cargo.toml:2"]);
}

#[test]
fn literals_and_comments_are_told_from_code() {
    let (code, comments) = split(concat!(
        "let a = 'x'; let b: &'static str = \"// no\"; // yes\n",
        "let c = br#\"\"/*\"#; let d = '\\''; /* y\n",
        "es */ end"
    ));
    let words: Vec<&str> = code.split_whitespace().collect();
    assert_eq!(words.join(" "), "let a = ; let b: &'static str = ; let c = ; let d = ; end");
    assert_eq!(comments.split_whitespace().collect::<Vec<_>>().join(" "), "// yes /* y es */");
    assert_eq!(code.lines().count(), 3);
}
