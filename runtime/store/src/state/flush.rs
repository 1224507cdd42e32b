//! Bringing what waits to disk: in slices, each a transaction that is synced before the next begins, and then the positions.
//!
//! IMPORTANT: a position is written only when all below it is out of the write-ahead log and synced. So whatever becomes of
//! the log, data is never behind its position; that it is ahead does no harm.

use super::database::Database;
use super::layer::Layer;
use super::record::Record;
use super::sqlite::{Failure, Writing};
use super::task::{Task, entries_of, expiry_key, expiry_of};
use super::tree::{self, Put};
use super::{Entry, StateStep, block::Row};
use crate::task::locked;
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Instant;

/// A slice ends when it has so many bytes of blocks, which bounds the write-ahead log.
const SLICE_BYTES: usize = 8 << 20;
/// So many changes are sorted into blocks at once.
const CHANGES: usize = 4_096;

/// What is to be written of a task.
pub(super) struct Job {
    pub(super) task: Arc<Task>,
    pub(super) layer: Option<Arc<Layer>>,
    /// What holds when all of it is written.
    pub(super) record: Record,
}

/// How far a job is.
struct Progress<'j> {
    job: &'j Job,
    /// The last key that is written.
    last: Option<Arc<[u8]>>,
    entries: u64,
    done: bool,
}

/// Writes all of them, or as much as can be: what is written twice does no harm.
pub(super) fn write_jobs(database: &Database, jobs: Vec<Job>, stopped: &AtomicBool) -> Result<(), Failure> {
    let started = Instant::now();
    // The log does not grow while it can't be emptied.
    locked(&database.writer).checkpoint()?;
    let progress =
        |job| Progress { job, last: None, entries: job.task.entries.load(Relaxed), done: job.layer.is_none() };
    let mut all: Vec<_> = jobs.iter().map(progress).collect();
    while all.iter().any(|progress| !progress.done) {
        if stopped.load(Relaxed) {
            return Err(Failure::Failing("the store is being closed".to_owned()));
        }
        let mut writer = locked(&database.writer);
        // IMPORTANT: with the writer, since who closes a task waits for it.
        all.iter_mut().for_each(|progress| progress.done |= progress.job.task.is_closed());
        let written = writer.write(StateStep::Slice, |to| write_slice(to, &all))?;
        writer.checkpoint()?;
        drop(writer);
        for (progress, (last, entries, done)) in all.iter_mut().zip(written) {
            (progress.last, progress.entries, progress.done) = (last, entries, done);
            progress.job.task.entries.store(entries, Relaxed);
        }
    }
    let mut writer = locked(&database.writer);
    writer.write(StateStep::Position, |to| {
        let open = jobs.iter().filter(|job| !job.task.is_closed());
        open.map(|job| (job.task.id, &job.record)).try_for_each(|(id, record)| to.set_task(id, &record.encode(id)))
    })?;
    drop(writer);
    let took = started.elapsed();
    jobs.iter().for_each(|job| job.task.written(job, took));
    Ok(())
}

type Slice = Vec<(Option<Arc<[u8]>>, u64, bool)>;

/// One transaction's worth. How far each is then.
fn write_slice(to: &Writing<'_>, all: &[Progress<'_>]) -> Result<Slice, Failure> {
    let (mut room, mut slice) = (SLICE_BYTES, Slice::new());
    for progress in all {
        let (mut last, mut entries, mut done) = (progress.last.clone(), progress.entries, progress.done);
        while let Some(layer) = &progress.job.layer
            && !done
            && room > 0
        {
            let from = last.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
            let some: Vec<_> = layer.from(from).take(CHANGES).map(|(key, entry)| (key, entry.as_ref())).collect();
            let (written, bytes) = write_changes(to, progress.job.task.id, &some, room, &mut entries)?;
            last = written.checked_sub(1).and_then(|n| some.get(n)).map(|(key, _)| Arc::clone(key)).or(last);
            done = written == some.len() && some.len() < CHANGES;
            room = room.saturating_sub(bytes);
        }
        if entries != progress.entries {
            to.set_entries(progress.job.task.id, entries)?;
        }
        slice.push((last, entries, done));
    }
    Ok(slice)
}

/// Writes some of the changes, and when they expire. How many, and the bytes of blocks that were written.
fn write_changes(
    to: &Writing<'_>,
    id: i64,
    some: &[(&Arc<[u8]>, Option<&Entry>)],
    room: usize,
    entries: &mut u64,
) -> Result<(usize, usize), Failure> {
    let row = |key, entry: &'_ Entry| Row { key, value: &[], expires_ms: entry.expires_ms };
    let puts: Vec<_> = some
        .iter()
        .map(|(key, entry)| Put { key, row: entry.map(|entry| Row { value: &entry.value, ..row(key, entry) }) })
        .collect();
    let mut expiring: Vec<(Vec<u8>, bool)> = Vec::new();
    let written = tree::write(to, entries_of(id), &puts, room, &mut |put, was| {
        match (was, put.row) {
            (None, Some(_)) => *entries += 1,
            (Some(_), None) => *entries = entries.saturating_sub(1),
            _ => {}
        }
        let (old, new) = (was.flatten(), put.row.and_then(|row| row.expires_ms));
        if old != new {
            expiring.extend(old.map(|at| (expiry_key(at, put.key), false)));
            expiring.extend(new.map(|at| (expiry_key(at, put.key), true)));
        }
    })?;
    expiring.sort_unstable();
    let empty = |key| Row { key, value: &[], expires_ms: None };
    let puts: Vec<_> = expiring.iter().map(|(key, is)| Put { key, row: is.then(|| empty(key)) }).collect();
    let also = tree::write(to, expiry_of(id), &puts, usize::MAX, &mut |_, _| {})?;
    Ok((written.changes, written.bytes + also.bytes))
}
