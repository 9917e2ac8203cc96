//! Consumer groups. What fails here in the field: work that was done is done again, or, worse, work that was not done
//! is passed over.

use std::time::Duration;

use headwater::fs::Simulated;
use headwater::fs::simulated::{Fault, FaultKind, OpKind};
use headwater::{Acks, Broker, Consumer, Error, OnDamage, Record, Start};

use crate::support::{
    DATA, block_on, builder_on, close, directory, drain, machine, numbered, open_dir, open_on, partition_of, quick,
    small_topic,
};

fn member(broker: &Broker, group: &str) -> Consumer {
    broker.consumer(group, Start::Earliest).topics(["t"]).max_poll_records(3).build().expect("a consumer")
}

/// Lends, and commits where told; the offsets that were lent.
fn take(consumer: &mut Consumer, commits: bool) -> Vec<u64> {
    let Some(batch) = consumer.poll(Duration::ZERO).expect("a poll") else { return Vec::new() };
    let offsets = batch.iter().map(|record| record.offset()).collect();
    if commits {
        batch.commit().expect("committed");
    }
    offsets
}

fn send(broker: &Broker, count: usize) {
    let topic = small_topic(broker, "t");
    let all = numbered(0..count);
    topic.producer().expect("a producer").send_batch(&all.iter().map(Record::new).collect::<Vec<_>>()).expect("sent");
}

#[test]
fn a_group_goes_on_where_it_committed_after_close_drop_kill_and_power_cut() {
    let fs = machine();
    let mut broker = open_on(&fs);
    send(&broker, 12);
    let place = partition_of("t", 0);
    let mut fs = fs;
    for (round, end) in ["close", "drop", "kill", "crash"].into_iter().enumerate() {
        let mut consumer = member(&broker, "g");
        assert_eq!(consumer.group(), Some("g"));
        let next = 3 * round as u64;
        assert_eq!(consumer.committed(&place), (round > 0).then_some(next), "before {end}");
        assert_eq!((consumer.position(&place), consumer.lag()), (Some(next), 12 - next));
        assert_eq!(take(&mut consumer, true), [next, next + 1, next + 2]);
        assert_eq!(consumer.committed(&place), Some(next + 3));
        drop(consumer);
        match end {
            "close" => close(broker),
            "drop" => drop(broker),
            "kill" => fs = fs.kill(),
            _ => fs = fs.crash(0),
        }
        broker = open_on(&fs);
    }
    assert_eq!(take(&mut member(&broker, "g"), true), []);
    assert_eq!(take(&mut member(&broker, "other"), true), [0, 1, 2], "groups know nothing of each other");
}

#[test]
fn what_was_not_committed_is_lent_again() {
    let dir = directory();
    let broker = open_dir(dir.path());
    send(&broker, 9);
    let mut consumer = member(&broker, "g");
    assert_eq!(take(&mut consumer, true), [0, 1, 2]);
    assert_eq!(take(&mut consumer, false), [3, 4, 5]);
    assert_eq!(consumer.committed(&partition_of("t", 0)), Some(3));
    drop(consumer);
    let mut consumer = member(&broker, "g");
    assert_eq!(take(&mut consumer, false), [3, 4, 5]);
    assert_eq!(take(&mut consumer, true), [6, 7, 8], "a commit covers everything before it");
    drop(consumer);
    assert_eq!(take(&mut member(&broker, "g"), true), []);
    // A group may go back, and commit that.
    let mut consumer = member(&broker, "g");
    consumer.seek(&partition_of("t", 0), 2).expect("in the log");
    assert_eq!(take(&mut consumer, true), [2, 3, 4]);
    drop(consumer);
    assert_eq!(take(&mut member(&broker, "g"), false), [5, 6, 7]);
}

