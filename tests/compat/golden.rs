//! What the golden directories hold, how they were made, and how they are put back on a disk.
//!
//! A golden file lies in `tests/data` without the zeros at its end; `sizes` has the length of each, so that a
//! directory full of half-empty segments stays small and a copy is byte for byte what the broker wrote.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use headwater::time::Clock;
use headwater::{Broker, Offset, OwnedRecord, Record, Start, Timestamp};
use tempfile::TempDir;

pub(crate) const SEGMENT_BYTES: u64 = 64 << 10;
pub(crate) const PARTITIONS: u32 = 2;
/// The group and how far it has come, by partition.
pub(crate) const GROUP: &str = "readers";
pub(crate) const COMMITTED: [Offset; 2] = [7, 3];
/// When everything was written.
pub(crate) const NOW: Timestamp = Timestamp(1_700_000_000_000);

/// The batches of topic `events`, by partition.
pub(crate) fn contents(partition: u32) -> Vec<Vec<OwnedRecord>> {
    let record = |key: Option<&[u8]>, value: Option<&[u8]>, ms: i64| OwnedRecord {
        key: key.map(<[u8]>::to_vec),
        value: value.map(<[u8]>::to_vec),
        headers: Vec::new(),
        timestamp: Timestamp(NOW.0 + ms),
    };
    if partition == 1 {
        let numbered = |i: u8| vec![record(Some(&[b'k', b'0' + i]), Some(&[i; 3]), i64::from(i) * 1000)];
        return (0..3).map(numbered).collect();
    }
    let headers = vec![
        ("trace".to_owned(), Some(b"4bf9".to_vec())),
        ("trace".to_owned(), Some(Vec::new())),
        (String::new(), None),
        ("größe".to_owned(), Some(vec![0, 255])),
    ];
    // Several to an entry of the index, then several entries' worth each.
    let medium = |i: u8| vec![record(Some(b"medium"), Some(&[b'0' + i; 3_000]), 2_000 + i64::from(i))];
    let large = |i: u8| vec![record(Some(b"large"), Some(&[b'a' + i; 16_000]), 2_010 + i64::from(i))];
    vec![
        vec![record(Some(b"customer-9"), Some(b"paid 19.90"), 0)],
        vec![OwnedRecord { headers, ..record(None, Some(b"with headers"), 1) }],
        vec![record(Some(b"customer-9"), None, 2)],
        // One batch of several: later before earlier, before 1970, empty against null.
        vec![
            record(None, Some(b""), 1_000),
            record(Some(b""), Some(b"an empty key"), 500),
            OwnedRecord { timestamp: Timestamp(-1), ..record(None, None, 0) },
        ],
        medium(0),
        medium(1),
        medium(2),
        medium(3),
        // Earlier than those before it.
        vec![record(Some(b"medium"), Some(&[b'4'; 3_000]), 1_500)],
        large(0),
        large(1),
        // The first of the second segment.
        large(2),
        vec![record(Some(b"customer-1"), Some(b"the last"), 3_000)],
    ]
}

/// A data directory in a temporary place.
pub(crate) struct Directory {
    /// For messages.
    pub(crate) what: &'static str,
    temp: TempDir,
}

impl Directory {
    /// A copy of the golden directory of format version 1.
    pub(crate) fn golden() -> Self {
        let this = Self { what: "the golden directory", temp: tempfile::tempdir().expect("a temporary directory") };
        let from = golden_home();
        let sizes = fs::read_to_string(from.join(SIZES)).expect("tests/data/v1 is there");
        for line in sizes.lines() {
            let (size, name) = line.split_once(' ').expect("a size and a name");
            let to = this.path().join(name);
            fs::create_dir_all(to.parent().expect("within the directory")).expect("made");
            let mut bytes = fs::read(from.join(name)).expect("a golden file");
            bytes.resize(size.parse().expect("a size"), 0);
            fs::write(to, bytes).expect("copied");
        }
        this
    }

    /// The same records, written by this release.
    pub(crate) fn fresh() -> Self {
        let this = Self { what: "what this release writes", temp: tempfile::tempdir().expect("a temporary directory") };
        write(&this.path());
        this
    }

    /// Both: what holds for files of an old release must hold for those of this one.
    pub(crate) fn both() -> [Self; 2] {
        [Self::golden(), Self::fresh()]
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.temp.path().join("data")
    }

