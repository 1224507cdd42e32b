//! Input partitions: logs with holes and a moving start.

use crate::record::Rec;
use std::rc::Rc;

/// One input partition.
#[derive(Debug, Default)]
pub struct Log {
    records: Vec<Option<Rc<Rec>>>,
    start: i64,
}

impl Log {
    /// First offset that can be read.
    #[must_use]
    pub const fn start(&self) -> i64 {
        self.start
    }

    /// One past the last offset.
    #[must_use]
    pub fn end(&self) -> i64 {
        self.records.len() as i64
    }

    /// Appends a record at the end, which becomes its offset.
    pub fn append(&mut self, mut rec: Rec) -> Rc<Rec> {
        rec.offset = self.end();
        let rec = Rc::new(rec);
        self.records.push(Some(Rc::clone(&rec)));
        rec
    }

    /// An offset without a record, as a transaction marker takes.
    pub fn append_marker(&mut self) {
        self.records.push(None);
    }

    /// The record at this offset, if it can still be read.
    #[must_use]
    pub fn get(&self, offset: i64) -> Option<&Rc<Rec>> {
        if offset < self.start {
            return None;
        }
        self.records.get(usize::try_from(offset).ok()?)?.as_ref()
    }

    /// Compaction takes a record; what was there is returned.
    pub fn compact(&mut self, offset: i64) -> Option<Rc<Rec>> {
        if offset < self.start {
            return None;
        }
        self.records.get_mut(usize::try_from(offset).ok()?)?.take()
    }

    /// Retention: what lies below `start` can't be read any more.
    pub fn retain_from(&mut self, start: i64) {
        self.start = self.start.max(start.min(self.end()));
    }

    /// Up to `most` records from `position` on, and the position after them.
    pub fn read(&self, position: i64, most: usize, into: &mut Vec<Rc<Rec>>) -> i64 {
        let mut at = position;
        while at < self.end() && into.len() < most {
            if let Some(rec) = self.get(at) {
                into.push(Rc::clone(rec));
            }
            at += 1;
        }
        at
    }

    /// The offset after the last record: what a group that has read everything has committed at least.
    #[must_use]
    pub fn end_of_records(&self) -> i64 {
        self.records.iter().rposition(Option::is_some).map_or(0, |at| at as i64 + 1)
    }
}