#[test]
fn the_start_counts_only_where_nothing_is_committed() {
    let broker = Broker::in_memory().expect("a broker");
    send(&broker, 6);
    let with = |start| {
        let consumer = broker.consumer("g", start).topics(["t"]).max_poll_records(3).build();
        consumer.expect("a consumer")
    };
    assert_eq!(take(&mut with(Start::Latest), true), []);
    assert_eq!(take(&mut with(Start::Earliest), true), [0, 1, 2], "a poll without records commits nothing");
    for start in [Start::Earliest, Start::Latest, Start::Offset(1), Start::Offset(99)] {
        assert_eq!(take(&mut with(start), false), [3, 4, 5], "{start:?}");
    }
}

#[test]
fn a_group_has_one_live_member_and_is_free_when_that_is_dropped() {
    let broker = Broker::in_memory().expect("a broker");
    send(&broker, 1);
    let consumer = member(&broker, "g");
    for again in [broker.consumer("g", Start::Earliest), broker.clone().consumer("g", Start::Latest)] {
        let refusal = again.topics(["t"]).build().expect_err("it has a member");
        assert!(matches!(&refusal, Error::GroupInUse { group } if group == "g") && refusal.is_retriable(), "{refusal}");
    }
    member(&broker, "h");
    drop(consumer);
    member(&broker, "g");
    // A consumer that could not be made does not stay a member.
    let refusal = broker.consumer("i", Start::Offset(99)).topics(["t"]).build().expect_err("no such offset");
    assert_eq!(refusal.kind(), "offset_out_of_range");
    member(&broker, "i");
}

#[test]
fn commits_of_several_partitions_and_tasks_are_kept_apart() {
    let dir = directory();
    let broker = open_dir(dir.path());
    let topic = broker.topic("t").partitions(3).create().expect("a topic");
    let mut producer = quick(&topic);
    for number in 0..9 {
        producer.send(Record::new("v").partition(number % 3)).expect("sent");
    }
    let mut consumer = member(&broker, "g");
    let batch = block_on(consumer.poll_async()).expect("a poll");
    assert_eq!(batch.iter().map(|record| record.partition()).collect::<Vec<_>>(), [0, 0, 0]);
    drop(batch);
    let batch = block_on(consumer.poll_async()).expect("a poll");
    assert_eq!(batch.iter().map(|record| record.partition()).collect::<Vec<_>>(), [1, 1, 1]);
    block_on(batch.commit_async()).expect("committed");
    let committed: Vec<_> = (0..3).map(|p| consumer.committed(&partition_of("t", p))).collect();
    assert_eq!(committed, [None, Some(3), None], "what was not committed itself is not");
    drop(consumer);
    drop((topic, producer));
    close(broker);
    let broker = open_dir(dir.path());
    let mut consumer = member(&broker, "g");
    assert_eq!(consumer.positions().iter().map(|(_, at)| *at).collect::<Vec<_>>(), [0, 3, 0]);
    assert_eq!(consumer.lag(), 6);
    assert_eq!(drain(&mut consumer).len(), 6);
}

#[test]
fn a_commit_is_as_safe_as_it_was_told_and_never_safer_than_what_it_stands_for() {
    for (acks, is_async) in [Acks::Appended, Acks::Synced].into_iter().flat_map(|acks| [(acks, false), (acks, true)]) {
        let fs = machine();
        let broker = open_on(&fs);
        let topic = broker.topic("t").segment_bytes(64 << 10).flush_interval(None).create().expect("a topic");
        topic.producer().expect("a producer").send(Record::new("v0")).expect("sent");
        quick(&topic).send_batch(&[Record::new("v1"), Record::new("v2")]).expect("sent");
        let builder = broker.consumer("g", Start::Earliest).topics(["t"]).commit_acks(acks);
        let mut consumer = builder.build().expect("a consumer");
        let batch = consumer.poll(Duration::ZERO).expect("a poll").expect("records");
        match is_async {
            false => batch.commit().expect("committed"),
            true => block_on(batch.commit_async()).expect("committed"),
        }

        let after = open_on(&fs.crash(0));
        let end = small_topic(&after, "t").offsets(0).expect("there").end;
        let consumer = member(&after, "g");
        let committed = consumer.committed(&partition_of("t", 0));
        match acks {
            // Only the commit itself may be lost: the records were synced before it.
            Acks::Appended => assert_eq!((committed, end), (None, 3), "{acks:?}"),
            _ => assert_eq!((committed, end), (Some(3), 3), "{acks:?}: the records are made as safe as the commit"),
        }
    }
}

