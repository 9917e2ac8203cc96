//! Stored bytes that are not what was written. What fails here in the field: wrong bytes are taken for records, good
//! ones are lost with the bad, or nobody can say which are missing.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use headwater::fs::Simulated;
use headwater::{Broker, Consumer, Damage, Error, OnDamage, Record, Start, Timestamp};

use crate::support::{
    DATA, SMALL, builder_on, close, directory, machine, open_on, partition_of, reader, segments, small_topic,
};

/// Records of each batch.
const BATCH: usize = 3;

fn value(offset: u64) -> String {
    format!("{offset:0>700}")
}

/// A machine with a topic `t` over several sealed segments, closed in order; and the segments.
fn written() -> (Simulated, Vec<PathBuf>, u64) {
    let fs = machine();
    let broker = open_on(&fs);
    let topic = small_topic(&broker, "t");
    let mut producer = topic.producer().expect("a producer");
    let count = 300;
    for first in (0..count).step_by(BATCH) {
        let values: Vec<_> = (first..first + BATCH as u64).map(value).collect();
        let batch = (first..).zip(&values).map(|(at, value)| Record::new(value).timestamp(Timestamp(at as i64)));
        producer.send_batch(&batch.collect::<Vec<_>>()).expect("sent");
    }
    let segments = segments(&fs, &topic);
    assert!(segments.len() >= 4, "{segments:?}");
    close(broker);
    (fs, segments, count)
}

fn base(segment: &Path) -> u64 {
    let stem = segment.file_stem().and_then(|stem| stem.to_str()).expect("a name");
    stem.parse().expect("a base offset")
}

/// What a consumer is lent, each value checked, until there is no more or an error.
fn read(consumer: &mut Consumer) -> (Vec<u64>, Vec<Damage>, Option<Error>) {
    let (mut offsets, mut skipped) = (Vec::new(), Vec::new());
    loop {
        match consumer.poll(Duration::ZERO) {
            Ok(None) => return (offsets, skipped, None),
            Err(error) => return (offsets, skipped, Some(error)),
            Ok(Some(batch)) => {
                for record in &batch {
                    assert_eq!(record.value(), value(record.offset()).as_bytes(), "false data");
                    offsets.push(record.offset());
                }
                skipped.extend_from_slice(batch.skipped());
                assert!(!batch.is_empty() || !batch.skipped().is_empty(), "a batch of nothing");
            }
        }
    }
}

/// The offsets that damage has taken, none of them beyond the end.
#[track_caller]
fn lost_of<'a>(damages: impl IntoIterator<Item = &'a Damage>, end: u64, what: &str) -> BTreeSet<u64> {
    let all = damages.into_iter().flat_map(|damage| {
        assert!(damage.from < damage.to && damage.to <= end, "{what}: the log ends at {end}: {damage}");
        damage.from..damage.to
    });
    all.collect()
}

fn opened(fs: &Simulated, on_damage: OnDamage) -> Broker {
    builder_on(fs).on_damage(on_damage).open().expect("a broker")
}

