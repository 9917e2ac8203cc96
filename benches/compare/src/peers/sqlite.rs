//! SQLite by rusqlite, in WAL mode; a log is a table with an integer key.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use parking_lot::Mutex;
use rusqlite::Connection;

use crate::harness::{Batch, Calls, Card, Level, Log, Peer, Producer, Result, Synced, Tally, Watch};

pub(crate) struct Sqlite;

const INSERT: &str = "INSERT INTO log (record) VALUES (?1)";

impl Peer for Sqlite {
    type Log = SqliteLog;

    fn card(&self) -> Card {
        Card {
            name: "SQLite",
            package: "rusqlite",
            check: "WAL frames only; none in the database file",
            appended: Some("page cache: the WAL, one transaction per call"),
            synced: Synced::By("fsync of the WAL per transaction"),
            batch_loops: &[],
            follows: true,
            returns_early: false,
            notes: &[
                "WAL mode, `synchronous` NORMAL (A, C, D, E) or FULL (B), prepared statements, a transaction per batch",
                "one connection behind a lock, since writers exclude each other anyway and would sleep to wait",
                "a follower polls on its own connection",
            ],
        }
    }

    fn open(&self, dir: &Path, level: Level, _calls: Calls) -> Result<SqliteLog> {
        let path = dir.join("log.sqlite");
        let connection = Connection::open(&path)?;
        let mode: String = connection.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0))?;
        if mode != "wal" {
            return Err(format!("SQLite gave journal mode {mode} for wal").into());
        }
        let synchronous = match level {
            Level::Appended => "NORMAL",
            Level::Synced => "FULL",
        };
        connection.pragma_update(None, "synchronous", synchronous)?;
        connection.execute_batch("CREATE TABLE IF NOT EXISTS log (id INTEGER PRIMARY KEY, record BLOB NOT NULL)")?;
        Ok(SqliteLog { connection: Mutex::new(connection), path })
    }
}

pub(crate) struct SqliteLog {
    connection: Mutex<Connection>,
    path: PathBuf,
}

impl Log for SqliteLog {
    type Producer<'a> = &'a Mutex<Connection>;

    fn producer(&self) -> Result<&Mutex<Connection>> {
        Ok(&self.connection)
    }

    fn read_all(&self, tally: &mut Tally) -> Result<()> {
        let connection = self.connection.lock();
        let mut select = connection.prepare("SELECT record FROM log ORDER BY id")?;
        let mut rows = select.query([])?;
        while let Some(row) = rows.next()? {
            tally.add(row.get_ref(0)?.as_blob()?);
        }
        Ok(())
    }

    fn follow(&self, watch: &mut Watch) -> Result<()> {
        let connection = Connection::open(&self.path)?;
        let mut select = connection.prepare("SELECT id, record FROM log WHERE id > ?1 ORDER BY id")?;
        let mut last = 0_i64;
        loop {
            let from = last;
            let mut rows = select.query([from])?;
            while let Some(row) = rows.next()? {
                last = row.get(0)?;
                if watch.saw(row.get_ref(1)?.as_blob()?) == ControlFlow::Break(()) {
                    return Ok(());
                }
            }
            if last == from && watch.idle() == ControlFlow::Break(()) {
                return Ok(());
            }
        }
    }
}

impl Producer for &Mutex<Connection> {
    fn send(&mut self, record: &[u8]) -> Result<()> {
        self.lock().prepare_cached(INSERT)?.execute([record])?;
        Ok(())
    }

    fn send_batch(&mut self, batch: Batch<'_>) -> Result<()> {
        let mut connection = self.lock();
        let transaction = connection.transaction()?;
        {
            let mut insert = transaction.prepare_cached(INSERT)?;
            for record in batch.records() {
                insert.execute([record])?;
            }
        }
        Ok(transaction.commit()?)
    }
}
