//! Ticks: four feeds of two venues send prices through a memory topic, and three kinds of readers follow them.
//!
//! ```text
//! cargo run --release --example ticks
//! ```
//! The group `pricing` has two members that share every tick, the group `risk` has one that sees them all and whose
//! order must hold; both make the feeds wait where they are behind. The screen is slow, and lossy: it redraws now and
//! then with what is still there, and is told how many ticks it missed. It ends after two seconds, and every figure
//! that it prints is measured and held against the others.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "it is a program")]

use std::process::ExitCode;
use std::thread::{self, ScopedJoinHandle};
use std::time::{Duration, Instant};

use headwater::memory::{Consumer, Lagged, Metrics, Producer, RecvError, Topic};
use headwater::{Broker, OnFull, Result};

const RUN: Duration = Duration::from_secs(2);
const REDRAW: Duration = Duration::from_millis(300);
const CAPACITY: usize = 1 << 14;
const VENUES: usize = 2;
/// Each venue has a feed for the first half of the symbols, and one for the second.
const FEEDS_PER_VENUE: usize = 2;
const SYMBOLS: [(&str, u32); 8] = [
    ("AAPL", 18_722),
    ("AMZN", 17_853),
    ("GOOG", 14_156),
    ("INTC", 4_410),
    ("META", 48_403),
    ("MSFT", 41_532),
    ("NVDA", 82_279),
    ("TSLA", 20_264),
];

/// A trade.
#[derive(Clone, Copy)]
struct Tick {
    symbol: u8,
    venue: u8,
    /// In cents.
    price: u32,
    size: u32,
    /// Counts the ticks of this symbol at this venue.
    seq: u64,
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ticks: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let broker = Broker::in_memory()?;
    let ticks = broker
        .memory_topic::<Tick>("ticks")
        .capacity(CAPACITY)
        .on_full(OnFull::Block) // the default: a group that is not lossy gets every tick
        .close_after_producers() // so that readers come to an end by themselves
        .create()?;

    // All join before the first tick, so that each group sees all of them.
    let pricing = [ticks.group("pricing").join(), ticks.group("pricing").join()];
    let risk = ticks.group("risk").join();
    let screen = ticks.consumer_builder().lossy().join();
    let walks = (0..VENUES * FEEDS_PER_VENUE).map(Walk::new);
    let feeds: Vec<_> = walks.map(|walk| Ok((walk, ticks.producer()?))).collect::<Result<_>>()?;
    let places = grouped(ticks.capacity() as u64);
    println!("{} feeds of {VENUES} venues, a ring of {places} ticks of {} bytes", feeds.len(), size_of::<Tick>());

    let start = Instant::now();
    let outcome = thread::scope(|scope| -> Result<Outcome> {
        let feeds: Vec<_> = feeds.into_iter().map(|(walk, producer)| scope.spawn(|| feed(walk, producer))).collect();
        let pricing = pricing.map(|member| scope.spawn(|| price(member)));
        let risk = scope.spawn(|| watch(risk));
        let screen = scope.spawn(|| show(screen, &ticks, start));
        thread::sleep(RUN / 2);
        let halfway = ticks.metrics();
        let feeds = feeds.into_iter().map(joined).collect::<Result<_>>()?;
        let took = start.elapsed();
        Ok(Outcome {
            halfway,
            feeds,
            took,
            pricing: pricing.map(joined).into_iter().collect::<Result<_>>()?,
            risk: joined(risk)?,
            screen: joined(screen)?,
        })
    })?;
    outcome.print(&ticks.metrics());
    outcome.check(&ticks.metrics());
    Ok(())
}

/// Sends ticks until the time is up; what it has sent.
fn feed(mut walk: Walk, mut producer: Producer<Tick>) -> Result<Tally> {
    let mut sent = Tally::default();
    let start = Instant::now();
    while start.elapsed() < RUN {
        for _ in 0..256 {
            let tick = walk.next();
            producer.send(tick)?; // waits where a group that must see every tick is a whole ring behind
            sent.add(&tick);
        }
    }
    Ok(sent)
}

/// Follows as a member of a group: volume and mean price of what this member gets.
fn price(mut member: Consumer<Tick>) -> Result<(Consumer<Tick>, Tally)> {
    let mut tally = Tally::default();
    loop {
        // Lends a run of ticks where they lie.
        match member.poll(Duration::from_secs(1), |tick| tally.add(tick)) {
            Ok(_) => {}
            Err(RecvError::Closed) => return Ok((member, tally)),
            Err(lagged) => return Err(lagged.into()), // it is not lossy: this would be a bug
        }
    }
}

/// Follows every tick: the range of each symbol, and that each venue's ticks come in their order, none left out.
fn watch(mut reader: Consumer<Tick>) -> Result<(Consumer<Tick>, Risk)> {
    let mut risk = Risk::default();
    loop {
        match reader.poll(Duration::from_secs(1), |tick| risk.add(tick)) {
            Ok(_) => {}
            Err(RecvError::Closed) => return Ok((reader, risk)),
            Err(lagged) => return Err(lagged.into()),
        }
    }
}

