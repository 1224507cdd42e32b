//! The contract's imports over plain maps.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use super::outside::Outside;
use super::{Input, LogLine, Run, Sent, Timer};
use crate::error::Error;
use crate::host::{Entries, Host, Output};
use crate::http::{Reason, Request, Response};
use crate::message::{Header, Message, Source};
use crate::metric::Kind;
use crate::outcome::Outcome;
use crate::setup::Setup;

/// How long a call may take, as the manifest's `limits.timeout` unless set.
const TIMEOUT_MS: i64 = 5_000;
/// What a header counts beside its bytes, as on the real host.
const HEADER_BYTES: usize = 16;
/// What a change of state counts beside its name, its value and its key, as on the real host.
const CHANGE_BYTES: usize = 64;
/// A key's kind and length stand before it.
const OWNER_BYTES: usize = 3;
/// What the real host takes: a name of state, a key that has any, a value; names and bytes of one scan.
const MAX_NAME: usize = 1 << 10;
const MAX_OWNER: usize = 32 << 10;
const MAX_VALUE: usize = 512 << 10;
/// The longest delay of a send.
const MAX_DELAY_MS: u64 = 366 * 24 * 3_600_000;
const MAX_SCAN: u32 = 1_000;
const MAX_SCAN_BYTES: usize = 4 << 20;
/// Headers that go along with every send.
const ALWAYS_FORWARDED: [&str; 2] = ["traceparent", "tracestate"];

/// A host's inside, shared by the contexts of a batch.
#[derive(Clone)]
pub(crate) struct World(Rc<RefCell<Inner>>);

pub(crate) struct Inner {
    pub(super) now_ms: i64,
    pub(super) outputs: Vec<String>,
    pub(super) max_outputs: usize,
    pub(super) max_output_bytes: usize,
    pub(super) timers: BTreeMap<(Vec<u8>, String), Timer>,
    pub(super) logs: Vec<LogLine>,
    pub(super) outside: Outside,
    state: BTreeMap<(Vec<u8>, String), Stored>,
    metrics: Vec<Registered>,
    slots: Vec<Slot>,
}

#[derive(Clone)]
struct Stored {
    value: Vec<u8>,
    until_ms: Option<i64>,
}

struct Registered {
    name: String,
    kind: Kind,
    labels: Vec<(String, String)>,
    observed: Vec<f64>,
}

/// A message of the running batch with what it staged.
struct Slot {
    id: String,
    message: Message,
    headers: Vec<Header>,
    follows_dead_letter: bool,
    random: u64,
    sent: Vec<Sent>,
    staged_bytes: usize,
    /// `None` is a delete
    state: BTreeMap<String, Option<Stored>>,
    /// `None` is a cancel
    timers: BTreeMap<String, Option<Timer>>,
    /// Requests that may change something.
    changing: u32,
}

impl World {
    pub(super) fn new(now_ms: i64) -> Self {
        World(Rc::new(RefCell::new(Inner {
            now_ms,
            outputs: Vec::new(),
            max_outputs: 1000,
            max_output_bytes: 4 << 20,
            timers: BTreeMap::new(),
            logs: Vec::new(),
            outside: Outside::default(),
            state: BTreeMap::new(),
            metrics: Vec::new(),
            slots: Vec::new(),
        })))
    }

    pub(super) fn edit<T>(&self, edit: impl FnOnce(&mut Inner) -> T) -> T {
        edit(&mut self.0.borrow_mut())
    }

    /// A slot of the running batch. The real host traps on any other, and no context of another batch can be alive.
    fn slot<T>(&self, slot: u32, edit: impl FnOnce(&mut Slot) -> T) -> T {
        self.edit(|inner| edit(&mut inner.slots[slot as usize]))
    }

    pub(super) fn begin(&self, setup: &Setup, inputs: &[Input], batch: &[Message]) {
        let slots = inputs.iter().zip(batch).map(|(input, message)| Slot::new(setup, input, message)).collect();
        self.edit(|inner| inner.slots = slots);
    }

