//! What a power loss may take back at one moment, and how a seed chooses among it.

use std::path::PathBuf;

use crate::fs::simulated::inode::{FileId, PAGE_SECTORS};
use crate::fs::simulated::random::Random;

/// Something that a crash at this moment may keep or take back, apart from all others.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Unsynced {
    /// A file or directory got its name.
    Added {
        /// The name.
        path: PathBuf,
    },
    /// A file got another name.
    Renamed {
        /// The old name.
        from: PathBuf,
        /// The new name.
        to: PathBuf,
    },
    /// A file or directory lost its name.
    Removed {
        /// The name it had.
        path: PathBuf,
    },
    /// A file got another length.
    Length {
        /// The file.
        path: PathBuf,
    },
    /// 512 bytes of a file changed.
    Sector {
        /// The file.
        path: PathBuf,
        /// Where the sector begins, in bytes.
        position: u64,
    },
}

/// One thing that a crash may keep or take back. Names come first, then files in the order of their numbers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Item {
    /// The next of the tree's pending name changes.
    Name,
    Length(FileId),
    Sector(FileId, u32),
}

impl Item {
    pub(super) fn file(self) -> Option<FileId> {
        match self {
            Self::Name => None,
            Self::Length(file) | Self::Sector(file, _) => Some(file),
        }
    }
}

/// How a crash chooses among the dirty sectors of a file.
#[derive(Clone, Copy, Debug)]
enum Choice {
    None,
    All,
    /// Each by itself, so many times out of eight.
    Coin(u64),
    /// As a coin, but whole pages of memory.
    Pages(u64),
    /// Up to some sector: writing went in order.
    Early,
    /// From some sector on: writing went in reverse.
    Late,
    /// The first of each run of neighbours, where a batch has its commit word, without what it commits.
    Heads,
    /// What was to be committed, without the commit word.
    AllButHeads,
}

/// What of the items outlives a crash.
pub(super) fn survivors(seed: u64, items: &[Item]) -> Vec<bool> {
    if seed < 2 {
        return vec![seed == 1; items.len()];
    }
    let mut random = Random::new(seed);
    let names_in_eight = match random.below(4) {
        0 => 0,
        1 => 8,
        _ => random.below(9),
    };
    let choice = match random.below(12) {
        0 => Choice::None,
        1 => Choice::All,
        2..6 => Choice::Coin(1 + random.below(7)),
        6 => Choice::Pages(1 + random.below(7)),
        7 => Choice::Early,
        8 => Choice::Late,
        9 | 10 => Choice::Heads,
        _ => Choice::AllButHeads,
    };
    let mut kept = Vec::with_capacity(items.len());
    for of_one in items.chunk_by(|one, next| one.file() == next.file()) {
        // Where early ends and late begins.
        let border = random.below(of_one.len() as u64 + 1);
        let mut of_page = (u32::MAX, false);
        let mut previous = None;
        for (index, item) in of_one.iter().enumerate() {
            kept.push(match (*item, choice) {
                (Item::Name, _) => random.chance(names_in_eight),
                (_, Choice::None) => false,
                (_, Choice::All) => true,
                (Item::Length(_), _) => random.chance(6),
                (_, Choice::Coin(in_eight)) => random.chance(in_eight),
                (_, Choice::Early) => (index as u64) < border,
                (_, Choice::Late) => index as u64 >= border,
                (Item::Sector(_, sector), Choice::Pages(in_eight)) => {
                    let page = sector / PAGE_SECTORS as u32;
                    if of_page.0 != page {
                        of_page = (page, random.chance(in_eight));
                    }
                    of_page.1
                }
                (Item::Sector(_, sector), Choice::Heads | Choice::AllButHeads) => {
                    let is_head = previous != Some(sector.wrapping_sub(1));
                    is_head == matches!(choice, Choice::Heads)
                }
            });
            previous = match item {
                Item::Sector(_, sector) => Some(*sector),
                _ => None,
            };
        }
    }
    // One lost, or one spared, against the rule: the rarest of accidents.
    if !kept.is_empty() && random.below(4) == 0 {
        let odd = random.below(kept.len() as u64) as usize;
        kept[odd] = !kept[odd];
    }
    kept
}
