//! A log of many segments. What fails here in the field: opening takes longer with every day, a record cannot be found
//! any more because of a file that is only there to find it sooner, files pile up.

use std::path::PathBuf;
use std::time::Duration;

use headwater::fs::Simulated;
use headwater::fs::simulated::OpKind;
use headwater::{Record, Start, Timestamp, Topic};

use crate::support::{
    DATA, SMALL, close, directory, drain, files, machine, open_dir, open_on, quick, reader, segments, small_topic,
    values,
};

fn value(number: u64) -> String {
    format!("{number:0>300}")
}

/// Sends numbered records, in batches of seven, all synced.
fn fill(topic: &Topic, numbers: std::ops::Range<u64>) {
    let mut producer = topic.producer().expect("a producer");
    let numbers: Vec<u64> = numbers.collect();
    for some in numbers.chunks(7) {
        let values: Vec<_> = some.iter().map(|number| value(*number)).collect();
        let stamped = some.iter().zip(&values).map(|(at, v)| Record::new(v).timestamp(Timestamp(*at as i64 * 10)));
        producer.send_batch(&stamped.collect::<Vec<_>>()).expect("sent");
    }
}

/// Begins at every offset and at every time, and reads on for a little.
#[track_caller]
fn every_offset_is_found(topic: &Topic, count: u64, indexes: &str) {
    for offset in (0..count).step_by(3) {
        for start in [Start::Offset(offset), Start::Timestamp(Timestamp(offset as i64 * 10 - 3))] {
            let mut consumer = topic.consumer(start).max_poll_records(2).build().expect("a consumer");
            let batch = consumer.poll(Duration::ZERO).expect("a poll").expect("records");
            let first = batch.iter().next().expect("one");
            assert_eq!(
                (first.offset(), first.value()),
                (offset, value(offset).as_bytes()),
                "{start:?}, indexes: {indexes}"
            );
        }
    }
}

#[test]
fn segments_are_named_by_their_first_offset_have_the_size_they_were_given_and_follow_each_other() {
    let fs = machine();
    let broker = open_on(&fs);
    let topic = small_topic(&broker, "t");
    fill(&topic, 0..1_000);
    let found = segments(&fs, &topic);
    assert!(found.len() >= 4, "{found:?}");
    let base = |path: &PathBuf| path.file_stem().and_then(|stem| stem.to_str()?.parse().ok()).expect("a base offset");
    let bases: Vec<u64> = found.iter().map(base).collect();
    assert_eq!(bases[0], 0);
    for (path, base) in found.iter().zip(&bases) {
        assert_eq!(fs.read_file(path).expect("there").len() as u64, SMALL);
        let mut consumer = topic.consumer(Start::Offset(*base)).build().expect("a consumer");
        assert_eq!(drain(&mut consumer).first().map(|record| record.offset), Some(*base));
    }
    assert_eq!(values(&topic), (0..1_000).map(value).collect::<Vec<_>>(), "across the seams");
    every_offset_is_found(&topic, 1_000, "as written");
}