    /// Applies what stands and drops the rest.
    pub(super) fn settle(&self, outcomes: Vec<Outcome>) -> Vec<Run> {
        self.edit(|inner| {
            let mut failed = BTreeSet::new();
            let slots = std::mem::take(&mut inner.slots);
            let settle = |(slot, outcome): (Slot, Outcome)| {
                let key = slot.message.key.clone();
                // A message without a key is in nobody's order.
                let undone = outcome.is_err() || key.as_ref().is_some_and(|key| failed.contains(key));
                if undone {
                    failed.extend(key);
                    return Run { outcome, undone, sent: Vec::new() };
                }
                Run { outcome, undone, sent: inner.apply(slot) }
            };
            slots.into_iter().zip(outcomes).map(settle).collect()
        })
    }

    pub(super) fn due_timers(&self) -> Vec<Timer> {
        self.edit(|inner| {
            let now_ms = inner.now_ms;
            let mut due: Vec<Timer> =
                inner.timers.extract_if(.., |_, timer| timer.at_ms <= now_ms).map(|(_, timer)| timer).collect();
            due.sort_by_key(|timer| timer.at_ms);
            due
        })
    }

    pub(super) fn stored(&self, key: &[u8], name: &str) -> Option<Vec<u8>> {
        self.edit(|inner| inner.read(None, key, name))
    }

    pub(super) fn store(&self, key: &[u8], name: &str, value: Vec<u8>) {
        self.edit(|inner| inner.state.insert((key.to_vec(), name.to_owned()), Stored { value, until_ms: None }));
    }

    pub(super) fn observed(&self, metric: &str) -> Vec<f64> {
        self.edit(|inner| {
            inner.metrics.iter().filter(|known| known.name == metric).flat_map(|known| known.observed.clone()).collect()
        })
    }
}

impl Slot {
    fn new(setup: &Setup, input: &Input, message: &Message) -> Self {
        let origin = match &message.source {
            Source::Topic(index) => setup.topics().get(*index as usize).cloned().unwrap_or_default(),
            Source::Timer(name) => format!("timer {name}"),
        };
        let id = format!("{origin}/{}/{}", message.partition, message.offset);
        // FNV-1a over the id, mixed with the attempt: the numbers are those of the real host.
        let seed = id
            .bytes()
            .fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
        Slot {
            id,
            message: message.clone(),
            headers: input.headers.clone(),
            follows_dead_letter: input.follows_dead_letter,
            random: seed ^ u64::from(message.attempt).wrapping_mul(0xd134_2543_de82_ef95),
            sent: Vec::new(),
            staged_bytes: 0,
            state: BTreeMap::new(),
            timers: BTreeMap::new(),
            changing: 0,
        }
    }

    fn key(&self) -> Result<Vec<u8>, Error> {
        self.message.key.clone().ok_or(Error::NoKey)
    }

    /// The key whose state it is.
    fn owner(&self) -> Result<Vec<u8>, Error> {
        let key = self.key()?;
        if key.len() > MAX_OWNER { Err(Error::TooLarge) } else { Ok(key) }
    }

    fn change(&mut self, name: &str, change: Option<Stored>, max_bytes: usize) -> Result<(), Error> {
        let owner = self.owner()?;
        let value = change.as_ref().map_or(0, |stored| stored.value.len());
        let bytes = name.len() + value + OWNER_BYTES + owner.len() + CHANGE_BYTES;
        if self.staged_bytes + bytes > max_bytes {
            return Err(Error::OverQuota);
        }
        check_name(name)?;
        if value > MAX_VALUE {
            return Err(Error::TooLarge);
        }
        self.staged_bytes += bytes;
        self.state.insert(name.to_owned(), change);
        Ok(())
    }

    fn stage(&mut self, output: &Output<'_>) {
        let forwarded = self
            .headers
            .iter()
            .filter(|header| output.forward_headers || ALWAYS_FORWARDED.contains(&header.name.as_str()))
            .cloned();
        let own = output
            .headers
            .iter()
            .map(|(name, value)| Header { name: (*name).to_owned(), value: value.as_deref().map(<[u8]>::to_vec) });
        self.sent.push(Sent {
            to: output.to.to_owned(),
            key: output.key.as_deref().map(<[u8]>::to_vec),
            value: output.value.as_deref().map(<[u8]>::to_vec),
            headers: forwarded.chain(own).collect(),
            timestamp_ms: output.timestamp_ms.unwrap_or(self.message.timestamp_ms),
            delay: output.delay_ms.map(Duration::from_millis),
        });
    }
}

