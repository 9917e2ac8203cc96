//! The handle a program opens: a directory, or memory, and the topics in it.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crate::config::{OnDamage, TopicConfig};
use crate::error::{Error, Result};
use crate::fs::{Disk, Fs, Simulated};
use crate::group::Groups;
use crate::log::Workers;
use crate::log::worker::Worker;
use crate::memory;
use crate::partition;
use crate::registry::{META, Registry, Want};
use crate::ring::{Notify, Waiting};
use crate::sync::plain::Mutex;
use crate::sync::{AtomicBool, Ordering};
use crate::time::{Clock, Deadline};
use crate::topic::{Home, Topic};
use crate::types::TopicName;

/// The file that is locked for as long as a broker has the directory (F-2).
const LOCK: &str = "LOCK";
/// Free space that is left alone, in bytes: one segment.
const MIN_FREE_DEFAULT: u64 = 64 << 20;

/// An event log in this process: a value, with no daemon, no port and no runtime behind it.
///
/// A directory has one broker at a time. Topics, producers and consumers keep it open when the `Broker` itself is
/// dropped; [`close`](Self::close) ends them all. Dropping never blocks and loses nothing that was acked.
///
/// ```
/// use headwater::{Broker, Record, Start};
/// use std::time::Duration;
/// # fn main() -> headwater::Result<()> {
/// # let dir = tempfile::tempdir().expect("a directory");
/// # let dir = dir.path();
/// let broker = Broker::open(dir)?;
/// let orders = broker.topic("orders").partitions(4).open_or_create()?;
/// orders.producer()?.send(Record::new(b"paid 19.90").key(b"customer-9"))?;
///
/// let mut billing = broker.consumer("billing", Start::Earliest).topics(["orders"]).build()?;
/// let batch = billing.poll(Duration::from_secs(5))?.expect("one record is there");
/// assert_eq!(batch.iter().next().map(|record| record.value()), Some(&b"paid 19.90"[..]));
/// batch.commit()?;
/// drop(billing);
///
/// let refusal = Broker::open(dir).unwrap_err(); // one directory has one broker
/// assert_eq!(refusal.kind(), "locked");
/// broker.close(Duration::from_secs(5))
/// # }
/// ```
#[derive(Clone)]
pub struct Broker {
    registry: Arc<Registry>,
    groups: Arc<Groups>,
    memory: Arc<memory::Directory>,
    /// Shared by the clones; empty until one is closed.
    closing: Arc<OnceLock<Arc<Closing>>>,
}