#[test]
fn refused_damage_names_file_place_and_offsets_and_a_seek_goes_on_behind_it() {
    let (fs, segments, count) = written();
    fs.corrupt(&segments[1], |bytes| bytes[20_000] ^= 0x10).expect("there");
    let broker = open_on(&fs);
    let topic = small_topic(&broker, "t");
    let mut consumer = reader(&topic);
    let (before, _, error) = read(&mut consumer);
    let Some(Error::Damaged(damage)) = error else { panic!("{error:?}") };
    let Damage { partition, path, position, from, to, reason } = (*damage).clone();
    assert_eq!((&partition, &path), (&partition_of("t", 0), &segments[1]));
    assert_eq!((before, to - from), ((0..from).collect(), BATCH as u64), "one batch, and all before it was lent");
    assert!((17_000..=20_000).contains(&position) && !reason.is_empty(), "{position} {reason}");
    let text = damage.to_string();
    assert!(text.contains(&format!("offsets {from} to {to}")) && text.contains("OnDamage::Skip"), "{text}");
    // It is said as often as it is met, and the position stays before it.
    for _ in 0..3 {
        assert_eq!(consumer.position(&partition), Some(from));
        let again = consumer.poll(Duration::ZERO).expect_err("still damaged");
        assert!(matches!(&again, Error::Damaged(same) if *same == damage) && again.is_damaged(), "{again}");
    }
    consumer.seek(&partition, to).expect("in the log");
    let (after, _, error) = read(&mut consumer);
    assert_eq!(after, (to..count).collect::<Vec<_>>());
    assert!(error.is_none(), "{error:?}");
    // It takes records as before, and a later start does not meet the damage.
    topic.producer().expect("a producer").send(Record::new(&value(count))).expect("sent");
    let mut later = topic.consumer(Start::Offset(to + 4)).build().expect("a consumer");
    assert_eq!(read(&mut later).0, (to + 4..=count).collect::<Vec<_>>());
    assert_eq!(topic.metrics()[0].offsets_skipped, 0);
}

#[test]
fn skipped_damage_is_counted_exactly_and_said_with_the_batch_behind_it() {
    let (fs, segments, count) = written();
    fs.corrupt(&segments[0], |bytes| bytes[4096 + 100] ^= 1).expect("there");
    fs.corrupt(&segments[2], |bytes| bytes[30_000..36_000].fill(0)).expect("there");
    let broker = opened(&fs, OnDamage::Skip);
    let topic = small_topic(&broker, "t");
    let (offsets, skipped, error) = read(&mut reader(&topic));
    assert!(error.is_none(), "{error:?}");
    let missing = lost_of(&skipped, count, "two places");
    assert_eq!(skipped.len(), 2, "{skipped:?}");
    assert_eq!((skipped[0].from, skipped[0].to), (0, BATCH as u64));
    let all: BTreeSet<u64> = offsets.iter().chain(&missing).copied().collect();
    assert_eq!(
        (all, offsets.len() + missing.len()),
        ((0..count).collect(), count as usize),
        "each is one or the other"
    );
    assert!(offsets.is_sorted());
    assert_eq!(topic.metrics()[0].offsets_skipped, missing.len() as u64);
    read(&mut reader(&topic));
    assert_eq!(topic.metrics()[0].offsets_skipped, 2 * missing.len() as u64, "each reader counts");
    // Who begins in the middle of what is lost has lost only the rest of it.
    let lost = skipped[1].from..skipped[1].to;
    let mut consumer = topic.consumer(Start::Offset(lost.start + 1)).build().expect("a consumer");
    let (offsets, skipped, _) = read(&mut consumer);
    assert_eq!((skipped[0].from, skipped[0].to), (lost.start + 1, lost.end));
    assert_eq!(offsets, (lost.end..count).collect::<Vec<_>>());
}

#[test]
fn damage_at_the_very_end_is_said_with_an_empty_batch_and_the_log_goes_on() {
    let (fs, segments, count) = written();
    let last = segments.last().expect("a segment");
    let from = base(last);
    fs.corrupt(last, |bytes| bytes[4096..].iter_mut().step_by(64).for_each(|byte| *byte ^= 1)).expect("there");
    let broker = opened(&fs, OnDamage::Skip);
    let topic = small_topic(&broker, "t");
    let mut consumer = topic.consumer(Start::Offset(from)).build().expect("a consumer");
    let batch = consumer.poll(Duration::ZERO).expect("a poll").expect("damage is news too");
    assert_eq!((batch.len(), batch.skipped().len()), (0, 1));
    assert_eq!((batch.skipped()[0].from, batch.skipped()[0].to), (from, count));
    drop(batch);
    assert_eq!((consumer.position(&partition_of("t", 0)), consumer.lag()), (Some(count), 0));
    assert!(consumer.poll(Duration::ZERO).expect("a poll").is_none());
    topic.producer().expect("a producer").send(Record::new(&value(count))).expect("sent");
    assert_eq!(read(&mut consumer).0, [count]);
}

