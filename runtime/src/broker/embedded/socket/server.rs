//! Serves the socket: a thread that accepts, and one for each connection.

use super::frame;
use super::message::{Answer, Ask, At, BlockHead, NOW, at, verdict};
use super::{NURSERY, PROTOCOL, path_of};
use crate::broker::client::{Client as _, NewTopic};
use crate::broker::embedded::block::{Entry, Unpacker};
use crate::broker::embedded::cursor::TURN_BYTES;
use crate::broker::embedded::errors::{operator, retry};
use crate::broker::embedded::folder::remove;
use crate::broker::embedded::local::LocalClient;
use crate::broker::embedded::sqlite::Reading;
use crate::broker::embedded::store::{Store, TopicState, WRITE_WAIT};
use crate::broker::embedded::transactions::EmbeddedTransactions;
use crate::broker::{BrokerError, OffsetCommit, Produce, Producer as _, Refusal, Transactions as _};
use crate::record::TopicPartition;
use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Connections at once; each has a thread.
const CONNECTIONS: usize = 64;
/// A client that stops in the middle of a frame, or takes no answer, is given up after this time.
const PATIENCE: Duration = Duration::from_secs(30);
/// A connection stages so much at most.
const STAGED_BYTES: usize = 64 << 20;
/// A fetch waits at most this long, whatever was asked.
const LONGEST_WAIT_MS: u64 = 30_000;

/// Serves until it is dropped.
#[derive(Debug)]
pub(in super::super) struct Server {
    shared: Arc<Shared>,
    path: PathBuf,
    accept: Option<JoinHandle<()>>,
    /// The listening socket once more, as something that can be shut down.
    wake: UnixStream,
}

#[derive(Debug)]
struct Shared {
    store: Arc<Store>,
    default_partitions: i32,
    over: AtomicBool,
    open: Mutex<Connections>,
}

#[derive(Debug, Default)]
struct Connections {
    next: u64,
    all: BTreeMap<u64, (UnixStream, Option<JoinHandle<()>>)>,
}

impl Server {
    /// The folder is held, so a socket that lies in it is one that a process left behind when it was killed.
    pub(in super::super) fn start(store: Arc<Store>, default_partitions: i32) -> Result<Self, BrokerError> {
        let path = path_of(store.dir())?;
        let failed = |e: io::Error| operator(format!("{}: the socket can't be made: {e}", path.display()));
        let listener = bind(store.dir(), &path).map_err(failed)?;
        let wake = UnixStream::from(OwnedFd::from(listener.try_clone().map_err(failed)?));
        let shared = Shared { store, default_partitions, over: AtomicBool::new(false), open: Mutex::default() };
        let shared = Arc::new(shared);
        let its = shared.clone();
        let accept = std::thread::Builder::new()
            .name("embedded-accept".to_owned())
            .spawn(move || accept(&listener, &its))
            .map_err(failed)?;
        Ok(Self { shared, path, accept: Some(accept), wake })
    }
}

/// Made in a folder that nobody else can enter and moved once its rights are set, so that at no time anybody else could
/// connect.
fn bind(dir: &Path, path: &Path) -> io::Result<UnixListener> {
    let nursery = dir.join(NURSERY);
    let newborn = nursery.join("s");
    remove(&newborn)?;
    match DirBuilder::new().mode(0o700).create(&nursery) {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e),
        _ => {}
    }
    let listener = UnixListener::bind(&newborn)?;
    fs::set_permissions(&newborn, Permissions::from_mode(0o600))?;
    fs::rename(&newborn, path)?;
    fs::remove_dir(&nursery)?;
    Ok(listener)
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::Release);
        self.shared.store.wake();
        // Where a listening socket can't be shut down, a connection wakes it; either may fail because of the other.
        drop(self.wake.shutdown(Shutdown::Both));
        drop(UnixStream::connect(&self.path));
        if let Err(error) = remove(&self.path) {
            tracing::warn!(%error, "the socket of the embedded broker could not be removed; the next start does it");
        }
        let accept = self.accept.take().map(JoinHandle::join);
        let open = std::mem::take(&mut self.shared.connections().all);
        for (stream, thread) in open.into_values() {
            // A connection that its client closed is shut already.
            drop(stream.shutdown(Shutdown::Both));
            if thread.map(JoinHandle::join).is_some_and(|end| end.is_err()) {
                tracing::error!("a connection to the embedded broker panicked");
            }
        }
        if accept.is_some_and(|end| end.is_err()) {
            tracing::error!("the thread that accepts connections to the embedded broker panicked");
        }
    }
}