impl Broker {
    /// Opens a directory, or makes it. What a crash left is put right when a topic is opened.
    ///
    /// # Errors
    /// [`Error::Locked`] if another broker has it, [`Error::NotADataDirectory`] if something else lies there,
    /// [`Error::UnsupportedVersion`], [`Error::Io`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::builder().data_dir(path).open()
    }

    /// The same without a directory, gone when it is dropped: for tests, and for data that need not stay.
    ///
    /// # Errors
    /// None today.
    pub fn in_memory() -> Result<Self> {
        Self::builder().fs(Simulated::memory()).data_dir("/memory").min_free_bytes(0).open()
    }

    /// A broker to be set up.
    pub fn builder() -> BrokerBuilder {
        BrokerBuilder {
            data_dir: None,
            fs: Arc::new(Disk),
            clock: Clock::system(),
            on_damage: OnDamage::default(),
            min_free: MIN_FREE_DEFAULT,
        }
    }

    /// A topic to be opened or created.
    pub fn topic(&self, name: &str) -> TopicBuilder {
        TopicBuilder {
            registry: Arc::clone(&self.registry),
            name: name.into(),
            config: TopicConfig::default(),
            max_message_bytes: None,
        }
    }

    /// A memory topic to be opened or created: typed values between threads and tasks of this process, gone with it.
    /// Its name is apart from those of topics in the directory: there may be a `ticks` of both kinds. Memory topics and
    /// queues share names. See [`memory`].
    pub fn memory_topic<T: Send + Sync + 'static>(&self, name: &str) -> memory::Builder<memory::Topic<T>> {
        memory::Builder::new(Arc::clone(&self.memory), name)
    }

    /// A memory queue to be opened or created: each value goes to one consumer, by value. See [`memory::Queue`].
    pub fn memory_queue<T: Send + 'static>(&self, name: &str) -> memory::Builder<memory::Queue<T>> {
        memory::Builder::new(Arc::clone(&self.memory), name)
    }

    /// The names of all memory topics and queues that are open, in order.
    pub fn memory_topics(&self) -> Vec<TopicName> {
        self.memory.names()
    }

    /// The names of all topics, in order. Those that begin with two underscores are the broker's own.
    pub fn topics(&self) -> Vec<TopicName> {
        self.registry.names()
    }

    /// The directory.
    pub fn data_dir(&self) -> &Path {
        &self.registry.home().dir
    }

    pub(crate) fn registry(&self) -> &Arc<Registry> {
        &self.registry
    }

    pub(crate) fn groups(&self) -> &Arc<Groups> {
        &self.groups
    }

    /// Ends the broker and everything made from it: what producers hold back is sent, everything is synced, and the
    /// directory is left so that the next open has nothing to put right. Waits for that at most `timeout`.
    ///
    /// From the first moment on, every send and poll is refused with [`Error::Closed`]. When the time is up, or the
    /// disk fails, nothing that was acked is lost: it is as if the process had ended there.
    ///
    /// # Errors
    /// [`Error::Timeout`]; [`Error::Fenced`] or [`Error::Io`] if something could not be written.
    pub fn close(self, timeout: Duration) -> Result<()> {
        let closing = self.begin_close();
        let closed = closing.done.wait(Deadline::after(timeout), || closing.outcome.get().cloned());
        closed.unwrap_or_else(|| {
            let way_out = "what was acked is safe; the rest of the closing goes on behind";
            Err(Error::Timeout { what: "closing the broker", after: timeout, way_out })
        })
    }

    /// As [`close`](Self::close), for tasks; give it a timeout of the runtime's. Cancelling it leaves the closing to
    /// go on behind.
    ///
    /// # Errors
    /// As [`close`](Self::close).
    pub async fn close_async(self) -> Result<()> {
        let closing = self.begin_close();
        let mut waiting = Waiting::new(&closing.done);
        std::future::poll_fn(|cx| waiting.poll_ready(cx, || closing.outcome.get().cloned())).await
    }

    /// Closes in a thread of its own, since the disk takes as long as it takes. Whoever closes another clone meanwhile
    /// waits for the same closing.
    fn begin_close(&self) -> &Arc<Closing> {
        let closing = self.closing.get_or_init(|| {
            let closing = Arc::new(Closing { done: Notify::new(), outcome: OnceLock::new() });
            let (registry, theirs) = (Arc::clone(&self.registry), Arc::clone(&closing));
            // Release: pairs with the Acquire in `Home::check_open`.
            registry.home().is_closed.store(true, Ordering::Release);
            let close = move || {
                let closed = registry.close();
                registry.home().lock.lock().take();
                let is_first = theirs.outcome.set(closed).is_ok();
                debug_assert!(is_first, "a broker was closed twice");
                theirs.done.notify_all();
            };
            if self.registry.home().fs.allows_threads() {
                // Without a thread it is done here: late, but done.
                let refused = self.registry.home().closer.submit(Box::new(close));
                refused.err().into_iter().for_each(|close| close());
            } else {
                close();
            }
            closing
        });
        // Behind the closing that others may wait for: values' drops and tasks' wakers are strangers' code.
        self.memory.close();
        closing
    }
}

/// How far a closing has come.
#[derive(Debug)]
struct Closing {
    done: Notify,
    outcome: OnceLock<Result<()>>,
}

impl fmt::Debug for Broker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Broker").field("data_dir", &self.data_dir()).finish_non_exhaustive()
    }
}

/// Sets up a [`Broker`].
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing until `open`"]
pub struct BrokerBuilder {
    data_dir: Option<PathBuf>,
    fs: Arc<dyn Fs>,
    clock: Clock,
    on_damage: OnDamage,
    min_free: u64,
}

impl BrokerBuilder {
    /// The directory; it must be given.
    #[doc(alias = "log.dirs")]
    pub fn data_dir(mut self, path: impl AsRef<Path>) -> Self {
        self.data_dir = Some(path.as_ref().to_path_buf());
        self
    }