#[test]
fn quarantine_skips_and_keeps_a_copy_of_the_file_as_it_was_found() {
    let (fs, segments, count) = written();
    fs.corrupt(&segments[1], |bytes| bytes[20_000] ^= 0x10).expect("there");
    let broker = opened(&fs, OnDamage::Quarantine);
    let topic = small_topic(&broker, "t");
    for _ in 0..2 {
        let (offsets, skipped, error) = read(&mut reader(&topic));
        assert!(error.is_none() && skipped.len() == 1, "{skipped:?} {error:?}");
        assert_eq!(offsets.len(), count as usize - BATCH);
    }
    let copies = quarantined(&fs);
    assert_eq!(copies.len(), 1, "{copies:?}");
    let (copy, original) = (fs.read_file(&copies[0]).expect("there"), fs.read_file(&segments[1]).expect("there"));
    assert!(copy == original, "the copy is not what was found");
    let name = copies[0].to_string_lossy().into_owned();
    assert!(name.contains("t-0") && name.contains(&format!("{:020}", base(&segments[1]))), "{name}");
    assert_eq!(quarantined(&fs.crash(0)).len(), 1, "the copy survives a power cut");

    // The same on a disk.
    let dir = directory();
    let broker = Broker::open(dir.path()).expect("a broker");
    let topic = small_topic(&broker, "t");
    topic.producer().expect("a producer").send(Record::new(&value(0))).expect("sent");
    let segment = dir.path().join("topics").join(format!("{}-0/{:020}.log", topic.id(), 0));
    drop(topic);
    close(broker);
    let mut bytes = std::fs::read(&segment).expect("there");
    bytes[4096 + 90] ^= 1;
    std::fs::write(&segment, &bytes).expect("written");
    let builder = Broker::builder().data_dir(dir.path()).on_damage(OnDamage::Quarantine);
    let topic = small_topic(&builder.open().expect("a broker"), "t");
    assert_eq!(read(&mut reader(&topic)).1.len(), 1);
    let copies: Vec<_> = std::fs::read_dir(dir.path().join("quarantine")).expect("there").collect();
    assert_eq!(copies.len(), 1);
    let copy = std::fs::read(copies[0].as_ref().expect("an entry").path()).expect("a copy");
    assert!(copy == bytes, "the copy is not what was found");
}

fn quarantined(fs: &Simulated) -> Vec<PathBuf> {
    fs.files().into_iter().filter(|path| path.starts_with(Path::new(DATA).join("quarantine"))).collect()
}

