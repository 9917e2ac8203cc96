//! The names of a partition's files, and back.

use std::path::{Path, PathBuf};

use crate::types::Offset;

/// The control file (F-5).
pub(crate) const CONTROL: &str = "control";

/// Digits of a base offset in a file name, so that names sort as offsets do.
const DIGITS: usize = 20;

/// What a file in a partition's directory is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum FileName {
    /// A segment of the log, by base offset (F-6).
    Segment(Offset),
    /// A segment's index, by the same base offset (F-14).
    Index(Offset),
    /// A file prepared to become a segment (F-15).
    Spare(u64),
}

impl FileName {
    /// Reads a name; `None` for files that are not ours, which are left alone.
    pub(crate) fn parse(name: &str) -> Option<Self> {
        let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse::<u64>().ok()).flatten();
        if let Some(number) = name.strip_prefix("spare-").and_then(|rest| rest.strip_suffix(".log")) {
            return digits(number).map(Self::Spare);
        }
        let (base, extension) = name.split_once('.')?;
        let base = (base.len() == DIGITS).then(|| digits(base)).flatten()?;
        match extension {
            "log" => Some(Self::Segment(base)),
            "index" => Some(Self::Index(base)),
            _ => None,
        }
    }

    /// The file's path in `dir`.
    pub(crate) fn path(self, dir: &Path) -> PathBuf {
        dir.join(match self {
            Self::Segment(base) => format!("{base:020}.log"),
            Self::Index(base) => format!("{base:020}.index"),
            Self::Spare(number) => format!("spare-{number}.log"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back_as_they_were_written_and_strangers_are_none_of_ours() {
        for name in [FileName::Segment(0), FileName::Segment(u64::MAX), FileName::Index(42), FileName::Spare(7)] {
            let path = name.path(Path::new("d"));
            assert_eq!(FileName::parse(path.file_name().and_then(|n| n.to_str()).expect("a name")), Some(name));
        }
        for stranger in
            ["control", "42.log", "99999999999999999999.log", "+0000000000000000001.log", "spare-.log", "x.log"]
        {
            assert_eq!(FileName::parse(stranger), None, "{stranger}");
        }
    }
}
