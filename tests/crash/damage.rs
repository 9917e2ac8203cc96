//! Row 6: files that are not what was written. A flipped bit, a zeroed sector or page, a block in the wrong place, a
//! file of another partition or of another time, a file cut short, made longer or gone: what is read is what was sent,
//! or an error says what is not there.

use std::collections::BTreeSet;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use headwater::fs::{Fs, Simulated};
use headwater::time::Clock;
use headwater::{Acks, Broker, Ended, Error, OnDamage, Record, Start, Timestamp, Topic};

use crate::image::{self, DIR, TOPIC};
use crate::model::{Loss, Model, Partition};
use crate::random::Random;
use crate::session::{Call, Session, Settings, Sizes, World, held};

/// A data directory to be damaged, and what it holds.
pub(crate) struct Base {
    fs: Simulated,
    model: Model,
    is_closed: bool,
}

#[derive(Default)]
pub(crate) struct Tally {
    /// Cases in which everything was read, those in which something was said to be lost, and those refused as a whole.
    pub(crate) whole: AtomicU64,
    pub(crate) partly: AtomicU64,
    pub(crate) refused: AtomicU64,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Change {
    Flip,
    Zero,
    Move,
    Swap,
    Older,
    Cut,
    Grow,
    Remove,
}

/// What kind of file it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Segment,
    Index,
    Control,
    Meta,
    Other,
}

impl Kind {
    fn of(path: &Path) -> Self {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        match name.rsplit_once('.').map_or(name, |(_, extension)| extension) {
            "log" if !name.starts_with("spare") => Self::Segment,
            "index" => Self::Index,
            "control" => Self::Control,
            "meta" => Self::Meta,
            _ => Self::Other,
        }
    }
}

/// A directory with a few sessions behind it: closed in order, or left by a dead process or machine.
pub(crate) fn base(seed: u64) -> Result<Base, String> {
    let mut random = Random::new(seed);
    let mut settings = Settings::of(&mut random);
    settings.has_group = false;
    settings.partitions = 1 + (seed % 2) as u32;
    settings.sizes = if random.one_in(2) { Sizes::Mixed } else { Sizes::Below(3000) };
    let world = World::new(Model::new(settings.partitions, false));
    let mut fs = settings.machine(random.next());
    let mut loss = Loss::Process;
    let is_closed = !random.one_in(3);
    for session in 0..3 {
        let opened = Session::open(&fs, &world, &settings, loss)?;
        let mut session_ = opened.map_err(|error| error.to_string())?;
        for _ in 0..12 {
            let call = Call::any(&settings, &mut random);
            session_.call(call, &mut random)?.map_err(|error| error.to_string())?;
        }
        for _ in 0..settings.partitions * 2 {
            session_.call(Call::SendBatch(Acks::Synced), &mut random)?.map_err(|error| error.to_string())?;
        }
        if session < 2 || is_closed {
            session_.close()?.map_err(|error| error.to_string())?;
        } else if random.one_in(2) {
            session_.abandon();
        } else {
            session_.abandon();
            loss = Loss::Power;
            fs = fs.crash(random.next());
        }
    }
    let mut model = held(&world.model).clone();
    // What may be there and what is: looked at in a twin, so that this one stays as it was left.
    let twin = if loss == Loss::Power { fs.crash(0) } else { fs.kill() };
    let found = image::look(&twin, &model, loss)?;
    let durable = found.ends.clone();
    model.adopt(&found.ends, durable.into_iter());
    Ok(Base { fs, model, is_closed })
}

/// One change to one file, under one policy.
pub(crate) fn case(bases: &[Base], seed: u64, tally: &Tally) -> Result<(), String> {
    let mut random = Random::new(seed);
    let base = &bases[random.index(bases.len())];
    let fs = base.fs.kill();
    let files: Vec<PathBuf> = fs.files().into_iter().filter(|path| path.starts_with(DIR)).collect();
    // Segments are most of it; the others have as much to lose.
    let kind = random.pick(&[Kind::Segment, Kind::Segment, Kind::Segment, Kind::Index, Kind::Control, Kind::Meta]);
    let of_kind: Vec<&PathBuf> = files.iter().filter(|path| Kind::of(path) == kind).collect();
    if of_kind.is_empty() {
        return Ok(());
    }
    let path = of_kind[random.index(of_kind.len())];
    let change = random.pick(&[
        Change::Flip,
        Change::Flip,
        Change::Zero,
        Change::Move,
        Change::Swap,
        Change::Older,
        Change::Cut,
        Change::Grow,
        Change::Remove,
    ]);
    let on_damage = random.pick(&[OnDamage::Refuse, OnDamage::Refuse, OnDamage::Skip, OnDamage::Quarantine]);
    let what = apply(&fs, change, path, &of_kind, &mut random).map_err(|error| error.to_string())?;
    let looked = look(&fs, base, kind, change, on_damage, &mut random, tally);
    looked.map_err(|problem| format!("{what}, {on_damage:?}, closed: {}: {problem}", base.is_closed))
}

