//! The tree as the checks see it: text files by their path, Rust split into code and comments, and findings.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use super::rust::{inline_modules, is_for_tests, item_before, split, tokens};

/// The text files of a crate, by their path from its root.
pub(crate) struct Tree {
    pub(crate) files: BTreeMap<String, Source>,
}

pub(crate) struct Source {
    pub(crate) text: String,
    /// Without comments and literals, line by line.
    pub(crate) code: Vec<String>,
    /// Only the comments, line by line.
    pub(crate) comments: Vec<String>,
    /// For every line, whether it is compiled for tests only.
    pub(crate) is_test: Vec<bool>,
}

#[derive(PartialEq, Eq, Debug)]
pub(crate) struct Finding {
    pub(crate) path: String,
    pub(crate) line: usize,
    pub(crate) message: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path, self.line, self.message)
    }
}

pub(crate) fn finding(path: &str, line: usize, message: impl Into<String>) -> Finding {
    Finding { path: path.into(), line, message: message.into() }
}

impl Tree {
    pub(crate) fn of_this_crate() -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut files = BTreeMap::new();
        collect(root, root, &mut files);
        assert!(files.contains_key("src/lib.rs"), "no src/lib.rs below {}", root.display());
        Self { files }.with_test_files_marked()
    }

    pub(crate) fn of(files: &[(&str, &str)]) -> Self {
        let files = files.iter().map(|(path, text)| ((*path).into(), Source::new(path, text))).collect();
        Self { files }.with_test_files_marked()
    }

    /// A file is a test as a whole where its declaration is: `#[cfg(test)] mod conformance;`.
    fn with_test_files_marked(mut self) -> Self {
        let is_test = |module: &[String]| {
            let (name, parent) = module.split_last()?;
            let declared = self.file_of(parent)?.declared();
            declared.into_iter().find(|declared| declared.name == *name).map(|declared| declared.is_test)
        };
        let tests = self.modules().filter(|(_, _, module)| is_test(module) == Some(true));
        let tests: Vec<String> = tests.map(|(path, ..)| path.to_owned()).collect();
        for path in tests {
            if let Some(source) = self.files.get_mut(&path) {
                source.is_test.fill(true);
            }
        }
        self
    }

    pub(crate) fn get(&self, path: &str) -> Option<&Source> {
        self.files.get(path)
    }

    pub(crate) fn rust(&self, homes: &'static [&str]) -> impl Iterator<Item = (&str, &Source)> {
        let files = self.files.iter().map(|(path, source)| (path.as_str(), source));
        files.filter(move |(path, _)| path.ends_with(".rs") && homes.iter().any(|home| path.starts_with(home)))
    }

    /// The files of the library, each with the path of its module: `src/fs/disk.rs` with `[fs, disk]`.
    pub(crate) fn modules(&self) -> impl Iterator<Item = (&str, &Source, Vec<String>)> {
        self.rust(&["src/"]).filter(|(path, _)| !path.starts_with("src/bin/")).map(|(path, source)| {
            let inner = path.trim_start_matches("src/").trim_end_matches(".rs");
            let mut module: Vec<String> = inner.split('/').map(str::to_owned).collect();
            if matches!(module.last().map(String::as_str), Some("mod" | "lib")) {
                module.pop();
            }
            (path, source, module)
        })
    }

    /// The file that holds a module's own text.
    pub(crate) fn file_of(&self, module: &[String]) -> Option<&Source> {
        if module.is_empty() {
            return self.get("src/lib.rs");
        }
        let path = module.join("/");
        self.get(&format!("src/{path}.rs")).or_else(|| self.get(&format!("src/{path}/mod.rs")))
    }
}

pub(crate) fn collect(root: &Path, directory: &Path, files: &mut BTreeMap<String, Source>) {
    for entry in std::fs::read_dir(directory).expect("a directory of the tree can be listed") {
        let path = entry.expect("an entry of the tree can be read").path();
        let relative = path.strip_prefix(root).expect("it was found below the root");
        let name = relative.to_string_lossy().replace('\\', "/");
        if path.is_dir() {
            // What git does not keep is not the tree: it is its own, what was built, and what a program left behind.
            if !matches!(name.as_str(), ".git" | "data") && !name.ends_with("target") {
                collect(root, &path, files);
            }
        } else if let Ok(bytes) = std::fs::read(&path) {
            // Others may be at work in the tree: a file that went away meanwhile is none. Golden files are no text.
            let is_text = !bytes.contains(&0);
            let text = if is_text { String::from_utf8_lossy(&bytes).into_owned() } else { String::new() };
            files.insert(name.clone(), Source::new(&name, &text));
        }
    }
}

impl Source {
    pub(crate) fn new(path: &str, text: &str) -> Self {
        if !path.ends_with(".rs") {
            return Self { text: text.into(), code: Vec::new(), comments: Vec::new(), is_test: Vec::new() };
        }
        let (code, comments) = split(text);
        let lines = |part: &str| part.split('\n').map(str::to_owned).collect::<Vec<_>>();
        let (code, comments) = (lines(&code), lines(&comments));
        let mut is_test = vec![false; code.len()];
        for block in inline_modules(&tokens(&code)).iter().filter(|block| block.is_test) {
            is_test[block.first_line - 1..block.last_line].fill(true);
        }
        Self { text: text.into(), code, comments, is_test }
    }

    /// The modules that this file declares as files of their own, in its order.
    pub(crate) fn declared(&self) -> Vec<Declared> {
        let tokens = tokens(&self.code);
        let ends = (2..tokens.len()).filter(|at| tokens[at - 2].text == "mod" && tokens[*at].text == ";");
        let name = |at: usize| (tokens[at - 1].text.to_owned(), tokens[at - 1].line);
        ends.map(|at| (name(at), is_for_tests(item_before(&tokens, at))))
            .map(|((name, line), is_test)| Declared { name, line, is_test })
            .collect()
    }
}

/// A module in a file of its own, as its parent declares it.
pub(crate) struct Declared {
    pub(crate) name: String,
    pub(crate) line: usize,
    pub(crate) is_test: bool,
}
