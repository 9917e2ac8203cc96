//! Compat: files of every format version that was ever released open, and each rule F-n of `src/docs/format.md` is
//! pinned on their bytes by a reader that shares no code with the crate.
//!
//! What fails here in the field is the morning after an upgrade: a directory that was fine is refused, or worse, is
//! read as something else. So the golden directory is never made again; what this release writes is held to the same
//! rules beside it.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use headwater::{Broker, Ended, Error, OnDamage, OwnedRecord, Record, RecoveryReport, Start, TopicConfig};

#[path = "compat/bytes.rs"]
mod bytes;
#[path = "compat/golden.rs"]
mod golden;

use bytes::{Control, FIRST_FRAME, Header, Kind, batches, crc32, frames, le16, le32, le64, le128, sum, tag};
use golden::{COMMITTED, Directory, GROUP, NOW, PARTITIONS, SEGMENT_BYTES, change, contents, name, spares};

// ── A whole directory ──

#[test]
fn a_directory_of_version_1_opens_and_every_record_is_there_with_its_bytes() {
    for directory in Directory::both() {
        let broker = open(&directory);
        let names: Vec<_> = broker.topics().iter().map(ToString::to_string).collect();
        assert_eq!(names, ["__consumer_offsets", "empty", "events"], "{}", directory.what);

        let events = broker.topic("events").open().expect("opens");
        let mut expected = TopicConfig::default();
        (expected.partitions, expected.segment_bytes) = (PARTITIONS, SEGMENT_BYTES);
        (expected.max_message_bytes, expected.flush_messages) = (SEGMENT_BYTES as u32 / 4 - 64, Some(1000));
        assert_eq!(*events.config(), expected, "{}", directory.what);
        let empty = broker.topic("empty").open().expect("opens");
        assert_eq!((empty.offsets(0).expect("partition 0"), empty.config().flush_interval), (0..0, None));

        let ended: Vec<_> = events.recovery().map(|report| report.ended).collect();
        assert_eq!(ended, [Ended::Closed; 2], "{}", directory.what);
        for (partition, records) in read(&broker).expect("readable") {
            let written: Vec<_> = (0..).zip(contents(partition).concat()).collect();
            assert_eq!(records, written, "partition {partition} of {}", directory.what);
        }
    }
}

#[test]
fn a_group_goes_on_where_it_committed_in_version_1() {
    for directory in Directory::both() {
        let broker = open(&directory);
        let consumer = broker.consumer(GROUP, Start::Earliest).topics(["events"]).build().expect("joined");
        let positions: Vec<_> = consumer.positions().into_iter().map(|(_, position)| position).collect();
        assert_eq!(positions, COMMITTED, "{}", directory.what);
    }
}

#[test]
fn a_directory_of_version_1_can_be_written_on_and_opened_again() {
    let directory = Directory::golden();
    let more = b"written by a later release";
    let broker = open(&directory);
    let mut producer = broker.topic("events").open().expect("opens").producer().expect("a producer");
    let end = contents(0).concat().len() as u64;
    assert_eq!(producer.send(Record::new(more).partition(0)).expect("sent").offset, end);
    drop(producer);
    broker.close(Duration::from_secs(60)).expect("closed");

    let records = read(&open(&directory)).expect("readable").remove(&0).expect("partition 0");
    assert_eq!(records.len() as u64, end + 1);
    assert_eq!(records.last().and_then(|(_, record)| record.value.as_deref()), Some(&more[..]));
}

/// Everything of topic `events`, by partition, read without a group.
fn read(broker: &Broker) -> headwater::Result<BTreeMap<u32, Vec<(u64, OwnedRecord)>>> {
    let mut reader = broker.topic("events").open()?.consumer(Start::Earliest).build()?;
    let mut records = BTreeMap::<u32, Vec<_>>::new();
    while let Some(batch) = reader.poll(Duration::ZERO)? {
        for record in &batch {
            records.entry(record.partition()).or_default().push((record.offset(), record.to_owned_record()));
        }
    }
    Ok(records)
}

fn open(directory: &Directory) -> Broker {
    Broker::builder().data_dir(directory.path()).min_free_bytes(0).open().expect("opens")
}

