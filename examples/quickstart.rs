//! Quickstart: 20,013 flights go into a topic, and a consumer group reads them and works out who was late.
//!
//! ```text
//! cargo run --release --example quickstart                # writes the flights, reads them, commits
//! cargo run --release --example quickstart                # finds them there, and nothing left to read
//! cargo run --release --example quickstart -- --again     # writes them once more, reads only what is new
//! ```
//! Options: `--dir DIR` (default: `target/quickstart` in this project), `--group NAME` (default: `delays`; another
//! group begins at the start), `--stop-after N` (end after about N records, as if interrupted), `--again`.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "it is a program")]

use std::collections::BTreeMap;
use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use headwater::{Broker, Record, Start, Timestamp, Topic};

const FLIGHTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/data/flights.csv");
const DEFAULT_DIR: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/target/quickstart");
const TOPIC: &str = "flights";
const PARTITIONS: u32 = 4;

fn main() -> ExitCode {
    match Options::parse(std::env::args().skip(1)).and_then(|options| run(&options)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("quickstart: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<(), Box<dyn Error>> {
    // A value in this process: no daemon, no port, no runtime.
    let broker = Broker::open(&options.dir)?;
    let flights = broker.topic(TOPIC).partitions(PARTITIONS).open_or_create()?;
    println!("{} in {}", flights.name(), options.dir.display());

    if records(&flights)? == 0 || options.again {
        let csv = std::fs::read_to_string(FLIGHTS).map_err(|error| format!("cannot read {FLIGHTS}: {error}"))?;
        let departures: Vec<Flight> = csv.lines().skip(1).map(Flight::parse).collect::<Result<_, _>>()?;
        write(&flights, &departures)?;
    } else {
        println!("  found {} records there; `--again` writes them once more", grouped(records(&flights)?));
    }
    read(&broker, options)?;

    broker.close(Duration::from_secs(10))?;
    Ok(())
}

/// Sends every departure, keyed by carrier, stamped with its scheduled time.
fn write(flights: &Topic, departures: &[Flight]) -> headwater::Result<()> {
    let start = Instant::now();
    let mut producer = flights.producer()?; // Acks::Synced: done is on the disk
    for flight in departures {
        let record = Record::new(flight.line).key(flight.carrier).timestamp(flight.departure);
        // Not waited for one by one: batches fill up, and the flush below waits for all of them and tells any error.
        let _ticket = producer.send_nowait(record)?;
    }
    producer.flush()?;
    let count = departures.len() as u64;
    println!("  wrote {} records, on the disk, {}", grouped(count), rate(count, start));

    for partition in 0..flights.config().partitions {
        let offsets = flights.offsets(partition)?;
        println!("    partition {partition} {:>8}", grouped(offsets.end - offsets.start));
    }
    Ok(())
}

/// Reads for the group what it has not done with, and shows how late each carrier was.
fn read(broker: &Broker, options: &Options) -> Result<(), Box<dyn Error>> {
    let mut consumer =
        broker.consumer(&options.group, Start::Earliest).topics([TOPIC]).max_poll_records(4_000).build()?;
    let resumes = consumer.positions().iter().any(|(partition, _)| consumer.committed(partition).is_some());
    println!("group {}", options.group);
    if resumes {
        let offsets: Vec<String> = consumer.positions().iter().map(|(_, offset)| offset.to_string()).collect();
        println!("  resumes where it committed: offsets {}", offsets.join(", "));
    } else {
        println!("  is new here and begins at the start");
    }
    println!("  has {} records to read", grouped(consumer.lag()));

    let start = Instant::now();
    let mut carriers = BTreeMap::<String, Delays>::new();
    let mut read = 0;
    while read < options.stop_after
        && let Some(batch) = consumer.poll(Duration::ZERO)?
    {
        for record in &batch {
            // Key and value are borrowed from the log itself.
            let flight = Flight::parse(std::str::from_utf8(record.value())?)?;
            carriers.entry(flight.carrier.to_owned()).or_default().add(flight.delay);
        }
        read += batch.len() as u64;
        batch.commit()?; // after the work: a crash before this line repeats the batch, it never loses it
    }
    if read == 0 {
        println!("  nothing was left: it has done with every record of the topic");
        println!("  try `--again` for more records, `--group another` for a reader that begins at the start");
        return Ok(());
    }
    println!("  read {} records, commits included, {}", grouped(read), rate(read, start));
    println!("  left to read: {}", grouped(consumer.lag()));
    show(&carriers);
    Ok(())
}

fn show(carriers: &BTreeMap<String, Delays>) {
    let mut rows: Vec<_> = carriers.iter().collect();
    rows.sort_by(|(_, a), (_, b)| b.mean().total_cmp(&a.mean()));
    println!("\n  mean departure delay      flights  cancelled  minutes");
    for (code, delays) in rows {
        let name = CARRIERS.iter().find(|(known, _)| known == code).map_or("", |(_, name)| name);
        let flights = grouped(delays.flown + delays.cancelled);
        let bar = "█".repeat((delays.mean() / 2.0).max(0.0).ceil() as usize);
        println!("  {code}  {name:<20} {flights:>8} {:>10} {:>8.1}  {bar}", delays.cancelled, delays.mean());
    }
}

/// A line of the file, and what is of interest in it.
struct Flight<'a> {
    line: &'a str,
    carrier: &'a str,
    /// Minutes between scheduled and actual departure; `None` if it was cancelled.
    delay: Option<i64>,
    /// Scheduled.
    departure: Timestamp,
}

impl<'a> Flight<'a> {
    fn parse(line: &'a str) -> Result<Self, String> {
        let fields: Vec<&str> = line.split(',').collect();
        let flight = || {
            let [_, _, _, _, _, delay, _, _, _, carrier, .., minute, hour] = fields[..] else { return None };
            let delay = if delay == "NA" { None } else { Some(delay.parse().ok()?) };
            let departure = Timestamp(millis(hour)? + minute.parse::<i64>().ok()? * 60_000);
            Some(Self { line, carrier, delay, departure })
        };
        flight().ok_or_else(|| format!("not a flight: {line:?}"))
    }
}

/// Milliseconds since 1970 of a time such as `2013-01-01T10:00:00Z`.
fn millis(time: &str) -> Option<i64> {
    let number = |at: std::ops::Range<usize>| time.get(at)?.parse::<i64>().ok();
    let (year, month, day, hour) = (number(0..4)?, number(5..7)?, number(8..10)?, number(11..13)?);
    // Years that begin in March end with the leap day.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = year * 365 + year / 4 - year / 100 + year / 400 + (month * 153 + 2) / 5 + day - 719_469;
    Some((days * 24 + hour) * 3_600_000)
}

#[derive(Default)]
struct Delays {
    flown: u64,
    cancelled: u64,
    minutes: i64,
}

impl Delays {
    fn add(&mut self, delay: Option<i64>) {
        match delay {
            Some(minutes) => {
                self.flown += 1;
                self.minutes += minutes;
            }
            None => self.cancelled += 1,
        }
    }

    fn mean(&self) -> f64 {
        self.minutes as f64 / self.flown.max(1) as f64
    }
}

/// `20013` as `20,013`.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let groups: Vec<&str> = digits.as_bytes().rchunks(3).rev().filter_map(|group| str::from_utf8(group).ok()).collect();
    groups.join(",")
}