    /// Another file system than the disk: one that can be crashed, for tests.
    pub fn fs(mut self, fs: impl Fs) -> Self {
        self.fs = Arc::new(fs);
        self
    }

    /// Another clock than the system's.
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// What to do about stored bytes that are not what was written. Default: [`OnDamage::Refuse`].
    pub fn on_damage(mut self, on_damage: OnDamage) -> Self {
        self.on_damage = on_damage;
        self
    }

    /// Bytes of the file system that are left free: an append that would need them is refused with
    /// [`Error::StorageFull`]. Default: 64 MiB.
    pub fn min_free_bytes(mut self, bytes: u64) -> Self {
        self.min_free = bytes;
        self
    }

    /// Opens the broker.
    ///
    /// # Errors
    /// As [`Broker::open`], and [`Error::InvalidConfig`] if no directory was given.
    pub fn open(self) -> Result<Broker> {
        let Self { data_dir, fs, clock, on_damage, min_free } = self;
        let dir = data_dir.filter(|dir| !dir.as_os_str().is_empty()).ok_or_else(|| Error::InvalidConfig {
            setting: "log.dirs",
            value: "nothing".into(),
            limit: "a data directory must be given; Broker::in_memory needs none".into(),
        })?;
        check_directory(&*fs, &dir)?;
        let make = |path: &Path| fs.create_dir(path).map_err(|e| Error::io("create", path, e));
        make(&dir)?;
        let lock = lock(&*fs, &dir)?;
        make(&dir.join("topics"))?;
        sync_names(&*fs, &dir)?;
        let home = Arc::new(Home {
            fs,
            dir,
            clock,
            on_damage,
            min_free,
            workers: Workers::new(),
            lingerer: Arc::new(partition::lingerer()),
            closer: Worker::new("headwater-close", |close: Box<dyn FnOnce() + Send>| close()),
            is_closed: AtomicBool::new(false),
            lock: Mutex::new(Some(lock)),
        });
        let registry = Arc::new(Registry::open(home)?);
        let groups = Arc::new(Groups::new(Arc::clone(&registry)));
        Ok(Broker { registry, groups, memory: Arc::default(), closing: Arc::default() })
    }
}

/// Makes the names of `dir`, of what is in it and of all above it durable. All above, since an earlier open may have
/// made any of them and failed before it came to this.
fn sync_names(fs: &dyn Fs, dir: &Path) -> Result<()> {
    let sync = |path: &Path| fs.sync_dir(path).map_err(|e| Error::io("sync", path, e));
    sync(dir)?;
    for (distance, above) in dir.ancestors().skip(1).enumerate() {
        let above = if above.as_os_str().is_empty() { Path::new(".") } else { above };
        match sync(above) {
            // One that we may not open was not made by us, and its parent holds its name.
            Err(Error::Io { source, .. }) if distance > 0 && source.kind() == io::ErrorKind::PermissionDenied => {}
            synced => synced?,
        }
    }
    Ok(())
}

/// Refuses a directory that is somebody else's, before anything in it is touched.
fn check_directory(fs: &dyn Fs, dir: &Path) -> Result<()> {
    let names = match fs.list(dir) {
        Ok(names) => names,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
            return Err(Error::NotADataDirectory { path: dir.into(), reason: "it is a file".into() });
        }
        Err(error) => return Err(Error::io("list", dir, error)),
    };
    let is_ours = |name: &String| name == LOCK || name == META || name == "topics";
    match names.iter().find(|name| !is_ours(name)) {
        Some(stranger) if !names.iter().any(is_ours) => {
            Err(Error::NotADataDirectory { path: dir.into(), reason: format!("it holds {stranger:?}") })
        }
        _ => Ok(()),
    }
}

/// Takes the directory's lock, which dies with the process.
fn lock(fs: &dyn Fs, dir: &Path) -> Result<Arc<dyn crate::fs::File>> {
    let path = dir.join(LOCK);
    let file = match fs.lock(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            return Err(Error::Locked { path: dir.into(), holder: holder(fs, &path) });
        }
        Err(error) => return Err(Error::io("lock", &path, error)),
    };
    // For whoever is refused; nothing depends on it.
    let line = format!("{:<11}\n", std::process::id());
    let _ = file.write_at(line.as_bytes(), 0);
    Ok(file)
}