fn expect_all(directory: &Directory, what: &str) {
    for (partition, records) in read(&open(directory)).expect(what) {
        let written: Vec<_> = (0..).zip(contents(partition).concat()).collect();
        assert_eq!(records, written, "partition {partition}, {what}");
    }
}

// ── The rules, one by one ──

#[test]
fn numbers_are_little_endian_outside_a_batch_and_big_endian_inside() {
    // F-1. The check values are those of the CRC catalogues, for the digits 1 to 9.
    assert_eq!((crc32(b"123456789"), bytes::crc32c(b"123456789")), (0xCBF4_3926, 0xE306_9283));
    for directory in Directory::both() {
        let (_, segment) = directory.segments("events", 0).remove(0);
        assert_eq!(segment[8..12], [1, 0, 0, 0], "F-1: version of {}", directory.what);
        assert_eq!(segment[32..40], SEGMENT_BYTES.to_le_bytes(), "F-1: size of {}", directory.what);
        let (frame, batch) = batches(&segment).remove(3);
        assert_eq!(batch.records.len(), 3);
        assert_eq!(segment[frame.payload.start + 57..][..4], [0, 0, 0, 3], "F-1: count in {}", directory.what);
    }
}

#[test]
fn the_lock_is_held_for_as_long_as_a_broker_has_the_directory() {
    // F-2
    for directory in Directory::both() {
        let says = || fs::read_to_string(directory.path().join("LOCK")).expect("text");
        let line = says();
        assert!(line.len() == 12 && line.ends_with('\n'), "F-2: {line:?} in {}", directory.what);
        line.trim().parse::<u32>().expect("F-2: a process id");

        let broker = open(&directory);
        assert_eq!(says(), format!("{:<11}\n", std::process::id()), "F-2");
        let refusal = Broker::open(directory.path()).expect_err("F-2: one directory has one broker");
        assert!(matches!(refusal, Error::Locked { holder: Some(pid), .. } if pid == std::process::id()), "{refusal}");
        drop(broker);
        fs::remove_file(directory.path().join("LOCK")).expect("removed");
        drop(open(&directory));
    }
}

#[test]
fn meta_has_a_line_for_each_topic_and_a_checksum_over_them() {
    // F-3
    for directory in Directory::both() {
        let path = directory.path().join("meta");
        let text = fs::read_to_string(&path).expect("text");
        let id = |topic| format!("{:032x}", directory.topic_id(topic));
        let body = format!(
            "headwater meta 1\n\
             topic __consumer_offsets id={} partitions=1 segment.bytes=1048576 max.message.bytes=262080 \
             flush.messages=never flush.ms=5000\n\
             topic empty id={} partitions=1 segment.bytes=65536 max.message.bytes=16320 \
             flush.messages=never flush.ms=never\n\
             topic events id={} partitions=2 segment.bytes=65536 max.message.bytes=16320 \
             flush.messages=1000 flush.ms=5000\n",
            id("__consumer_offsets"),
            id("empty"),
            id("events"),
        );
        assert_eq!(text, format!("{body}crc32 {:08x}\n", crc32(body.as_bytes())), "F-3: {}", directory.what);
        change(&path, |bytes| bytes[30] ^= 1);
        let refusal = Broker::open(directory.path()).expect_err("F-3: a byte was changed");
        assert!(
            matches!(&refusal, Error::NotADataDirectory { reason, .. } if reason.contains("checksum")),
            "{refusal}"
        );
    }
}

#[test]
fn a_partition_lies_in_a_directory_named_by_its_topics_id() {
    // F-4
    for directory in Directory::both() {
        let mut wanted = vec![directory.partition("__consumer_offsets", 0), directory.partition("empty", 0)];
        wanted.extend((0..PARTITIONS).map(|partition| directory.partition("events", partition)));
        wanted.sort();
        let there = fs::read_dir(directory.path().join("topics")).expect("a directory");
        let mut there: Vec<_> = there.map(|entry| entry.expect("an entry").path()).collect();
        there.sort();
        assert_eq!(there, wanted, "F-4: {}", directory.what);
        // A directory that no line of meta names means nothing and is left alone.
        let stranger = directory.path().join("topics").join(format!("{:032x}-0", 1));
        fs::create_dir(&stranger).expect("made");
        expect_all(&directory, "F-4");
        assert!(stranger.is_dir(), "F-4: a strange directory was removed");
    }
}

