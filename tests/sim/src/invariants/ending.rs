//! What must hold once all is done.

use super::{Oracle, PARTITIONS, Scope, name};
use std::collections::HashMap;

impl Oracle {
    /// All work is done: every message has its fate, and every key its order.
    pub fn ended(&mut self) {
        for partition in 0..PARTITIONS as u16 {
            self.order_at_the_end(partition);
        }
    }

    /// No message may have all its outputs in a partition before the first one of an earlier message of its key.
    fn order_at_the_end(&mut self, partition: u16) {
        let mut latest_first: HashMap<(Scope, u8), u32> = HashMap::new();
        let mut wrong = None;
        for fact in self.facts[usize::from(partition)].iter().flatten().filter(|f| f.scope.is_ordered()) {
            for (index, place) in fact.rec.outputs.places().iter().enumerate() {
                let (first, last) = (fact.first[index], fact.last[index]);
                if first == 0 {
                    continue;
                }
                let before = latest_first.entry((fact.scope, *place)).or_default();
                if last < *before && !fact.may_come_late() {
                    wrong.get_or_insert(fact.rec.offset);
                }
                if !fact.may_come_late() {
                    *before = first.max(*before);
                }
            }
        }
        if let Some(offset) = wrong {
            let what = "has its output only before the first of an earlier message of its key";
            self.violated(name::ORDER, Some((partition, offset)), what.into());
        }
    }
}
