//! The store's database as it is now, and who reads it. A damaged one is left behind, and another takes its place.

use super::StateOptions;
use super::sqlite::{Failure, Reader, Writer, beside};
use crate::Error;
use crate::folder;
use crate::task::locked;
use std::io;
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, OnceLock, PoisonError};

/// More readers than this wait for each other, or than there are cores: each has its share of the memory for pages.
const MOST_READERS: usize = 8;

pub(super) struct Database {
    pub(super) file: PathBuf,
    number: u64,
    /// Why what was there before does not count.
    pub(super) rebuilt: Option<String>,
    pub(super) writer: Mutex<Writer>,
    readers: Mutex<Readers>,
    reader_is_back: Condvar,
    most_readers: usize,
    reader_bytes: usize,
    damage: OnceLock<Error>,
}

#[derive(Default)]
struct Readers {
    idle: Vec<Reader>,
    open: usize,
}

impl Database {
    /// Opens what the folder holds, or begins anew where that can't be used.
    pub(super) fn open(dir: &Path, options: &StateOptions) -> Result<Self, Error> {
        let said = |e: &io::Error| folder::unusable(dir, e);
        let mut numbers = numbers(dir).map_err(|e| said(&e))?;
        numbers.sort_unstable();
        let last = numbers.pop();
        for old in numbers {
            remove(dir, old).map_err(|e| said(&e))?;
        }
        let number = last.unwrap_or(1);
        if last.is_some() && !path(dir, number).exists() {
            return Self::anew(
                dir,
                number,
                options,
                "it was found damaged before, or its main file is gone".to_owned(),
            );
        }
        match Self::open_one(dir, number, options, None) {
            Ok(database) => Ok(database),
            Err(Failure::Damaged(why)) => Self::anew(dir, number, options, why),
            Err(Failure::Failing(cause)) => Err(unusable(dir, cause)),
        }
    }

    /// Another in the place of the one with this number, which is deleted.
    fn anew(dir: &Path, number: u64, options: &StateOptions, why: String) -> Result<Self, Error> {
        remove(dir, number).map_err(|e| folder::unusable(dir, &e))?;
        Self::open_one(dir, number.saturating_add(1), options, Some(why)).map_err(|failure| match failure {
            Failure::Damaged(cause) | Failure::Failing(cause) => unusable(dir, cause),
        })
    }

    /// Another in the place of this one, which is damaged and may still be open.
    pub(super) fn next(&self, dir: &Path, options: &StateOptions) -> Result<Self, Error> {
        let why = self.damage.get().map(ToString::to_string).unwrap_or_default();
        Self::anew(dir, self.number, options, why)
    }

    fn open_one(dir: &Path, number: u64, options: &StateOptions, rebuilt: Option<String>) -> Result<Self, Failure> {
        let file = path(dir, number);
        // A third for the one that writes.
        let writer = Writer::open(&file, options.page_cache_bytes / 3, options.watcher.clone())?;
        let most_readers = std::thread::available_parallelism().map_or(2, NonZero::get).clamp(2, MOST_READERS);
        Ok(Self {
            file,
            number,
            rebuilt,
            writer: Mutex::new(writer),
            readers: Mutex::default(),
            reader_is_back: Condvar::new(),
            most_readers,
            reader_bytes: options.page_cache_bytes / 3 * 2 / most_readers,
            damage: OnceLock::new(),
        })
    }

    pub(super) fn undamaged(&self) -> Result<(), Error> {
        self.damage.get().map_or(Ok(()), |damage| Err(damage.clone()))
    }

    /// From now on nothing of it counts, in this process or in another.
    pub(super) fn damaged(&self, cause: String) -> Error {
        let damage = self.damage.get_or_init(|| Error::Damaged { place: self.file.clone(), cause }).clone();
        // Those that have it open still read it; if this fails, the next to open it comes upon the damage again.
        drop(folder::remove(&self.file));
        damage
    }

    /// Lets `work` read, and keeps in mind what damage it finds.
    pub(super) fn read<T>(&self, work: impl FnOnce(&Reader) -> Result<T, Failure>) -> Result<T, Error> {
        let reader = self.take_reader();
        let done = reader.and_then(|reader| {
            let done = work(&reader);
            self.give_back(done.is_ok().then_some(reader));
            done
        });
        done.map_err(|failure| match failure {
            Failure::Damaged(cause) => self.damaged(cause),
            Failure::Failing(cause) => unusable(&self.file, cause),
        })
    }

    fn take_reader(&self) -> Result<Reader, Failure> {
        let mut readers = locked(&self.readers);
        loop {
            if let Some(reader) = readers.idle.pop() {
                return Ok(reader);
            }
            if readers.open < self.most_readers {
                break;
            }
            readers = self.reader_is_back.wait(readers).unwrap_or_else(PoisonError::into_inner);
        }
        readers.open += 1;
        drop(readers);
        let opened = Reader::open(&self.file, self.reader_bytes);
        if opened.is_err() {
            self.give_back(None);
        }
        opened
    }

    /// `None`: it is not to be used again.
    fn give_back(&self, reader: Option<Reader>) {
        let mut readers = locked(&self.readers);
        match reader {
            Some(reader) => readers.idle.push(reader),
            None => readers.open -= 1,
        }
        drop(readers);
        self.reader_is_back.notify_one();
    }
}

fn unusable(place: &Path, cause: String) -> Error {
    Error::Unusable { place: place.to_owned(), cause, cure: "mend the disk or make room, or name another folder" }
}

fn path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("state-{number:06}.db"))
}

/// The numbers of the databases in a folder, also of those of which little is left.
fn numbers(dir: &Path) -> io::Result<Vec<u64>> {
    let mut numbers = Vec::new();
    for found in std::fs::read_dir(dir)? {
        let name = found?.file_name();
        let rest = name.to_str().and_then(|name| name.strip_prefix("state-")?.split_once(".db"));
        let number =
            rest.filter(|(_, end)| ["", "-wal", "-shm"].contains(end)).and_then(|(n, _)| n.parse::<u64>().ok());
        numbers.extend(number);
    }
    numbers.sort_unstable();
    numbers.dedup();
    Ok(numbers)
}

fn remove(dir: &Path, number: u64) -> io::Result<()> {
    beside(&path(dir, number)).iter().try_for_each(|path| folder::remove(path))
}