fn check_name(name: &str) -> Result<(), Error> {
    if name.len() > MAX_NAME { Err(Error::TooLarge) } else { Ok(()) }
}

impl Inner {
    fn change(&mut self, slot: u32, name: &str, change: Option<Stored>) -> Result<(), Error> {
        let max_bytes = self.max_output_bytes;
        self.slots[slot as usize].change(name, change, max_bytes)
    }

    fn apply(&mut self, slot: Slot) -> Vec<Sent> {
        if let Some(key) = slot.message.key {
            for (name, change) in slot.state {
                match change {
                    Some(stored) => self.state.insert((key.clone(), name), stored),
                    None => self.state.remove(&(key.clone(), name)),
                };
            }
            for (name, change) in slot.timers {
                match change {
                    Some(timer) => self.timers.insert((key.clone(), name), timer),
                    None => self.timers.remove(&(key.clone(), name)),
                };
            }
        }
        slot.sent
    }

    /// What a slot sees: what it or an earlier slot of its key staged, else what is stored.
    fn read(&self, slot: Option<u32>, key: &[u8], name: &str) -> Option<Vec<u8>> {
        let seen = slot.map_or(0, |slot| slot as usize + 1);
        let staged = self.slots[..seen]
            .iter()
            .rev()
            .filter(|slot| slot.message.key.as_deref() == Some(key))
            .find_map(|slot| slot.state.get(name));
        let current = match staged {
            Some(change) => change.as_ref(),
            None => self.state.get(&(key.to_vec(), name.to_owned())),
        };
        current.filter(|stored| stored.until_ms.is_none_or(|until_ms| self.now_ms < until_ms)).map(|s| s.value.clone())
    }

    fn names(&self, slot: u32, key: &[u8]) -> BTreeSet<String> {
        let staged = self.slots[..=slot as usize]
            .iter()
            .filter(|slot| slot.message.key.as_deref() == Some(key))
            .flat_map(|slot| slot.state.keys());
        let stored = self.state.keys().filter(|(owner, _)| owner == key).map(|(_, name)| name);
        staged.chain(stored).cloned().collect()
    }
}

impl Host for World {
    fn running(&self, _message: Option<&Message>) {}

    fn id(&self, slot: u32) -> String {
        self.slot(slot, |slot| slot.id.clone())
    }

    fn headers(&self, slot: u32) -> Vec<Header> {
        self.slot(slot, |slot| slot.headers.clone())
    }

    fn header_value(&self, slot: u32, name: &str) -> Option<Vec<u8>> {
        self.slot(slot, |slot| slot.headers.iter().rfind(|header| header.name == name)?.value.clone())
    }

    fn follows_dead_letter(&self, slot: u32) -> bool {
        self.slot(slot, |slot| slot.follows_dead_letter)
    }

    fn now_ms(&self) -> i64 {
        self.edit(|inner| inner.now_ms)
    }