#[test]
fn a_segment_that_cannot_be_opened_at_all_is_damage_of_exactly_its_offsets() {
    type Break = fn(&Simulated, &Path);
    let breaks: [(&str, Break); 4] = [
        ("header", |fs, path| fs.corrupt(path, |bytes| bytes[30] ^= 1).expect("there")),
        ("zeros", |fs, path| fs.corrupt(path, |bytes| bytes.fill(0)).expect("there")),
        ("empty", |fs, path| fs.corrupt(path, Vec::clear).expect("there")),
        ("missing", |fs, path| headwater::fs::Fs::remove(fs, path).expect("there")),
    ];
    for (what, break_it) in breaks {
        for on_damage in [OnDamage::Refuse, OnDamage::Skip, OnDamage::Quarantine] {
            let (fs, segments, count) = written();
            let lost = base(&segments[1])..base(&segments[2]);
            break_it(&fs, &segments[1]);
            let broker = opened(&fs, on_damage);
            let topic = small_topic(&broker, "t");
            let mut consumer = reader(&topic);
            let (mut offsets, skipped, error) = read(&mut consumer);
            match on_damage {
                OnDamage::Refuse => {
                    let Some(Error::Damaged(damage)) = error else { panic!("{what}: {error:?}") };
                    assert_eq!(damage.from..damage.to, lost, "{what}");
                    assert_eq!(damage.path, segments[1], "{what}");
                    assert_eq!(consumer.position(&partition_of("t", 0)), Some(lost.start), "{what}");
                    consumer.seek(&partition_of("t", 0), damage.to).expect("in the log");
                    offsets.extend(read(&mut consumer).0);
                }
                _ => {
                    assert!(error.is_none(), "{what}: {error:?}");
                    let told: Vec<_> = skipped.iter().map(|damage| damage.from..damage.to).collect();
                    assert_eq!(told, std::slice::from_ref(&lost), "{what}");
                    assert_eq!(topic.metrics()[0].offsets_skipped, lost.end - lost.start, "{what}");
                    let mut middle = topic.consumer(Start::Offset(lost.start + 10)).build().expect("a consumer");
                    let (_, skipped, _) = read(&mut middle);
                    let expected = lost.start + 10..lost.end;
                    assert_eq!(skipped.iter().map(|d| d.from..d.to).collect::<Vec<_>>(), [expected], "{what}, middle");
                }
            }
            assert_eq!(offsets, (0..lost.start).chain(lost.end..count).collect::<Vec<_>>(), "{what} {on_damage:?}");
            if what != "missing" {
                let copies = usize::from(on_damage == OnDamage::Quarantine);
                assert_eq!(quarantined(&fs).len(), copies, "{what} {on_damage:?}: copies");
            }
        }
    }
}

#[test]
fn a_start_by_time_passes_over_damage_where_reading_does() {
    for break_header in [false, true] {
        let (fs, segments, count) = written();
        let at = if break_header { 30 } else { 20_000 };
        fs.corrupt(&segments[1], |bytes| bytes[at] ^= 1).expect("there");
        let behind = base(&segments[2]) + 5;
        let start = Start::Timestamp(Timestamp(behind as i64));
        let broker = opened(&fs, OnDamage::Skip);
        let topic = small_topic(&broker, "t");
        let mut consumer = topic.consumer(start).build().expect("the damage is passed over");
        assert_eq!(read(&mut consumer).0, (behind..count).collect::<Vec<_>>(), "header: {break_header}");
    }
}

#[test]
fn damage_that_is_met_when_a_topic_is_opened_is_refused_skipped_or_set_aside() {
    // Killed, with two segments that the recovery point has not reached: the walk goes through both.
    let fs = machine();
    let broker = open_on(&fs);
    let topic = broker.topic("t").segment_bytes(SMALL).flush_interval(None).create().expect("a topic");
    let mut producer = crate::support::quick(&topic);
    for offset in 0..150 {
        producer.send(Record::new(&value(offset))).expect("sent");
    }
    let found = segments(&fs, &topic);
    assert_eq!(found.len(), 2, "{found:?}");
    for on_damage in [OnDamage::Refuse, OnDamage::Skip, OnDamage::Quarantine] {
        let fs = fs.kill();
        fs.corrupt(&found[0], |bytes| bytes[20_000] ^= 1).expect("there");
        let broker = opened(&fs, on_damage);
        let topic = match broker.topic("t").open() {
            Err(refusal) => {
                let Error::Damaged(damage) = &refusal else { panic!("{refusal}") };
                assert_eq!((on_damage, &damage.path), (OnDamage::Refuse, &found[0]));
                continue;
            }
            Ok(topic) => topic,
        };
        let (offsets, skipped, error) = read(&mut reader(&topic));
        if on_damage == OnDamage::Refuse {
            // As good: what is damaged is found when it is read.
            assert!(error.is_some_and(|error| error.is_damaged()), "acked records are gone and nobody says it");
            continue;
        }
        assert!(error.is_none(), "{error:?}");
        let reported = topic.recovery().next().expect("a partition").skipped.clone();
        let told = lost_of(skipped.iter().chain(&reported), 150, "at the open");
        let missing: BTreeSet<u64> = (0..150).filter(|offset| !offsets.contains(offset)).collect();
        assert!(missing.is_subset(&told), "{on_damage:?}: {missing:?} are gone, {told:?} were told");
        assert_eq!(missing.len(), 1, "{on_damage:?}: one record was damaged");
        assert_eq!(quarantined(&fs).len(), usize::from(on_damage == OnDamage::Quarantine), "{on_damage:?}: copies");
    }
}