/// Redraws now and then with what is still there, and counts what is not.
fn show(mut reader: Consumer<Tick>, ticks: &Topic<Tick>, start: Instant) -> Result<(Consumer<Tick>, Screen)> {
    let mut screen = Screen::default();
    loop {
        thread::sleep(REDRAW);
        let is_last = ticks.is_closed();
        // A ring's worth and no more, for the feeds go on meanwhile; at last, all that is left.
        let most = if is_last { usize::MAX } else { CAPACITY };
        for tick in reader.iter().take(most) {
            screen.add(tick);
        }
        screen.draw(start.elapsed());
        if is_last {
            return Ok((reader, screen));
        }
    }
}

/// Prices of half the symbols at one venue, by a walk that is the same in every run.
struct Walk {
    venue: u8,
    first_symbol: u8,
    prices: [u32; PER_FEED],
    sent: u64,
    random: u64,
}

const PER_FEED: usize = SYMBOLS.len() / FEEDS_PER_VENUE;

impl Walk {
    fn new(feed: usize) -> Self {
        let first_symbol = feed % FEEDS_PER_VENUE * PER_FEED;
        Self {
            venue: (feed / FEEDS_PER_VENUE) as u8,
            first_symbol: first_symbol as u8,
            prices: std::array::from_fn(|index| SYMBOLS[first_symbol + index].1),
            sent: 0,
            random: feed as u64 + 1,
        }
    }

    /// One symbol after the other; a price moves by a cent at most, and stays above a dollar.
    fn next(&mut self) -> Tick {
        // xorshift64
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        let index = self.sent as usize % PER_FEED;
        let seq = self.sent / PER_FEED as u64;
        let price = &mut self.prices[index];
        *price = (*price + (self.random % 3) as u32).saturating_sub(1).max(100);
        let size = 100 * (1 + (self.random >> 32) as u32 % 10);
        self.sent += 1;
        Tick { symbol: self.first_symbol + index as u8, venue: self.venue, price: *price, size, seq }
    }
}

/// What was traded of each symbol.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
struct Tally([Traded; SYMBOLS.len()]);

#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
struct Traded {
    ticks: u64,
    shares: u64,
    cents: u64,
}

impl Tally {
    fn add(&mut self, tick: &Tick) {
        let traded = &mut self.0[usize::from(tick.symbol)];
        traded.ticks += 1;
        traded.shares += u64::from(tick.size);
        traded.cents += u64::from(tick.size) * u64::from(tick.price);
    }

    fn and(mut self, other: &Self) -> Self {
        for (traded, more) in self.0.iter_mut().zip(&other.0) {
            traded.ticks += more.ticks;
            traded.shares += more.shares;
            traded.cents += more.cents;
        }
        self
    }

    fn of_all<'a>(parts: impl IntoIterator<Item = &'a Self>) -> Self {
        parts.into_iter().fold(Self::default(), Self::and)
    }

    fn ticks(&self) -> u64 {
        self.0.iter().map(|traded| traded.ticks).sum()
    }
}

#[derive(Default)]
struct Risk {
    tally: Tally,
    /// The lowest and the highest price.
    ranges: [Option<(u32, u32)>; SYMBOLS.len()],
    /// The next number of each symbol at each venue.
    next: [[u64; SYMBOLS.len()]; VENUES],
    out_of_order: u64,
}

impl Risk {
    fn add(&mut self, tick: &Tick) {
        let symbol = usize::from(tick.symbol);
        self.tally.add(tick);
        let (low, high) = self.ranges[symbol].unwrap_or((tick.price, tick.price));
        self.ranges[symbol] = Some((low.min(tick.price), high.max(tick.price)));
        let next = &mut self.next[usize::from(tick.venue)][symbol];
        self.out_of_order += u64::from(tick.seq != *next);
        *next = tick.seq + 1;
    }
}

#[derive(Default)]
struct Screen {
    last: [Option<u32>; SYMBOLS.len()],
    shown: u64,
    missed: u64,
}

impl Screen {
    /// A tick, or how many were missed before the next one.
    fn add(&mut self, tick: std::result::Result<Tick, Lagged>) {
        match tick {
            Ok(tick) => {
                self.last[usize::from(tick.symbol)] = Some(tick.price);
                self.shown += 1;
            }
            Err(Lagged { missed }) => self.missed += missed,
        }
    }

    fn draw(&self, at: Duration) {
        let prices = SYMBOLS.iter().zip(self.last).step_by(2);
        let prices: String = prices.map(|((name, _), last)| format!("  {name} {:>7}", dollars(last))).collect();
        println!("  screen at {:.1} s{prices}  missed so far: {:>11}", at.as_secs_f64(), grouped(self.missed));
    }
}

