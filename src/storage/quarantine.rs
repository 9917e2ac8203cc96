//! Copies of damaged files, put aside for a person to look at.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use crate::fs::Fs;
use crate::sync::plain::Mutex;
use crate::types::TopicPartition;

/// Where the copies of one partition's files go.
#[derive(Debug)]
pub(crate) struct Quarantine {
    dir: PathBuf,
    partition: TopicPartition,
    /// Files of which there is a copy. Guards only itself.
    copied: Mutex<BTreeSet<OsString>>,
}

impl Quarantine {
    pub(crate) fn new(dir: PathBuf, partition: TopicPartition) -> Self {
        Self { dir, partition, copied: Mutex::default() }
    }

    /// Copies a file, once, under the partition's name and its own. A copy that fails is tried again when the damage
    /// is met again; a file that is not there has none.
    pub(crate) fn put_aside(&self, fs: &dyn Fs, path: &Path) {
        let Some(name) = path.file_name() else { return };
        if self.copied.lock().contains(name) {
            return;
        }
        if self.copy(fs, path, &name.to_string_lossy()).is_ok() {
            self.copied.lock().insert(name.to_owned());
        }
    }

    fn copy(&self, fs: &dyn Fs, path: &Path, name: &str) -> io::Result<()> {
        const PIECE: usize = 1 << 20;
        let from = fs.open_read(path)?;
        fs.create_dir(&self.dir)?;
        let to = match fs.create(&self.dir.join(format!("{}-{name}", self.partition))) {
            // From an earlier session, when the damage was fresher.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
            created => created?,
        };
        let (mut piece, mut at) = (vec![0; PIECE], 0);
        loop {
            let read = from.read_at(&mut piece, at)?;
            if read == 0 {
                break;
            }
            to.write_at(&piece[..read], at)?;
            at += read as u64;
        }
        to.sync_data()?;
        fs.sync_dir(&self.dir)?;
        self.dir.parent().map_or(Ok(()), |home| fs.sync_dir(home))
    }
}