#[test]
fn the_control_file_says_where_a_clean_log_ends_in_the_newer_of_two_slots() {
    // F-5
    for directory in Directory::both() {
        let path = directory.partition("events", 0).join("control");
        let file = fs::read(&path).expect("there");
        let slots = Control::read(&file);
        let newest = slots.first().expect("F-5: a slot is written");
        let segments = directory.segments("events", 0);
        let (last, _) = batches(&segments[1].1).pop().expect("batches");
        let expected = Control {
            left: 1,
            sequence: newest.sequence,
            boot_id: newest.boot_id,
            log_start: 0,
            offset: contents(0).concat().len() as u64,
            segment: Header::read(&segments[1].1).base_offset,
            position: last.end as u64,
            topic: Header::read(&segments[1].1).topic,
            partition: 0,
        };
        assert_eq!(*newest, expected, "F-5: {}", directory.what);
        assert_ne!(newest.boot_id, 0, "F-5");
        let at = newest.sequence as usize % 2 * bytes::SLOT;
        assert_eq!(le64(&file, at + 16), newest.sequence, "F-5: a sequence number has its slot");
        assert!(slots[1..].iter().all(|older| older.sequence + 1 == newest.sequence), "F-5: {slots:?}");

        // The newer slot torn: the older one holds, and the log is walked from there.
        change(&path, |bytes| bytes[at + 50] ^= 1);
        expect_all(&directory, "F-5: with the older slot");
        drop(open(&directory).topic("events").open().expect("opens"));
        // None at all, in any of the ways in which a crash leaves that.
        for rest in [0, 100, 2 * bytes::SLOT] {
            fs::write(&path, vec![0; rest]).expect("written");
            expect_all(&directory, "F-5: without a control file");
        }
    }
}

#[test]
fn a_segment_is_named_by_its_base_offset_in_twenty_digits() {
    // F-6
    for directory in Directory::both() {
        let segments = directory.segments("events", 0);
        let names: Vec<_> = segments.iter().map(|(path, _)| name(path)).collect();
        assert_eq!(names, ["00000000000000000000.log", "00000000000000000013.log"], "F-6: {}", directory.what);
        for (path, bytes) in &segments {
            assert_eq!(format!("{:020}.log", Header::read(bytes).base_offset), name(path), "F-6: {}", directory.what);
        }
        // Files with other names are nobody's and stay.
        let strangers = ["9.log", "notes.txt", "0000000000000000000x.log"];
        let partition = directory.partition("events", 0);
        for stranger in strangers {
            fs::write(partition.join(stranger), b"mine").expect("written");
        }
        expect_all(&directory, "F-6");
        assert!(strangers.iter().all(|stranger| partition.join(stranger).exists()), "F-6: a strange file was removed");
    }
}

#[test]
fn a_segment_says_first_whose_it_is() {
    // F-7
    for directory in Directory::both() {
        let mut generations = Vec::new();
        for partition in 0..PARTITIONS {
            for (_, bytes) in directory.segments("events", partition) {
                let header = Header::read(&bytes);
                assert_eq!(header.topic, directory.topic_id("events"), "F-7: {}", directory.what);
                assert_eq!((header.partition, header.bytes), (partition, SEGMENT_BYTES), "F-7: {}", directory.what);
                generations.push(header.generation);
            }
        }
        generations.sort_unstable();
        generations.dedup();
        assert_eq!(generations.len(), 3, "F-7: two segments have one generation");

        // The only segment of partition 1 in place of partition 0's first, as a person might copy it.
        let from = directory.segments("events", 1).remove(0).0;
        fs::copy(from, directory.segments("events", 0).remove(0).0).expect("copied");
        let refusal = read(&open(&directory)).expect_err("F-7: a file of another partition");
        assert!(refusal.to_string().contains("belongs to another partition"), "{refusal}");
    }
}

