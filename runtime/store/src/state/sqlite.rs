//! The database that blocks lie in: a table of blocks, one of where they begin, and one of tasks. The only file here that
//! knows SQLite.

use super::{StateStep, StateWatcher};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OptionalExtension, TransactionBehavior, ffi, params};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Says that a file is of ours, and of this version.
const APPLICATION_ID: i64 = 0x4b52_5354;
const VERSION: i64 = 1;
const BUSY: Duration = Duration::from_secs(5);
/// Who reads may hold up a checkpoint for so long.
const CHECKPOINT: Duration = Duration::from_secs(10);

const SCHEMA: &str = "
    create table task (id integer primary key, name blob not null, data blob not null, entries integer not null);
    create table block (id integer primary key, data blob not null);
    create table fence (tree integer not null, low blob not null, id integer not null, primary key (tree, low)) without rowid;
";
const FIND: &str = "select block.id, block.data from fence join block on block.id = fence.id
    where fence.tree = ?1 and fence.low <= ?2 order by fence.low desc limit 1";

/// Why something could not be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Failure {
    /// What is in the file does not count any more.
    Damaged(String),
    /// It may work another time.
    Failing(String),
}

impl From<rusqlite::Error> for Failure {
    fn from(error: rusqlite::Error) -> Self {
        let told = error.to_string();
        let rusqlite::Error::SqliteFailure(code, _) = &error else {
            // No row where one must be, or a value of another type.
            return Self::Damaged(format!("the database is not what was written: {told}"));
        };
        // What was not synced may be gone, whatever the next attempt says; what can't be read is no answer.
        let lost = [
            ffi::SQLITE_IOERR_FSYNC,
            ffi::SQLITE_IOERR_DIR_FSYNC,
            ffi::SQLITE_IOERR_READ,
            ffi::SQLITE_IOERR_SHORT_READ,
            ffi::SQLITE_IOERR_DATA,
            ffi::SQLITE_IOERR_CORRUPTFS,
        ];
        match code.code {
            ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase => Self::Damaged(format!("damage: {told}")),
            _ if lost.contains(&code.extended_code) => Self::Damaged(told),
            ErrorCode::Unknown => Self::Damaged(told),
            _ => Self::Failing(told),
        }
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::Failing(error.to_string())
    }
}

/// A task as it is written down.
pub(super) struct TaskRow {
    pub(super) id: i64,
    pub(super) name: Vec<u8>,
    pub(super) data: Vec<u8>,
    pub(super) entries: u64,
}

fn connect(file: &Path, cache_bytes: usize) -> Result<Connection, Failure> {
    let connection = Connection::open(file)?;
    connection.busy_timeout(BUSY)?;
    // Else each look-up is planned anew, for the key that is looked for.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    connection.pragma_update(None, "cache_size", -((cache_bytes / 1024) as i64))?;
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    connection.pragma_update(None, "cell_size_check", "ON")?;
    connection.pragma_update(None, "trusted_schema", "OFF")?;
    Ok(connection)
}

/// One that looks up.
pub(super) struct Reader {
    connection: Connection,
}

impl Reader {
    pub(super) fn open(file: &Path, cache_bytes: usize) -> Result<Self, Failure> {
        let connection = connect(file, cache_bytes)?;
        connection.pragma_update(None, "query_only", "ON")?;
        Ok(Self { connection })
    }

    /// Gives the block that a key belongs to.
    pub(super) fn block<T>(
        &self,
        tree: i64,
        key: &[u8],
        read: impl FnOnce(&[u8]) -> Result<T, String>,
    ) -> Result<T, Failure> {
        let mut find = self.connection.prepare_cached(FIND)?;
        let mut rows = find.query(params![tree, key])?;
        let Some(row) = rows.next()? else { return Err(Failure::Damaged("a block is missing".to_owned())) };
        let bytes = row.get_ref(1)?.as_blob().map_err(|e| Failure::Damaged(e.to_string()))?;
        read(bytes).map_err(Failure::Damaged)
    }

