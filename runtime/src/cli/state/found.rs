//! What was found of state: the last value of each key, in bounded memory.

use keyrail::record::{Record, TopicPartition};
use keyrail_engine::state::{self, Entry, Key, Kind, Unusable};
use std::collections::BTreeMap;

/// So much is held of what was found, at most.
const HELD_BYTES: usize = 64 << 20;

/// Whose state is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::cli) enum Whose {
    /// Everybody's whose key begins so, and with nothing whole partitions' too.
    Any(Vec<u8>),
    /// This order key's.
    Key(Vec<u8>),
    /// Whole partitions'.
    Partition,
}

/// Of whom, and under which names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::cli) struct Wanted {
    pub(in crate::cli) whose: Whose,
    /// Only this name.
    pub(in crate::cli) name: Option<String>,
    /// Only names that begin so.
    pub(in crate::cli) name_prefix: String,
    /// State, timers or delayed sends.
    pub(in crate::cli) kind: Kind,
}

impl Wanted {
    fn takes(&self, key: &Key<'_>) -> bool {
        let whose = match (&self.whose, key.owner) {
            (Whose::Any(prefix), None) => prefix.is_empty(),
            (Whose::Any(prefix), Some(owner)) => owner.starts_with(prefix),
            (Whose::Key(wanted), owner) => owner == Some(wanted),
            (Whose::Partition, owner) => owner.is_none(),
        };
        let name = self.name.as_ref().is_none_or(|wanted| key.name == wanted);
        whose && name && key.name.starts_with(&self.name_prefix)
    }
}

/// Where a value is kept. Ordered by key and name, whole partitions first.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::cli) struct Id {
    /// The order key; `None`: a whole partition's.
    pub(in crate::cli) owner: Option<Vec<u8>>,
    pub(in crate::cli) name: String,
    pub(in crate::cli) at: TopicPartition,
}

impl Id {
    fn size(&self) -> usize {
        self.owner.as_ref().map_or(0, Vec::len) + self.name.len() + size_of::<Self>()
    }
}

/// The last record of a key.
#[derive(Debug)]
pub(in crate::cli) struct Last {
    pub(in crate::cli) offset: i64,
    pub(in crate::cli) entry: Result<Entry, Unusable>,
}

/// See the module.
#[derive(Debug)]
pub(in crate::cli) struct Found {
    wanted: Wanted,
    /// By now values have ended, or have not.
    now_ms: i64,
    /// Those that have ended count too.
    ended: bool,
    most_bytes: usize,
    held: BTreeMap<Id, Last>,
    bytes: usize,
    /// From there on nothing is held: there was no room.
    ceiling: Option<Id>,
    /// Records that are no state.
    pub(in crate::cli) strangers: u64,
}

impl Found {
    pub(in crate::cli) fn new(wanted: Wanted, now_ms: i64, ended: bool) -> Self {
        Self {
            wanted,
            now_ms,
            ended,
            most_bytes: HELD_BYTES,
            held: BTreeMap::new(),
            bytes: 0,
            ceiling: None,
            strangers: 0,
        }
    }

    /// The next record; of a partition they come in their order.
    pub(super) fn take(&mut self, record: &Record) {
        let Ok(key) = Key::decode(record.key().unwrap_or_default()) else {
            self.strangers += 1;
            return;
        };
        if key.kind != self.wanted.kind || !self.wanted.takes(&key) {
            return;
        }
        let id = Id { owner: key.owner.map(<[u8]>::to_vec), name: key.name.to_owned(), at: record.at };
        if self.ceiling.as_ref().is_some_and(|ceiling| id >= *ceiling) {
            return;
        }
        let before = self.held.remove(&id);
        self.bytes -= before.map_or(0, |last| size(&id, &last));
        let Some(value) = record.value() else { return };
        let entry = state::decode(value);
        if !self.ended && entry.as_ref().is_ok_and(|entry| !entry.lives(self.now_ms)) {
            return;
        }
        let last = Last { offset: record.offset, entry };
        self.bytes += size(&id, &last);
        self.held.insert(id, last);
        // IMPORTANT: what is above the ceiling is not looked at again, so all that is held below it is whole.
        while self.bytes > self.most_bytes
            && let Some((id, last)) = self.held.pop_last()
        {
            self.bytes -= size(&id, &last);
            self.ceiling = Some(id);
        }
    }

    pub(in crate::cli) fn is_empty(&self) -> bool {
        self.held.is_empty() && self.ceiling.is_none()
    }

    pub(super) fn is_over(&self, entry: &Entry) -> bool {
        !entry.lives(self.now_ms)
    }

    /// The first `limit`, and whether there are more.
    pub(in crate::cli) fn first(&self, limit: usize) -> (Vec<(&Id, &Last)>, bool) {
        (self.held.iter().take(limit).collect(), self.held.len() > limit || self.ceiling.is_some())
    }
}

