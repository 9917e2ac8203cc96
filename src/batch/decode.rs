//! Bytes to records, borrowed: nothing is copied, nothing is trusted, nothing is allocated.

use std::fmt;

use crate::batch::BatchError;
use crate::batch::header::{BatchHeader, Compression, HEADER_LEN, TimestampType, crc_of};
use crate::batch::varint::Reader;
use crate::record::{Header, OwnedRecord, RawHeaders, RecordView};
use crate::types::{Offset, Timestamp};

/// A batch in somebody else's bytes: a sane header, and as many bytes as it says.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BatchView<'a> {
    header: BatchHeader,
    bytes: &'a [u8],
}

impl<'a> BatchView<'a> {
    /// Takes the batch at the front of `bytes`; what lies behind it is left alone. Looks at the header only.
    pub(crate) fn parse(bytes: &'a [u8]) -> Result<Self, BatchError> {
        let header = BatchHeader::parse(bytes)?;
        let Some(batch) = bytes.get(..header.batch_len) else {
            return Err(BatchError::Truncated { have: bytes.len(), need: header.batch_len });
        };
        Ok(Self { header, bytes: batch })
    }

    /// Checks the CRC. It covers the attributes and everything behind them, not the fields before.
    pub(crate) fn verify(&self) -> Result<(), BatchError> {
        let (stored, computed) = (self.header.crc, crc_of(self.bytes));
        if stored == computed { Ok(()) } else { Err(BatchError::CrcMismatch { stored, computed }) }
    }

    pub(crate) fn header(&self) -> &BatchHeader {
        &self.header
    }

    /// Its records, each checked as it is read. After an error there are no more.
    ///
    /// # Errors
    /// [`BatchError::Compressed`], as the first and only item, if the records are not plain.
    pub(crate) fn records(&self) -> Records<'a> {
        self.records_from(0)
    }

    /// Its records from `offset` on. Of those before it only length and order are checked.
    pub(crate) fn records_from(&self, offset: Offset) -> Records<'a> {
        let header = &self.header;
        Records {
            reader: Reader::new(&self.bytes[HEADER_LEN..]),
            records_left: header.records_count,
            compression: header.compression(),
            base_offset: header.base_offset,
            delta_from: i64::try_from(offset.saturating_sub(header.base_offset)).unwrap_or(i64::MAX),
            delta_next: 0,
            delta_last: header.last_offset_delta.into(),
            times: match header.timestamp_type() {
                TimestampType::CreateTime => Times::Each { base: header.base_timestamp.0 },
                TimestampType::LogAppendTime => Times::One(header.max_timestamp),
            },
        }
    }
}

/// Iterator over the records of one batch.
#[derive(Clone, Debug)]
pub(crate) struct Records<'a> {
    reader: Reader<'a>,
    records_left: u32,
    compression: Compression,
    base_offset: Offset,
    /// Records below this offset delta are passed over.
    delta_from: i64,
    /// The least offset delta that the next record may have.
    delta_next: i64,
    /// The greatest that any may have.
    delta_last: i64,
    times: Times,
}

/// Where the records' timestamps come from.
#[derive(Clone, Copy, Debug)]
enum Times {
    /// Each record has its own, relative to `base`.
    Each { base: i64 },
    /// All have the time at which the batch was appended, whatever they say themselves.
    One(Timestamp),
}

impl<'a> Iterator for Records<'a> {
    type Item = Result<RecordView<'a>, BatchError>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.compression != Compression::None {
            return self.refuse_compressed();
        }
        while self.records_left > 0 {
            self.records_left -= 1;
            match self.read_record() {
                Ok(None) => {}
                Ok(Some(record)) => return Some(Ok(record)),
                Err(error) => return self.fail(error),
            }
        }
        if self.reader.rest().is_empty() { None } else { self.fail(MORE_THAN_COUNTED) }
    }
}

