//! All topics of a broker by name, and the file that remembers them.
//!
//! `meta` is text, one topic a line, rewritten as a whole under another name and then renamed: whoever opens the
//! directory sees the old list or the new one (F-3).

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::config::TopicConfig;
use crate::error::{Error, Result};
use crate::fs::Fs;
use crate::sync::plain::Mutex;
use crate::topic::{Home, Topic};
use crate::types::{TopicId, TopicName};

/// The file (F-3).
pub(crate) const META: &str = "meta";
const META_NEW: &str = "meta.new";
const FIRST_LINE: &str = "headwater meta "; // F-3: followed by the version
const VERSION: u32 = 1; // F-18

/// The topics of one broker.
#[derive(Debug)]
pub(crate) struct Registry {
    home: Arc<Home>,
    /// Guards the list and the file. Topics are opened under it: one topic is opened once.
    topics: Mutex<Topics>,
}

#[derive(Debug, Default)]
struct Topics {
    known: BTreeMap<TopicName, Entry>,
    is_closed: bool,
}

#[derive(Debug)]
struct Entry {
    id: TopicId,
    config: TopicConfig,
    open: Option<Topic>,
}

/// What to do about a topic that is there, or is not.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Want {
    /// Only a new one.
    Create,
    /// Only one that is there.
    Open,
    /// Either.
    OpenOrCreate,
}

impl Registry {
    /// Reads the list of a home.
    ///
    /// # Errors
    /// [`Error::UnsupportedVersion`], [`Error::NotADataDirectory`] for a list that makes no sense, [`Error::Io`].
    pub(crate) fn open(home: Arc<Home>) -> Result<Self> {
        let path = home.dir.join(META);
        let known = match read(&*home.fs, &path) {
            Ok(text) => parse(&path, &text)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => BTreeMap::new(),
            Err(error) => return Err(Error::io("read", &path, error)),
        };
        Ok(Self { home, topics: Mutex::new(Topics { known, is_closed: false }) })
    }

    /// The directory and what goes with it.
    pub(crate) fn home(&self) -> &Arc<Home> {
        &self.home
    }

    /// The names of all topics, in order.
    pub(crate) fn names(&self) -> Vec<TopicName> {
        self.topics.lock().known.keys().cloned().collect()
    }

    /// Opens or creates a topic.
    pub(crate) fn topic(&self, name: &TopicName, want: Want, config: &TopicConfig) -> Result<Topic> {
        let mut topics = self.topics.lock();
        if topics.is_closed {
            return Err(Error::Closed { what: "the broker" });
        }
        if let Some(entry) = topics.known.get_mut(name) {
            if want == Want::Create {
                return Err(Error::TopicExists { topic: name.to_string() });
            }
            if let Some(topic) = &entry.open {
                return Ok(topic.clone());
            }
            let topic = Topic::open(Arc::clone(&self.home), name.clone(), entry.id, entry.config.clone(), false)?;
            return Ok(entry.open.insert(topic).clone());
        }
        if want == Want::Open {
            return Err(Error::UnknownTopic { topic: name.to_string() });
        }
        config.check()?;
        let fs = &self.home.fs;
        let id = TopicId((u128::from(fs.random()) << 64) | u128::from(fs.random()));
        // First the files, then the list: a topic that is listed is there.
        let topic = Topic::open(Arc::clone(&self.home), name.clone(), id, config.clone(), true)?;
        let open = Some(topic.clone());
        topics.known.insert(name.clone(), Entry { id, config: config.clone(), open });
        if let Err(error) = self.write(&topics.known) {
            topics.known.remove(name);
            return Err(error);
        }
        Ok(topic)
    }

    fn write(&self, known: &BTreeMap<TopicName, Entry>) -> Result<()> {
        let Home { fs, dir, .. } = &*self.home;
        let (path, new) = (dir.join(META), dir.join(META_NEW));
        let write = || -> io::Result<()> {
            match fs.remove(&new) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            let file = fs.create(&new)?;
            file.write_at(print(known).as_bytes(), 0)?;
            file.sync_data()?;
            fs.rename(&new, &path)?;
            fs.sync_dir(dir)
        };
        write().map_err(|e| Error::io("write", &path, e))
    }

    /// Closes every topic that is open, and says what went wrong first, after all were tried.
    pub(crate) fn close(&self) -> Result<()> {
        let open: Vec<Topic> = {
            let mut topics = self.topics.lock();
            topics.is_closed = true;
            topics.known.values_mut().filter_map(|entry| entry.open.take()).collect()
        };
        let closed: Vec<_> = open.iter().map(Topic::close).collect();
        closed.into_iter().collect()
    }
}