    /// What is read until `work` ends is of one moment.
    pub(super) fn at_once<T>(&self, work: impl FnOnce(&Self) -> Result<T, Failure>) -> Result<T, Failure> {
        let transaction = self.connection.unchecked_transaction()?;
        let done = work(self)?;
        transaction.commit()?;
        Ok(done)
    }
}

/// The one that writes.
pub(super) struct Writer {
    connection: Connection,
    watcher: Option<StateWatcher>,
}

impl Writer {
    /// Opens the file, making it if need be. `Err` with damage: it is not what it should be.
    pub(super) fn open(file: &Path, cache_bytes: usize, watcher: Option<StateWatcher>) -> Result<Self, Failure> {
        let is_new = !file.exists();
        let mut connection = connect(file, cache_bytes)?;
        if is_new {
            connection.pragma_update(None, "page_size", 4096)?;
            connection.pragma_update(None, "journal_mode", "WAL")?;
            let writes = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            writes.pragma_update(None, "application_id", APPLICATION_ID)?;
            writes.pragma_update(None, "user_version", VERSION)?;
            writes.execute_batch(SCHEMA)?;
            writes.commit()?;
        }
        let said = |name: &str| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
        if said("application_id")? != APPLICATION_ID || said("user_version")? != VERSION {
            return Err(Failure::Damaged("it is of something else, or of another version".to_owned()));
        }
        connection.pragma_update(None, "journal_mode", "WAL")?;
        // Checkpoints are made here, when each slice is written.
        connection.pragma_update(None, "wal_autocheckpoint", 0)?;
        connection.pragma_update(None, "journal_size_limit", 64 << 20)?;
        let writer = Self { connection, watcher };
        // Reads the schema: a file that is damaged there is noticed now.
        writer.tasks()?;
        Ok(writer)
    }

    fn pass(&self, step: StateStep) -> Result<(), Failure> {
        Ok(self.watcher.as_ref().map_or(Ok(()), |watcher| watcher(step))?)
    }