/// What everybody has counted. The readers are still there: a group that has left is in no metrics.
struct Outcome {
    halfway: Metrics,
    feeds: Vec<Tally>,
    pricing: Vec<(Consumer<Tick>, Tally)>,
    risk: (Consumer<Tick>, Risk),
    screen: (Consumer<Tick>, Screen),
    took: Duration,
}

impl Outcome {
    fn print(&self, at_end: &Metrics) {
        let Self { feeds, pricing, risk, screen, took, .. } = self;
        let halfway = &self.halfway;
        println!(
            "\n  halfway        {:>12} sent, {} of them still in the ring",
            grouped(halfway.sent),
            grouped(halfway.depth)
        );
        for group in &halfway.groups {
            let name = group.name.as_deref().unwrap_or("screen");
            println!("    {name:<12} {:>12} behind, {} missed", grouped(group.lag), grouped(group.dropped));
        }

        let row = |name: &str, ticks: u64, missed: Option<u64>| {
            let rate = ticks as f64 / took.as_secs_f64() / 1e6;
            let missed = missed.map_or_else(|| "-".into(), grouped);
            println!("  {name:<14} {:>12} {rate:>8.2} {missed:>12}", grouped(ticks));
        };
        println!("\n  in {:.2} s             ticks      M/s       missed", took.as_secs_f64());
        for (number, sent) in feeds.iter().enumerate() {
            let (venue, half) = (number / FEEDS_PER_VENUE, number % FEEDS_PER_VENUE);
            row(&format!("feed {}{}", ["A", "B"][venue], half + 1), sent.ticks(), None);
        }
        row("all feeds", Tally::of_all(feeds).ticks(), None);
        let of_pricing = Tally::of_all(pricing.iter().map(|(_, tally)| tally));
        row("group pricing", of_pricing.ticks(), Some(pricing[0].0.missed()));
        for (number, (_, tally)) in pricing.iter().enumerate() {
            row(&format!("  member {}", number + 1), tally.ticks(), None);
        }
        row("group risk", risk.1.tally.ticks(), Some(risk.0.missed()));
        row("screen", screen.1.shown, Some(screen.1.missed));
        let (blocked, all) = (at_end.blocked.as_secs_f64(), RUN.as_secs_f64() * feeds.len() as f64);
        println!("  the feeds waited for room {blocked:.2} s of their {all:.0} s, all together");

        println!("\n  symbol      ticks   mean price       low      high    screen");
        for (symbol, (name, _)) in SYMBOLS.iter().enumerate() {
            let traded = of_pricing.0[symbol];
            let mean = traded.cents.checked_div(traded.shares).map(|cents| cents as u32);
            let range = risk.1.ranges[symbol];
            println!(
                "  {name:<6} {:>10} {:>12} {:>9} {:>9} {:>9}",
                grouped(traded.ticks),
                dollars(mean),
                dollars(range.map(|(low, _)| low)),
                dollars(range.map(|(_, high)| high)),
                dollars(screen.1.last[symbol]),
            );
        }
    }

    /// Holds all counts against each other.
    fn check(&self, at_end: &Metrics) {
        let sent = Tally::of_all(&self.feeds);
        let of_pricing = Tally::of_all(self.pricing.iter().map(|(_, tally)| tally));
        let (screen, shown) = (&self.screen.0, &self.screen.1);
        assert_eq!(at_end.sent, sent.ticks(), "the topic counts what the feeds have sent");
        assert_eq!(of_pricing, sent, "the members of `pricing` have shared every tick, each went to one");
        assert_eq!(self.risk.1.tally, sent, "`risk` has seen every tick");
        assert_eq!(self.risk.1.out_of_order, 0, "`risk` has seen each venue's ticks in their order");
        assert_eq!(shown.missed, sent.ticks() - shown.shown, "the screen was told exactly what it did not see");
        assert_eq!(shown.missed, screen.missed(), "its group has missed what it was told");
        for group in &at_end.groups {
            let is_screen = group.name.is_none();
            assert_eq!(group.dropped, if is_screen { shown.missed } else { 0 }, "only the screen has missed any");
            assert_eq!(group.lag, 0, "everybody has come to the end");
        }
        assert_eq!((at_end.groups.len(), at_end.depth, at_end.producers), (3, 0, 0));
        println!("\n  every tick is accounted for: seen by both groups, shown on the screen or missed there");
    }
}

/// What a thread has come to; its panic goes on here.
fn joined<T>(handle: ScopedJoinHandle<'_, Result<T>>) -> Result<T> {
    handle.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

fn dollars(cents: Option<u32>) -> String {
    cents.map_or_else(|| "-".into(), |cents| format!("{}.{:02}", cents / 100, cents % 100))
}

/// `20013` as `20,013`.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let groups: Vec<&str> = digits.as_bytes().rchunks(3).rev().filter_map(|group| str::from_utf8(group).ok()).collect();
    groups.join(",")
}