#[test]
fn frames_stand_back_to_back_at_multiples_of_eight_and_zeros_follow_the_last() {
    // F-8
    for directory in Directory::both() {
        for (_, file) in directory.segments("events", 0) {
            let frames = frames(&file);
            assert_eq!(frames[0].position, FIRST_FRAME, "F-8: {}", directory.what);
            for pair in frames.windows(2) {
                assert_eq!(pair[0].end, pair[1].position, "F-8: {}", directory.what);
                assert_eq!(pair[0].end % 8, 0, "F-8");
                assert!(file[pair[0].payload.end..pair[0].end].iter().all(|byte| *byte == 0), "F-8: padding");
            }
            let end = frames.last().expect("frames").end;
            assert!(file[end..].iter().all(|byte| *byte == 0), "F-8: bytes behind the last frame");
        }
        assert!(
            directory.segments("events", 0).iter().any(|(_, file)| frames(file).iter().any(|f| f.payload.end < f.end)),
            "F-8: no frame of {} has padding to be looked at",
            directory.what
        );
        // A flag that version 1 does not know.
        let refusal = damaged(&directory, |file, frame| file[frame + 12] = 1);
        assert!(refusal.contains("flags"), "F-8: {refusal}");
    }
}

#[test]
fn a_commit_word_has_length_kind_and_a_tag_of_its_place() {
    // F-9
    for directory in Directory::both() {
        for (_, file) in directory.segments("events", 0) {
            let generation = Header::read(&file).generation;
            for frame in frames(&file) {
                let kind = if frame.kind == Kind::Batch { 1_u64 } else { 2 };
                let tag = u64::from(tag(generation, frame.position as u64));
                let word = tag << 32 | kind << 30 | frame.payload.len() as u64;
                assert_eq!(le64(&file, frame.position), word, "F-9: {}", directory.what);
            }
        }
        // A frame in another one's place is none: batches 0 and 1 change places, with all their bytes.
        let (path, file) = directory.segments("events", 0).remove(0);
        let found = frames(&file);
        let swapped = [&file[found[1].position..found[1].end], &file[found[0].position..found[0].end]].concat();
        change(&path, |bytes| bytes[found[0].position..found[1].end].copy_from_slice(&swapped));
        let refusal = read(&open(&directory)).expect_err("F-9: frames are misplaced");
        assert!(matches!(&refusal, Error::Damaged(damage) if damage.from == 0), "{refusal}");
    }
}

#[test]
fn every_byte_of_a_frame_is_under_a_checksum() {
    // F-10: our own over the head and what the batch's leaves out, the batch's own over the rest.
    let directory = Directory::golden();
    let (path, whole) = directory.segments("events", 0).remove(0);
    let frame = frames(&whole).remove(0);
    for at in frame.position..frame.payload.end {
        change(&path, |bytes| bytes[at] ^= 0x10);
        let refusal = read(&open(&directory)).expect_err("F-10: a byte was changed");
        assert!(
            matches!(&refusal, Error::Damaged(damage) if damage.from == 0 && damage.to >= 1),
            "byte {at}: {refusal}"
        );
        fs::write(&path, &whole).expect("put back");
    }
    expect_all(&directory, "F-10: everything put back");
}

#[test]
fn a_sealed_segment_ends_with_a_pad_and_a_segment_in_use_does_not() {
    // F-11
    for directory in Directory::both() {
        let segments = directory.segments("events", 0);
        let sealed = frames(&segments[0].1);
        let pad = sealed.last().expect("frames");
        assert_eq!((pad.kind, pad.end), (Kind::Pad, segments[0].1.len()), "F-11: {}", directory.what);
        assert!(sealed[..sealed.len() - 1].iter().all(|frame| frame.kind == Kind::Batch), "F-11");
        assert!(frames(&segments[1].1).iter().all(|frame| frame.kind == Kind::Batch), "F-11: {}", directory.what);
        // The kinds 0 and 3 are nobody's yet.
        for kind in [0, 3] {
            let refusal = damaged(&directory, |file, frame| file[frame + 3] = file[frame + 3] & 0x3F | kind << 6);
            assert!(refusal.contains("damaged at byte 4096"), "F-11: {refusal}");
        }
    }
}