    pub(super) fn tasks(&self) -> Result<Vec<TaskRow>, Failure> {
        let mut all = self.connection.prepare_cached("select id, name, data, entries from task")?;
        let row = |row: &rusqlite::Row<'_>| {
            let entries: i64 = row.get(3)?;
            Ok(TaskRow { id: row.get(0)?, name: row.get(1)?, data: row.get(2)?, entries: entries.max(0) as u64 })
        };
        Ok(all.query_map([], row)?.collect::<Result<_, _>>()?)
    }

    /// A number that no task and no block has.
    pub(super) fn free_id(&self) -> Result<i64, Failure> {
        let most =
            "select max(coalesce((select max(id) from task), 0), coalesce((select max(tree) from fence), 0) / 2)";
        let most: i64 = self.connection.query_row(most, [], |row| row.get(0))?;
        most.checked_add(1).ok_or_else(|| Failure::Damaged("there are no numbers left".to_owned()))
    }

    /// Does `work` whole or not at all.
    pub(super) fn write<T>(
        &mut self,
        step: StateStep,
        work: impl FnOnce(&Writing<'_>) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        self.pass(step)?;
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let done = work(&Writing { transaction: &transaction })?;
        transaction.commit()?;
        Ok(done)
    }

    /// Brings all that was written out of the log and syncs it.
    pub(super) fn checkpoint(&self) -> Result<(), Failure> {
        self.pass(StateStep::Checkpoint)?;
        let until = Instant::now() + CHECKPOINT;
        loop {
            let read = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get(2)?));
            let (busy, all, done): (i64, i64, i64) =
                self.connection.query_row("pragma wal_checkpoint(passive)", [], read)?;
            if busy == 0 && all == done {
                return Ok(());
            }
            if Instant::now() >= until {
                return Err(Failure::Failing("a reader keeps the write-ahead log from being emptied".to_owned()));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// A transaction that writes.
pub(super) struct Writing<'t> {
    transaction: &'t Connection,
}

impl Writing<'_> {
    fn run(&self, sql: &str, values: impl rusqlite::Params) -> Result<usize, Failure> {
        Ok(self.transaction.prepare_cached(sql)?.execute(values)?)
    }

    fn one(&self, sql: &str, values: impl rusqlite::Params) -> Result<(), Failure> {
        match self.run(sql, values)? {
            1 => Ok(()),
            n => Err(Failure::Damaged(format!("{n} rows where one must be"))),
        }
    }

    /// The block that a key belongs to, and its number.
    pub(super) fn block(&self, tree: i64, key: &[u8]) -> Result<(i64, Vec<u8>), Failure> {
        let mut find = self.transaction.prepare_cached(FIND)?;
        let found = find.query_row(params![tree, key], |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
        found.ok_or_else(|| Failure::Damaged("a block is missing".to_owned()))
    }

    pub(super) fn replace(&self, id: i64, bytes: &[u8]) -> Result<(), Failure> {
        self.one("update block set data = ?2 where id = ?1", params![id, bytes])
    }

    pub(super) fn insert(&self, tree: i64, low: &[u8], bytes: &[u8]) -> Result<(), Failure> {
        self.one("insert into block (data) values (?1)", params![bytes])?;
        let id = self.transaction.last_insert_rowid();
        self.one("insert into fence (tree, low, id) values (?1, ?2, ?3)", params![tree, low, id])
    }

    pub(super) fn delete(&self, tree: i64, low: &[u8], id: i64) -> Result<(), Failure> {
        self.one("delete from fence where tree = ?1 and low = ?2", params![tree, low])?;
        self.one("delete from block where id = ?1", params![id])
    }

    pub(super) fn add_task(&self, id: i64, name: &[u8], data: &[u8]) -> Result<(), Failure> {
        self.one("insert into task (id, name, data, entries) values (?1, ?2, ?3, 0)", params![id, name, data])
    }

    pub(super) fn set_task(&self, id: i64, data: &[u8]) -> Result<(), Failure> {
        self.one("update task set data = ?2 where id = ?1", params![id, data])
    }

    pub(super) fn set_entries(&self, id: i64, entries: u64) -> Result<(), Failure> {
        self.one("update task set entries = ?2 where id = ?1", params![id, entries as i64])
    }

    pub(super) fn remove_task(&self, id: i64) -> Result<(), Failure> {
        self.run("delete from task where id = ?1", params![id]).map(drop)
    }

    /// Deletes up to so many blocks of tasks that are no more. Whether there may be others.
    pub(super) fn collect(&self, most: usize) -> Result<bool, Failure> {
        let next = "select min(tree) from fence where tree > ?1";
        let mut at = i64::MIN;
        loop {
            let tree: Option<i64> = self.transaction.prepare_cached(next)?.query_row([at], |row| row.get(0))?;
            let Some(tree) = tree else { return Ok(false) };
            let known = "select 1 from task where id = ?1";
            if self.transaction.prepare_cached(known)?.exists([tree.div_euclid(2)])? {
                at = tree;
                continue;
            }
            let mut some = self.transaction.prepare_cached("select low, id from fence where tree = ?1 limit ?2")?;
            let rows = some.query_map(params![tree, most as i64], |row| Ok((row.get(0)?, row.get(1)?)))?;
            for (low, id) in rows.collect::<Result<Vec<(Vec<u8>, i64)>, _>>()? {
                self.run("delete from fence where tree = ?1 and low = ?2", params![tree, low])?;
                self.run("delete from block where id = ?1", params![id])?;
            }
            return Ok(true);
        }
    }
}

/// What the database takes on disk.
pub(super) fn disk_bytes(file: &Path) -> u64 {
    let len = |path: PathBuf| std::fs::metadata(path).map_or(0, |found| found.len());
    beside(file).into_iter().map(len).sum()
}

/// The file and those that the database keeps beside it.
pub(super) fn beside(file: &Path) -> [PathBuf; 3] {
    ["", "-wal", "-shm"].map(|end| {
        let mut path = file.as_os_str().to_owned();
        path.push(end);
        path.into()
    })
}
