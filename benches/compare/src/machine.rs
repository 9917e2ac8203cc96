//! What the figures depend on: machine, file system, date, versions.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

/// The lock file that this program was built with.
const LOCK: &str = include_str!("../Cargo.lock");

/// The version of a package that this program itself depends on.
pub(crate) fn locked_version(package: &str) -> &'static str {
    // Where two versions are locked, because a peer depends on another peer, our own entry says which is ours.
    let own = entry(env!("CARGO_PKG_NAME")).unwrap_or_default();
    let ambiguous = format!("\"{package} ");
    let version = own.lines().find_map(|line| line.trim().strip_prefix(&ambiguous)?.strip_suffix("\","));
    version
        .or_else(|| entry(package)?.lines().find_map(|line| line.strip_prefix("version = \"")?.strip_suffix('"')))
        .unwrap_or("?")
}

/// The first entry of a package in the lock file.
fn entry(package: &str) -> Option<&'static str> {
    let name = format!("name = \"{package}\"");
    LOCK.split("[[package]]").find(|entry| entry.lines().any(|line| line == name))
}

/// Cores, processor, memory, kernel.
pub(crate) fn summary() -> String {
    let cores = thread::available_parallelism().map_or_else(|_| "?".to_owned(), |cores| cores.to_string());
    let processor = field("/proc/cpuinfo", "model name").unwrap_or_else(|| "unknown processor".to_owned());
    let memory = field("/proc/meminfo", "MemTotal").unwrap_or_else(|| "?".to_owned());
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!("{cores} cores, {processor}, {memory} memory, {} {}", std::env::consts::OS, kernel.trim())
}

/// The first `name : value` line of a file in /proc.
fn field(path: &str, name: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let line = text.lines().find(|line| line.starts_with(name))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

/// Type and device of the mount that holds `dir`.
pub(crate) fn file_system(dir: &Path) -> String {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    mounts
        .lines()
        .filter_map(|line| {
            // `… <mount point> … - <type> <device> …`
            let (mount, kind) = line.split_once(" - ")?;
            let point = mount.split(' ').nth(4)?;
            dir.starts_with(point).then(|| {
                let kind: Vec<&str> = kind.split(' ').take(2).collect();
                (point.len(), kind.join(" on "))
            })
        })
        // The longest mount point is the innermost; of equal ones the last hides the others.
        .max_by_key(|(depth, _)| *depth)
        .map_or_else(|| "unknown".to_owned(), |(_, kind)| kind)
}

/// Today, in UTC.
pub(crate) fn date() -> String {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    civil_date(seconds / 86_400)
}

/// Days since 1970-01-01 to `year-month-day`.
fn civil_date(days: u64) -> String {
    let is_leap = |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let (mut year, mut day) = (1970, days);
    while day >= 365 + u64::from(is_leap(year)) {
        day -= 365 + u64::from(is_leap(year));
        year += 1;
    }
    let february = 28 + u64::from(is_leap(year));
    let mut month = 1;
    for month_days in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
        if day < month_days {
            break;
        }
        day -= month_days;
        month += 1;
    }
    format!("{year}-{month:02}-{:02}", day + 1)
}

#[cfg(test)]
mod tests {
    use super::{civil_date, locked_version};

    #[test]
    fn days_become_dates_across_leap_years() {
        assert_eq!(civil_date(0), "1970-01-01");
        assert_eq!(civil_date(11_016), "2000-02-29");
        assert_eq!(civil_date(11_017), "2000-03-01");
        assert_eq!(civil_date(20_453), "2025-12-31");
    }

    #[test]
    fn versions_come_from_the_lock_file() {
        assert_eq!(locked_version("commitlog"), "0.2.0");
        assert_eq!(locked_version("flume"), "0.12.0", "not the one that a peer depends on");
    }
}
