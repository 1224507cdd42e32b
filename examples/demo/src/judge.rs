//! What became of the story, by the records that are there in the end and nothing else.

use crate::story::Story;
use std::collections::{BTreeMap, BTreeSet};

/// The verdict.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Verdict {
    /// Orders with a receipt.
    pub(crate) paid: usize,
    /// Orders with a dead letter.
    pub(crate) dead: usize,
    /// Orders with neither.
    pub(crate) lost: Vec<String>,
    /// Orders whose first receipt came after that of a later order of the same customer.
    pub(crate) out_of_order: Vec<String>,
    /// Orders with more than one receipt or dead letter, also of those that were sent twice.
    pub(crate) twice: Vec<String>,
    /// Receipts and dead letters that nobody sent an order for, or that the order should not have led to.
    pub(crate) strange: Vec<String>,
}

impl Verdict {
    /// Whether the promise was kept.
    pub(crate) fn is_good(&self) -> bool {
        [&self.lost, &self.out_of_order, &self.twice, &self.strange].into_iter().all(Vec::is_empty)
    }

    /// What is there more than once, of receipts or of dead letters.
    fn count<'a>(&mut self, ids: impl Iterator<Item = &'a String>) {
        let mut there: BTreeMap<&str, usize> = BTreeMap::new();
        ids.for_each(|id| *there.entry(id).or_default() += 1);
        self.twice.extend(there.into_iter().filter(|(_, times)| *times > 1).map(|(id, _)| id.to_owned()));
    }
}

/// Judges receipts, by customer and in the order in which they lie in their partition, and dead letters, by order id.
pub(crate) fn judge(story: &Story, receipts: &BTreeMap<String, Vec<String>>, letters: &[String]) -> Verdict {
    let mut verdict = Verdict::default();
    let known: BTreeSet<&str> = story.payable.values().flatten().map(String::as_str).collect();
    let none = Vec::new();
    for (customer, sent) in &story.payable {
        let got = receipts.get(customer).unwrap_or(&none);
        let mut first: BTreeMap<&str, usize> = BTreeMap::new();
        for (place, id) in got.iter().enumerate() {
            first.entry(id).or_insert(place);
        }
        let (mut last, mut paid) = (0, 0);
        for id in sent {
            match first.get(id.as_str()) {
                None => verdict.lost.push(id.clone()),
                Some(place) => {
                    paid += 1;
                    if *place < last {
                        verdict.out_of_order.push(id.clone());
                    }
                    last = last.max(*place);
                }
            }
        }
        verdict.paid += paid;
        verdict.count(got.iter().filter(|id| known.contains(id.as_str())));
    }
    let hopeless: BTreeSet<&str> = story.hopeless.iter().map(String::as_str).collect();
    let dead: BTreeSet<&str> = letters.iter().map(String::as_str).collect();
    verdict.dead = dead.intersection(&hopeless).count();
    verdict.count(letters.iter().filter(|id| hopeless.contains(id.as_str())));
    verdict.lost.extend(hopeless.difference(&dead).map(|id| (*id).to_owned()));
    verdict.strange.extend(dead.difference(&hopeless).map(|id| (*id).to_owned()));
    verdict.strange.extend(receipts.values().flatten().filter(|id| !known.contains(id.as_str())).cloned());
    verdict
}

#[cfg(test)]
mod tests {
    use super::*;

    fn story() -> Story {
        let ids = |all: &[&str]| all.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>();
        let payable = BTreeMap::from([("a".to_owned(), ids(&["a/1", "a/2", "a/3"])), ("b".to_owned(), ids(&["b/1"]))]);
        let repeats = BTreeSet::from(["a/2".to_owned()]);
        Story { payable, hopeless: ids(&["a/4"]), repeats, ..Story::default() }
    }

    fn verdict(a: &[&str], b: &[&str], letters: &[&str]) -> Verdict {
        let ids = |all: &[&str]| all.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>();
        judge(&story(), &BTreeMap::from([("a".to_owned(), ids(a)), ("b".to_owned(), ids(b))]), &ids(letters))
    }

    #[test]
    fn a_kept_promise_is_good() {
        let clean = verdict(&["a/1", "a/2", "a/3"], &["b/1"], &["a/4"]);
        assert_eq!((clean.paid, clean.dead, clean.is_good()), (4, 1, true));
    }

    #[test]
    fn a_broken_one_is_not() {
        assert_eq!(verdict(&["a/1", "a/2", "a/1", "a/3"], &["b/1"], &["a/4"]).twice, ["a/1"]);
        // Sent twice, and paid twice.
        assert_eq!(verdict(&["a/1", "a/2", "a/2", "a/3"], &["b/1"], &["a/4"]).twice, ["a/2"]);
        assert_eq!(verdict(&["a/1", "a/2", "a/3"], &["b/1"], &["a/4", "a/4"]).twice, ["a/4"]);
        assert!(!verdict(&["a/1", "a/2", "a/3"], &["b/1"], &["a/4", "a/4"]).is_good());
        assert_eq!(verdict(&["a/1", "a/3"], &["b/1"], &["a/4"]).lost, ["a/2"]);
        assert_eq!(verdict(&["a/1", "a/2", "a/3"], &["b/1"], &[]).lost, ["a/4"]);
        assert_eq!(verdict(&["a/2", "a/1", "a/2", "a/3"], &["b/1"], &["a/4"]).out_of_order, ["a/2"]);
        assert_eq!(verdict(&["a/1", "a/2", "a/3"], &["b/1", "c/9"], &["a/4"]).strange, ["c/9"]);
        assert_eq!(verdict(&["a/1", "a/2", "a/3"], &["b/1"], &["a/4", "a/1"]).strange, ["a/1"]);
    }
}
