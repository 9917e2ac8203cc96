//! Zigzag varints: signed numbers in 1 to 5 (32-bit) or 1 to 10 (64-bit) bytes, small ones of either sign short.
//!
//! Read from untrusted bytes: a number that ends too late, or has bits that its type cannot hold, is refused.
//! A number that is longer than it need be is read, as Kafka does: its bytes were summed and stored as they came.

/// The longest a 32-bit number gets, in bytes.
pub(crate) const I32_LEN_MAX: usize = 5;
/// The longest a 64-bit number gets, in bytes.
pub(crate) const I64_LEN_MAX: usize = 10;

#[inline]
fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)).cast_unsigned()
}

#[inline]
fn unzigzag(raw: u64) -> i64 {
    (raw >> 1).cast_signed() ^ -((raw & 1).cast_signed())
}

/// Encoded length of a number that is already zigzag, in bytes.
#[inline]
fn raw_len(raw: u64) -> usize {
    // As in `put_raw`: branches that are guessed right cost less than arithmetic that the next write waits for.
    if raw < 1 << 7 {
        1
    } else if raw < 1 << 14 {
        2
    } else {
        (64 - raw.leading_zeros() as usize).div_ceil(7)
    }
}

/// Encoded length of `value`, in bytes. A number is as long in 32 bits as in 64.
#[inline]
pub(crate) fn len(value: i64) -> usize {
    raw_len(zigzag(value))
}

/// Writes `value` at `at` and returns where it ends.
///
/// # Panics
/// If it does not fit.
#[inline]
pub(crate) fn put(out: &mut [u8], at: usize, value: i64) -> usize {
    let raw = zigzag(value);
    // Nearly every number in a batch has one byte, nearly every other has two.
    if raw < 1 << 7 {
        out[at] = raw as u8;
        at + 1
    } else if raw < 1 << 14 {
        let both = (raw & 0x7f | 0x80 | raw >> 7 << 8) as u16; // 14 bits and the mark "more follows"
        out[at..at + 2].copy_from_slice(&both.to_le_bytes());
        at + 2
    } else {
        put_long(out, at, raw)
    }
}

#[inline(never)]
fn put_long(out: &mut [u8], mut at: usize, mut raw: u64) -> usize {
    while raw >= 1 << 7 {
        out[at] = raw as u8 | 0x80; // the low seven bits, and more follow
        raw >>= 7;
        at += 1;
    }
    out[at] = raw as u8;
    at + 1
}