#[test]
fn every_record_is_found_whatever_became_of_the_indexes() {
    let fs = machine();
    let broker = open_on(&fs);
    let topic = small_topic(&broker, "t");
    fill(&topic, 0..1_000);
    let (indexes, found) = (files(&fs, &topic, ".index"), segments(&fs, &topic));
    assert_eq!(indexes.len(), found.len() - 1, "each sealed segment has one: {indexes:?}");
    close(broker);
    drop(topic);
    type Change<'a> = (&'a str, Box<dyn Fn(&Simulated)>);
    let corrupt = |change: fn(&mut Vec<u8>)| {
        let indexes = indexes.clone();
        move |fs: &Simulated| indexes.iter().for_each(|path| fs.corrupt(path, change).expect("there"))
    };
    let others = indexes.clone();
    let gone = indexes.clone();
    let forged: Vec<_> = indexes.iter().cloned().zip(found.iter().cloned()).collect();
    let changes: [Change<'_>; 8] = [
        ("untouched", Box::new(|_| ())),
        (
            "missing",
            Box::new(move |fs| gone.iter().for_each(|path| headwater::fs::Fs::remove(fs, path).expect("there"))),
        ),
        ("empty", Box::new(corrupt(Vec::clear))),
        ("cut", Box::new(corrupt(|bytes| bytes.truncate(bytes.len() / 2)))),
        (
            "bits flipped",
            Box::new(corrupt(|bytes| bytes[24..].iter_mut().skip(47).step_by(24).for_each(|b| *b ^= 0x80))),
        ),
        ("zeros", Box::new(corrupt(|bytes| bytes.fill(0)))),
        (
            "another segment's",
            Box::new(move |fs| {
                let foreign = fs.read_file(&others[1]).expect("there");
                fs.corrupt(&others[0], |bytes| bytes.clone_from(&foreign)).expect("there");
            }),
        ),
        ("forged with a checksum that holds", Box::new(move |fs| forged.iter().for_each(|(i, s)| forge(fs, i, s)))),
    ];
    for (what, change) in changes {
        let after = fs.kill();
        change(&after);
        let broker = open_on(&after);
        let topic = small_topic(&broker, "t");
        every_offset_is_found(&topic, 1_000, what);
        assert_eq!(values(&topic).len(), 1_000, "index {what}");
    }
}

/// Has every entry of an index but the first point 8 bytes too far, with a checksum that holds.
fn forge(fs: &Simulated, index: &PathBuf, segment: &PathBuf) {
    let generation = fs.read_file(segment).expect("there")[16..24].to_vec();
    fs.corrupt(index, |bytes| {
        for entry in bytes[24..].chunks_exact_mut(24).skip(1) {
            let position = u64::from_le_bytes(entry[8..16].try_into().expect("8 bytes"));
            entry[8..16].copy_from_slice(&(position + 8).to_le_bytes());
        }
        let crc = crc32fast::hash(&[&generation[..], &bytes[16..]].concat());
        bytes[12..16].copy_from_slice(&crc.to_le_bytes());
    })
    .expect("there");
}

#[test]
fn a_record_far_back_is_found_without_reading_what_lies_before_it() {
    let (fs, place) = (machine(), 900);
    let broker = open_on(&fs);
    let topic = small_topic(&broker, "t");
    fill(&topic, 0..1_000);
    let found = segments(&fs, &topic);
    close(broker);
    drop(topic);
    // Everything but the neighbourhood of the record is made unreadable; its index is there.
    let base = |path: &PathBuf| path.file_stem().and_then(|stem| stem.to_str()?.parse::<u64>().ok()).expect("a base");
    let holder = found.iter().rposition(|path| base(path) <= place - 100).expect("a segment");
    let offset = base(&found[holder + 1]) - 1;
    for path in &found[..holder] {
        fs.corrupt(path, |bytes| bytes[4096..].fill(0xff)).expect("there");
    }
    fs.corrupt(&found[holder], |bytes| bytes[4096..30_000].fill(0xff)).expect("there");
    let broker = open_on(&fs);
    let topic = small_topic(&broker, "t");
    let opened = fs.operations_of(OpKind::OpenRead);
    let mut consumer = topic.consumer(Start::Offset(offset)).max_poll_records(1).build().expect("a consumer");
    let batch = consumer.poll(Duration::ZERO).expect("the damage is far away").expect("records");
    assert_eq!(batch.iter().next().map(|record| record.value().to_vec()), Some(value(offset).into_bytes()));
    assert!(fs.operations_of(OpKind::OpenRead) - opened <= 2, "one segment and its index");
}

