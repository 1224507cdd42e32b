//! A connection that only reads. Each reader has one, and none of them waits for the writer.

use super::{At, DB_FILE, told};
use crate::broker::{BrokerError, Committed};
use rusqlite::{Connection, OptionalExtension as _, Row as SqlRow, params};
use std::path::{Path, PathBuf};
use std::time::Duration;

const BUSY_WAIT: Duration = Duration::from_secs(5);

/// A block as it lies in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) struct Stored {
    /// The offset that its first record counts from.
    pub(in super::super) base: i64,
    /// The last offset that it stands for, whether or not compaction took that record.
    pub(in super::super) last: i64,
    /// From when on the tombstones in it may go.
    pub(in super::super) horizon_ms: Option<i64>,
    /// See [`crate::broker::embedded::block`].
    pub(in super::super) data: Vec<u8>,
}

/// What is known of a block without its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) struct Row {
    pub(in super::super) last: i64,
    pub(in super::super) bytes: i64,
    pub(in super::super) newest_ms: i64,
}

/// See the module.
#[derive(Debug)]
pub(in super::super) struct Reading {
    connection: Connection,
    dir: PathBuf,
}

impl Reading {
    pub(in super::super) fn open(dir: &Path) -> Result<Self, BrokerError> {
        let open = || {
            // Readable alone would not do: readers note in shared memory what they read.
            let connection = Connection::open(dir.join(DB_FILE))?;
            connection.busy_timeout(BUSY_WAIT)?;
            connection.pragma_update(None, "query_only", "ON")?;
            Ok(connection)
        };
        let connection = open().map_err(|e| told(dir, &e))?;
        Ok(Self { connection, dir: dir.to_owned() })
    }

    fn told(&self, error: &rusqlite::Error) -> BrokerError {
        told(&self.dir, error)
    }

    /// Blocks that hold what comes at and after `offset`, in order: at least one if there is one, and then as many as fit
    /// into `max_bytes`.
    pub(in super::super) fn blocks(&self, at: At, offset: i64, max_bytes: usize) -> Result<Vec<Stored>, BrokerError> {
        let mut found = Vec::new();
        let mut bytes = 0;
        let read = || {
            let mut statement = self.connection.prepare_cached(
                "SELECT base, last, horizon_ms, data FROM log JOIN block ON id = block
                 WHERE topic = ?1 AND partition = ?2 AND last >= ?3 ORDER BY last",
            )?;
            let mut rows = statement.query(params![at.0, at.1, offset])?;
            while let Some(row) = rows.next()? {
                let data = row.get_ref(3)?.as_blob()?;
                bytes += data.len();
                if bytes > max_bytes && !found.is_empty() {
                    break;
                }
                found.push(Stored {
                    base: row.get(0)?,
                    last: row.get(1)?,
                    horizon_ms: row.get(2)?,
                    data: data.to_vec(),
                });
            }
            Ok(())
        };
        let result: rusqlite::Result<()> = { read }();
        result.map_err(|e| self.told(&e))?;
        Ok(found)
    }

    /// The first block that holds a record of `time_ms` or later, from `offset` on.
    pub(in super::super) fn block_at_time(
        &self,
        at: At,
        offset: i64,
        time_ms: i64,
    ) -> Result<Option<Stored>, BrokerError> {
        let stored = |row: &SqlRow<'_>| {
            Ok(Stored { base: row.get(0)?, last: row.get(1)?, horizon_ms: row.get(2)?, data: row.get(3)? })
        };
        let found = self.connection.prepare_cached(
            "SELECT base, last, horizon_ms, data FROM log JOIN block ON id = block
             WHERE topic = ?1 AND partition = ?2 AND last >= ?3 AND newest_ms >= ?4 ORDER BY last LIMIT 1",
        );
        let found = found.and_then(|mut s| s.query_row(params![at.0, at.1, offset, time_ms], stored).optional());
        found.map_err(|e| self.told(&e))
    }

    /// The first blocks of a partition, without their bytes.
    pub(in super::super) fn rows(&self, at: At, max: usize) -> Result<Vec<Row>, BrokerError> {
        let row = |row: &SqlRow<'_>| Ok(Row { last: row.get(0)?, bytes: row.get(1)?, newest_ms: row.get(2)? });
        let all = self.connection.prepare_cached(
            "SELECT last, bytes, newest_ms FROM log WHERE topic = ?1 AND partition = ?2 ORDER BY last LIMIT ?3",
        );
        let all = all.and_then(|mut s| {
            let max = i64::try_from(max).unwrap_or(i64::MAX);
            s.query_map(params![at.0, at.1, max], row)?.collect()
        });
        all.map_err(|e| self.told(&e))
    }

    /// Bytes of a partition's blocks: all of them, and of those that end at `from` or later.
    pub(in super::super) fn bytes(&self, at: At, from: i64) -> Result<(i64, i64), BrokerError> {
        let sums = self.connection.prepare_cached(
            "SELECT coalesce(sum(bytes), 0), coalesce(sum(CASE WHEN last >= ?3 THEN bytes END), 0)
             FROM log WHERE topic = ?1 AND partition = ?2",
        );
        let sums = sums.and_then(|mut s| s.query_row(params![at.0, at.1, from], |r| Ok((r.get(0)?, r.get(1)?))));
        sums.map_err(|e| self.told(&e))
    }

    /// Up to where a partition is compacted, and the earliest horizon of its tombstones.
    pub(in super::super) fn compacted(&self, at: At) -> Result<(i64, Option<i64>), BrokerError> {
        let found = self.connection.prepare_cached(
            "SELECT clean_to, (SELECT min(horizon_ms) FROM log WHERE topic = ?1 AND partition = ?2)
             FROM part WHERE topic = ?1 AND number = ?2",
        );
        let found = found.and_then(|mut s| s.query_row(params![at.0, at.1], |r| Ok((r.get(0)?, r.get(1)?))));
        found.map_err(|e| self.told(&e))
    }

    pub(in super::super) fn committed(&self, group: &str, at: At) -> Result<Committed, BrokerError> {
        let committed = |r: &SqlRow<'_>| Ok(Committed { offset: Some(r.get(0)?), metadata: r.get(1)? });
        let found = self
            .connection
            .prepare_cached("SELECT offset, metadata FROM committed WHERE grp = ?1 AND topic = ?2 AND partition = ?3");
        let found = found.and_then(|mut s| s.query_row(params![group, at.0, at.1], committed).optional());
        let none = Committed { offset: None, metadata: String::new() };
        found.map(|c| c.unwrap_or(none)).map_err(|e| self.told(&e))
    }

    /// When the topic was made.
    pub(in super::super) fn created_ms(&self, topic: i64) -> Result<i64, BrokerError> {
        let sql = "SELECT created_ms FROM topic WHERE id = ?1";
        self.connection.query_row(sql, [topic], |row| row.get(0)).map_err(|e| self.told(&e))
    }

    /// Groups that have committed something, in order.
    pub(in super::super) fn groups(&self) -> Result<Vec<String>, BrokerError> {
        let all = self.connection.prepare_cached("SELECT DISTINCT grp FROM committed ORDER BY grp");
        let all = all.and_then(|mut s| s.query_map([], |r| r.get(0))?.collect());
        all.map_err(|e| self.told(&e))
    }
}