impl<'a> Records<'a> {
    /// Ends the iteration with an error.
    #[cold]
    fn fail(&mut self, error: BatchError) -> Option<Result<RecordView<'a>, BatchError>> {
        self.records_left = 0;
        self.reader = Reader::new(&[]);
        Some(Err(error))
    }

    /// A batch without records has nothing to refuse.
    #[cold]
    fn refuse_compressed(&mut self) -> Option<Result<RecordView<'a>, BatchError>> {
        if self.records_left == 0 { None } else { self.fail(BatchError::Compressed(self.compression)) }
    }

    /// Reads the next record, or passes it over if it lies before `delta_from`.
    #[inline]
    fn read_record(&mut self) -> Result<Option<RecordView<'a>>, BatchError> {
        let length = self.reader.i32().ok_or(BAD_LENGTH)?;
        let mut body = Reader::new(self.reader.take(length).ok_or(BAD_LENGTH)?);

        let _attributes = body.byte().ok_or(CUT_SHORT)?;
        let timestamp_delta = body.i64().ok_or(CUT_SHORT)?;
        let offset_delta = i64::from(body.i32().ok_or(CUT_SHORT)?);
        if offset_delta < self.delta_next || offset_delta > self.delta_last {
            return Err(BAD_OFFSET_DELTA);
        }
        self.delta_next = offset_delta + 1;
        if offset_delta < self.delta_from {
            return Ok(None);
        }

        let key = read_bytes(&mut body)?;
        let value = read_bytes(&mut body)?;
        let headers = read_headers(&mut body)?;
        if !body.rest().is_empty() {
            return Err(LONGER_THAN_FIELDS);
        }
        let timestamp = match self.times {
            Times::Each { base } => Timestamp(base.wrapping_add(timestamp_delta)),
            Times::One(timestamp) => timestamp,
        };
        let offset = self.base_offset + offset_delta.unsigned_abs();
        Ok(Some(RecordView { offset, timestamp, key, value, headers }))
    }
}

const MORE_THAN_COUNTED: BatchError = BatchError::Malformed("there are bytes behind its last record");
const BAD_LENGTH: BatchError = BatchError::Malformed("a record does not lie within the batch");
const CUT_SHORT: BatchError = BatchError::Malformed("a record ends before its fields do");
const LONGER_THAN_FIELDS: BatchError = BatchError::Malformed("a record is longer than its fields");
const BAD_OFFSET_DELTA: BatchError = BatchError::Malformed("offset deltas do not rise from 0 to the last");
const BAD_FIELD_LENGTH: BatchError = BatchError::Malformed("a key, value or header does not lie within its record");
const BAD_HEADER_COUNT: BatchError = BatchError::Malformed("a count of headers is negative or unreadable");
const BAD_HEADER_NAME: BatchError = BatchError::Malformed("the name of a header is null or not UTF-8");

/// Reads a length and that many bytes; length -1 is null.
#[inline]
fn read_bytes<'a>(reader: &mut Reader<'a>) -> Result<Option<&'a [u8]>, BatchError> {
    match reader.i32() {
        Some(-1) => Ok(None),
        Some(length) => reader.take(length).map(Some).ok_or(BAD_FIELD_LENGTH),
        None => Err(BAD_FIELD_LENGTH),
    }
}

/// Walks the headers, so that [`Headers`] finds nothing wrong later.
#[inline]
fn read_headers<'a>(reader: &mut Reader<'a>) -> Result<RawHeaders<'a>, BatchError> {
    let count = reader.i32().and_then(|count| u32::try_from(count).ok()).ok_or(BAD_HEADER_COUNT)?;
    let headers = RawHeaders { count, bytes: reader.rest() };
    for _ in 0..count {
        read_header(reader)?;
    }
    Ok(headers)
}

fn read_header<'a>(reader: &mut Reader<'a>) -> Result<Header<'a>, BatchError> {
    let name = read_bytes(reader)?.and_then(|name| std::str::from_utf8(name).ok()).ok_or(BAD_HEADER_NAME)?;
    Ok(Header { name, value: read_bytes(reader)? })
}

/// Iterator over the headers of a record, in the order they were added; duplicates are kept.
///
/// Decodes as it goes and copies nothing. Knows how many are left.
#[derive(Clone)]
#[must_use = "an iterator does nothing until it is advanced"]
pub struct Headers<'a> {
    left: u32,
    reader: Reader<'a>,
}

impl<'a> Iterator for Headers<'a> {
    type Item = Header<'a>;

