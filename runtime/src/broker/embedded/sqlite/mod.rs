//! The folder's database: the only place that knows SQLite.
//!
//! Records lie in blocks ([`super::block`]), one for each partition of a produced batch. `log` says which offsets a block
//! covers, keyed by its last offset, so that the block an offset is in is found by one step down an index; the bytes lie
//! in `block`, apart, so that looking through `log` does not read them. Write-ahead log, one writer.

mod open;
mod read;

pub(super) use open::{DB_FILE, open};
pub(super) use read::{Reading, Stored};

use super::block::Packed;
use super::errors::{fatal, operator, retry};
use super::store::now_ms;
use crate::broker::BrokerError;
use rusqlite::{Connection, ErrorCode, params};
use std::ops::Range;
use std::path::{Path, PathBuf};

/// Topic and partition by their numbers.
pub(super) type At = (i64, i32);

/// Blocks removed in one transaction, so that producers do not wait long behind it.
pub(super) const TRIM_BLOCKS: usize = 256;

/// What compaction made of some blocks.
#[derive(Debug)]
pub(crate) struct Rewritten {
    /// The last offsets of the blocks that go.
    pub(crate) remove: Vec<i64>,
    pub(crate) insert: Vec<NewBlock>,
    /// Up to here (exclusive) the partition is compacted now.
    pub(crate) clean_to: i64,
}

/// A block with its place in the log.
#[derive(Debug)]
pub(crate) struct NewBlock {
    pub(crate) base: i64,
    pub(crate) last: i64,
    /// From when on its tombstones may go; `None` when it has none.
    pub(crate) horizon_ms: Option<i64>,
    pub(crate) block: Packed,
}

/// The connection that writes.
#[derive(Debug)]
pub(super) struct Database {
    connection: Connection,
    dir: PathBuf,
}

impl Database {
    /// Does all of `work` or nothing; when it returns without error it is as durable as `[embedded] sync` says.
    pub(super) fn transaction<T>(
        &mut self,
        work: impl FnOnce(&Self) -> Result<T, BrokerError>,
    ) -> Result<T, BrokerError> {
        self.statement("BEGIN IMMEDIATE")?;
        let result = work(self).and_then(|done| self.statement("COMMIT").map(|()| done));
        if result.is_err() && !self.connection.is_autocommit() {
            // A transaction that failed may be rolled back already; what can't be rolled back must not go on.
            self.statement("ROLLBACK").map_err(|e| fatal(format!("{}; nothing can be written any more", e.message)))?;
        }
        result
    }

    fn statement(&self, sql: &str) -> Result<(), BrokerError> {
        let run = self.connection.prepare_cached(sql).and_then(|mut s| s.execute([]));
        run.map(drop).map_err(|e| told(&self.dir, &e))
    }

    fn run(&self, sql: &str, values: impl rusqlite::Params) -> Result<usize, BrokerError> {
        let run = self.connection.prepare_cached(sql).and_then(|mut s| s.execute(values));
        run.map_err(|e| told(&self.dir, &e))
    }

    pub(super) fn append(&self, at: At, base: i64, last: i64, block: &Packed) -> Result<(), BrokerError> {
        self.insert(at, base, last, None, block)
    }

    fn insert(&self, at: At, base: i64, last: i64, horizon: Option<i64>, block: &Packed) -> Result<(), BrokerError> {
        self.run("INSERT INTO block (data) VALUES (?1)", [&block.bytes])?;
        let id = self.connection.last_insert_rowid();
        let bytes = i64::try_from(block.bytes.len()).unwrap_or(i64::MAX);
        self.run(
            "INSERT INTO log (topic, partition, last, base, records, bytes, newest_ms, horizon_ms, block)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
            params![at.0, at.1, last, base, block.records, bytes, block.newest_ms, horizon, id],
        )?;
        Ok(())
    }

    pub(super) fn set_end(&self, at: At, end: i64) -> Result<(), BrokerError> {
        let changed =
            self.run("UPDATE part SET end = ?3 WHERE topic = ?1 AND number = ?2", params![at.0, at.1, end])?;
        if changed == 1 { Ok(()) } else { Err(fatal(format!("{}: a partition is missing", self.dir.display()))) }
    }