#[test]
fn a_process_that_died_does_not_make_damage_in_the_last_segment_a_torn_tail() {
    let fs = machine();
    let broker = open_on(&fs);
    let topic = small_topic(&broker, "t");
    let mut producer = topic.producer().expect("a producer");
    for offset in 0..40 {
        producer.send(Record::new(&value(offset))).expect("acked as synced");
    }
    let segment = segments(&fs, &topic).remove(0);
    let after = fs.kill();
    after.corrupt(&segment, |bytes| bytes[20_000] ^= 1).expect("there");
    // The machine ran on, so every byte of it was there: what follows the damage was acked and must not be cut.
    let broker = open_on(&after);
    let Ok(topic) = broker.topic("t").open() else { return };
    let (offsets, _, error) = read(&mut reader(&topic));
    assert!(
        error.as_ref().is_some_and(Error::is_damaged) && topic.offsets(0).expect("there").end == 40,
        "{} of 40 acked records are left, the log ends at {}, and nothing is said: {error:?}",
        offsets.len(),
        topic.offsets(0).expect("there").end
    );
}

#[test]
fn whatever_byte_is_changed_readers_get_the_right_bytes_or_are_told_what_is_lost() {
    let (fs, segments, count) = written();
    let place = partition_of("t", 0);
    let mut cases = 0;
    for (segment, path) in segments.iter().enumerate() {
        let len = fs.read_file(path).expect("there").len();
        // Prime steps: every field of a frame and of the header is met somewhere.
        for at in (0..88).step_by(7).chain((4096..len).step_by(2_003)) {
            cases += 1;
            let what = format!("byte {at} of segment {segment}");
            let flip = |fs: &Simulated| fs.corrupt(path, |bytes| bytes[at] ^= 1 << (at % 8)).expect("there");

            let skipping = fs.kill();
            flip(&skipping);
            let broker = opened(&skipping, OnDamage::Skip);
            let topic = broker.topic("t").open().expect(&what);
            let (offsets, skipped, error) = read(&mut reader(&topic));
            assert!(error.is_none(), "{what}: {error:?}");
            let reported = topic.recovery().next().expect("a partition").skipped.clone();
            let lost = lost_of(skipped.iter().chain(&reported), count, &what);
            let all: BTreeSet<u64> = offsets.iter().copied().chain(lost).collect();
            assert_eq!(all, (0..count).collect::<BTreeSet<_>>(), "{what}: offsets that nobody accounts for");

            let refusing = fs.kill();
            flip(&refusing);
            let broker = opened(&refusing, OnDamage::Refuse);
            let topic = match broker.topic("t").open() {
                Ok(topic) => topic,
                Err(refusal) => {
                    assert!(refusal.is_damaged(), "{what}: {refusal}");
                    continue;
                }
            };
            let mut consumer = reader(&topic);
            let mut next = 0;
            loop {
                let (offsets, _, error) = read(&mut consumer);
                assert_eq!(offsets, (next..next + offsets.len() as u64).collect::<Vec<_>>(), "{what}");
                next += offsets.len() as u64;
                let Some(error) = error else { break };
                let Error::Damaged(damage) = error else { panic!("{what}: {error}") };
                assert_eq!(damage.from, next, "{what}");
                assert!(damage.to > next, "{what}: an endless loop");
                next = damage.to;
                consumer.seek(&place, next).expect(&what);
            }
            assert_eq!(next, count, "{what}");
        }
    }
    assert!(cases > 100, "{cases} cases");
}
