//! The stream of orders, made from a seed: who pays what, and what goes wrong on the way.

use keyrail_engine::retry::split_mix;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// Customers, each of whom is an order key.
const CUSTOMERS: u64 = 500;
/// One order in so many is sent twice, as a producer does whose acknowledgement got lost.
const TWICE: u64 = 25;
/// One in so many is no order at all.
const POISON: u64 = 400;
/// One in so many is in a currency that the handler does not take.
const FOREIGN: u64 = 500;
/// One in so many meets a bank that is busy: it fails twice and then goes through.
const BUSY: u64 = 80;

/// One line for `keyrail send`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Line {
    pub(crate) id: String,
    pub(crate) text: String,
}

/// All that is sent, and what is to become of it.
#[derive(Debug, Default)]
pub(crate) struct Story {
    pub(crate) lines: Vec<Line>,
    /// Ids that must end as a receipt, by customer, in order.
    pub(crate) payable: BTreeMap<String, Vec<String>>,
    /// Ids that must end as a dead letter.
    pub(crate) hopeless: Vec<String>,
    /// Ids of orders that are sent twice.
    pub(crate) repeats: BTreeSet<String>,
    /// Orders whose bank is busy at first.
    pub(crate) busy: usize,
}

impl Story {
    /// So many orders; the same ones each time.
    pub(crate) fn new(orders: usize) -> Self {
        let mut story = Self::default();
        let mut dice = Dice(0x006B_6579_7261_696C);
        let mut counts: BTreeMap<u64, u64> = BTreeMap::new();
        for _ in 0..orders {
            let customer = dice.roll(CUSTOMERS);
            let count = counts.entry(customer).or_default();
            *count += 1;
            story.order(&format!("customer-{customer:03}"), *count, &mut dice);
        }
        story
    }

    fn order(&mut self, customer: &str, number: u64, dice: &mut Dice) {
        let id = format!("{customer}/{number}");
        let cents = 100 + dice.roll(90_000);
        let (poison, foreign, busy) = (dice.one_in(POISON), dice.one_in(FOREIGN), dice.one_in(BUSY));
        let currency = if foreign { "USD" } else { "EUR" };
        let order = json!({ "id": id, "cents": cents, "currency": currency }).to_string();
        let value = if poison { order[..order.len() / 2].to_owned() } else { order };
        let mut headers = json!({ "order-id": id });
        if busy && !poison && !foreign {
            headers["bank"] = Value::from("busy");
            self.busy += 1;
        }
        if poison || foreign {
            self.hopeless.push(id.clone());
        } else {
            self.payable.entry(customer.to_owned()).or_default().push(id.clone());
        }
        let text = json!({ "key": customer, "value": value, "headers": headers }).to_string();
        let line = Line { id, text };
        if dice.one_in(TWICE) {
            self.repeats.insert(line.id.clone());
            self.lines.push(line.clone());
        }
        self.lines.push(line);
    }

    /// Ids that are sent, each once.
    pub(crate) fn ids(&self) -> usize {
        self.hopeless.len() + self.payable.values().map(Vec::len).sum::<usize>()
    }
}

struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: u64) -> u64 {
        split_mix(&mut self.0) % below
    }

    fn one_in(&mut self, many: u64) -> bool {
        self.roll(many) == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_story_is_the_same_each_time_and_holds_all_that_can_go_wrong() {
        let story = Story::new(5_000);
        assert_eq!(story.lines, Story::new(5_000).lines);
        assert_eq!((story.ids(), story.lines.len()), (5_000, 5_000 + story.repeats.len()));
        assert!(story.repeats.len() > 100 && story.busy > 20 && story.hopeless.len() > 10, "{story:?}");
    }
}