#[test]
fn a_commit_in_the_page_cache_does_not_reach_the_disk_before_the_records_it_stands_for() {
    let fs = machine();
    let broker = open_on(&fs);
    let topic = broker.topic("t").segment_bytes(64 << 10).flush_interval(None).create().expect("a topic");
    let other = small_topic(&broker, "other");
    topic.producer().expect("a producer").send(Record::new("v0")).expect("sent");
    other.producer().expect("a producer").send(Record::new("v0")).expect("sent");
    quick(&topic).send_batch(&[Record::new("v1"), Record::new("v2")]).expect("sent");
    let builder = broker.consumer("g", Start::Earliest).topics(["t"]).commit_acks(Acks::Appended);
    let mut consumer = builder.build().expect("a consumer");
    consumer.poll(Duration::ZERO).expect("a poll").expect("records").commit().expect("committed");
    // Another group's commit has the log of commits synced, the first one's with it.
    let mut consumer = broker.consumer("h", Start::Earliest).topics(["other"]).build().expect("a consumer");
    consumer.poll(Duration::ZERO).expect("a poll").expect("records").commit().expect("committed");

    let after = open_on(&fs.crash(0));
    let topic = small_topic(&after, "t");
    let end = topic.offsets(0).expect("there").end;
    quick(&topic).send_batch(&vec![Record::new("new"); 5]).expect("sent");
    let mut consumer = member(&after, "g");
    let committed = consumer.committed(&partition_of("t", 0)).unwrap_or(0);
    assert!(committed <= end, "{committed} were committed, {end} survived: {:?} is passed over", end..committed);
    assert_eq!(drain(&mut consumer).len() as u64, end + 5 - committed);
}

#[test]
fn a_commit_that_the_disk_refuses_leaves_the_group_where_it_was() {
    let fs = machine();
    let broker = open_on(&fs);
    send(&broker, 6);
    let mut consumer = member(&broker, "g");
    fs.fail(Fault::once(FaultKind::Enospc).only(OpKind::SetLen));
    let batch = consumer.poll(Duration::ZERO).expect("a poll").expect("records");
    assert!(batch.commit().expect_err("no room for the first commit").is_full());
    assert_eq!(consumer.committed(&partition_of("t", 0)), None);
    assert_eq!(take(&mut consumer, true), [3, 4, 5]);
    assert_eq!(consumer.committed(&partition_of("t", 0)), Some(6));
}

/// Bytes of the files of the topic that holds the commits.
fn bytes_of_commits(fs: &Simulated, own: &headwater::Topic) -> usize {
    let own = format!("{}-", own.id());
    let is_commits = |path: &std::path::PathBuf| {
        let text = path.to_string_lossy();
        text.starts_with(&format!("{DATA}/topics/")) && !text.contains(&own) && text.ends_with(".log")
    };
    let files = fs.files().into_iter().filter(is_commits);
    files.map(|path| fs.read_file(path).expect("there").len()).sum()
}