impl Shared {
    fn connections(&self) -> std::sync::MutexGuard<'_, Connections> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_over(&self) -> bool {
        self.over.load(Ordering::Acquire)
    }
}

fn accept(listener: &UnixListener, shared: &Arc<Shared>) {
    loop {
        let accepted = listener.accept();
        if shared.is_over() {
            return;
        }
        let started = accepted.and_then(|(stream, _)| begin(stream, shared));
        if let Err(error) = started {
            tracing::warn!(%error, "a connection to the embedded broker failed");
            // Out of descriptors, most likely: it would fail again at once.
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

fn begin(mut stream: UnixStream, shared: &Arc<Shared>) -> io::Result<()> {
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut open = shared.connections();
    if open.all.len() >= CONNECTIONS {
        drop(open);
        let answer = Answer::from(retry(format!("{CONNECTIONS} commands are connected already: try again later")));
        return frame::write(&mut stream, &answer, &[]);
    }
    open.next += 1;
    let (number, its) = (open.next, shared.clone());
    let registered = stream.try_clone()?;
    let thread = std::thread::Builder::new().name("embedded-serve".to_owned()).spawn(move || {
        if let Err(error) = serve(&mut stream, &its)
            && !its.is_over()
        {
            tracing::debug!(%error, "a connection to the embedded broker ended");
        }
        // The one who stops the server joins what is in the list; what ended before is forgotten.
        its.connections().all.remove(&number);
    })?;
    open.all.insert(number, (registered, Some(thread)));
    Ok(())
}

/// Answers questions until the client goes.
fn serve(stream: &mut UnixStream, shared: &Shared) -> io::Result<()> {
    let Some((Ask::Hello { protocol }, _)) = next(stream)? else { return Ok(()) };
    if protocol != PROTOCOL {
        let message = format!(
            "the process that holds the folder speaks protocol {PROTOCOL} (keyrail {}), and this command {protocol}: use \
             the same version for both",
            env!("CARGO_PKG_VERSION")
        );
        return frame::write(stream, &Answer::from(operator(message)), &[]);
    }
    let version = env!("CARGO_PKG_VERSION").to_owned();
    frame::write(stream, &Answer::Hello { protocol: PROTOCOL, version, pid: std::process::id() }, &[])?;
    let mut desk = match Desk::new(shared) {
        Ok(desk) => desk,
        Err(error) => return frame::write(stream, &Answer::from(error), &[]),
    };
    while let Some((ask, body)) = next(stream)? {
        let (answer, body) = desk.answer(ask, &body).unwrap_or_else(|error| (error.into(), Vec::new()));
        frame::write(stream, &answer, &body)?;
    }
    Ok(())
}

/// A client may be silent between two questions, but not within one.
fn next(stream: &mut UnixStream) -> io::Result<Option<(Ask, Vec<u8>)>> {
    stream.set_read_timeout(None)?;
    frame::read(&mut Patient(stream))
}

/// Waits for ever for the first bytes, and then for some time.
struct Patient<'a>(&'a mut UnixStream);

impl io::Read for Patient<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.0.read(buffer)?;
        self.0.set_read_timeout(Some(PATIENCE))?;
        Ok(read)
    }
}

/// What answers the questions of one connection.
struct Desk<'a> {
    shared: &'a Shared,
    client: LocalClient,
    reading: Reading,
    /// Of the id that this connection has claimed.
    transactions: Option<EmbeddedTransactions>,
}

impl<'a> Desk<'a> {
    fn new(shared: &'a Shared) -> Result<Self, BrokerError> {
        let client = LocalClient::new(shared.store.clone(), shared.default_partitions, None)?;
        Ok(Self { shared, client, reading: Reading::open(shared.store.dir())?, transactions: None })
    }