    /// The directory of a partition, by the topic's line in `meta` (F-3, F-4).
    pub(crate) fn partition(&self, topic: &str, partition: u32) -> PathBuf {
        self.path().join("topics").join(format!("{:032x}-{partition}", self.topic_id(topic)))
    }

    pub(crate) fn topic_id(&self, topic: &str) -> u128 {
        let meta = fs::read_to_string(self.path().join("meta")).expect("meta is text");
        let id = meta.lines().find_map(|line| line.strip_prefix(&format!("topic {topic} id="))).expect("the topic");
        u128::from_str_radix(&id[..32], 16).expect("32 hexadecimal digits")
    }

    /// The segments of a partition in order, by path and bytes.
    pub(crate) fn segments(&self, topic: &str, partition: u32) -> Vec<(PathBuf, Vec<u8>)> {
        let is_segment = |path: &PathBuf| name(path).ends_with(".log") && !name(path).starts_with("spare-");
        let paths = files(&self.partition(topic, partition)).into_keys().filter(is_segment);
        paths.map(|path| (path.clone(), fs::read(path).expect("a segment"))).collect()
    }

    /// All files with their bytes, but for the lock, which everybody who opens the directory writes.
    pub(crate) fn snapshot(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let mut files = files(&self.path());
        files.remove(&self.path().join("LOCK"));
        files
    }
}

/// Changes a file in place.
pub(crate) fn change(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(path).expect("the file is there");
    change(&mut bytes);
    fs::write(path, bytes).expect("written");
}

fn files(directory: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(directory).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            let bytes = fs::read(&path).expect("a file");
            found.insert(path, bytes);
        }
    }
    found
}

/// Writes [`contents`] into `dir`, commits a part of it for the group, and closes in order.
fn write(dir: &Path) {
    let broker = Broker::builder().data_dir(dir).clock(Clock::manual(NOW)).min_free_bytes(0).open().expect("opened");
    broker.topic("empty").segment_bytes(SEGMENT_BYTES).flush_interval(None).create().expect("created");
    let events = broker.topic("events").partitions(PARTITIONS).segment_bytes(SEGMENT_BYTES).flush_messages(1000);
    let events = events.create().expect("created");
    let mut producer = events.producer().expect("a producer");
    for partition in 0..PARTITIONS {
        for batch in contents(partition) {
            let records: Vec<Record> = batch.iter().map(|record| record.as_record().partition(partition)).collect();
            producer.send_batch(&records).expect("sent");
        }
    }
    drop(producer);
    let mut readers =
        broker.consumer(GROUP, Start::Earliest).topics(["events"]).max_poll_records(5).build().expect("a consumer");
    for _ in 0..2 {
        readers.poll(Duration::ZERO).expect("readable").expect("five records").commit().expect("committed");
    }
    drop(readers);
    // The second segment of a partition has two more files prepared (F-15).
    let deadline = Instant::now() + Duration::from_secs(60);
    let home = dir.join("topics").join(format!("{}-0", events.id()));
    while spares(&home).values().filter(|bytes| bytes.len() as u64 == SEGMENT_BYTES).count() < 2 {
        assert!(Instant::now() < deadline, "no segments were prepared in {}", home.display());
        std::thread::yield_now();
    }
    drop(events);
    broker.close(Duration::from_secs(60)).expect("closed");
}

/// The files of a partition that are prepared to become segments.
pub(crate) fn spares(partition: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut spares = files(partition);
    spares.retain(|path, _| name(path).starts_with("spare-"));
    spares
}

pub(crate) fn name(path: &Path) -> &str {
    path.file_name().and_then(|name| name.to_str()).expect("a plain name")
}

fn golden_home() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/v1")
}

const SIZES: &str = "sizes";

/// Makes `tests/data/v1` out of what this release writes.
pub(crate) fn bless() {
    let to = golden_home();
    assert!(!to.exists(), "a golden directory is made once and never again; {} is there", to.display());
    let fresh = Directory::fresh();
    let mut sizes = String::new();
    for (path, mut bytes) in files(&fresh.path()) {
        let name = path.strip_prefix(fresh.path()).expect("within").to_str().expect("plain").replace('\\', "/");
        sizes += &format!("{} {name}\n", bytes.len());
        bytes.truncate(bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1));
        let target = to.join(name);
        fs::create_dir_all(target.parent().expect("within")).expect("made");
        fs::write(target, bytes).expect("written");
    }
    fs::write(to.join(SIZES), sizes).expect("written");
}
