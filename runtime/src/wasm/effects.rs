//! What a guest staged in one call: all its sends in one list and all their bytes in one buffer, so that a call costs
//! a few allocations however many messages it has.

/// What was staged in one call, by slot.
#[derive(Debug, Default)]
pub struct Effects {
    slots: Vec<Slot>,
    sends: Vec<Entry>,
    headers: Vec<HeaderEntry>,
    /// Of each send: its key, its value, then name and value of each header.
    bytes: Vec<u8>,
}

/// Marks the end of a slot's list.
const END: u32 = u32::MAX;

#[derive(Debug, Clone, Copy)]
struct Slot {
    first: u32,
    last: u32,
    count: u32,
    /// Sends with a delay, which are state until they go out.
    delayed: u32,
    /// A send was refused, since it was more than one message may stage.
    over_quota: bool,
    staged_bytes: u64,
}

#[derive(Debug)]
struct Entry {
    /// The next one of the same slot: a guest may stage for its messages in any order.
    next: u32,
    output: u32,
    start: usize,
    key: Option<u32>,
    value: Option<u32>,
    first_header: u32,
    header_count: u32,
    forward_headers: bool,
    timestamp_ms: Option<i64>,
}

#[derive(Debug, Clone, Copy)]
struct HeaderEntry {
    name: u32,
    value: Option<u32>,
}

/// A record that a handler wants sent when its message settles.
#[derive(Debug, Clone)]
pub struct Send<'a> {
    /// Index into [`super::Setup::outputs`].
    pub output: u32,
    /// `None` is null.
    pub key: Option<&'a [u8]>,
    /// `None` is a tombstone.
    pub value: Option<&'a [u8]>,
    /// Names and values, in order.
    pub headers: SendHeaders<'a>,
    /// Also copy the message's own headers.
    pub forward_headers: bool,
    /// Milliseconds since the Unix epoch; `None`: the message's own.
    pub timestamp_ms: Option<i64>,
}

/// Headers of a [`Send`]: name and value; `None` is null.
#[derive(Debug, Clone)]
pub struct SendHeaders<'a> {
    lengths: std::slice::Iter<'a, HeaderEntry>,
    bytes: &'a [u8],
}

impl<'a> Iterator for SendHeaders<'a> {
    type Item = (&'a [u8], Option<&'a [u8]>);

    fn next(&mut self) -> Option<Self::Item> {
        let entry = self.lengths.next()?;
        let (name, rest) = self.bytes.split_at(entry.name as usize);
        let (value, rest) = rest.split_at(entry.value.unwrap_or(0) as usize);
        self.bytes = rest;
        Some((name, entry.value.map(|_| value)))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.lengths.size_hint()
    }
}

impl ExactSizeIterator for SendHeaders<'_> {}

/// Lengths fit: a guest's memory ends below 4 GiB.
fn length(bytes: Option<&[u8]>) -> Option<u32> {
    bytes.map(|b| b.len() as u32)
}

impl Effects {
    /// For a call with so many messages; as much room as `last` needed, when it was of ordinary size.
    pub(super) fn new(slots: usize, last: Room) -> Self {
        let mut effects = Self {
            slots: Vec::with_capacity(slots),
            sends: Vec::with_capacity(last.sends.min(4096)),
            headers: Vec::new(),
            bytes: Vec::with_capacity(last.bytes.min(1 << 20)),
        };
        effects
            .slots
            .resize(slots, Slot { first: END, last: END, count: 0, delayed: 0, over_quota: false, staged_bytes: 0 });
        effects
    }

    pub(super) fn room(&self) -> Room {
        Room { sends: self.sends.len(), bytes: self.bytes.len() }
    }

    /// What a call of one message staged that sends one record to the first output.
    #[cfg(test)]
    pub(crate) fn one(value: &[u8], headers: &[(&[u8], Option<&[u8]>)], forward: bool, time: Option<i64>) -> Self {
        let mut effects = Self::new(1, Room::default());
        let send = Staged { output: 0, key: None, value: Some(value), forward_headers: forward, timestamp_ms: time };
        effects.push(0, &send, headers.iter().copied(), 0);
        effects
    }

    /// How many records a slot sends.
    #[must_use]
    pub fn count(&self, slot: u32) -> u32 {
        self.slots.get(slot as usize).map_or(0, |s| s.count)
    }

    /// Bytes that a slot staged, by the measure of `limits.output-bytes`.
    #[must_use]
    pub fn staged_bytes(&self, slot: u32) -> u64 {
        self.slots.get(slot as usize).map_or(0, |s| s.staged_bytes)
    }

    /// Bytes that all of it holds.
    #[must_use]
    pub fn size(&self) -> usize {
        self.bytes.capacity()
            + self.sends.capacity() * size_of::<Entry>()
            + self.headers.capacity() * size_of::<HeaderEntry>()
    }