    fn next(&mut self) -> Option<Header<'a>> {
        self.left = self.left.checked_sub(1)?;
        let header = read_header(&mut self.reader);
        debug_assert!(header.is_ok(), "a header was not checked when its record was: {header:?}");
        if header.is_err() {
            self.left = 0;
        }
        header.ok()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left as usize, Some(self.left as usize))
    }
}

impl ExactSizeIterator for Headers<'_> {}

impl std::iter::FusedIterator for Headers<'_> {}

impl fmt::Debug for Headers<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.clone()).finish()
    }
}

impl<'a> RecordView<'a> {
    /// The headers in their order.
    pub fn headers(self) -> Headers<'a> {
        Headers { left: self.headers.count, reader: Reader::new(self.headers.bytes) }
    }

    /// The record with its own copy of the bytes, to outlive the batch. Costs an allocation per key, value and
    /// header.
    pub fn to_owned_record(&self) -> OwnedRecord {
        OwnedRecord {
            key: self.key.map(<[u8]>::to_vec),
            value: self.value.map(<[u8]>::to_vec),
            headers: self.headers().map(|h| (h.name.to_owned(), h.value.map(<[u8]>::to_vec))).collect(),
            timestamp: self.timestamp,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::encode::BatchBuilder;
    use crate::batch::header::{
        ATTRIBUTES_AT, BASE_OFFSET_AT, BASE_TIMESTAMP_AT, BATCH_LENGTH_AT, CRC_AT, LAST_OFFSET_DELTA_AT,
        LEADER_EPOCH_AT, MAGIC_AT, MAX_TIMESTAMP_AT, RECORDS_COUNT_AT, patch, put_field,
    };
    use crate::record::Record;
    use proptest::collection::vec;
    use proptest::prelude::*;

    const NOW: Timestamp = Timestamp(1_700_000_000_000);

    fn encode(records: &[OwnedRecord]) -> Vec<u8> {
        let mut batch = BatchBuilder::new();
        for record in records {
            batch.push(&record.as_record(), NOW).expect("a small record fits");
        }
        batch.take()
    }

    fn decode(bytes: &[u8]) -> Result<Vec<OwnedRecord>, BatchError> {
        BatchView::parse(bytes)?.records().map(|record| record.map(|record| record.to_owned_record())).collect()
    }

    /// Three records with values `v0`, `v1`, `v2`, 1 ms apart, the first with two headers of one name.
    fn three() -> Vec<u8> {
        let mut batch = BatchBuilder::new();
        for (at, value) in [(0, "v0"), (1, "v1"), (2, "v2")] {
            let mut record = Record::new(value).key(b"key").timestamp(Timestamp(NOW.0 + at));
            if at == 0 {
                record = record.header("h", b"one").header("h", b"two");
            }
            batch.push(&record, NOW).expect("a small record fits");
        }
        batch.take()
    }

    /// A batch around hand-made records, with a CRC that fits.
    fn batch_of(records: &[u8], count: i32, last_offset_delta: i32) -> Vec<u8> {
        let mut batch = [&three()[..HEADER_LEN], records].concat();
        let length = i32::try_from(batch.len() - LEADER_EPOCH_AT).expect("a small batch");
        put_field(&mut batch, BATCH_LENGTH_AT, length.to_be_bytes());
        put_field(&mut batch, RECORDS_COUNT_AT, count.to_be_bytes());
        put_field(&mut batch, LAST_OFFSET_DELTA_AT, last_offset_delta.to_be_bytes());
        batch
    }

    fn bytes_or_null() -> impl Strategy<Value = Option<Vec<u8>>> {
        // Around 64 and 8192 a length takes one byte more.
        let len = prop_oneof![Just(0), 1_usize..5, 60_usize..70, 8185_usize..8200];
        proptest::option::of((any::<u8>(), len).prop_map(|(byte, len)| vec![byte; len]))
    }

    fn timestamps() -> impl Strategy<Value = Timestamp> {
        prop_oneof![
            (-100_i64..100).prop_map(|ms| Timestamp(NOW.0 + ms)),
            (-100_i64..100).prop_map(Timestamp),
            any::<i64>().prop_map(Timestamp),
        ]
    }

    fn records() -> impl Strategy<Value = Vec<OwnedRecord>> {
        let headers = vec(("[a-c]{0,2}|\\PC{0,3}", bytes_or_null()), 0..4);
        let record = (bytes_or_null(), bytes_or_null(), headers, timestamps())
            .prop_map(|(key, value, headers, timestamp)| OwnedRecord { key, value, headers, timestamp });
        vec(record, 1..80)
    }

    proptest! {
        #[test]
        fn records_come_back_as_they_went_in(records in records(), base in 0..u64::MAX / 4, behind in vec(any::<u8>(), 0..9)) {
            let mut bytes = encode(&records);
            patch(&mut bytes, base, 7);
            let len = bytes.len();
            bytes.extend(behind);

            let batch = BatchView::parse(&bytes).expect("our own batch");
            batch.verify().expect("a patched batch keeps its CRC");
            let header = batch.header();
            prop_assert_eq!((header.batch_len, header.base_offset, header.leader_epoch), (len, base, 7));
            prop_assert_eq!(header.end_offset(), base + records.len() as u64);
            prop_assert_eq!(Some(header.max_timestamp), records.iter().map(|record| record.timestamp).max());

            let read: Vec<_> = batch.records().collect::<Result<_, _>>().expect("our own records");
            prop_assert!(read.iter().map(RecordView::offset).eq(base..header.end_offset()));
            let owned: Vec<_> = read.iter().map(RecordView::to_owned_record).collect();
            prop_assert_eq!(&owned, &records);
            for (view, record) in read.iter().zip(&records) {
                prop_assert_eq!(view.headers().len(), record.headers.len());
                prop_assert_eq!(view.is_tombstone(), record.value.is_none());
            }
        }

        #[test]
        fn reading_from_an_offset_gives_the_tail_of_reading_all(records in records(), base in 0_u64..1000, from in 0_u64..1200) {
            let mut bytes = encode(&records);
            patch(&mut bytes, base, 0);
            let batch = BatchView::parse(&bytes).expect("our own batch");
            let offsets = |records: Records<'_>| records.map(|r| r.map(|r| r.offset())).collect::<Result<Vec<_>, _>>();
            let mut tail = offsets(batch.records()).expect("our own records");
            tail.retain(|&offset| offset >= from);
            prop_assert_eq!(offsets(batch.records_from(from)), Ok(tail));
        }

        #[test]
        fn damaged_batches_give_records_or_an_error_and_never_more_than_they_count(
            records in records(),
            damage in vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
            cut in any::<prop::sample::Index>(),
        ) {
            let mut bytes = encode(&records);
            for (index, byte) in damage {
                let at = index.index(bytes.len());
                bytes[at] = byte;
            }
            read_all(&bytes);
            read_all(&bytes[..cut.index(bytes.len())]);
        }

        #[test]
        fn any_bytes_behind_a_sane_header_give_records_or_an_error(bytes in vec(small_or_any(), 0..200), count in -1..9, last in -1..9) {
            read_all(&bytes);
            read_all(&batch_of(&bytes, count, last));
        }
    }

    /// Small bytes are short lengths, which get further into a record than arbitrary ones do.
    fn small_or_any() -> impl Strategy<Value = u8> {
        prop_oneof![4 => 0_u8..8, 1 => any::<u8>()]
    }

    fn read_all(bytes: &[u8]) {
        let Ok(batch) = BatchView::parse(bytes) else { return };
        let _ = batch.verify();
        let mut count = 0;
        let mut records = batch.records();
        while let Some(Ok(record)) = records.next() {
            count += 1;
            assert!(record.offset() <= batch.header().last_offset(), "offset {} is beyond the batch", record.offset());
            assert_eq!(record.headers().count(), record.headers().len(), "a header was counted that cannot be read");
        }
        assert!(count <= batch.header().records_count, "{count} records where {:?}", batch.header());
        assert!(records.next().is_none(), "a record behind the end or an error");
    }

    #[test]
    fn a_flipped_bit_anywhere_from_the_crc_on_is_noticed() {
        let whole = three();
        BatchView::parse(&whole).and_then(|batch| batch.verify()).expect("our own batch");
        for at in CRC_AT..whole.len() {
            for bit in 0..8 {
                let mut bytes = whole.clone();
                bytes[at] ^= 1 << bit;
                let noticed = BatchView::parse(&bytes).and_then(|batch| batch.verify()).is_err();
                assert!(noticed, "bit {bit} of byte {at} was flipped and nobody noticed");
            }
        }
    }

    #[test]
    fn duplicate_headers_come_back_in_order() {
        let bytes = three();
        let record = BatchView::parse(&bytes).expect("our own batch").records().next().expect("three").expect("sound");
        let headers: Vec<_> = record.headers().map(|header| (header.name, header.value)).collect();
        assert_eq!(headers, [("h", Some(&b"one"[..])), ("h", Some(&b"two"[..]))]);
    }

    #[test]
    fn the_brokers_time_wins_where_the_batch_says_so() {
        let mut bytes = three();
        put_field(&mut bytes, ATTRIBUTES_AT, 0b1000_i16.to_be_bytes());
        put_field(&mut bytes, MAX_TIMESTAMP_AT, 42_i64.to_be_bytes());
        let times: Vec<_> = decode(&bytes).expect("sound").iter().map(|record| record.timestamp.0).collect();
        assert_eq!(times, [42, 42, 42]);
    }

    #[test]
    fn timestamps_that_are_further_apart_than_64_bits_wrap_back_to_themselves() {
        let at = |ms| OwnedRecord { timestamp: Timestamp(ms), ..OwnedRecord::default() };
        let records = [at(i64::MIN), at(i64::MAX), at(0)];
        assert_eq!(decode(&encode(&records)).as_deref(), Ok(&records[..]));
    }

    #[test]
    fn compressed_records_are_refused_by_the_name_of_their_codec() {
        for (codec, name) in [(1, "gzip"), (2, "snappy"), (3, "lz4"), (4, "zstd")] {
            let mut bytes = three();
            put_field(&mut bytes, ATTRIBUTES_AT, i16::to_be_bytes(codec));
            let mut records = BatchView::parse(&bytes).expect("the header is sane").records();
            let refused = records.next().expect("an error").expect_err("plain records cannot come of this");
            assert!(refused.to_string().contains(name), "{refused}");
            assert!(records.next().is_none(), "something behind the refusal");
        }
    }

    #[test]
    fn a_compacted_batch_keeps_the_offsets_of_what_is_left() {
        // Offsets 0 and 2 of 0 to 4; records of 6 bytes: no attributes, times, keys, values, headers.
        let bytes = batch_of(&[12, 0, 0, 0, 1, 1, 0, 12, 0, 0, 4, 1, 1, 0], 2, 4);
        let batch = BatchView::parse(&bytes).expect("sane");
        let offsets: Vec<_> = batch.records().map(|record| record.expect("sound").offset()).collect();
        assert_eq!((offsets, batch.header().end_offset()), (vec![0, 2], 5));

        let empty = batch_of(&[], 0, 4);
        assert_eq!(decode(&empty), Ok(vec![]), "all that was in it was compacted away");
    }

    #[test]
    fn records_that_contradict_the_format_are_refused_with_the_reason() {
        let cases: [(&str, BatchError, Vec<u8>); 15] = [
            ("more bytes than records", MORE_THAN_COUNTED, batch_of(&[12, 0, 0, 0, 1, 1, 0, 0], 1, 0)),
            ("bytes without records", MORE_THAN_COUNTED, batch_of(&[0], 0, 0)),
            ("fewer records than counted", BAD_LENGTH, batch_of(&[12, 0, 0, 0, 1, 1, 0], 2, 1)),
            ("a length beyond the batch", BAD_LENGTH, batch_of(&[14, 0, 0, 0, 1, 1, 0], 1, 0)),
            ("a negative length", BAD_LENGTH, batch_of(&[1, 0, 0, 0, 1, 1, 0], 1, 0)),
            ("a record without offset", CUT_SHORT, batch_of(&[4, 0, 0], 1, 0)),
            ("a record with a byte too many", LONGER_THAN_FIELDS, batch_of(&[14, 0, 0, 0, 1, 1, 0, 0], 1, 0)),
            ("a negative offset delta", BAD_OFFSET_DELTA, batch_of(&[12, 0, 0, 1, 1, 1, 0], 1, 0)),
            ("an offset delta beyond the last", BAD_OFFSET_DELTA, batch_of(&[12, 0, 0, 4, 1, 1, 0], 1, 1)),
            ("an offset twice", BAD_OFFSET_DELTA, batch_of(&[12, 0, 0, 0, 1, 1, 0, 12, 0, 0, 0, 1, 1, 0], 2, 1)),
            ("a key of length -2", BAD_FIELD_LENGTH, batch_of(&[12, 0, 0, 0, 3, 1, 0], 1, 0)),
            ("a value beyond its record", BAD_FIELD_LENGTH, batch_of(&[12, 0, 0, 0, 1, 6, 0], 1, 0)),
            ("-1 headers", BAD_HEADER_COUNT, batch_of(&[12, 0, 0, 0, 1, 1, 1], 1, 0)),
            ("a header named null", BAD_HEADER_NAME, batch_of(&[16, 0, 0, 0, 1, 1, 2, 1, 1], 1, 0)),
            ("a header name beyond UTF-8", BAD_HEADER_NAME, batch_of(&[18, 0, 0, 0, 1, 1, 2, 2, 0xff, 1], 1, 0)),
        ];
        for (what, error, bytes) in cases {
            let mut records = BatchView::parse(&bytes).expect(what).records();
            assert_eq!(records.find_map(Result::err), Some(error), "{what}");
            assert!(records.next().is_none(), "{what}: something behind the error");
        }
    }

    #[test]
    fn a_header_that_contradicts_itself_is_refused() {
        let malformed = |at: usize, value: &[u8]| {
            let mut bytes = three();
            bytes[at..at + value.len()].copy_from_slice(value);
            BatchView::parse(&bytes).expect_err("a header that is not sane was taken").reason()
        };
        assert_eq!(malformed(MAGIC_AT, &[1]), "the magic byte is not 2");
        assert_eq!(malformed(BATCH_LENGTH_AT, &48_i32.to_be_bytes()), "its length ends within the header");
        assert_eq!(malformed(BATCH_LENGTH_AT, &(-1_i32).to_be_bytes()), "its length ends within the header");
        assert_eq!(malformed(BATCH_LENGTH_AT, &i32::MAX.to_be_bytes()), "the bytes end inside a batch");
        assert_eq!(malformed(BASE_OFFSET_AT, &(-1_i64).to_be_bytes()), "its offsets are not within 0 to 2^63");
        assert_eq!(malformed(BASE_OFFSET_AT, &(i64::MAX - 2).to_be_bytes()), "its offsets are not within 0 to 2^63");
        assert_eq!(malformed(ATTRIBUTES_AT, &5_i16.to_be_bytes()), "its compression codec is unknown");
        assert_eq!(malformed(LAST_OFFSET_DELTA_AT, &(-1_i32).to_be_bytes()), "its last offset delta is negative");
        assert_eq!(malformed(LAST_OFFSET_DELTA_AT, &1_i32.to_be_bytes()), "it has more records than offsets");
        assert_eq!(malformed(RECORDS_COUNT_AT, &(-1_i32).to_be_bytes()), "its count of records is negative");

        let whole = three();
        for end in 0..whole.len() {
            let cut = BatchView::parse(&whole[..end]).expect_err("a cut batch was taken");
            let need = if end < HEADER_LEN { HEADER_LEN } else { whole.len() };
            assert_eq!(cut, BatchError::Truncated { have: end, need });
        }
    }

    #[test]
    fn the_kind_of_timestamp_is_read_from_its_bit() {
        let kind = |attributes: i16| {
            let mut bytes = three();
            put_field(&mut bytes, ATTRIBUTES_AT, attributes.to_be_bytes());
            BatchHeader::parse(&bytes).expect("sane").timestamp_type()
        };
        assert_eq!(kind(0), TimestampType::CreateTime);
        assert_eq!(kind(1 << 3), TimestampType::LogAppendTime);
        assert_eq!(kind(1 << 4), TimestampType::CreateTime);
    }

    #[test]
    fn the_time_of_a_record_counts_from_the_batchs_base() {
        let mut bytes = three();
        put_field(&mut bytes, BASE_TIMESTAMP_AT, (-5_i64).to_be_bytes());
        let times: Vec<_> = decode(&bytes).expect("sound").iter().map(|record| record.timestamp.0).collect();
        assert_eq!(times, [-5, -4, -3]);
    }
}