#[test]
fn a_batch_is_kafkas_and_fits_a_quarter_of_a_segment() {
    // F-12: `Batch::read` holds each field to the rule.
    for directory in Directory::both() {
        for partition in 0..PARTITIONS {
            let segments = directory.segments("events", partition);
            let found: Vec<_> = segments.iter().flat_map(|(_, file)| batches(file)).collect();
            let written = contents(partition);
            assert_eq!(found.len(), written.len(), "F-12: batches of {}", directory.what);
            for ((frame, batch), written) in found.iter().zip(&written) {
                assert!(frame.payload.len() <= SEGMENT_BYTES as usize / 4 - 64, "F-12: {}", frame.payload.len());
                assert_eq!(batch.base_timestamp, written[0].timestamp.0, "F-12: {}", directory.what);
                assert_eq!(Some(batch.max_timestamp), written.iter().map(|record| record.timestamp.0).max(), "F-12");
                let read = batch.records.iter().map(|record| {
                    let bytes::Record { key, value, headers, timestamp, .. } = record.clone();
                    OwnedRecord { key, value, headers, timestamp: headwater::Timestamp(timestamp) }
                });
                assert!(read.eq(written.iter().cloned()), "F-12: {:?}", batch.records);
            }
        }
    }
}

#[test]
fn offsets_have_no_gaps_within_a_batch_between_batches_and_between_segments() {
    // F-13
    for directory in Directory::both() {
        for partition in 0..PARTITIONS {
            let mut next = 0;
            for (_, file) in directory.segments("events", partition) {
                assert_eq!(Header::read(&file).base_offset, next, "F-13: {}", directory.what);
                for (_, batch) in batches(&file) {
                    assert_eq!(batch.base_offset.cast_unsigned(), next, "F-13: {}", directory.what);
                    let offsets: Vec<_> = batch.records.iter().map(|record| record.offset).collect();
                    next += batch.last_offset_delta as u64 + 1;
                    assert!(offsets.into_iter().eq(batch.base_offset.cast_unsigned()..next), "F-13: {batch:?}");
                }
            }
            assert_eq!(next, contents(partition).concat().len() as u64, "F-13: {}", directory.what);
        }
    }
}

#[test]
fn an_index_points_at_frames_and_is_made_anew_where_it_is_not_what_was_written() {
    // F-14
    for directory in Directory::both() {
        let (segment_path, segment) = directory.segments("events", 0).remove(0);
        let path = segment_path.with_extension("index");
        let index = fs::read(&path).expect("F-14: a sealed segment has an index");
        assert_eq!(&index[..8], b"HWINDEX1", "F-14: {}", directory.what);
        assert_eq!(index.len(), 24 + 24 * le32(&index, 8) as usize, "F-14: {}", directory.what);
        let covered = [&Header::read(&segment).generation.to_le_bytes(), &index[16..]].concat();
        assert_eq!(le32(&index, 12), crc32(&covered), "F-14: {}", directory.what);

        let mut entries: Vec<[u64; 3]> = Vec::new();
        let mut latest = i64::MIN;
        for (frame, batch) in batches(&segment) {
            if entries.last().is_none_or(|last| frame.position as u64 >= last[1] + 4096) {
                entries.push([batch.base_offset.cast_unsigned(), frame.position as u64, latest.cast_unsigned()]);
            }
            latest = latest.max(batch.max_timestamp);
        }
        let written: Vec<_> = index[24..].chunks(24).map(|e| [le64(e, 0), le64(e, 8), le64(e, 16)]).collect();
        assert_eq!(written, entries, "F-14: {}", directory.what);
        assert_eq!(le64(&index, 16), latest.cast_unsigned(), "F-14: {}", directory.what);
        assert!(!directory.segments("events", 0)[1].0.with_extension("index").exists(), "F-14: not sealed yet");

        let lies = |index: &mut Vec<u8>| {
            index[24 + 2 * 24..][..8].copy_from_slice(&9_u64.to_le_bytes()); // it is the frame of offset 11
            let crc = crc32(&[&Header::read(&segment).generation.to_le_bytes(), &index[16..]].concat());
            index[12..16].copy_from_slice(&crc.to_le_bytes());
        };
        let broken: [(&str, &Break); 4] = [
            ("flipped", &|index| index[24..].chunks_mut(24).for_each(|entry| entry[23] ^= 0x80)), // all times early
            ("cut", &|index| index.truncate(30)),
            ("of a later version", &|index| index[7] = b'2'),
            ("wrong under a good checksum", &lies),
        ];
        for (what, breaks) in broken {
            change(&path, |bytes| breaks(bytes));
            expect_found(&directory, what);
            fs::write(&path, &index).expect("put back");
        }
        fs::remove_file(&path).expect("removed");
        expect_found(&directory, "missing");
    }
}