#[test]
fn opening_a_topic_does_not_depend_on_how_long_it_is() {
    let count = |fs: &Simulated| {
        [OpKind::Open, OpKind::OpenRead, OpKind::ReadAt, OpKind::Map].map(|kind| fs.operations_of(kind))
    };
    let fs = machine();
    let broker = open_on(&fs);
    let topic = small_topic(&broker, "t");
    let mut by_length = Vec::new();
    let mut sent = 0;
    for segments_wanted in [4, 60] {
        while segments(&fs, &topic).len() < segments_wanted {
            fill(&topic, sent..sent + 100);
            sent += 100;
        }
        let ends: [(&str, Simulated); 3] = [
            ("closed", {
                let closed = fs.kill();
                let broker = open_on(&closed);
                let topic = small_topic(&broker, "t");
                quick(&topic).send(Record::new("last")).expect("sent");
                close(broker);
                closed.kill()
            }),
            ("killed", fs.kill()),
            ("crashed", fs.crash(0)),
        ];
        by_length.push(ends.map(|(end, fs)| {
            let broker = open_on(&fs);
            let before = count(&fs);
            let topic = broker.topic("t").open().expect("it opens");
            let after = count(&fs);
            assert!(topic.offsets(0).expect("there").end >= sent, "{end}");
            let operations: Vec<u64> = after.iter().zip(before).map(|(after, before)| after - before).collect();
            // Files only: where in its last segment a log ends decides how much of that one is read.
            (end, operations[0] + operations[1], operations[2] <= 20, operations[3])
        }));
    }
    assert_eq!(by_length[0], by_length[1], "4 segments and 60: files opened, few reads, maps");
    assert!(
        by_length[1].iter().all(|(_, files, few_reads, maps)| *files <= 4 && *few_reads && *maps <= 2),
        "{by_length:?}"
    );
}

#[test]
fn files_that_were_prepared_are_used_up_and_do_not_pile_up_over_sessions() {
    let dir = directory();
    let mut next = 0;
    for _ in 0..10 {
        let broker = open_dir(dir.path());
        let topic = small_topic(&broker, "t");
        fill(&topic, next..next + 400);
        next += 400;
        let path = dir.path().join(format!("topics/{}-0", topic.id()));
        drop(topic);
        close(broker);
        let names = std::fs::read_dir(path).expect("there").map(|entry| entry.expect("an entry").file_name());
        let names: Vec<_> = names.map(|name| name.to_string_lossy().into_owned()).collect();
        let spares = names.iter().filter(|name| name.starts_with("spare-")).count();
        assert!(spares <= 4, "{spares} spares: {names:?}");
    }
    let broker = open_dir(dir.path());
    assert_eq!(values(&small_topic(&broker, "t")), (0..next).map(value).collect::<Vec<_>>());
}

#[test]
fn a_record_that_just_fits_and_one_that_does_not_fit_the_rest_of_a_segment_are_both_found() {
    for without_cache in [false, true] {
        let fs = match without_cache {
            true => machine().without_unified_cache(),
            false => machine(),
        };
        let broker = open_on(&fs);
        let topic = small_topic(&broker, "t");
        let mut producer = topic.producer().expect("a producer");
        let limit = topic.config().max_message_bytes as usize;
        let mut expected = Vec::new();
        // Sizes that leave every rest of a segment: 0, less than a frame's head, a little more.
        for number in 0..300_usize {
            let len = [limit - 100, 1, 777, 4096, 40 + number % 64][number % 5];
            let value = vec![b'a' + (number % 26) as u8; len];
            assert_eq!(producer.send(Record::new(&value)).expect("sent").offset, number as u64);
            expected.push(String::from_utf8(value).expect("ascii"));
        }
        assert_eq!(values(&topic), expected);
        drop((topic, producer));
        close(broker);
        for after in [fs.kill(), fs.crash(0)] {
            let topic = small_topic(&open_on(&after), "t");
            assert_eq!(values(&topic), expected, "{DATA} again");
            assert_eq!(drain(&mut reader(&topic)).last().map(|record| record.offset), Some(299));
        }
    }
}