    pub(super) fn commit_offset(&self, group: &str, at: At, offset: i64, metadata: &str) -> Result<(), BrokerError> {
        self.run(
            "INSERT INTO committed (grp, topic, partition, offset, metadata, at_ms) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
             ON CONFLICT DO UPDATE SET offset = ?4, metadata = ?5, at_ms = ?6",
            params![group, at.0, at.1, offset, metadata, now_ms()],
        )?;
        Ok(())
    }

    pub(super) fn create_topic(
        &self,
        name: &str,
        partitions: i32,
        settings: &[(String, String)],
    ) -> Result<i64, BrokerError> {
        self.run("INSERT INTO topic (name, created_ms) VALUES (?1, ?2)", params![name, now_ms()])?;
        let id = self.connection.last_insert_rowid();
        for (name, value) in settings {
            self.run("INSERT INTO setting (topic, name, value) VALUES (?1, ?2, ?3)", params![id, name, value])?;
        }
        self.add_partitions(id, 0..partitions)?;
        Ok(id)
    }

    pub(super) fn add_partitions(&self, topic: i64, numbers: Range<i32>) -> Result<(), BrokerError> {
        for number in numbers {
            self.run("INSERT INTO part (topic, number) VALUES (?1, ?2)", params![topic, number])?;
        }
        Ok(())
    }

    /// Deletes all blocks up to the one that ends with `last`; the log starts behind it then.
    pub(super) fn trim(&self, at: At, last: i64) -> Result<(), BrokerError> {
        let values = params![at.0, at.1, last];
        self.run(
            "DELETE FROM block WHERE id IN
             (SELECT block FROM log WHERE topic = ?1 AND partition = ?2 AND last <= ?3)",
            values,
        )?;
        self.run("DELETE FROM log WHERE topic = ?1 AND partition = ?2 AND last <= ?3", values)?;
        self.run("UPDATE part SET start = max(start, ?3 + 1) WHERE topic = ?1 AND number = ?2", values)?;
        Ok(())
    }

    pub(super) fn rewrite(&self, at: At, rewritten: &Rewritten) -> Result<(), BrokerError> {
        for last in &rewritten.remove {
            let values = params![at.0, at.1, last];
            self.run(
                "DELETE FROM block WHERE id IN
                 (SELECT block FROM log WHERE topic = ?1 AND partition = ?2 AND last = ?3)",
                values,
            )?;
            // Retention may have taken it meanwhile, and then nothing of it may come back.
            if self.run("DELETE FROM log WHERE topic = ?1 AND partition = ?2 AND last = ?3", values)? != 1 {
                return Err(retry("a block that was compacted is gone".to_owned()));
            }
        }
        for new in &rewritten.insert {
            self.insert(at, new.base, new.last, new.horizon_ms, &new.block)?;
        }
        let values = params![at.0, at.1, rewritten.clean_to];
        self.run("UPDATE part SET clean_to = max(clean_to, ?3) WHERE topic = ?1 AND number = ?2", values)?;
        Ok(())
    }

    /// Everything is in the database's one file then, and the next to open it needs not look for damage.
    pub(super) fn close(&mut self) -> Result<(), BrokerError> {
        self.transaction(|database| {
            database.run("UPDATE meta SET value = 'yes' WHERE name = 'closed'", [])?;
            Ok(())
        })?;
        let all = self.connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
        all.map_err(|e| told(&self.dir, &e))
    }
}

/// An error of SQLite in words for whoever runs the process, named by what may be done.
fn told(dir: &Path, error: &rusqlite::Error) -> BrokerError {
    let place = dir.display();
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => {
            retry(format!("{place}: the disk is full: nothing was written. It goes on as soon as there is room"))
        }
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => damaged(dir, &error.to_string()),
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            retry(format!("{place}: another program holds the database: end what has {DB_FILE} open"))
        }
        Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied | ErrorCode::CannotOpen) => {
            operator(format!("{place}: {error}: the user that runs this must be able to write there"))
        }
        Some(ErrorCode::SystemIoFailure) => retry(format!("{place}: the disk fails or is full: {error}")),
        _ => fatal(format!("{place}: {error}")),
    }
}

fn damaged(dir: &Path, what: &str) -> BrokerError {
    let place = dir.display();
    fatal(format!(
        "{place}: {DB_FILE} is damaged ({what}): put a copy of the folder back, or save what can be read with `sqlite3 \
         {DB_FILE} .recover`, or start with an empty folder"
    ))
}