/// A way to spoil an index.
type Break<'a> = dyn Fn(&mut Vec<u8>) + 'a;

/// Every offset and time of partition 0 is found from the index, whatever state it is in.
fn expect_found(directory: &Directory, index: &str) {
    let broker = open(directory);
    let events = broker.topic("events").open().expect("opens");
    for (offset, record) in (0..).zip(contents(0).concat()) {
        let mut reader = events.consumer(Start::Earliest).build().expect("a consumer");
        let partition = reader.positions()[0].0.clone();
        reader.seek(&partition, offset).expect("within the log");
        let batch = reader.poll(Duration::ZERO).expect("readable").expect("a record");
        let first = batch.iter().next().map(|record| (record.offset(), record.to_owned_record()));
        assert_eq!(first, Some((offset, record)), "F-14: offset {offset} with an index that is {index}");
    }
    let of_offset_7 = headwater::Timestamp(NOW.0 + 2_001);
    let reader = events.consumer(Start::Timestamp(of_offset_7)).build().expect("a consumer");
    assert_eq!(reader.positions()[0].1, 7, "F-14: a time with an index that is {index}");
}

#[test]
fn prepared_files_are_no_part_of_the_log() {
    // F-15
    for directory in Directory::both() {
        let partition = directory.partition("events", 0);
        let spares = spares(&partition);
        assert_eq!(spares.len(), 2, "F-15: {}", directory.what);
        for (path, bytes) in &spares {
            let number = name(path).strip_prefix("spare-").and_then(|rest| rest.strip_suffix(".log"));
            number.and_then(|number| number.parse::<u64>().ok()).expect("F-15: spare-<number>.log");
            assert_eq!(bytes.len() as u64, SEGMENT_BYTES, "F-15: {}", directory.what);
            assert!(bytes.iter().all(|byte| *byte == 0), "F-15: {}", directory.what);
            // Whatever lies in one, even a whole segment of this log: it is not read.
            fs::copy(&directory.segments("events", 0)[0].0, path).expect("copied");
        }
        fs::write(partition.join("spare-77.log"), b"short").expect("written");
        expect_all(&directory, "F-15");

        // Nor is what one held before it became a segment: its frames have another generation's tags.
        let broker = open(&directory);
        let mut producer = broker.topic("events").open().expect("opens").producer().expect("a producer");
        let mut written = contents(0).concat();
        for byte in b'A'..b'J' {
            let value = vec![byte; 16_000];
            producer.send(Record::new(&value).partition(0).timestamp(NOW)).expect("sent");
            written.push(OwnedRecord { value: Some(value), timestamp: NOW, ..OwnedRecord::default() });
        }
        drop((producer, broker));
        assert_eq!(directory.segments("events", 0).len(), 5, "F-15: the test rolls into the prepared files");
        let records = read(&open(&directory)).expect("readable").remove(&0).expect("partition 0");
        assert!(records.into_iter().eq((0..).zip(written)), "F-15: what a spare held came back: {}", directory.what);
    }
}

#[test]
fn committed_offsets_are_records_of_an_internal_topic_and_the_latest_counts() {
    // F-16
    for directory in Directory::both() {
        let segments = directory.segments("__consumer_offsets", 0);
        let mut committed = BTreeMap::new();
        let mut records = 0;
        for record in segments.iter().flat_map(|(_, file)| batches(file)).flat_map(|(_, batch)| batch.records) {
            let (key, value) = (record.key.expect("F-16: a key"), record.value.expect("F-16: a value"));
            assert_eq!((le16(&key, 0), le16(&value, 0), value.len()), (1, 1, 10), "F-16: {}", directory.what);
            assert_eq!(le128(&key, 2), directory.topic_id("events"), "F-16: {}", directory.what);
            assert_eq!(&key[22..], GROUP.as_bytes(), "F-16: {}", directory.what);
            assert_eq!(record.timestamp, NOW.0, "F-16: {}", directory.what);
            committed.insert(le32(&key, 18), le64(&value, 2));
            records += 1;
        }
        assert_eq!(committed, BTreeMap::from([(0, COMMITTED[0]), (1, COMMITTED[1])]), "F-16: {}", directory.what);
        assert_eq!(records, 3, "F-16: one of them was said twice");
    }
}

// ── F-17: recovery ──

