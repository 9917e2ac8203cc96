//! Row 4, with real processes and a real disk: a writer is killed with SIGKILL again and again at random moments, and
//! what it had said is acked is there. The writer is this very program, run again with [`DIRECTORY`] set.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use headwater::{Acks, Broker, Record, Start};

use crate::random::Random;

/// Tells the writer where to write; set by the one who kills it.
const DIRECTORY: &str = "HEADWATER_CRASH_CHILD";
const SEED: &str = "HEADWATER_CRASH_CHILD_SEED";
const TOPIC: &str = "killed";

/// If this is the process to be killed: writes until it is.
pub(crate) fn write_if_child() {
    let (Ok(directory), Some(seed)) = (std::env::var(DIRECTORY), crate::report::setting(SEED)) else { return };
    let outcome = write(Path::new(&directory), seed);
    let error = outcome.expect_err("it writes until it is killed");
    let _ = writeln!(std::io::stdout(), "error {error}");
    std::process::exit(3);
}

/// Appends with all three calls and says each ack before the next.
fn write(directory: &Path, seed: u64) -> Result<std::convert::Infallible, Box<dyn std::error::Error>> {
    let mut random = Random::new(seed);
    let broker = Broker::open(directory)?;
    let topic = broker.topic(TOPIC).segment_bytes(256 << 10).open_or_create()?;
    let acks = if seed.is_multiple_of(2) { Acks::Appended } else { Acks::Synced };
    let mut producer = topic.producer_builder().acks(acks).build()?;
    let mut stdout = std::io::stdout().lock();
    for number in 0.. {
        let values: Vec<Vec<u8>> =
            (0..1 + random.below(4)).map(|at| value(seed, number * 8 + at, random.index(9000))).collect();
        let records: Vec<Record<'_>> = values.iter().map(Record::new).collect();
        let offsets: Vec<u64> = match random.below(3) {
            0 => vec![producer.send(Record::new(&values[0])).map_err(|refused| refused.to_string())?.offset],
            1 => producer.send_batch(&records)?.iter().map(|metadata| metadata.offset).collect(),
            _ => {
                let tickets = records.iter().map(|record| producer.send_nowait(record.clone()));
                let tickets = tickets.collect::<Result<Vec<_>, _>>().map_err(|refused| refused.to_string())?;
                tickets.into_iter().map(|ticket| ticket.wait()).collect::<Result<_, _>>()?
            }
        };
        for (offset, value) in offsets.iter().zip(&values) {
            writeln!(stdout, "ack {offset} {:08x}", crc32fast::hash(value))?;
        }
        stdout.flush()?;
    }
    unreachable!("the numbers do not end")
}

/// The bytes of one record, which say which it is.
fn value(seed: u64, number: u64, size: usize) -> Vec<u8> {
    let mut random = Random::new(seed ^ (number << 20));
    let mut bytes = seed.to_le_bytes().to_vec();
    bytes.extend_from_slice(&number.to_le_bytes());
    while bytes.len() < size {
        bytes.extend_from_slice(&random.next().to_le_bytes());
    }
    bytes
}

/// Kills a writer so many times and looks at what it left. Returns how many acks were held against it.
pub(crate) fn kill_again_and_again(kills: u64, test: &str) -> Result<u64, String> {
    let directory = tempfile::tempdir().map_err(|error| error.to_string())?;
    let data = directory.path().join("data");
    let mut random = Random::new(0x5eed);
    let mut acked = BTreeMap::new();
    for kill in 0..kills {
        let at = |problem: String| format!("kill {kill}: {problem}");
        run_and_kill(&data, kill, test, &mut random, &mut acked).map_err(at)?;
        look(&data, &acked).map_err(at)?;
    }
    Ok(acked.len() as u64)
}

/// Starts a writer, lets it run for a while, kills it, and notes what it said.
fn run_and_kill(
    data: &Path,
    kill: u64,
    test: &str,
    random: &mut Random,
    acked: &mut BTreeMap<u64, String>,
) -> Result<(), String> {
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let child = Command::new(program)
        .args(["--exact", test, "--nocapture"])
        .env(DIRECTORY, data)
        .env(SEED, kill.to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn();
    let mut child = child.map_err(|error| error.to_string())?;
    let mut lines = BufReader::new(child.stdout.take().expect("it is piped"));
    let patience = random.below(400);
    let mut line = String::new();
    let mut seen = 0;
    loop {
        line.clear();
        let read = lines.read_line(&mut line).map_err(|error| error.to_string())?;
        // A line without its end was cut by the kill: nobody has read it.
        if read == 0 || !line.ends_with('\n') {
            break;
        }
        if line.starts_with("error") {
            return Err(format!("the writer gave up: {line}"));
        }
        let mut words = line.split_whitespace();
        let (Some("ack"), Some(offset), Some(crc)) = (words.next(), words.next(), words.next()) else { continue };
        let offset = offset.parse().map_err(|_| format!("the writer said {line:?}"))?;
        if let Some(before) = acked.insert(offset, crc.into()) {
            return Err(format!("offset {offset} is acked again; it was acked with {before}"));
        }
        seen += 1;
        if seen == patience + 1 {
            // It may be anywhere by now; what it has said in the meantime is in the pipe.
            child.kill().map_err(|error| error.to_string())?;
        }
    }
    let _ = child.kill();
    child.wait().map_err(|error| error.to_string())?;
    if seen <= patience { Err("the writer ended by itself".into()) } else { Ok(()) }
}

/// Opens what was left, and finds every acked record in it.
fn look(data: &Path, acked: &BTreeMap<u64, String>) -> Result<(), String> {
    let refused = |error: headwater::Error| error.to_string();
    let broker = Broker::open(data).map_err(refused)?;
    let topic = broker.topic(TOPIC).open().map_err(refused)?;
    let mut consumer = topic.consumer(Start::Earliest).max_poll_records(100_000).build().map_err(refused)?;
    let mut next = 0;
    while let Some(batch) = consumer.poll(Duration::ZERO).map_err(refused)? {
        for record in &batch {
            if record.offset() != next {
                return Err(format!("offset {} follows {next}", record.offset()));
            }
            next += 1;
            let crc = format!("{:08x}", crc32fast::hash(record.value()));
            if acked.get(&record.offset()).is_some_and(|acked| *acked != crc) {
                return Err(format!("offset {} has other bytes than were acked", record.offset()));
            }
        }
    }
    match acked.last_key_value() {
        Some((last, _)) if *last >= next => Err(format!("offset {last} was acked, the log ends at {next}")),
        _ => Ok(()),
    }
}
