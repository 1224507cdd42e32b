//! The shape of the store of state: changes wait in a map, are written sorted by a thread of its own, and reads go on beside.

use crate::engines::Key;
use crate::figures::{self, Figures, mix};
use keyrail_store::{Change, Entry, StateIdentity, StateIndex, StateOptions, StateStore};
use redb::{ReadableDatabase, TableDefinition};
use std::collections::HashMap;
use std::error::Error;
use std::path::Path;
use std::sync::{Arc, Mutex, mpsc};
use std::time::Instant;

type Fallible<T> = Result<T, Box<dyn Error + Send + Sync>>;
type Rows = Arc<HashMap<Key, Vec<u8>>>;

/// What waits is written when it is so many keys: some 16 MiB of memory in the store.
const WAITING: usize = 100_000;
const CACHE_BYTES: usize = 32 << 20;
const MESSAGES: u64 = 3_000_000;
const READS: u64 = 500_000;
const CHECKPOINT: Key = [0; 16];

/// One that is written to by one thread, sorted, and read by others.
trait Engine: Send + Sync {
    fn flush(&self, rows: &[(&Key, &Vec<u8>)], checkpoint: u64) -> Fallible<()>;
    fn read(&self, key: &Key) -> Fallible<Option<Vec<u8>>>;
}

struct Fjall {
    database: fjall::Database,
    keys: fjall::Keyspace,
}

impl Engine for Fjall {
    fn flush(&self, rows: &[(&Key, &Vec<u8>)], checkpoint: u64) -> Fallible<()> {
        let mut writes = self.database.batch();
        rows.iter().for_each(|(key, value)| writes.insert(&self.keys, key.as_slice(), value.as_slice()));
        writes.insert(&self.keys, CHECKPOINT.as_slice(), checkpoint.to_le_bytes().as_slice());
        writes.commit()?;
        Ok(self.database.persist(fjall::PersistMode::SyncData)?)
    }

    fn read(&self, key: &Key) -> Fallible<Option<Vec<u8>>> {
        Ok(self.keys.get(key)?.map(|value| value.to_vec()))
    }
}

const TABLE: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("keys");

impl Engine for redb::Database {
    fn flush(&self, rows: &[(&Key, &Vec<u8>)], checkpoint: u64) -> Fallible<()> {
        let writes = self.begin_write()?;
        {
            let mut table = writes.open_table(TABLE)?;
            for (key, value) in rows {
                table.insert(key.as_slice(), value.as_slice())?;
            }
            table.insert(CHECKPOINT.as_slice(), checkpoint.to_le_bytes().as_slice())?;
        }
        Ok(writes.commit()?)
    }

    fn read(&self, key: &Key) -> Fallible<Option<Vec<u8>>> {
        let table = match self.begin_read()?.open_table(TABLE) {
            Err(redb::TableError::TableDoesNotExist(_)) => return Ok(None),
            table => table?,
        };
        Ok(table.get(key.as_slice())?.map(|v| v.value().to_vec()))
    }
}

/// A row for each key.
struct Sqlite {
    writer: Mutex<rusqlite::Connection>,
    reader: Mutex<rusqlite::Connection>,
}

impl Sqlite {
    fn open(folder: &Path) -> Fallible<Self> {
        let connect = |bytes: usize| -> Fallible<_> {
            let connection = rusqlite::Connection::open(folder.join("keys.db"))?;
            connection.execute_batch(&format!(
                "pragma page_size = 4096; pragma journal_mode = wal; pragma synchronous = normal; pragma cache_size = -{};
                 pragma wal_autocheckpoint = 4096;
                 create table if not exists keys (key blob primary key, value blob not null) without rowid;",
                bytes / 1024
            ))?;
            Ok(Mutex::new(connection))
        };
        Ok(Self { writer: connect(CACHE_BYTES / 2)?, reader: connect(CACHE_BYTES / 2)? })
    }
}

impl Engine for Sqlite {
    fn flush(&self, rows: &[(&Key, &Vec<u8>)], checkpoint: u64) -> Fallible<()> {
        let mut writer = self.writer.lock().map_err(|e| e.to_string())?;
        let writes = writer.transaction()?;
        {
            let mut put = writes.prepare_cached("insert or replace into keys (key, value) values (?, ?)")?;
            for (key, value) in rows {
                put.execute((key.as_slice(), value))?;
            }
            put.execute((CHECKPOINT.as_slice(), checkpoint.to_le_bytes().as_slice()))?;
        }
        Ok(writes.commit()?)
    }