/// Leaves partition 0 of `events` as a session does that had it open and knew no more than its first segment's
/// start to be on the disk.
fn leave_open(directory: &Directory, left: u8, boot_id: u128) {
    change(&directory.partition("events", 0).join("control"), |file| {
        let newest = Control::read(file).remove(0);
        let start = Control { left, boot_id, offset: 0, segment: 0, position: FIRST_FRAME as u64, ..newest };
        start.write(file);
    });
}

fn report(directory: &Directory) -> RecoveryReport {
    let events = open(directory).topic("events").open().expect("opens");
    events.recovery().next().expect("partition 0").clone()
}

const ANOTHER_BOOT: u128 = 0x1234;

#[test]
fn after_a_power_cut_the_first_frame_that_is_not_whole_is_cut_and_zeroed() {
    // F-17
    let directory = Directory::golden();
    leave_open(&directory, 0, ANOTHER_BOOT);
    let (path, file) = directory.segments("events", 0).remove(1);
    let end = frames(&file).last().expect("frames").end;
    change(&path, |bytes| bytes[end..end + 5_000].fill(0xAB));
    let report = report(&directory);
    assert_eq!((report.ended, report.end_offset), (Ended::MachineDied, contents(0).concat().len() as u64));
    let torn = report.torn.expect("F-17: a torn tail");
    assert_eq!((torn.position, torn.segments_removed), (end as u64, 0), "{torn:?}");
    assert!(fs::read(&path).expect("there") == file, "F-17: the tail does not read as zeros");
    expect_all(&directory, "F-17");
}

#[test]
fn after_a_power_cut_segments_behind_the_cut_go_with_it() {
    // F-17
    let directory = Directory::golden();
    leave_open(&directory, 0, ANOTHER_BOOT);
    let segments = directory.segments("events", 0);
    let third = batches(&segments[0].1).remove(3).0;
    change(&segments[0].0, |bytes| bytes[third.payload.start + 70] ^= 1);
    let report = report(&directory);
    let torn = report.torn.expect("F-17: a torn tail");
    assert_eq!((report.end_offset, torn.position, torn.segments_removed), (3, third.position as u64, 1));
    assert!(!segments[1].0.exists(), "F-17: a segment behind the cut is there");
    let left = read(&open(&directory)).expect("readable").remove(&0).expect("partition 0");
    assert!(left.into_iter().eq((0..).zip(contents(0).concat()).take(3)), "F-17: what lies before the cut");
}

#[test]
fn what_was_known_to_be_on_the_disk_is_damage_and_never_cut() {
    // F-17
    let directory = Directory::golden();
    let (path, file) = directory.segments("events", 0).remove(0);
    let third = batches(&file).remove(3).0;
    change(&path, |bytes| bytes[third.payload.start + 70] ^= 1);
    let before = directory.snapshot();
    let refusal = read(&open(&directory)).expect_err("F-17: damage");
    let Error::Damaged(damage) = &refusal else { panic!("{refusal}") };
    assert_eq!((damage.from, damage.to, damage.position), (3, 6, third.position as u64), "{damage}");
    assert!(directory.snapshot() == before, "F-17: a damaged log was changed");

    let skip = Broker::builder().data_dir(directory.path()).min_free_bytes(0).on_damage(OnDamage::Skip);
    let rest = read(&skip.open().expect("opens")).expect("readable").remove(&0).expect("partition 0");
    let expected = (0..).zip(contents(0).concat()).filter(|(offset, _)| !(3..6).contains(offset));
    assert!(rest.into_iter().eq(expected), "F-17: all but the damaged batch");
}

#[test]
fn after_a_failed_sync_the_walk_begins_at_the_recovery_point() {
    // F-17
    let directory = Directory::golden();
    leave_open(&directory, 2, ANOTHER_BOOT);
    let report = report(&directory);
    assert_eq!((report.ended, report.torn), (Ended::Fenced, None));
    expect_all(&directory, "F-17");
}