    fn answer(&mut self, ask: Ask, body: &[u8]) -> Result<(Answer, Vec<u8>), BrokerError> {
        let client = &mut self.client;
        let answer = match ask {
            Ask::Hello { .. } => return Err(operator("a second hello")),
            Ask::Topics => {
                Answer::Topics { topics: client.topics()?.into_iter().map(|t| (t.name, t.partitions)).collect() }
            }
            Ask::Settings { topic } => Answer::Settings { settings: client.settings(&topic)? },
            Ask::Create { topic, partitions, settings } => {
                Answer::Created { new: client.create_topic(&NewTopic { name: topic, partitions, settings })? }
            }
            Ask::Bounds { topic, partitions } => Answer::bounds(client.bounds(&topic, &partitions)?),
            Ask::OffsetsAt { topic, partitions, time_ms } => {
                Answer::Offsets { offsets: client.offsets_at(&topic, &partitions, time_ms)? }
            }
            Ask::Groups => Answer::Groups { groups: client.groups()? },
            Ask::Committed { group, topics, of } => {
                let of: Vec<TopicPartition> = of.into_iter().map(at).collect();
                Answer::committed(client.committed(&group, &topics, &of)?)
            }
            Ask::LogOf { topic } => Answer::Log { log: client.log_of(&topic)? },
            Ask::Commit { group, topics, offsets } => {
                let commit = |(place, offset, metadata)| OffsetCommit { at: at(place), offset, metadata };
                let offsets: Vec<OffsetCommit> = offsets.into_iter().map(commit).collect();
                client.commit(&group, &topics, &offsets)?;
                Answer::Done
            }
            Ask::Claim { id, group, topics } => self.claim(&id, &group, &topics)?,
            Ask::Stage { topics, to } => self.stage(&topics, &to, body)?,
            Ask::End { offsets } => self.end(offsets)?,
            Ask::Produce { topics, to } => self.produce(&topics, &to, body)?,
            Ask::Fetch { topics, from, wait_ms } => return self.fetch(&topics, &from, wait_ms),
        };
        Ok((answer, Vec::new()))
    }

    fn produce(&mut self, topics: &[String], to: &[(u32, Option<i32>)], body: &[u8]) -> Result<Answer, BrokerError> {
        let client = &mut self.client;
        let results = with_records(topics, to, body, &mut |records| client.produce(records))?;
        Ok(refusals(results))
    }

    /// Takes an id over for this connection.
    fn claim(&mut self, id: &str, group: &str, topics: &[String]) -> Result<Answer, BrokerError> {
        let mut transactions = self.client.outside(id, group, topics);
        transactions.renew();
        ended(&mut transactions)?;
        self.transactions = Some(transactions);
        Ok(Answer::Done)
    }

    fn stage(&mut self, topics: &[String], to: &[(u32, Option<i32>)], body: &[u8]) -> Result<Answer, BrokerError> {
        let transactions = self.transactions.as_mut().ok_or_else(not_claimed)?;
        if transactions.staged_bytes().saturating_add(body.len()) > STAGED_BYTES {
            return Err(operator(format!("a transaction of more than {STAGED_BYTES} bytes: end it before")));
        }
        let results = with_records(topics, to, body, &mut |records| {
            Ok(records.iter().map(|record| transactions.send(record, 0).map(drop)).collect())
        })?;
        transactions.poll(Duration::ZERO, &mut Vec::new());
        Ok(refusals(results))
    }

    fn end(&mut self, offsets: Vec<(At, i64, String)>) -> Result<Answer, BrokerError> {
        let transactions = self.transactions.as_mut().ok_or_else(not_claimed)?;
        let commit = |(place, offset, metadata)| OffsetCommit { at: at(place), offset, metadata };
        transactions.commit(offsets.into_iter().map(commit).collect());
        ended(transactions).map(|()| Answer::Done)
    }

