//! What must hold once all is done.

use super::{Fact, Oracle, PARTITIONS, Scope, name};
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
        let mut latest_first: HashMap<(Scope, u8), (u32, i64)> = HashMap::new();
        let mut wrong = None;
        let judged = |fact: &&Fact| fact.scope.is_ordered() && !self.is_stray((partition, fact.rec.offset));
        for fact in self.facts[usize::from(partition)].iter().flatten().filter(judged) {
            for (index, place) in fact.rec.outputs.places().iter().enumerate() {
                let (first, last) = (fact.first[index], fact.last[index]);
                if first == 0 {
                    continue;
                }
                let before = latest_first.entry((fact.scope, *place)).or_default();
                if last < before.0 && !fact.may_come_late() {
                    wrong.get_or_insert((fact.rec.offset, before.1));
                }
                if !fact.may_come_late() {
                    *before = (first, fact.rec.offset).max(*before);
                }
            }
        }
        if let Some((offset, earlier)) = wrong {
            let what = format!("has its output only before the first of an earlier message of its key, {earlier}");
            self.violated(name::ORDER, Some((partition, offset)), what);
        }
    }
}