#[cfg(target_os = "linux")]
#[test]
fn after_the_death_of_the_process_alone_everything_committed_is_there() {
    // F-17
    let boot_id = fs::read_to_string("/proc/sys/kernel/random/boot_id").expect("Linux says which boot this is");
    let boot_id = u128::from_str_radix(&boot_id.trim().replace('-', ""), 16).expect("hexadecimal digits");
    let directory = Directory::golden();
    leave_open(&directory, 0, boot_id);
    let (path, file) = directory.segments("events", 0).remove(1);
    let end = frames(&file).last().expect("frames").end;
    change(&path, |bytes| bytes[end + 16..end + 100].fill(0xAB)); // a batch whose commit word was never stored
    let report = report(&directory);
    assert_eq!(report.ended, Ended::ProcessDied);
    assert_eq!(report.torn.map(|torn| torn.position), Some(end as u64));
    assert!(fs::read(&path).expect("there") == file, "F-17: the tail does not read as zeros");
    expect_all(&directory, "F-17");
}

// ── F-18: versions ──

#[test]
fn a_later_version_of_meta_is_refused_unread() {
    // F-18
    let directory = Directory::golden();
    let later = "headwater meta 2\nsomething that version 1 has never heard of\n";
    fs::write(directory.path().join("meta"), later).expect("written");
    let before = directory.snapshot();
    let refusal = Broker::open(directory.path()).expect_err("F-18");
    expect_version_2(&refusal, "meta");
    assert!(directory.snapshot() == before, "F-18: something was changed");
}

#[test]
fn a_later_version_of_a_control_file_is_refused_unread() {
    // F-18: whether it says what version 1 might say, too, or a way to be left that version 1 does not know.
    for left in [1, 77] {
        let directory = Directory::golden();
        change(&directory.partition("events", 0).join("control"), |file| {
            let at = Control::read(file).remove(0).sequence as usize % 2 * bytes::SLOT;
            (file[at + 8], file[at + 12]) = (2, left);
            sum(&mut file[at..at + bytes::SLOT], 92);
        });
        let before = directory.snapshot();
        let refusal = open(&directory).topic("events").open().expect_err("F-18");
        expect_version_2(&refusal, "control");
        assert!(directory.snapshot() == before, "F-18: something was changed");
    }
}

#[test]
fn a_later_version_of_a_segment_is_refused_unread_the_last_one_at_open_and_others_when_read() {
    // F-18
    for (at, is_last) in [(1, true), (0, false)] {
        let directory = Directory::golden();
        change(&directory.segments("events", 0)[at].0, |file| {
            file[8] = 2;
            sum(file, 64);
        });
        let before = directory.snapshot();
        let opened = open(&directory).topic("events").open().map(drop);
        let refusal = if is_last { opened } else { opened.and_then(|()| read(&open(&directory)).map(drop)) };
        expect_version_2(&refusal.expect_err("F-18"), ".log");
        assert!(directory.snapshot() == before, "F-18: something was changed");
    }
}

fn expect_version_2(refusal: &Error, file: &str) {
    let Error::UnsupportedVersion { path, found: 2, supported: 1 } = refusal else { panic!("F-18: {refusal}") };
    assert!(name(path).ends_with(file), "{}", path.display());
}

/// Changes the first frame of partition 0, sees to it that its own checksum holds, and says how reading is refused.
fn damaged(directory: &Directory, changes: impl Fn(&mut [u8], usize)) -> String {
    let (path, whole) = directory.segments("events", 0).remove(0);
    change(&path, |file| {
        let generation = Header::read(file).generation;
        changes(file, FIRST_FRAME);
        let (low, flags) = (le32(file, FIRST_FRAME), le32(file, FIRST_FRAME + 12));
        let mut covered = [generation.to_le_bytes(), (FIRST_FRAME as u64).to_le_bytes()].concat();
        covered.extend([low.to_le_bytes(), flags.to_le_bytes()].concat());
        covered.extend(&file[FIRST_FRAME + 16..FIRST_FRAME + 16 + 21]);
        let crc = crc32(&covered);
        file[FIRST_FRAME + 8..FIRST_FRAME + 12].copy_from_slice(&crc.to_le_bytes());
    });
    let refusal = read(&open(directory)).expect_err("a frame was changed");
    assert!(refusal.is_damaged(), "{refusal}");
    fs::write(path, whole).expect("put back");
    refusal.to_string()
}

/// Makes the golden directory: `HEADWATER_BLESS=1 cargo test --test compat -- --ignored`, once for each version.
#[test]
#[ignore = "makes the golden directory"]
fn bless() {
    if std::env::var_os("HEADWATER_BLESS").is_some() {
        golden::bless();
    }
}
