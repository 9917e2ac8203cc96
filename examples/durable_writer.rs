//! Appends records to the topic `check` and says each ack, for tests from outside that kill it.
//!
//! `durable_writer DIR --acks appended|synced --seed S [--records N] [--segment-bytes N] [--value-bytes N]`
//!
//! Prints `ack <offset> <crc32 of value>` behind each ack and before the next append, so that a line that was printed
//! is one that was acked. On an error it prints `error <kind> <message>` and exits with 3. `durable_dump` reads what is
//! there. The values follow from the seed and the record's number.

use std::io::Write;
use std::process::ExitCode;

use headwater::{Acks, Broker, Error, Record};

const USAGE: &str =
    "usage: durable_writer DIR --acks appended|synced --seed S [--records N] [--segment-bytes N] [--value-bytes N]";

struct Options {
    dir: String,
    acks: Acks,
    seed: u64,
    records: u64,
    segment_bytes: u64,
    value_bytes: usize,
}

impl Options {
    fn parse(mut words: impl Iterator<Item = String>) -> Option<Self> {
        let (mut dir, mut acks, mut seed) = (None, None, None);
        let (mut records, mut segment_bytes, mut value_bytes) = (100_000, 64 << 20, 100);
        while let Some(word) = words.next() {
            match &*word {
                "--acks" => {
                    acks = Some(match &*words.next()? {
                        "appended" => Acks::Appended,
                        "synced" => Acks::Synced,
                        _ => return None,
                    });
                }
                "--seed" => seed = Some(words.next()?.parse().ok()?),
                "--records" => records = words.next()?.parse().ok()?,
                "--segment-bytes" => segment_bytes = words.next()?.parse().ok()?,
                "--value-bytes" => value_bytes = words.next()?.parse().ok()?,
                word if word.starts_with("--") || dir.is_some() => return None,
                _ => dir = Some(word),
            }
        }
        Some(Self { dir: dir?, acks: acks?, seed: seed?, records, segment_bytes, value_bytes })
    }
}

fn main() -> ExitCode {
    let Some(options) = Options::parse(std::env::args().skip(1)) else {
        let _ = writeln!(std::io::stderr(), "{USAGE}");
        return ExitCode::from(2);
    };
    match write(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stdout(), "error {} {error}", error.kind());
            ExitCode::from(3)
        }
    }
}

fn write(options: &Options) -> Result<(), Error> {
    let broker = Broker::open(&options.dir)?;
    let topic = broker.topic("check").segment_bytes(options.segment_bytes).open_or_create()?;
    let mut producer = topic.producer_builder().acks(options.acks).build()?;
    // Written line by line: what a SIGKILL finds unwritten was not said to anybody.
    let mut stdout = std::io::stdout().lock();
    let mut value = Vec::new();
    for number in 0..options.records {
        fill(&mut value, options, number);
        let sent = producer.send(Record::new(&value)).map_err(Error::from)?;
        if writeln!(stdout, "ack {} {:08x}", sent.offset, crc32fast::hash(&value)).is_err() {
            break; // Nobody listens any more.
        }
    }
    broker.close(std::time::Duration::from_secs(60))
}

/// The value of a record: splitmix64 over seed and number.
fn fill(value: &mut Vec<u8>, options: &Options, number: u64) {
    let mut state = options.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ number;
    value.clear();
    while value.len() < options.value_bytes {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let x = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        value.extend_from_slice(&(x ^ (x >> 31)).to_le_bytes());
    }
    value.truncate(options.value_bytes);
}