/// Changes a file behind everybody's back; says what was done.
fn apply(
    fs: &Simulated,
    change: Change,
    path: &Path,
    of_kind: &[&PathBuf],
    random: &mut Random,
) -> std::io::Result<String> {
    let bytes = fs.read_file(path)?;
    let used = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    // Anywhere, in what is used, at its beginning and at its end.
    let place = |random: &mut Random| match random.below(4) {
        _ if bytes.is_empty() => 0,
        0 => random.index(bytes.len()),
        1 => random.index(used.max(1)),
        2 => random.index(bytes.len().min(160)),
        _ => used.saturating_sub(1 + random.index(200)).min(bytes.len() - 1),
    };
    let block = random.pick(&[8, 64, 512, 4096]);
    let blocks = |at: usize| at / block * block..(at / block * block + block).min(bytes.len());
    let (at, other) = (place(random), place(random));
    let name = format!("{change:?} of {}", path.display());
    match change {
        Change::Flip if bytes.is_empty() => {}
        Change::Flip => {
            let bit = random.below(8);
            fs.corrupt(path, |bytes| bytes[at] ^= 1 << bit)?;
            return Ok(format!("{name}, bit {bit} of byte {at}"));
        }
        Change::Zero => fs.corrupt(path, |bytes| bytes[blocks(at)].fill(0))?,
        Change::Move => {
            let (from, to) = (blocks(at), blocks(other));
            let len = from.len().min(to.len());
            fs.corrupt(path, |bytes| bytes.copy_within(from.start..from.start + len, to.start))?;
        }
        Change::Swap => {
            let other = of_kind[random.index(of_kind.len())];
            let theirs = fs.read_file(other)?;
            fs.corrupt(other, |into| into.clone_from(&bytes))?;
            fs.corrupt(path, |into| into.clone_from(&theirs))?;
            return Ok(format!("{name} with {}", other.display()));
        }
        // Of two slots, or of a file that was written twice, the newer write is gone.
        Change::Older => fs.corrupt(path, |bytes| {
            let half = bytes.len() / 2;
            let from = if at < half { 0 } else { half };
            bytes[from..from + half].fill(0);
        })?,
        Change::Cut => fs.corrupt(path, |bytes| bytes.truncate(at))?,
        Change::Grow => fs.corrupt(path, |bytes| bytes.extend(std::iter::repeat_n(0xa5, 1 + at)))?,
        Change::Remove => fs.remove(path)?,
    }
    Ok(format!("{name} at {at} ({other}), blocks of {block}"))
}

fn look(
    fs: &Simulated,
    base: &Base,
    kind: Kind,
    change: Change,
    on_damage: OnDamage,
    random: &mut Random,
    tally: &Tally,
) -> Result<(), String> {
    let clock = Clock::manual(Timestamp(1_700_000_000_000));
    let broker = Broker::builder().fs(fs.clone()).data_dir(DIR).clock(clock).min_free_bytes(0).on_damage(on_damage);
    let opened = broker.open().and_then(|broker| {
        let topic = broker.topic(TOPIC).open()?;
        Ok((broker, topic))
    });
    let (_broker, topic) = match opened {
        Ok(opened) => opened,
        Err(error) => {
            tally.refused.fetch_add(1, Ordering::Relaxed);
            let is_said = match error {
                Error::Damaged(_) => on_damage == OnDamage::Refuse && kind != Kind::Index,
                Error::NotADataDirectory { .. } => kind == Kind::Meta,
                Error::UnknownTopic { .. } => kind == Kind::Meta && change == Change::Remove,
                // A number that a change has made of another one.
                Error::UnsupportedVersion { .. } => kind != Kind::Index,
                _ => false,
            };
            return if is_said { Ok(()) } else { Err(format!("it does not open: {error}")) };
        }
    };
    let mut is_whole = true;
    for (number, report) in topic.recovery().enumerate() {
        let log = &base.model.partitions[number];
        let (read, lost) = read(&topic, number as u32, log, on_damage)?;
        let end = topic.offsets(number as u32).map_err(|error| error.to_string())?.end;
        // Recovery speaks of what it must not write behind; of that a reader may still find a part.
        if let Some(both) = read.iter().find(|offset| lost.iter().any(|range| range.contains(offset))) {
            return Err(format!("offset {both} is read, and said to be lost: {lost:?}"));
        }
        let skipped = report.skipped.iter().map(|damage| damage.from..damage.to);
        let lost: Vec<Range<u64>> = lost.into_iter().chain(skipped).collect();
        let sent = log.sent.len() as u64;
        let is_said = |offset: u64| lost.iter().any(|range| range.contains(&offset));
        // Behind the recovery point of a session that did not end in order nothing tells a torn tail from damage.
        let may_be_torn = !base.is_closed && !matches!(report.ended, Ended::Closed | Ended::New);
        let may_be_torn = may_be_torn && kind == Kind::Segment;
        for offset in 0..sent {
            let is_cut = offset >= end && may_be_torn;
            if !read.contains(&offset) && !is_said(offset) && !is_cut {
                return Err(format!(
                    "offset {offset} of {sent} is gone and nobody says so; {report:?}, lost: {lost:?}"
                ));
            }
        }
        let is_cut = end < sent || read.len() < sent as usize;
        is_whole &= !is_cut;
        if kind == Kind::Index && is_cut {
            return Err(format!("an index is a hint, but {} of {sent} records were read", read.len()));
        }
        // From the middle, too: that is what an index is for.
        for _ in 0..4 {
            let from = random.below(sent.max(1));
            if read.contains(&from) {
                read_one(&topic, number as u32, log, from)?;
            }
        }
        append(&topic, number as u32, end)?;
    }
    if is_whole { &tally.whole } else { &tally.partly }.fetch_add(1, Ordering::Relaxed);
    Ok(())
}

