//! Opens the folder's database: makes it, or looks whether it is one of ours and whole.

use super::{Database, damaged, told};
use crate::broker::BrokerError;
use crate::broker::embedded::errors::operator;
use rusqlite::Connection;
use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::Duration;

/// The database's file in the folder.
pub(in super::super) const DB_FILE: &str = "keyrail.db";
/// "KRbr", at a fixed place of the file.
const APPLICATION: i64 = 0x4b52_6272;
/// The format's version. A new one needs a step in [`Database::open`] that makes it of the one before.
const VERSION: i64 = 1;
/// How long another program that has the database open (an inspection by hand) is waited for.
const BUSY_WAIT: Duration = Duration::from_secs(5);
/// After an unclean end, a database up to this size is looked through before it is used. A larger one would take too long:
/// there, what is damaged shows when it is read, since each block has a checksum.
const CHECKED_BYTES: u64 = 256 << 20;
/// 16 KiB a page: a block takes several, and few of them are filled half only.
const SCHEMA: &str = "
    CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
    CREATE TABLE topic (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, created_ms INTEGER NOT NULL);
    CREATE TABLE setting (topic INTEGER NOT NULL, name TEXT NOT NULL, value TEXT NOT NULL,
        PRIMARY KEY (topic, name)) WITHOUT ROWID;
    CREATE TABLE part (topic INTEGER NOT NULL, number INTEGER NOT NULL, start INTEGER NOT NULL DEFAULT 0,
        end INTEGER NOT NULL DEFAULT 0, clean_to INTEGER NOT NULL DEFAULT 0, PRIMARY KEY (topic, number)) WITHOUT ROWID;
    CREATE TABLE block (id INTEGER PRIMARY KEY, data BLOB NOT NULL);
    CREATE TABLE log (topic INTEGER NOT NULL, partition INTEGER NOT NULL, last INTEGER NOT NULL, base INTEGER NOT NULL,
        records INTEGER NOT NULL, bytes INTEGER NOT NULL, newest_ms INTEGER NOT NULL, horizon_ms INTEGER,
        block INTEGER NOT NULL, PRIMARY KEY (topic, partition, last)) WITHOUT ROWID;
    CREATE TABLE committed (grp TEXT NOT NULL, topic INTEGER NOT NULL, partition INTEGER NOT NULL,
        offset INTEGER NOT NULL, metadata TEXT NOT NULL, at_ms INTEGER NOT NULL,
        PRIMARY KEY (grp, topic, partition)) WITHOUT ROWID;
    INSERT INTO meta VALUES ('closed', 'yes');
";

/// A topic as stored.
#[derive(Debug)]
pub(in super::super) struct StoredTopic {
    pub(in super::super) id: i64,
    pub(in super::super) name: String,
    pub(in super::super) settings: Vec<(String, String)>,
    /// Start and end of each partition.
    pub(in super::super) bounds: Vec<(i64, i64)>,
}

/// Opens the database of a folder that is locked already. `durable`: each transaction reaches the disk before it counts.
pub(in super::super) fn open(dir: &Path, durable: bool) -> Result<Database, BrokerError> {
    let file = dir.join(DB_FILE);
    // SQLite gives its other files the rights of this one.
    let made = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&file);
    let size = made.and_then(|f| f.metadata()).map_err(|e| operator(format!("{}: {e}", file.display())))?.len();
    let connection = Connection::open(&file).map_err(|e| told(dir, &e))?;
    let mut database = Database { connection, dir: dir.to_owned() };
    database.connection.busy_timeout(BUSY_WAIT).map_err(|e| told(dir, &e))?;
    database.connection.set_prepared_statement_cache_capacity(32);
    if size == 0 || database.is_blank()? {
        database.make()?;
    }
    database.check_version()?;
    database.pragma("journal_mode", "WAL")?;
    database.pragma("synchronous", if durable { "FULL" } else { "NORMAL" })?;
    database.pragma("wal_autocheckpoint", "2000")?;
    database.pragma("journal_size_limit", "67108864")?;
    database.pragma("cache_size", "-8192")?;
    let closed: String = database.one("SELECT value FROM meta WHERE name = 'closed'")?;
    if closed != "yes" && size <= CHECKED_BYTES {
        let found: String = database.one("PRAGMA quick_check(1)")?;
        if found != "ok" {
            return Err(damaged(dir, &found));
        }
    }
    database.transaction(|database| {
        database.run("UPDATE meta SET value = 'no' WHERE name = 'closed'", [])?;
        Ok(())
    })?;
    Ok(database)
}