    fn read(&self, key: &Key) -> Fallible<Option<Vec<u8>>> {
        let reader = self.reader.lock().map_err(|e| e.to_string())?;
        let mut get = reader.prepare_cached("select value from keys where key = ?")?;
        let mut rows = get.query([key.as_slice()])?;
        Ok(rows.next()?.map(|row| row.get(0)).transpose()?)
    }
}

/// A store of state: what is measured here, or the one that does all this by itself.
enum Store {
    Ours { index: Box<dyn StateIndex>, _store: StateStore },
    Other { engine: Arc<dyn Engine>, dirty: HashMap<Key, Vec<u8>>, written: Option<Rows>, flusher: Flusher },
}

/// The thread that writes.
struct Flusher {
    rows: Option<mpsc::SyncSender<(Rows, u64)>>,
    done: mpsc::Receiver<Fallible<f64>>,
    thread: Option<std::thread::JoinHandle<()>>,
    longest: f64,
}

impl Flusher {
    fn start(engine: &Arc<dyn Engine>) -> Self {
        let (rows, waiting) = mpsc::sync_channel::<(Rows, u64)>(1);
        let (done_tx, done) = mpsc::sync_channel(1);
        let engine = Arc::clone(engine);
        let work = move || {
            for (rows, checkpoint) in waiting {
                let started = Instant::now();
                let mut sorted: Vec<_> = rows.iter().collect();
                sorted.sort_unstable_by_key(|(key, _)| *key);
                let written = engine.flush(&sorted, checkpoint);
                if done_tx.send(written.map(|()| started.elapsed().as_secs_f64() * 1e3)).is_err() {
                    return;
                }
            }
        };
        Self { rows: Some(rows), done, thread: Some(std::thread::spawn(work)), longest: 0.0 }
    }
}

fn open(name: &str, folder: &Path) -> Fallible<Store> {
    let engine: Arc<dyn Engine> = match name {
        "keyrail" => {
            let store = StateStore::start(StateOptions::default(), folder)?;
            let of = StateIdentity { group: "g".into(), topic: "t".into(), partition: 0, log: 1 };
            return Ok(Store::Ours { index: Box::new(store.open(&of, 0)?.index), _store: store });
        }
        "fjall" => {
            let builder = fjall::Database::builder(folder).cache_size(CACHE_BYTES as u64);
            let database = builder.manual_journal_persist(true).worker_threads(2).open()?;
            let keys = database.keyspace("keys", fjall::KeyspaceCreateOptions::default)?;
            Arc::new(Fjall { database, keys })
        }
        "redb" => Arc::new(redb::Database::builder().set_cache_size(CACHE_BYTES).create(folder.join("keys.redb"))?),
        "sqlite" => Arc::new(Sqlite::open(folder)?),
        _ => return Err("an engine is keyrail, fjall, redb or sqlite".into()),
    };
    let flusher = Flusher::start(&engine);
    Ok(Store::Other { engine, dirty: HashMap::new(), written: None, flusher })
}

impl Store {
    fn read(&self, key: &Key) -> Fallible<Option<Vec<u8>>> {
        match self {
            Self::Ours { index, .. } => Ok(index.get(key)?.map(|e| e.value.to_vec())),
            Self::Other { engine, dirty, written, .. } => {
                let waiting = dirty.get(key).or_else(|| written.as_ref()?.get(key));
                waiting.map_or_else(|| engine.read(key), |value| Ok(Some(value.clone())))
            }
        }
    }

    /// How long it took.
    fn write(&mut self, key: &Key, value: Vec<u8>, checkpoint: u64) -> Fallible<()> {
        match self {
            Self::Ours { index, .. } => {
                let entry = Entry { value: value.into(), expires_ms: None };
                index.apply(&[Change { key: key.as_slice().into(), entry: Some(entry) }], Some(checkpoint as i64))?;
            }
            Self::Other { dirty, .. } => {
                dirty.insert(*key, value);
                if dirty.len() >= WAITING {
                    self.hand_over(checkpoint)?;
                }
            }
        }
        Ok(())
    }

