//! The values that go through the rings.

use std::sync::Arc;

use crate::harness::Result;
use crate::memory::peers;

/// A value with a number in it, by which a reader proves that it saw the value.
///
/// The traits of the adapters among the bounds are for calls that exist only for `Copy` types.
pub(crate) trait Payload: Clone + Send + Sync + Unpin + 'static + peers::CopiesInto + OwnPayload {
    /// What [`sum`](Payload::sum) makes of the number 1.
    const WEIGHT: u64;

    fn of(number: u64) -> Self;

    /// Reads all of the value: nobody is credited for bytes that were not touched. Equals `number * WEIGHT`.
    fn sum(&self) -> u64;
}

#[cfg(feature = "memory")]
pub(crate) use crate::memory::headwater::SendsAll as OwnPayload;

/// Stands for the bound of Headwater's adapter when it is not compiled.
#[cfg(not(feature = "memory"))]
pub(crate) trait OwnPayload {}
#[cfg(not(feature = "memory"))]
impl<T> OwnPayload for T {}

/// A cache line of plain data.
pub(crate) type Line = [u64; 8];
/// A kilobyte on the heap, of which only the pointer moves.
pub(crate) type Page = Arc<[u8; 1024]>;

impl Payload for u64 {
    const WEIGHT: u64 = 1;

    #[inline]
    fn of(number: u64) -> Self {
        number
    }

    #[inline]
    fn sum(&self) -> u64 {
        *self
    }
}

impl Payload for Line {
    const WEIGHT: u64 = 8;

    #[inline]
    fn of(number: u64) -> Self {
        [number; 8]
    }

    #[inline]
    fn sum(&self) -> u64 {
        self.iter().fold(0, |sum, word| sum.wrapping_add(*word))
    }
}

impl Payload for Page {
    const WEIGHT: u64 = 1;

    #[inline]
    fn of(number: u64) -> Self {
        let mut bytes = [0; 1024];
        bytes[..8].copy_from_slice(&number.to_le_bytes());
        Arc::new(bytes)
    }

    #[inline]
    fn sum(&self) -> u64 {
        self.as_chunks::<8>().0.iter().fold(0, |sum, word| sum.wrapping_add(u64::from_le_bytes(*word)))
    }
}

/// A payload as a parameter of a cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PayloadKind {
    Word,
    Line,
    Page,
}

impl PayloadKind {
    const ALL: [PayloadKind; 3] = [PayloadKind::Word, PayloadKind::Line, PayloadKind::Page];

    /// The name on a child's command line.
    pub(crate) fn name(self) -> &'static str {
        match self {
            PayloadKind::Word => "word",
            PayloadKind::Line => "line",
            PayloadKind::Page => "page",
        }
    }

    /// The name in the tables.
    pub(crate) fn title(self) -> &'static str {
        match self {
            PayloadKind::Word => "u64",
            PayloadKind::Line => "64 B",
            PayloadKind::Page => "Arc of 1 KiB",
        }
    }

    pub(crate) fn parse(name: &str) -> Result<Self> {
        Self::ALL
            .into_iter()
            .find(|kind| kind.name() == name)
            .ok_or_else(|| format!("payload `{name}` is none of word, line, page").into())
    }
}

#[cfg(test)]
mod tests {
    use super::{Line, Page, Payload};

    #[test]
    fn the_sum_of_a_value_is_its_number_times_its_weight() {
        fn check<T: Payload>() {
            for number in [0, 1, 7 << 40 | 12_345, u64::MAX] {
                assert_eq!(T::of(number).sum(), number.wrapping_mul(T::WEIGHT), "number {number}");
            }
        }
        check::<u64>();
        check::<Line>();
        check::<Page>();
    }
}