#[test]
fn many_commits_take_little_room_and_are_there_after_a_restart() {
    // As written, after a kill and after a power cut; 30,000 commits of one record each, two groups.
    let fs = machine();
    let broker = open_on(&fs);
    let topic = small_topic(&broker, "t");
    quick(&topic).send_batch(&vec![Record::new("v"); 100]).expect("sent");
    let commit = |group: &str| {
        let builder = broker.consumer(group, Start::Earliest).topics(["t"]).max_poll_records(1);
        builder.commit_acks(Acks::Appended).build().expect("a consumer")
    };
    let (mut often, mut once) = (commit("often"), commit("once"));
    assert_eq!(take(&mut once, true), [0]);
    let place = partition_of("t", 0);
    let mut committed = 0;
    for round in 0..30_000 {
        if round % 100 == 0 {
            often.seek(&place, 0).expect("in the log");
        }
        committed = take(&mut often, true)[0] + 1;
        if round % 7_001 == 0 {
            often.seek(&place, 0).expect("in the log");
        }
    }
    assert_eq!(often.committed(&place), Some(committed));
    let bytes = bytes_of_commits(&fs, &topic);
    assert!(bytes <= 2 << 20, "30,000 commits of two groups take {bytes} bytes");
    for after in [fs.kill(), {
        broker.clone().close(crate::support::PATIENCE).expect("closed");
        fs.crash(0)
    }] {
        let broker = open_on(&after);
        assert_eq!(member(&broker, "often").committed(&place), Some(committed));
        assert_eq!(member(&broker, "once").committed(&place), Some(1));
        let reads = after.operations_of(OpKind::ReadAt) + after.operations_of(OpKind::OpenRead);
        assert!(reads < 100, "opening took {reads} reads");
    }
}

#[test]
fn a_committed_offset_that_the_log_does_not_have_is_told_by_poll_and_answered_by_seek() {
    let fs = machine();
    let broker = open_on(&fs);
    send(&broker, 6);
    take(&mut member(&broker, "g"), true);
    let own = small_topic(&broker, "t").id().to_string();
    close(broker);
    // Somebody has emptied the topic's directory by hand.
    for path in fs.files().into_iter().filter(|path| path.to_string_lossy().contains(&own)) {
        headwater::fs::Fs::remove(&fs, &path).expect("there");
    }
    let broker = open_on(&fs);
    let refusal = broker.consumer("g", Start::Earliest).topics(["t"]).build().expect_err("the files are missing");
    assert!(refusal.is_damaged(), "{refusal}");
    drop(broker);
    // Told to go on, the log goes on behind everything that there can have been: no offset is given twice.
    let broker = builder_on(&fs).on_damage(OnDamage::Skip).open().expect("a broker");
    let start = small_topic(&broker, "t").offsets(0).expect("there").start;
    assert!(start > 6, "the log goes on at {start}");
    let mut consumer = member(&broker, "g");
    for _ in 0..2 {
        let refusal = consumer.poll(Duration::ZERO).expect_err("3 is before the start");
        let Error::OffsetOutOfRange { partition, offset: 3, first, end } = refusal else { panic!("{refusal}") };
        assert_eq!((first, end), (start, start));
        assert_eq!(partition, partition_of("t", 0));
    }
    send(&broker, 2);
    assert_eq!(consumer.poll(Duration::ZERO).expect_err("still before").kind(), "offset_out_of_range");
    consumer.seek(&partition_of("t", 0), start).expect("in the log");
    assert_eq!(take(&mut consumer, true), [start, start + 1]);
    assert_eq!(consumer.committed(&partition_of("t", 0)), Some(start + 2));
}

#[test]
fn damaged_commits_are_said_and_can_be_passed_over() {
    let fs = machine();
    let broker = open_on(&fs);
    send(&broker, 6);
    let mut consumer = member(&broker, "g");
    take(&mut consumer, true);
    take(&mut consumer, true);
    drop(consumer);
    let id = small_topic(&broker, "t").id().to_string();
    close(broker);
    let commits = fs.files().into_iter().find(|path| {
        let text = path.to_string_lossy();
        text.ends_with("00.log") && !text.contains(&id)
    });
    fs.corrupt(commits.expect("a segment"), |bytes| bytes[4096 + 16 + 61 + 10] ^= 1).expect("there");
    let refusal = open_on(&fs).consumer("g", Start::Earliest).topics(["t"]).build().expect_err("damaged");
    assert!(refusal.is_damaged(), "{refusal}");
    let skipping = builder_on(&fs).on_damage(OnDamage::Skip).open().expect("a broker");
    assert_eq!(member(&skipping, "g").committed(&partition_of("t", 0)), Some(6), "the second commit is whole");
}
