//! The engines, each set up for what a cache with a checkpoint needs: atomic batches, synced now and then.

use keyrail_store::{Identity, Options, SeenIndex};
use redb::{Durability, ReadableDatabase, ReadableTable, TableDefinition};
use std::error::Error;
use std::path::Path;

pub(crate) type Key = [u8; 16];

const CACHE_BYTES: u64 = 128 << 20;
const CHECKPOINT: Key = [0; 16];

/// Keys to read, change and write at once, with a checkpoint.
pub(crate) struct Batch<'a> {
    pub(crate) keys: &'a [Key],
    pub(crate) change: &'a mut dyn FnMut(Option<&[u8]>) -> Vec<u8>,
    pub(crate) checkpoint: u64,
}

pub(crate) trait Engine {
    fn batch(&mut self, batch: Batch<'_>) -> Result<(), Box<dyn Error>>;
    fn read(&mut self, key: &Key) -> Result<Option<Vec<u8>>, Box<dyn Error>>;
    fn sync(&mut self) -> Result<(), Box<dyn Error>>;
}

pub(crate) fn open(name: &str, folder: &Path) -> Result<Box<dyn Engine>, Box<dyn Error>> {
    Ok(match name {
        "keyrail" => Box::new(Keyrail::open(folder)?),
        "fjall" => Box::new(Fjall::open(folder)?),
        "redb" => Box::new(Redb::open(folder)?),
        "sqlite" => Box::new(Sqlite::open(folder)?),
        _ => return Err("an engine is keyrail, fjall, redb or sqlite".into()),
    })
}

/// Seen ids alone: a value is a time, which is the batch's.
struct Keyrail {
    index: keyrail_store::DiskSeen,
}

impl Keyrail {
    fn open(folder: &Path) -> Result<Self, Box<dyn Error>> {
        let of = Identity { group: "g".into(), topic: "t".into(), partition: 0, log: 0, window_ms: 86_400_000 };
        let store = keyrail_store::Store::start(Options::default())?;
        Ok(Self { index: store.open(folder, &of, 0)?.index })
    }
}

impl Engine for Keyrail {
    fn batch(&mut self, batch: Batch<'_>) -> Result<(), Box<dyn Error>> {
        for key in batch.keys {
            if self.index.contains(key, 0)? {
                return Err("seen before".into());
            }
        }
        // 10,000 batches are a window.
        Ok(self.index.insert(batch.keys, batch.checkpoint as i64 * 8_640, batch.checkpoint as i64)?)
    }

    fn read(&mut self, key: &Key) -> Result<Option<Vec<u8>>, Box<dyn Error>> {
        Ok(self.index.contains(key, 0)?.then(Vec::new))
    }

    /// It syncs by itself what it writes.
    fn sync(&mut self) -> Result<(), Box<dyn Error>> {
        Ok(())
    }
}

struct Fjall {
    database: fjall::Database,
    keys: fjall::Keyspace,
}

impl Fjall {
    fn open(folder: &Path) -> Result<Self, Box<dyn Error>> {
        let database = fjall::Database::builder(folder)
            .cache_size(CACHE_BYTES)
            .manual_journal_persist(true)
            .worker_threads(2)
            .open()?;
        let keys = database.keyspace("keys", fjall::KeyspaceCreateOptions::default)?;
        Ok(Self { database, keys })
    }
}

impl Engine for Fjall {
    fn batch(&mut self, batch: Batch<'_>) -> Result<(), Box<dyn Error>> {
        let mut writes = self.database.batch();
        for key in batch.keys {
            let old = self.keys.get(key)?;
            writes.insert(&self.keys, key.as_slice(), (batch.change)(old.as_deref()));
        }
        writes.insert(&self.keys, CHECKPOINT.as_slice(), batch.checkpoint.to_le_bytes().as_slice());
        Ok(writes.commit()?)
    }

    fn read(&mut self, key: &Key) -> Result<Option<Vec<u8>>, Box<dyn Error>> {
        Ok(self.keys.get(key)?.map(|value| value.to_vec()))
    }

