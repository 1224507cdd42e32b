//! Compares what came out with what had to come out.
//!
//! Every message has an id of its own, and every key a sequence of them. In the order of the output's partitions, the
//! first occurrences of a key's ids must be that sequence, whatever happened: at-least-once may repeat, and never
//! overtake. After a fault a key may step back and go on from there, message by message.

use crate::client::Rec;
use std::collections::BTreeMap;

/// Ids by key, in the order in which they must come.
pub(crate) type Expected = BTreeMap<Vec<u8>, Vec<String>>;

/// What was found.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Verdict {
    /// Ids that had to come.
    pub(crate) expected: usize,
    /// Records that came.
    pub(crate) came: usize,
    /// Ids that never came.
    pub(crate) lost: Vec<String>,
    /// Ids that came and should not have, or under another key.
    pub(crate) strangers: Vec<String>,
    /// Ids that came before those ahead of them.
    pub(crate) overtook: Vec<String>,
    /// Ids that, in a replay, left out some ahead of them.
    pub(crate) skipped: Vec<String>,
    /// Occurrences after the first.
    pub(crate) duplicates: usize,
    /// Times that a key stepped back.
    pub(crate) steps_back: usize,
    /// No repeat is excused.
    pub(crate) exactly_once: bool,
}

struct Track {
    seen: Vec<bool>,
    /// The position after the last occurrence.
    next: usize,
    /// The position after the furthest.
    front: usize,
}

/// Judges the records of one topic; `id` reads a record's id.
pub(crate) fn judge(expected: &Expected, records: &[Rec], id: impl Fn(&Rec) -> String) -> Verdict {
    let mut verdict = Verdict { came: records.len(), ..Verdict::default() };
    let mut tracks: BTreeMap<&[u8], Track> = BTreeMap::new();
    let mut places: BTreeMap<(&[u8], &str), usize> = BTreeMap::new();
    for (key, ids) in expected {
        verdict.expected += ids.len();
        tracks.insert(key, Track { seen: vec![false; ids.len()], next: 0, front: 0 });
        places.extend(ids.iter().enumerate().map(|(place, id)| ((key.as_slice(), id.as_str()), place)));
    }
    for record in records {
        let (key, id) = (record.key.as_deref().unwrap_or_default(), id(record));
        let found = places.get(&(key, id.as_str())).copied().and_then(|place| Some((place, tracks.get_mut(key)?)));
        let Some((place, track)) = found else {
            verdict.strangers.push(id);
            continue;
        };
        verdict.see(track, place, id);
    }
    for (key, ids) in expected {
        let seen = tracks.get(key.as_slice()).map(|t| t.seen.as_slice()).unwrap_or_default();
        verdict.lost.extend(ids.iter().zip(seen).filter(|(_, seen)| !**seen).map(|(id, _)| id.clone()));
    }
    verdict
}

impl Verdict {
    fn see(&mut self, track: &mut Track, place: usize, id: String) {
        if std::mem::replace(&mut track.seen[place], true) {
            self.duplicates += 1;
        }
        if place > track.front {
            self.overtook.push(id);
        } else if place > track.next {
            self.skipped.push(id);
        } else if place < track.next {
            self.steps_back += 1;
        }
        track.next = place + 1;
        track.front = track.front.max(place + 1);
    }

    /// One line.
    pub(crate) fn line(&self) -> String {
        format!(
            "{} ids, {} records, {} lost, {} strangers, {} overtook, {} left out in a replay, {} duplicates, \
             {} steps back",
            self.expected,
            self.came,
            self.lost.len(),
            self.strangers.len(),
            self.overtook.len(),
            self.skipped.len(),
            self.duplicates,
            self.steps_back
        )
    }

    /// Nothing lost, nothing made up, order kept; repeats only within `duplicates`, and none with exactly-once.
    pub(crate) fn must_hold(&self, duplicates: usize) {
        let duplicates = if self.exactly_once { 0 } else { duplicates };
        let some = |ids: &[String]| ids.iter().take(20).cloned().collect::<Vec<_>>();
        assert!(self.lost.is_empty(), "{}: lost {:?}", self.line(), some(&self.lost));
        assert!(self.strangers.is_empty(), "{}: strangers {:?}", self.line(), some(&self.strangers));
        assert!(self.overtook.is_empty(), "{}: overtook {:?}", self.line(), some(&self.overtook));
        assert!(self.duplicates <= duplicates, "{}: at most {duplicates} duplicates may be", self.line());
        if duplicates == 0 {
            assert_eq!(self.steps_back, 0, "{}", self.line());
        }
    }

    /// As [`Verdict::must_hold`], where no two workers ever wrote at once: then a replay leaves nothing out.
    pub(crate) fn must_hold_strictly(&self, duplicates: usize) {
        self.must_hold(duplicates);
        let some: Vec<&String> = self.skipped.iter().take(20).collect();
        assert!(some.is_empty(), "{}: a replay came to these and left out some ahead of them: {some:?}", self.line());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(came: &[(&str, &str)]) -> Verdict {
        let ids = |all: &[&str]| all.iter().map(|id| (*id).to_owned()).collect();
        let expected = Expected::from([(b"a".to_vec(), ids(&["a1", "a2", "a3"])), (b"b".to_vec(), ids(&["b1"]))]);
        let records: Vec<Rec> = came.iter().map(|(key, id)| Rec::new(key, *id)).collect();
        judge(&expected, &records, Rec::text)
    }

    #[test]
    fn what_is_as_it_should_be_passes() {
        let v = verdict(&[("a", "a1"), ("b", "b1"), ("a", "a2"), ("a", "a3")]);
        assert_eq!(v, Verdict { expected: 4, came: 4, ..Verdict::default() });
        v.must_hold_strictly(0);
    }

    #[test]
    fn a_replay_is_duplicates_and_a_step_back() {
        let v = verdict(&[("a", "a1"), ("a", "a2"), ("a", "a1"), ("a", "a2"), ("a", "a3"), ("b", "b1")]);
        assert_eq!((v.duplicates, v.steps_back), (2, 1));
        v.must_hold_strictly(2);
        assert!(std::panic::catch_unwind(|| v.must_hold(1)).is_err(), "one too many");
    }

    #[test]
    fn each_fault_is_found() {
        assert_eq!(verdict(&[("a", "a1"), ("a", "a2"), ("b", "b1")]).lost, ["a3"]);
        assert_eq!(verdict(&[("a", "b1"), ("a", "x")]).strangers, ["b1", "x"]);
        assert_eq!(verdict(&[("a", "a2"), ("a", "a1"), ("a", "a3")]).overtook, ["a2"]);
        let left_out = verdict(&[("a", "a1"), ("a", "a2"), ("a", "a3"), ("a", "a1"), ("a", "a3"), ("b", "b1")]);
        assert_eq!(left_out.skipped, ["a3"]);
        for bad in [&[("a", "a1")][..], &[("a", "a3"), ("a", "a1"), ("a", "a2"), ("b", "b1")], &[("c", "a1")]] {
            assert!(std::panic::catch_unwind(|| verdict(bad).must_hold(9)).is_err(), "{bad:?}");
        }
    }
}