    fn hand_over(&mut self, checkpoint: u64) -> Fallible<()> {
        let Self::Other { dirty, written, flusher, .. } = self else { return Ok(()) };
        if written.take().is_some() {
            flusher.longest = flusher.longest.max(flusher.done.recv()??);
        }
        let rows = Arc::new(std::mem::take(dirty));
        *written = Some(Arc::clone(&rows));
        Ok(flusher.rows.as_ref().ok_or("closed")?.send((rows, checkpoint))?)
    }

    /// The longest flush.
    fn close(mut self, checkpoint: u64) -> Fallible<f64> {
        if let Self::Ours { index, .. } = &self {
            index.flush()?;
            return Ok(index.stats().longest_flush_us as f64 / 1e3);
        }
        self.hand_over(checkpoint)?;
        let Self::Other { flusher, .. } = &mut self else { return Ok(0.0) };
        let last = flusher.done.recv()??;
        flusher.rows = None;
        let ended = flusher.thread.take().map(std::thread::JoinHandle::join);
        if matches!(ended, Some(Err(_))) {
            return Err("the flusher panicked".into());
        }
        Ok(flusher.longest.max(last))
    }
}

/// `keys` are written once, then read, changed and written, then read.
pub(crate) fn run(engine: &str, keys: u64, bytes: usize, folder: &Path) -> Fallible<()> {
    let before = Figures::now().map_err(|e| e.to_string())?;
    let mut store = open(engine, folder)?;
    let mut checkpoint = 0;
    for (name, count, random) in [("insert new", keys, false), ("read, change, write", MESSAGES, true)] {
        let from = Figures::now().map_err(|e| e.to_string())?;
        let (mut read, mut write) = (0.0f64, 0.0f64);
        for n in 0..count {
            let key = crate::key(if random { mix(n ^ 0x5eed) % keys } else { n });
            let started = Instant::now();
            let old = store.read(&key)?;
            let at = Instant::now();
            let number = old.as_ref().and_then(|v| v.first_chunk::<8>()).map_or(0, |v| u64::from_le_bytes(*v)) + 1;
            if old.is_some() != random {
                return Err(format!("{name}: a wrong answer").into());
            }
            let mut value = vec![7; bytes];
            value[..8].copy_from_slice(&number.to_le_bytes());
            checkpoint += 1;
            store.write(&key, value, checkpoint)?;
            read = read.max((at - started).as_secs_f64() * 1e3);
            write = write.max(at.elapsed().as_secs_f64() * 1e3);
        }
        let told = from.until_now(count as usize).map_err(|e| e.to_string())?;
        println!("  {name}: {told}; longest read {read:.1} ms, write {write:.1} ms");
    }
    let from = Figures::now().map_err(|e| e.to_string())?;
    for n in 0..READS {
        if store.read(&crate::key(mix(n ^ 0xfeed) % keys))?.is_none() {
            return Err("a known key is not there".into());
        }
    }
    println!("  look up known: {}", from.until_now(READS as usize).map_err(|e| e.to_string())?);
    let memory = Figures::now().map_err(|e| e.to_string())?.rss.saturating_sub(before.rss);
    let longest = store.close(checkpoint)?;
    // Filled again by a process that ends as if it were killed, with a flush under way.
    let disk = figures::disk(folder).map_err(|e| e.to_string())?;
    std::fs::remove_dir_all(folder)?;
    std::fs::create_dir_all(folder)?;
    let exe = std::env::current_exe()?;
    let fill = format!("killed{bytes}");
    let ended = std::process::Command::new(exe).args([engine, &fill, &keys.to_string()]).arg(folder).status()?;
    if ended.code().is_some() {
        return Err(format!("the one to be killed ended by itself: {ended}").into());
    }
    let started = Instant::now();
    let store = open(engine, folder)?;
    let known = store.read(&crate::key(0))?.is_some();
    let reopened = started.elapsed().as_millis();
    println!(
        "  longest flush {longest:.0} ms; reopened after a kill {reopened} ms{}; memory {:.1} MiB; disk {:.1} bytes a key",
        if known { "" } else { " (empty)" },
        memory as f64 / f64::from(1 << 20),
        disk as f64 / keys as f64
    );
    Ok(())
}

/// Writes all keys and a few once more, and dies.
pub(crate) fn die(engine: &str, keys: u64, bytes: usize, folder: &Path) -> Fallible<()> {
    let mut store = open(engine, folder)?;
    for n in 0..keys + keys / 10 * 3 {
        store.write(&crate::key(n % keys), vec![7; bytes], n)?;
    }
    std::process::abort()
}
