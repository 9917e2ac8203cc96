//! Prints every record of the topic `check` that a directory holds, for tests from outside.
//!
//! `durable_dump DIR`
//!
//! Prints `<offset> <crc32 of value> <len>` per record and `error <kind> <from> <to>` per range that cannot be read, in
//! order. Where nothing at all can be read it prints one `error <kind> 0 0`, says why on standard error, and exits with
//! 3. Whatever the files hold, it ends in one of these ways. It opens the directory as any broker does, so that a crash
//! is put right by it; damage is passed over and left as it is.

use std::io::{BufWriter, Write};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use headwater::{Broker, Error, OnDamage, Start};

fn main() -> ExitCode {
    let Some(dir) = std::env::args().nth(1).filter(|_| std::env::args().len() == 2) else {
        let _ = writeln!(std::io::stderr(), "usage: durable_dump DIR");
        return ExitCode::from(2);
    };
    let mut out = BufWriter::new(std::io::stdout().lock());
    let mut next = 0;
    let dumped = dump(Path::new(&dir), &mut out, &mut next);
    let status = match dumped {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(out, "error {} {next} {next}", error.kind());
            let _ = writeln!(std::io::stderr(), "{error}");
            ExitCode::from(3)
        }
    };
    let _ = out.flush();
    status
}

/// Prints what is there; `next` is the offset behind what was printed.
fn dump(dir: &Path, out: &mut impl Write, next: &mut u64) -> Result<(), Error> {
    if !dir.is_dir() {
        let reason = "there is no such directory".into();
        return Err(Error::NotADataDirectory { path: dir.into(), reason });
    }
    let broker = Broker::builder().data_dir(dir).on_damage(OnDamage::Skip).open()?;
    let topic = broker.topic("check").open()?;
    let mut consumer = topic.consumer(Start::Earliest).build()?;
    while let Some(batch) = consumer.poll(Duration::ZERO)? {
        // A batch says what was passed over on the way to any of its records: put in between, by offset.
        let mut skipped = batch.skipped().iter().peekable();
        for record in &batch {
            while let Some(damage) = skipped.next_if(|damage| damage.from < record.offset()) {
                let _ = writeln!(out, "error damaged {} {}", damage.from, damage.to);
            }
            let crc = crc32fast::hash(record.value());
            if writeln!(out, "{} {crc:08x} {}", record.offset(), record.value().len()).is_err() {
                return Ok(()); // Nobody reads any more.
            }
            *next = record.offset() + 1;
        }
        for damage in skipped {
            let _ = writeln!(out, "error damaged {} {}", damage.from, damage.to);
            *next = damage.to;
        }
    }
    Ok(())
}