fn read(fs: &dyn Fs, path: &Path) -> io::Result<Vec<u8>> {
    let file = fs.open_read(path)?;
    let mut bytes = vec![0; usize::try_from(file.len()?).map_err(|_| io::ErrorKind::FileTooLarge)?];
    let read = file.read_at(&mut bytes, 0)?;
    bytes.truncate(read);
    Ok(bytes)
}

/// F-3: first line, one line a topic, last line the CRC-32 of all before it.
fn print(known: &BTreeMap<TopicName, Entry>) -> String {
    let mut text = format!("{FIRST_LINE}{VERSION}\n");
    for (name, Entry { id, config, .. }) in known {
        text += &format!("topic {name} id={id}");
        for (setting, value) in config.entries() {
            text += &format!(" {setting}={value}");
        }
        text.push('\n');
    }
    let crc = crc32fast::hash(text.as_bytes());
    text + &format!("crc32 {crc:08x}\n")
}

fn parse(path: &Path, bytes: &[u8]) -> Result<BTreeMap<TopicName, Entry>> {
    let no_meta = |reason: &str| Error::NotADataDirectory {
        path: path.parent().map(PathBuf::from).unwrap_or_default(),
        reason: format!("`{META}` {reason}"),
    };
    let text = std::str::from_utf8(bytes).map_err(|_| no_meta("is not text"))?;
    let version = text.lines().next().and_then(|line| line.strip_prefix(FIRST_LINE));
    let version = version.ok_or_else(|| no_meta("does not begin as it should"))?;
    match version.parse::<u32>() {
        Ok(VERSION) => {}
        Ok(found) => return Err(Error::UnsupportedVersion { path: path.into(), found, supported: VERSION }),
        Err(_) => return Err(no_meta("has no version")),
    }
    let end = text.strip_suffix('\n').and_then(|text| text.rfind('\n')).map_or(0, |end| end + 1);
    let (body, last) = text.split_at(end);
    if last != format!("crc32 {:08x}\n", crc32fast::hash(body.as_bytes())) {
        return Err(no_meta("is damaged: its checksum does not hold; restore it from a copy"));
    }
    let mut known = BTreeMap::new();
    for line in body.lines().skip(1) {
        let (name, entry) =
            parse_topic(line).ok_or_else(|| no_meta("names a topic in a way that is not understood"))?;
        known.insert(name, entry);
    }
    Ok(known)
}

fn parse_topic(line: &str) -> Option<(TopicName, Entry)> {
    let mut words = line.strip_prefix("topic ")?.split(' ');
    let name = TopicName::new(words.next()?).ok()?;
    let id = u128::from_str_radix(words.next()?.strip_prefix("id=")?, 16).ok()?;
    let mut config = TopicConfig::default();
    for word in words {
        let (setting, value) = word.split_once('=')?;
        config.set(setting, value).ok()?;
    }
    config.check().ok()?;
    Some((name, Entry { id: TopicId(id), config, open: None }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> BTreeMap<TopicName, Entry> {
        let entry = |id, partitions| Entry {
            id: TopicId(id),
            config: TopicConfig { partitions, ..TopicConfig::default() },
            open: None,
        };
        let name = |name| TopicName::new(name).expect("a name");
        [(name("a"), entry(1, 1)), (name("b.c"), entry(u128::MAX, 12))].into()
    }

    #[test]
    fn the_list_is_read_back_as_it_was_written() {
        let text = print(&sample());
        let known = parse(Path::new("d/meta"), text.as_bytes()).expect("as written");
        let summary = |known: &BTreeMap<TopicName, Entry>| {
            known.iter().map(|(name, entry)| (name.clone(), entry.id, entry.config.clone())).collect::<Vec<_>>()
        };
        assert_eq!(summary(&known), summary(&sample()));
    }

    #[test]
    fn no_changed_byte_of_the_list_goes_unnoticed() {
        let text = print(&sample());
        for at in 0..text.len() {
            let mut bytes = text.clone().into_bytes();
            bytes[at] ^= 1;
            parse(Path::new("d/meta"), &bytes).expect_err("a byte was changed");
        }
        let later = text.replacen("meta 1", "meta 2", 1);
        let refusal = parse(Path::new("d/meta"), later.as_bytes()).expect_err("version 2");
        assert!(matches!(refusal, Error::UnsupportedVersion { found: 2, .. }), "{refusal}");
    }
}