impl Database {
    /// A file that was made, and nothing in it: the process that made it was killed in this moment.
    fn is_blank(&self) -> Result<bool, BrokerError> {
        let version: i64 = self.one("PRAGMA user_version")?;
        let tables: i64 = self.one("SELECT count(*) FROM sqlite_schema")?;
        Ok(version == 0 && tables == 0)
    }

    fn make(&mut self) -> Result<(), BrokerError> {
        self.pragma("page_size", "16384")?;
        self.pragma("journal_mode", "WAL")?;
        self.pragma("synchronous", "FULL")?;
        self.transaction(|database| {
            let all = format!("{SCHEMA} PRAGMA application_id = {APPLICATION}; PRAGMA user_version = {VERSION};");
            database.connection.execute_batch(&all).map_err(|e| told(&database.dir, &e))
        })
    }

    fn check_version(&self) -> Result<(), BrokerError> {
        let (application, version): (i64, i64) = (self.one("PRAGMA application_id")?, self.one("PRAGMA user_version")?);
        let place = self.dir.display();
        if application != APPLICATION {
            return Err(operator(format!(
                "{place}: {DB_FILE} is a database of another program: choose another folder in [embedded] dir"
            )));
        }
        if version != VERSION {
            return Err(operator(format!(
                "{place}: the folder has format {version}, and this keyrail writes format {VERSION}: use the keyrail that \
                 made it, or another folder"
            )));
        }
        Ok(())
    }

    fn pragma(&self, name: &str, value: &str) -> Result<(), BrokerError> {
        self.connection.pragma_update(None, name, value).map_err(|e| told(&self.dir, &e))
    }

    fn one<T: rusqlite::types::FromSql>(&self, sql: &str) -> Result<T, BrokerError> {
        self.connection.query_row(sql, [], |row| row.get(0)).map_err(|e| match e {
            rusqlite::Error::QueryReturnedNoRows => damaged(&self.dir, "something is missing in it"),
            e => told(&self.dir, &e),
        })
    }

    /// All topics with their partitions' bounds.
    pub(in super::super) fn topics(&self) -> Result<Vec<StoredTopic>, BrokerError> {
        self.read_topics().map_err(|e| told(&self.dir, &e))
    }

    fn read_topics(&self) -> rusqlite::Result<Vec<StoredTopic>> {
        let mut topics: BTreeMap<i64, StoredTopic> = BTreeMap::new();
        let mut statement = self.connection.prepare("SELECT id, name FROM topic")?;
        for row in statement.query_map([], |r| Ok((r.get(0)?, r.get(1)?)))? {
            let (id, name) = row?;
            topics.insert(id, StoredTopic { id, name, settings: Vec::new(), bounds: Vec::new() });
        }
        let mut statement = self.connection.prepare("SELECT topic, name, value FROM setting")?;
        for row in statement.query_map([], |r| Ok((r.get::<_, i64>(0)?, (r.get(1)?, r.get(2)?))))? {
            let (id, setting) = row?;
            topics.entry(id).and_modify(|t| t.settings.push(setting));
        }
        let mut statement = self.connection.prepare("SELECT topic, start, end FROM part ORDER BY topic, number")?;
        for row in statement.query_map([], |r| Ok((r.get::<_, i64>(0)?, (r.get(1)?, r.get(2)?))))? {
            let (id, bounds) = row?;
            topics.entry(id).and_modify(|t| t.bounds.push(bounds));
        }
        Ok(topics.into_values().collect())
    }
}