fn rate(records: u64, start: Instant) -> String {
    let seconds = start.elapsed().as_secs_f64();
    format!("in {:.1} ms: {} records/s", seconds * 1e3, grouped((records as f64 / seconds) as u64))
}

const USAGE: &str = "usage: quickstart [--dir DIR] [--group NAME] [--stop-after RECORDS] [--again]";

struct Options {
    dir: PathBuf,
    group: String,
    stop_after: u64,
    again: bool,
}

impl Options {
    fn parse(mut args: impl Iterator<Item = String>) -> Result<Self, Box<dyn Error>> {
        let mut options = Self { dir: DEFAULT_DIR.into(), group: "delays".into(), stop_after: u64::MAX, again: false };
        while let Some(option) = args.next() {
            let mut value = || args.next().ok_or_else(|| format!("{option} needs a value"));
            match option.as_str() {
                "--dir" => options.dir = value()?.into(),
                "--group" => options.group = value()?,
                "--stop-after" => options.stop_after = value()?.parse().map_err(|_| "--stop-after needs a number")?,
                "--again" => options.again = true,
                _ => return Err(format!("{option} is not understood; {USAGE}").into()),
            }
        }
        Ok(options)
    }
}

fn records(topic: &Topic) -> headwater::Result<u64> {
    (0..topic.config().partitions).map(|partition| topic.offsets(partition).map(|all| all.end - all.start)).sum()
}

const CARRIERS: [(&str, &str); 15] = [
    ("9E", "Endeavor Air"),
    ("AA", "American Airlines"),
    ("AS", "Alaska Airlines"),
    ("B6", "JetBlue Airways"),
    ("DL", "Delta Air Lines"),
    ("EV", "ExpressJet Airlines"),
    ("F9", "Frontier Airlines"),
    ("FL", "AirTran Airways"),
    ("HA", "Hawaiian Airlines"),
    ("MQ", "Envoy Air"),
    ("UA", "United Air Lines"),
    ("US", "US Airways"),
    ("VX", "Virgin America"),
    ("WN", "Southwest Airlines"),
    ("YV", "Mesa Airlines"),
];