    fn random(&self, slot: u32) -> u64 {
        // splitmix64
        self.slot(slot, |slot| {
            slot.random = slot.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let z = (slot.random ^ (slot.random >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^ (z >> 31)
        })
    }

    fn deadline_ms(&self) -> i64 {
        self.now_ms().saturating_add(TIMEOUT_MS)
    }

    fn send(&self, slot: u32, output: &Output<'_>) -> Result<(), Error> {
        self.edit(|inner| {
            if !inner.outputs.iter().any(|known| known == output.to) {
                return Err(Error::UnknownOutput);
            }
            let part = |bytes: &Option<Cow<'_, [u8]>>| bytes.as_ref().map_or(0, |bytes| bytes.len());
            if output.delay_ms.is_some_and(|delay_ms| delay_ms > MAX_DELAY_MS) {
                return Err(Error::Other(format!("{MAX_DELAY_MS} ms are the most, that is 366 days")));
            }
            let header = |(name, value): &(&str, _)| HEADER_BYTES + name.len() + part(value);
            let headers: usize = output.headers.iter().map(header).sum();
            let bytes = part(&output.key) + part(&output.value) + headers;
            let staged = &mut inner.slots[slot as usize];
            if staged.sent.len() >= inner.max_outputs || staged.staged_bytes + bytes > inner.max_output_bytes {
                return Err(Error::OverQuota);
            }
            staged.staged_bytes += bytes;
            staged.stage(output);
            Ok(())
        })
    }

    fn state_get(&self, slot: u32, name: &str) -> Result<Option<Vec<u8>>, Error> {
        let owner = self.slot(slot, |slot| slot.owner())?;
        check_name(name)?;
        Ok(self.edit(|inner| inner.read(Some(slot), &owner, name)))
    }

    fn state_put(&self, slot: u32, name: &str, value: &[u8], ttl_ms: Option<u64>) -> Result<(), Error> {
        let until_ms = ttl_ms.map(|ttl_ms| self.now_ms().saturating_add_unsigned(ttl_ms));
        self.edit(|inner| inner.change(slot, name, Some(Stored { value: value.to_vec(), until_ms })))
    }

    fn state_delete(&self, slot: u32, name: &str) -> Result<(), Error> {
        self.edit(|inner| inner.change(slot, name, None))
    }

    fn state_scan(&self, slot: u32, prefix: &str, after: Option<&str>, limit: u32) -> Result<Entries, Error> {
        let owner = self.slot(slot, |slot| slot.owner())?;
        check_name(prefix)?;
        check_name(after.unwrap_or_default())?;
        if limit > MAX_SCAN {
            return Err(Error::TooLarge);
        }
        let wanted = |name: &String| name.starts_with(prefix) && after.is_none_or(|after| name.as_str() > after);
        let entries: Entries = self.edit(|inner| {
            let names = inner.names(slot, &owner).into_iter().filter(wanted);
            let entries = names.filter_map(|name| inner.read(Some(slot), &owner, &name).map(|value| (name, value)));
            entries.take(limit as usize).collect()
        });
        let bytes: usize = entries.iter().map(|(name, value)| name.len() + value.len()).sum();
        if bytes > MAX_SCAN_BYTES { Err(Error::TooLarge) } else { Ok(entries) }
    }

    fn timer_set(&self, slot: u32, name: &str, at_ms: i64, payload: &[u8]) -> Result<(), Error> {
        self.slot(slot, |slot| {
            let timer = Timer {
                key: slot.key()?,
                name: name.to_owned(),
                at_ms,
                payload: payload.to_vec(),
                partition: slot.message.partition,
                offset: slot.message.offset,
            };
            slot.timers.insert(name.to_owned(), Some(timer));
            Ok(())
        })
    }

    fn timer_cancel(&self, slot: u32, name: &str) -> Result<(), Error> {
        self.slot(slot, |slot| {
            slot.key()?;
            slot.timers.insert(name.to_owned(), None);
            Ok(())
        })
    }

    fn fetch_all(&self, requests: Vec<(u32, Request)>) -> Vec<Result<Response, Reason>> {
        self.edit(|inner| {
            let Inner { slots, outside, .. } = inner;
            let fetch = |(slot, request): (u32, Request)| {
                let of = &mut slots[slot as usize];
                outside.fetch(slot, of.id.clone(), &mut of.changing, request)
            };
            requests.into_iter().map(fetch).collect()
        })
    }

    fn metric_register(&self, name: &str, kind: Kind, labels: &[(&str, &str)]) -> u32 {
        let labels: Vec<_> = labels.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect();
        self.edit(|inner| {
            let same = |known: &Registered| known.name == name && known.kind == kind && known.labels == labels;
            let index = inner.metrics.iter().position(same).unwrap_or_else(|| {
                inner.metrics.push(Registered { name: name.to_owned(), kind, labels, observed: Vec::new() });
                inner.metrics.len() - 1
            });
            u32::try_from(index).unwrap_or(u32::MAX)
        })
    }

    fn metric_observe(&self, metric: u32, value: f64) {
        self.edit(|inner| {
            if let Some(known) = inner.metrics.get_mut(metric as usize) {
                known.observed.push(value);
            }
        });
    }
}