/// Reads numbers and runs of bytes from the front of a slice; `None` where they do not lie in it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// What has not been read yet.
    #[inline]
    pub(crate) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// The next byte.
    #[inline]
    pub(crate) fn byte(&mut self) -> Option<u8> {
        let (&byte, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(byte)
    }

    /// The next `len` bytes; none for a negative length.
    #[inline]
    pub(crate) fn take(&mut self, len: i32) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(usize::try_from(len).ok()?)?;
        self.rest = rest;
        Some(taken)
    }

    /// The next number of at most 32 bits.
    #[inline]
    pub(crate) fn i32(&mut self) -> Option<i32> {
        self.raw(I32_LEN_MAX, u32::MAX.into()).map(|raw| unzigzag(raw) as i32) // `raw` is at most u32::MAX
    }

    /// The next number of at most 64 bits.
    #[inline]
    pub(crate) fn i64(&mut self) -> Option<i64> {
        self.raw(I64_LEN_MAX, u64::MAX).map(unzigzag)
    }

    #[inline]
    fn raw(&mut self, len_max: usize, raw_max: u64) -> Option<u64> {
        // Nearly every number in a batch has one byte, nearly every other has two.
        match *self.rest {
            [a, ref rest @ ..] if a < 0x80 => {
                self.rest = rest;
                Some(u64::from(a))
            }
            [a, b, ref rest @ ..] if b < 0x80 => {
                self.rest = rest;
                Some(u64::from(a & 0x7f) | u64::from(b) << 7)
            }
            _ => self.long_raw(len_max, raw_max),
        }
    }

    #[inline(never)]
    fn long_raw(&mut self, len_max: usize, raw_max: u64) -> Option<u64> {
        let mut raw = 0_u64;
        for (at, &byte) in self.rest.iter().take(len_max).enumerate() {
            let bits = u64::from(byte & 0x7f);
            let shifted = bits << (7 * at);
            if shifted >> (7 * at) != bits {
                return None; // a tenth byte with more than the 64th bit
            }
            raw |= shifted;
            if byte < 0x80 {
                self.rest = &self.rest[at + 1..];
                return (raw <= raw_max).then_some(raw);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn encoded(value: i64) -> Vec<u8> {
        let mut bytes = [0xee; I64_LEN_MAX + 2];
        let end = put(&mut bytes, 1, value);
        assert!(bytes[0] == 0xee && bytes[end] == 0xee, "a byte beside the number {value} was written");
        bytes[1..end].to_vec()
    }

    #[test]
    fn numbers_have_the_bytes_that_protobuf_and_kafka_give_them() {
        // The cases of Kafka's ByteUtilsTest.
        let cases: [(i32, &[u8]); 14] = [
            (0, &[0x00]),
            (-1, &[0x01]),
            (1, &[0x02]),
            (63, &[0x7e]),
            (-64, &[0x7f]),
            (64, &[0x80, 0x01]),
            (-65, &[0x81, 0x01]),
            (8191, &[0xfe, 0x7f]),
            (-8192, &[0xff, 0x7f]),
            (8192, &[0x80, 0x80, 0x01]),
            (1_048_576, &[0x80, 0x80, 0x80, 0x01]),
            (134_217_728, &[0x80, 0x80, 0x80, 0x80, 0x01]),
            (i32::MAX, &[0xfe, 0xff, 0xff, 0xff, 0x0f]),
            (i32::MIN, &[0xff, 0xff, 0xff, 0xff, 0x0f]),
        ];
        for (value, bytes) in cases {
            assert_eq!(encoded(value.into()), bytes, "{value}");
        }
        assert_eq!(encoded(i64::MIN), [[0xff; 9].as_slice(), &[0x01]].concat());
    }

    #[test]
    fn a_number_that_never_ends_or_does_not_fit_is_refused() {
        assert_eq!(Reader::new(&[0x80; 4]).i32(), None, "cut off");
        assert_eq!(Reader::new(&[0xff, 0xff, 0xff, 0xff, 0xff, 0x01]).i32(), None, "a sixth byte");
        assert_eq!(Reader::new(&[0xff, 0xff, 0xff, 0xff, 0x1f]).i32(), None, "a 33rd bit");
        assert_eq!(Reader::new(&[0xff; 11]).i64(), None, "an eleventh byte");
        let mut bit_65 = [0xff; 10];
        bit_65[9] = 0x02;
        assert_eq!(Reader::new(&bit_65).i64(), None, "a 65th bit");
        assert_eq!(Reader::new(&[]).i32(), None, "nothing");
        assert_eq!(Reader::new(&[1, 2]).take(-1), None, "a negative length");
        assert_eq!(Reader::new(&[1, 2]).take(3), None, "more than there is");
    }

    #[test]
    fn a_number_that_is_longer_than_it_need_be_is_read() {
        assert_eq!(Reader::new(&[0x82, 0x80, 0x00]).i32(), Some(1));
        assert_eq!(Reader::new(&[0x82, 0x00]).i64(), Some(1));
    }

    proptest! {
        #[test]
        fn every_number_comes_back_with_the_length_that_was_foretold(wide: i64, shift in 0_u32..64) {
            let wide = wide >> shift; // else nearly all would be of full length
            let narrow = wide as i32;
            let mut bytes = [0; 2 * I64_LEN_MAX];
            let middle = put(&mut bytes, 0, wide);
            let end = put(&mut bytes, middle, narrow.into());
            prop_assert_eq!((middle, end - middle), (len(wide), len(narrow.into())));
            let mut reader = Reader::new(&bytes[..end]);
            prop_assert_eq!((reader.i64(), reader.i32()), (Some(wide), Some(narrow)));
            prop_assert!(reader.rest().is_empty());
        }
    }
}