fn holder(fs: &dyn Fs, path: &Path) -> Option<u32> {
    let mut bytes = [0; 11];
    let read = fs.open_read(path).ok()?.read_at(&mut bytes, 0).ok()?;
    std::str::from_utf8(&bytes[..read]).ok()?.trim().parse().ok()
}

/// A topic to be opened or created. The settings count when it is created; a topic that is there keeps its own.
///
/// ```
/// use headwater::Broker;
/// # fn main() -> headwater::Result<()> {
/// let broker = Broker::in_memory()?;
/// let orders = broker.topic("orders").partitions(4).create()?;
/// assert_eq!(broker.topic("orders").partitions(9).open_or_create()?.config().partitions, 4);
/// assert_eq!(broker.topic("ordres").open().unwrap_err().kind(), "unknown_topic");
/// assert_eq!(broker.topic("or/ders").create().unwrap_err().kind(), "invalid_name");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing until `open`, `create` or `open_or_create`"]
pub struct TopicBuilder {
    registry: Arc<Registry>,
    name: String,
    config: TopicConfig,
    max_message_bytes: Option<u32>,
}

impl TopicBuilder {
    /// How many partitions. 1 to 10,000; default 1.
    #[doc(alias = "num.partitions")]
    pub fn partitions(mut self, partitions: u32) -> Self {
        self.config.partitions = partitions;
        self
    }

    /// Size of a segment file in bytes. 64 KiB to 1 GiB in steps of 4 KiB; default 64 MiB.
    #[doc(alias = "segment.bytes")]
    pub fn segment_bytes(mut self, bytes: u64) -> Self {
        self.config.segment_bytes = bytes;
        self
    }

    /// The largest batch in bytes, as encoded: a record may be that large less about 100 bytes. 1 KiB to a quarter
    /// of a segment; default 1 MiB, or that quarter where it is less.
    #[doc(alias = "max.message.bytes")]
    pub fn max_message_bytes(mut self, bytes: u32) -> Self {
        self.max_message_bytes = Some(bytes);
        self
    }

    /// Sync once this many records are not on the disk, whatever their acks.
    #[doc(alias = "flush.messages")]
    pub fn flush_messages(mut self, records: u64) -> Self {
        self.config.flush_messages = Some(records);
        self
    }

    /// Sync once something has not been on the disk for this long, whatever its acks; `None` never. Default: 5 s.
    #[doc(alias = "flush.ms")]
    pub fn flush_interval(mut self, interval: impl Into<Option<Duration>>) -> Self {
        self.config.flush_interval = interval.into();
        self
    }

    /// All settings at once, for example as they were read from text.
    pub fn config(mut self, config: TopicConfig) -> Self {
        self.max_message_bytes = Some(config.max_message_bytes);
        self.config = config;
        self
    }

    /// Makes the topic.
    ///
    /// # Errors
    /// [`Error::TopicExists`]; [`Error::InvalidName`] and [`Error::InvalidConfig`] name the limit;
    /// [`Error::StorageFull`], [`Error::Io`].
    pub fn create(self) -> Result<Topic> {
        self.get(Want::Create)
    }

    /// Opens the topic that is there, whatever a crash left of it.
    ///
    /// # Errors
    /// [`Error::UnknownTopic`]; [`Error::Damaged`] if the end of a partition cannot be told and the broker was not
    /// told to pass over damage; [`Error::UnsupportedVersion`], [`Error::Io`].
    pub fn open(self) -> Result<Topic> {
        self.get(Want::Open)
    }

    /// Opens the topic, or makes it if it is not there.
    ///
    /// # Errors
    /// As [`open`](Self::open) and [`create`](Self::create).
    pub fn open_or_create(self) -> Result<Topic> {
        self.get(Want::OpenOrCreate)
    }

    fn get(mut self, want: Want) -> Result<Topic> {
        let name = TopicName::new_for_users(&self.name)?;
        self.config.max_message_bytes = self.max_message_bytes.unwrap_or_else(|| {
            let quarter = TopicConfig::batch_bytes_limit(self.config.segment_bytes.clamp(64 << 10, 1 << 30));
            self.config.max_message_bytes.min(quarter)
        });
        self.registry.topic(&name, want, &self.config)
    }
}