    fn fetch(&self, topics: &[String], from: &[(At, i64)], wait_ms: u64) -> Result<(Answer, Vec<u8>), BrokerError> {
        let until = Instant::now() + Duration::from_millis(wait_ms.min(LONGEST_WAIT_MS));
        let store = &self.shared.store;
        let states = topics.iter().map(|name| store.topic(name)).collect::<Result<Vec<Arc<TopicState>>, _>>()?;
        loop {
            let seen = store.seen();
            store.check()?;
            let (mut blocks, mut moved, mut body) = (Vec::new(), Vec::new(), Vec::new());
            for ((topic, partition), offset) in from {
                let state = states.get(*topic as usize).ok_or_else(|| operator("a topic that is none of the list"))?;
                let bounds = state.partition(*partition)?.bounds();
                let start = if (bounds.start..=bounds.end).contains(offset) { *offset } else { bounds.start };
                let mut next = start;
                if start < bounds.end && body.len() < TURN_BYTES {
                    let room = TURN_BYTES - body.len();
                    let found = self.reading.blocks((state.id, *partition), start, room)?;
                    // Compaction may have taken all that is left.
                    next = if found.is_empty() { bounds.end } else { start };
                    for block in found {
                        let (base, last, bytes) = (block.base, block.last, block.data.len());
                        blocks.push(BlockHead { at: (*topic, *partition), base, last, bytes });
                        body.extend_from_slice(&block.data);
                    }
                }
                if next != *offset {
                    moved.push(((*topic, *partition), next));
                }
            }
            let something = !blocks.is_empty() || !moved.is_empty();
            if something || self.shared.is_over() || !store.wait(seen, until) {
                return Ok((Answer::Blocks { blocks, moved }, body));
            }
        }
    }
}

fn not_claimed() -> BrokerError {
    operator("a transaction without a claim on its id")
}

/// Waits for the end of what was begun.
fn ended(transactions: &mut EmbeddedTransactions) -> Result<(), BrokerError> {
    let until = Instant::now() + WRITE_WAIT;
    loop {
        transactions.poll(Duration::from_millis(100), &mut Vec::new());
        match transactions.finished() {
            Some(end) => return end.map(drop),
            None if Instant::now() >= until => {
                return Err(retry(format!("the disk did not answer within {WRITE_WAIT:?}")));
            }
            None => {}
        }
    }
}

fn refusals(results: Vec<Result<(), Refusal>>) -> Answer {
    let refused = results.into_iter().enumerate().filter_map(|(number, result)| {
        let (verdict, why) = verdict(result.err()?);
        Some((number, verdict, why))
    });
    Answer::Produced { refused: refused.collect() }
}

type Results = Result<Vec<Result<(), Refusal>>, BrokerError>;

/// Hands on the records that a body holds.
fn with_records(
    topics: &[String],
    to: &[(u32, Option<i32>)],
    body: &[u8],
    hand: &mut dyn FnMut(&[Produce<'_>]) -> Results,
) -> Results {
    let bad = |what: &str| operator(format!("the records sent can't be read: {what}"));
    let mut unpacker = Unpacker::new(body, 0).map_err(|d| bad(&d.to_string()))?;
    let mut entries: Vec<Entry<'_>> = Vec::with_capacity(to.len());
    while let Some(entry) = unpacker.next_kept().map_err(|d| bad(&d.to_string()))? {
        entries.push(entry);
    }
    if entries.len() != to.len() {
        return Err(bad("another number of records than of places"));
    }
    let headers: Vec<Vec<_>> = entries.iter().map(|entry| entry.headers().collect()).collect();
    let mut records = Vec::with_capacity(to.len());
    for ((entry, (topic, partition)), headers) in entries.iter().zip(to).zip(&headers) {
        let topic = topics.get(*topic as usize).ok_or_else(|| bad("a topic that is none of the list"))?;
        let time_ms = entry.parts.timestamp_ms;
        records.push(Produce {
            topic,
            partition: *partition,
            key: entry.parts.key,
            value: entry.parts.value,
            headers,
            timestamp_ms: (time_ms != NOW).then_some(time_ms),
        });
    }
    hand(&records)
}