    fn sync(&mut self) -> Result<(), Box<dyn Error>> {
        Ok(self.database.persist(fjall::PersistMode::SyncData)?)
    }
}

const TABLE: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("keys");

struct Redb {
    database: redb::Database,
    /// The next commit is synced.
    durable: bool,
}

impl Redb {
    fn open(folder: &Path) -> Result<Self, Box<dyn Error>> {
        let database =
            redb::Database::builder().set_cache_size(CACHE_BYTES as usize).create(folder.join("keys.redb"))?;
        Ok(Self { database, durable: true })
    }

    fn write(&mut self, batch: Option<Batch<'_>>) -> Result<(), Box<dyn Error>> {
        let mut writes = self.database.begin_write()?;
        writes.set_durability(if self.durable { Durability::Immediate } else { Durability::None })?;
        self.durable = batch.is_none();
        if let Some(batch) = batch {
            let mut table = writes.open_table(TABLE)?;
            for key in batch.keys {
                let new = (batch.change)(table.get(key.as_slice())?.map(|v| v.value().to_vec()).as_deref());
                table.insert(key.as_slice(), new.as_slice())?;
            }
            table.insert(CHECKPOINT.as_slice(), batch.checkpoint.to_le_bytes().as_slice())?;
        }
        Ok(writes.commit()?)
    }
}

impl Engine for Redb {
    fn batch(&mut self, batch: Batch<'_>) -> Result<(), Box<dyn Error>> {
        self.durable = false;
        self.write(Some(batch))
    }

    fn read(&mut self, key: &Key) -> Result<Option<Vec<u8>>, Box<dyn Error>> {
        let table = self.database.begin_read()?.open_table(TABLE)?;
        Ok(table.get(key.as_slice())?.map(|v| v.value().to_vec()))
    }

    fn sync(&mut self) -> Result<(), Box<dyn Error>> {
        self.durable = true;
        self.write(None)
    }
}

struct Sqlite {
    connection: rusqlite::Connection,
}

impl Sqlite {
    fn open(folder: &Path) -> Result<Self, Box<dyn Error>> {
        let connection = rusqlite::Connection::open(folder.join("keys.db"))?;
        connection.execute_batch(&format!(
            "pragma page_size = 8192; pragma journal_mode = wal; pragma synchronous = normal; pragma cache_size = -{};
             pragma wal_autocheckpoint = 8192; pragma mmap_size = 0; pragma locking_mode = exclusive;
             create table if not exists keys (key blob primary key, value blob not null) without rowid;",
            CACHE_BYTES / 1024
        ))?;
        Ok(Self { connection })
    }
}

impl Engine for Sqlite {
    fn batch(&mut self, batch: Batch<'_>) -> Result<(), Box<dyn Error>> {
        let writes = self.connection.transaction()?;
        {
            let mut get = writes.prepare_cached("select value from keys where key = ?")?;
            let mut put = writes.prepare_cached("insert or replace into keys (key, value) values (?, ?)")?;
            for key in batch.keys {
                let mut rows = get.query([key.as_slice()])?;
                let new = match rows.next()? {
                    Some(row) => (batch.change)(Some(row.get_ref(0)?.as_blob()?)),
                    None => (batch.change)(None),
                };
                drop(rows);
                put.execute((key.as_slice(), new))?;
            }
            put.execute((CHECKPOINT.as_slice(), batch.checkpoint.to_le_bytes().as_slice()))?;
        }
        Ok(writes.commit()?)
    }

    fn read(&mut self, key: &Key) -> Result<Option<Vec<u8>>, Box<dyn Error>> {
        let mut get = self.connection.prepare_cached("select value from keys where key = ?")?;
        let mut rows = get.query([key.as_slice()])?;
        Ok(rows.next()?.map(|row| row.get(0)).transpose()?)
    }

    /// Its checkpoints sync.
    fn sync(&mut self) -> Result<(), Box<dyn Error>> {
        Ok(())
    }
}