fn size(id: &Id, last: &Last) -> usize {
    id.size() + last.entry.as_ref().map_or(0, |entry| entry.value.len()) + size_of::<Last>()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may fail by panic")]

    use super::*;
    use keyrail::record::RecordBuilder;
    use keyrail_engine::order::OrderKey;
    use keyrail_engine::state::Owner;
    use std::sync::Arc;

    const NOW: i64 = 1_000;

    fn record(partition: i32, offset: i64, key: &[u8], value: Option<&[u8]>) -> Record {
        RecordBuilder::new(Some(key), value).build(TopicPartition { topic: 0, partition }, offset, 0)
    }

    fn entry(value: &str, expires_ms: Option<i64>) -> Vec<u8> {
        state::encode(&Entry { value: Arc::from(value.as_bytes()), expires_ms })
    }

    fn key(owner: &str, name: &str) -> Vec<u8> {
        Owner::of(OrderKey::Key(owner.as_bytes())).unwrap().key(name)
    }

    fn any(prefix: &str) -> Wanted {
        Wanted { whose: Whose::Any(prefix.into()), name: None, name_prefix: String::new(), kind: Kind::State }
    }

    fn told(found: &Found) -> Vec<String> {
        let (all, more) = found.first(usize::MAX);
        let line = |(id, last): &(&Id, &Last)| {
            let owner = id.owner.as_deref().map_or("-", |owner| std::str::from_utf8(owner).unwrap());
            let value = last.entry.as_ref().map(|e| String::from_utf8(e.value.to_vec()).unwrap());
            format!("{owner} {}={}", id.name, value.unwrap_or_else(|why| why.to_string()))
        };
        all.iter().map(line).chain(more.then(|| "more".to_owned())).collect()
    }

    /// `wanted` of: two names of a key, one of another that has changed, one deleted, one over, a partition's, a stranger's.
    fn found(wanted: Wanted, ended: bool) -> Found {
        let mut found = Found::new(wanted, NOW, ended);
        let task = Owner::of(OrderKey::Partition).unwrap().key("all");
        let records: [(Vec<u8>, Option<Vec<u8>>); 10] = [
            (key("b", "total"), Some(entry("1", None))),
            (key("a", "total"), Some(entry("7", Some(NOW + 1)))),
            (key("b", "total"), Some(entry("2", None))),
            (key("a", "gone"), Some(entry("x", None))),
            (key("a", "gone"), None),
            (key("a", "over"), Some(entry("o", Some(NOW)))),
            (key("a", "name"), Some(b"\x09?".to_vec())),
            (task, Some(entry("p", None))),
            (b"strange".to_vec(), Some(b"x".to_vec())),
            (key("", "total"), Some(entry("e", None))),
        ];
        for (n, (key, value)) in (0..).zip(&records) {
            found.take(&record(0, n, key, value.as_deref()));
        }
        assert_eq!(found.strangers, 1);
        found
    }

    #[test]
    fn the_last_value_of_each_key_counts_and_what_is_over_or_deleted_is_not_there() {
        let all = ["- all=p", " total=e", "a name=it is no record of state", "a total=7", "b total=2"];
        assert_eq!(told(&found(any(""), false)), all);
        let with_ended = ["a name=it is no record of state", "a over=o", "a total=7"];
        assert_eq!(told(&found(any("a"), true)), with_ended);
    }

    #[test]
    fn only_what_is_wanted_is_held() {
        let of = |whose, name: Option<&str>, prefix: &str| {
            let (name, name_prefix, kind) = (name.map(str::to_owned), prefix.to_owned(), Kind::State);
            let wanted = Wanted { whose, name, name_prefix, kind };
            told(&found(wanted, false))
        };
        assert_eq!(of(Whose::Key(b"b".to_vec()), None, ""), ["b total=2"]);
        assert_eq!(of(Whose::Key(Vec::new()), None, ""), [" total=e"]);
        assert_eq!(of(Whose::Key(b"a".to_vec()), Some("total"), ""), ["a total=7"]);
        assert_eq!(of(Whose::Key(b"a".to_vec()), Some("tot"), ""), [""; 0]);
        assert_eq!(of(Whose::Partition, None, ""), ["- all=p"]);
        assert_eq!(of(Whose::Any(Vec::new()), None, "to"), [" total=e", "a total=7", "b total=2"]);
    }

    #[test]
    fn memory_is_bounded_and_what_is_held_is_whole() {
        let mut found = Found::new(any(""), NOW, false);
        found.most_bytes = 10 * 400;
        let value = "v".repeat(200);
        for (offset, n) in (0..100).rev().enumerate() {
            found.take(&record(0, offset as i64, &key("k", &format!("{n:02}")), Some(&entry(&value, None))));
            assert!(found.bytes <= found.most_bytes, "{}", found.bytes);
        }
        let (held, more) = found.first(usize::MAX);
        let names: Vec<&str> = held.iter().map(|(id, _)| id.name.as_str()).collect();
        let expected: Vec<String> = (0..names.len()).map(|n| format!("{n:02}")).collect();
        assert!(more && names == expected && (5..20).contains(&names.len()), "{names:?}");
        // What was let go does not come back, though there is room again: others between may be gone.
        let (ceiling, count) = (key("k", "50"), names.len());
        for n in 0..count {
            found.take(&record(0, 200 + n as i64, &key("k", &format!("{n:02}")), None));
        }
        found.take(&record(0, 300, &ceiling, Some(&entry("1", None))));
        assert_eq!((told(&found), found.bytes), (vec!["more".to_owned()], 0));
        assert!(!found.is_empty(), "something was there");
    }

    #[test]
    fn a_limit_says_that_there_is_more() {
        let found = found(any(""), false);
        assert_eq!((found.first(2).0.len(), found.first(2).1), (2, true));
        assert_eq!((found.first(5).0.len(), found.first(5).1), (5, false));
    }
}