    /// Whether nothing was staged.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.sends.is_empty()
    }

    /// What a slot sends, in order.
    pub fn of(&self, slot: u32) -> impl Iterator<Item = Send<'_>> {
        let mut at = self.slots.get(slot as usize).map_or(END, |s| s.first);
        std::iter::from_fn(move || {
            let entry = self.sends.get(at as usize)?;
            at = entry.next;
            Some(self.send(entry))
        })
    }

    fn send(&self, entry: &Entry) -> Send<'_> {
        let (key, rest) = self.bytes[entry.start..].split_at(entry.key.unwrap_or(0) as usize);
        let (value, rest) = rest.split_at(entry.value.unwrap_or(0) as usize);
        let first = entry.first_header as usize;
        Send {
            output: entry.output,
            key: entry.key.map(|_| key),
            value: entry.value.map(|_| value),
            headers: SendHeaders {
                lengths: self.headers[first..first + entry.header_count as usize].iter(),
                bytes: rest,
            },
            forward_headers: entry.forward_headers,
            timestamp_ms: entry.timestamp_ms,
        }
    }

    /// How many records a slot sends later.
    pub(super) fn delayed(&self, slot: usize) -> u32 {
        self.slots.get(slot).map_or(0, |s| s.delayed)
    }

    pub(super) fn count_delayed(&mut self, slot: usize) {
        self.slots[slot].delayed += 1;
    }

    /// What else a slot stages counts as its bytes do.
    pub(super) fn count_bytes(&mut self, slot: usize, bytes: u64) {
        self.slots[slot].staged_bytes += bytes;
    }

    pub(super) fn note_over_quota(&mut self, slot: usize) {
        self.slots[slot].over_quota = true;
    }

    pub(super) fn was_over_quota(&self, slot: usize) -> bool {
        self.slots[slot].over_quota
    }

    /// Stages a record for a slot that there is. `counted_bytes` is what it costs by the measure of the limits.
    pub(super) fn push<'a, H>(&mut self, slot: usize, send: &Staged<'_>, headers: H, counted_bytes: u64)
    where
        H: Iterator<Item = (&'a [u8], Option<&'a [u8]>)>,
    {
        let (start, first_header) = (self.bytes.len(), self.headers.len() as u32);
        self.bytes.extend_from_slice(send.key.unwrap_or_default());
        self.bytes.extend_from_slice(send.value.unwrap_or_default());
        for (name, value) in headers {
            self.bytes.extend_from_slice(name);
            self.bytes.extend_from_slice(value.unwrap_or_default());
            self.headers.push(HeaderEntry { name: name.len() as u32, value: length(value) });
        }
        let index = self.sends.len() as u32;
        self.sends.push(Entry {
            next: END,
            output: send.output,
            start,
            key: length(send.key),
            value: length(send.value),
            first_header,
            header_count: self.headers.len() as u32 - first_header,
            forward_headers: send.forward_headers,
            timestamp_ms: send.timestamp_ms,
        });
        let slot = &mut self.slots[slot];
        match self.sends.get_mut(slot.last as usize) {
            Some(last) => last.next = index,
            None => slot.first = index,
        }
        slot.last = index;
        slot.count += 1;
        slot.staged_bytes += counted_bytes;
    }
}

/// How much a call needed.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Room {
    sends: usize,
    bytes: usize,
}

/// A record to stage, but for its headers.
#[derive(Debug)]
pub(super) struct Staged<'a> {
    pub(super) output: u32,
    pub(super) key: Option<&'a [u8]>,
    pub(super) value: Option<&'a [u8]>,
    pub(super) forward_headers: bool,
    pub(super) timestamp_ms: Option<i64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn staged<'a>(key: Option<&'a [u8]>, value: Option<&'a [u8]>) -> Staged<'a> {
        Staged { output: 1, key, value, forward_headers: true, timestamp_ms: Some(9) }
    }

    #[test]
    fn each_slot_gets_back_what_it_staged_in_order() {
        let mut effects = Effects::new(3, Room::default());
        let headers: [(&[u8], Option<&[u8]>); 3] = [(b"a", Some(b"1")), (b"", None), (b"b", Some(b""))];
        effects.push(2, &staged(Some(b"k"), None), headers.into_iter(), 5);
        effects.push(0, &staged(None, Some(b"v")), [].into_iter(), 1);
        effects.push(2, &staged(Some(b""), Some(b"w")), [].into_iter(), 1);
        assert_eq!(
            [0, 1, 2, 3].map(|slot| (effects.count(slot), effects.staged_bytes(slot))),
            [(1, 1), (0, 0), (2, 6), (0, 0)]
        );
        let keys = |slot| effects.of(slot).map(|s| (s.key, s.value)).collect::<Vec<_>>();
        assert_eq!(keys(0), [(None, Some(&b"v"[..]))]);
        assert_eq!(keys(1), []);
        assert_eq!(keys(2), [(Some(&b"k"[..]), None), (Some(&b""[..]), Some(&b"w"[..]))]);
        let all: Vec<_> = effects.of(2).flat_map(|s| s.headers).collect();
        assert_eq!(all, headers);
        assert!(effects.of(2).all(|s| s.output == 1 && s.forward_headers && s.timestamp_ms == Some(9)));
    }
}