/// Reads a partition to its end, over what is damaged. Returns what was read and what was said to be lost.
fn read(
    topic: &Topic,
    partition: u32,
    log: &Partition,
    on_damage: OnDamage,
) -> Result<(BTreeSet<u64>, Vec<Range<u64>>), String> {
    const ERRORS_MAX: usize = 1000;
    let (mut read, mut lost): (BTreeSet<u64>, Vec<Range<u64>>) = Default::default();
    let consumer = topic.consumer(Start::Earliest).max_poll_records(10_000).build();
    let mut consumer = consumer.map_err(|error| error.to_string())?;
    let mut errors = 0;
    loop {
        let positions = consumer.positions();
        let damage = match consumer.poll(Duration::ZERO) {
            Ok(None) => return Ok((read, lost)),
            Ok(Some(batch)) => {
                let mine = batch.skipped().iter().filter(|damage| damage.partition.partition == partition);
                lost.extend(mine.map(|damage| damage.from..damage.to));
                if on_damage == OnDamage::Refuse && !batch.skipped().is_empty() {
                    return Err("damage is passed over that was to be refused".into());
                }
                for record in batch.iter().filter(|record| record.partition() == partition) {
                    let offset = record.offset();
                    log.check_record(offset, record.key(), record.value())?;
                    if !read.insert(offset) || read.last() != Some(&offset) {
                        return Err(format!("offset {offset} is read out of order"));
                    }
                }
                continue;
            }
            Err(Error::Damaged(damage)) if on_damage == OnDamage::Refuse => damage,
            Err(error) => return Err(format!("reading fails with {error}")),
        };
        if damage.partition.partition == partition {
            lost.push(damage.from..damage.to);
        }
        let at = positions.iter().find(|(name, _)| *name == damage.partition).map_or(0, |(_, position)| *position);
        errors += 1;
        if damage.to <= at || errors > ERRORS_MAX {
            return Err(format!("at {at} the way on is said to be {} ({damage})", damage.to));
        }
        consumer.seek(&damage.partition, damage.to).map_err(|error| format!("the way on is not one: {error}"))?;
    }
}

/// A record that was read on the way must be found from its offset, too.
fn read_one(topic: &Topic, partition: u32, log: &Partition, from: u64) -> Result<(), String> {
    let mut consumer = topic.consumer(Start::Earliest).build().map_err(|error| error.to_string())?;
    let names: Vec<_> = consumer.positions().into_iter().map(|(name, _)| name).collect();
    for name in names {
        let to = if name.partition == partition {
            from
        } else {
            topic.offsets(name.partition).map_err(|error| error.to_string())?.end
        };
        consumer.seek(&name, to).map_err(|error| error.to_string())?;
    }
    let batch = consumer.poll(Duration::ZERO).map_err(|error| format!("from {from}: {error}"))?;
    let batch = batch.ok_or("nothing is there")?;
    let record = batch.iter().next().ok_or("an empty batch")?;
    if record.offset() != from {
        return Err(format!("from offset {from} the first is {}", record.offset()));
    }
    log.check_record(from, record.key(), record.value())
}

/// What is there can be added to, or it is said why not.
fn append(topic: &Topic, partition: u32, end: u64) -> Result<(), String> {
    let mut producer = topic.producer().map_err(|error| error.to_string())?;
    let metadata = producer.send(Record::new(b"behind the damage").partition(partition));
    let metadata = metadata.map_err(|refused| format!("nothing can be appended: {refused}"))?;
    if metadata.offset != end {
        return Err(format!("a log that ends at {end} puts the next record at {}", metadata.offset));
    }
    Ok(())
}
