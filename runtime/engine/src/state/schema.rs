//! Which schemas the values of a task's state may be of, so that a version which can't read them is refused before it serves.
//!
//! Values are the handler's own, and a schema is a number that its manifest gives their form. A mark for each schema stands in the
//! topic of state ahead of the first change by a version of that schema. Marks stay: nobody knows when the last value of an old
//! schema is written anew. Where there is none, all values are of [`FIRST`]: they are older than marks.
//!
//! # Records
//! A mark's key is [`SCHEMA`] and the number in decimal; its value is that of a state which is empty and stays.

use super::{Change, Entry, Kept};
use crate::message::Partition;
use alloc::collections::BTreeSet;
use alloc::string::ToString;
use alloc::sync::Arc;
use alloc::vec::Vec;

/// First byte of a mark's key.
pub const SCHEMA: u8 = 0;
/// What a manifest has that names no schema.
pub const FIRST: u16 = 1;
/// No number is higher: as many marks are looked at.
pub const MAX_SCHEMA: u16 = 1_000;

/// What a version writes, and what else it reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schemas {
    own: u16,
    accepts: BTreeSet<u16>,
}

/// What a task's state may hold of these schemas can't be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unread(pub Vec<u16>);

impl Default for Schemas {
    fn default() -> Self {
        Self::new(FIRST, [])
    }
}

impl Schemas {
    /// A version that writes `own` and reads it, and `accepts` as well.
    #[must_use]
    pub fn new(own: u16, accepts: impl IntoIterator<Item = u16>) -> Self {
        let mut accepts: BTreeSet<u16> = accepts.into_iter().collect();
        accepts.remove(&own);
        Self { own, accepts }
    }

    /// What it writes.
    #[must_use]
    pub const fn own(&self) -> u16 {
        self.own
    }

    /// What else it reads.
    pub fn accepts(&self) -> impl Iterator<Item = u16> {
        self.accepts.iter().copied()
    }

    /// Which of these it can't read.
    ///
    /// # Errors
    /// When there are any.
    pub fn check(&self, found: &BTreeSet<u16>) -> Result<(), Unread> {
        let unread: Vec<u16> =
            found.iter().copied().filter(|schema| *schema != self.own && !self.accepts.contains(schema)).collect();
        if unread.is_empty() { Ok(()) } else { Err(Unread(unread)) }
    }

    /// Which marks must stand before its first change, where these stand.
    #[must_use]
    pub fn to_mark(&self, found: &Found) -> Vec<u16> {
        if found.marked {
            return if found.schemas.contains(&self.own) { Vec::new() } else { [self.own].to_vec() };
        }
        // Also where nothing is there yet, and also the first: who has lost the task and does not know it writes on, and what comes
        // from elsewhere meanwhile must not make it look as if all were of another schema.
        found.schemas.iter().copied().chain([self.own]).collect::<BTreeSet<u16>>().into_iter().collect()
    }
}

/// What a task's state may be of.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Found {
    /// The schemas; none where there is no state.
    pub schemas: BTreeSet<u16>,
    /// Marks say so.
    marked: bool,
}

impl Found {
    /// By all that is committed of a task.
    #[must_use]
    pub fn of(kept: &dyn Kept, task: Partition) -> Self {
        // What ends has not ended for whoever looks later: a clock may go back.
        let marks = kept.scan(task, &[SCHEMA], &[], usize::from(MAX_SCHEMA), i64::MIN);
        let schemas: BTreeSet<u16> = marks.iter().filter_map(|(key, _)| schema_of(key)).collect();
        if !schemas.is_empty() {
            return Self { schemas, marked: true };
        }
        let some = !kept.scan(task, &[], &[], 1, i64::MIN).is_empty();
        Self { schemas: some.then_some(FIRST).into_iter().collect(), marked: false }
    }
}

/// The mark of a schema.
#[must_use]
pub fn mark(schema: u16) -> Change {
    let key: Arc<[u8]> = [&[SCHEMA], schema.to_string().as_bytes()].concat().into();
    Change { key, entry: Some(Entry { value: Arc::from([]), expires_ms: None }), number: 0 }
}

/// Whether a record of state with this key is a mark.
#[must_use]
pub fn is_mark(key: &[u8]) -> bool {
    key.first() == Some(&SCHEMA)
}

/// Whose mark has this key; `None`: nobody's.
fn schema_of(key: &[u8]) -> Option<u16> {
    let (kind, name) = key.split_first()?;
    if *kind != SCHEMA {
        return None;
    }
    let schema: u16 = core::str::from_utf8(name).ok()?.parse().ok()?;
    (schema.to_string().as_bytes() == name).then_some(schema)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    const TASK: Partition = Partition { topic: 0, number: 0 };

    #[derive(Debug)]
    struct Has(BTreeSet<Vec<u8>>);

    impl Kept for Has {
        fn get(&self, _: Partition, _: &[u8]) -> Option<Entry> {
            None
        }

        fn scan(&self, _: Partition, prefix: &[u8], _: &[u8], limit: usize, _: i64) -> Vec<(Arc<[u8]>, Entry)> {
            let entry = Entry { value: Arc::from([]), expires_ms: None };
            let found = self.0.iter().filter(|key| key.starts_with(prefix)).take(limit);
            found.map(|key| (Arc::from(key.as_slice()), entry.clone())).collect()
        }
    }

    fn found(marks: &[u16], state: bool) -> Found {
        let marks = marks.iter().map(|schema| mark(*schema).key.to_vec());
        Found::of(&Has(marks.chain(state.then(|| b"\x02n".to_vec())).collect()), TASK)
    }

    #[test]
    fn what_is_there_is_told_by_marks_and_is_of_the_first_schema_without() {
        let schemas = |found: Found| found.schemas.into_iter().collect::<Vec<_>>();
        assert_eq!(schemas(found(&[], false)), []);
        assert_eq!(schemas(found(&[], true)), [1]);
        assert_eq!(schemas(found(&[3], true)), [3], "the first one had a mark too, if it were there");
        assert_eq!(schemas(found(&[3, 65_535, 1], true)), [1, 3, 65_535]);
    }

    #[test]
    fn a_version_that_can_t_read_all_is_told_what() {
        let version = Schemas::new(3, [2, 3]);
        assert_eq!(version.check(&found(&[], false).schemas), Ok(()));
        assert_eq!(version.check(&found(&[2, 3], true).schemas), Ok(()));
        assert_eq!(version.check(&found(&[], true).schemas), Err(Unread(vec![1])));
        assert_eq!(version.check(&found(&[1, 2, 4], true).schemas), Err(Unread(vec![1, 4])));
        assert_eq!(Schemas::default().check(&found(&[], true).schemas), Ok(()));
    }

    #[test]
    fn marks_that_are_missing_are_written_before_its_first_change() {
        let first = Schemas::default();
        let third = Schemas::new(3, [1, 2]);
        assert_eq!(first.to_mark(&found(&[], false)), [1]);
        assert_eq!(first.to_mark(&found(&[], true)), [1]);
        assert_eq!(first.to_mark(&found(&[3], true)), [1]);
        assert_eq!(third.to_mark(&found(&[], false)), [3]);
        assert_eq!(third.to_mark(&found(&[], true)), [1, 3], "or the first one would be forgotten");
        assert_eq!(third.to_mark(&found(&[2], true)), [3]);
        assert_eq!(third.to_mark(&found(&[1, 3], true)), []);
    }

    #[test]
    fn marks_stand_before_all_other_records_and_are_told_from_them() {
        let (one, many) = (mark(1), mark(65_535));
        assert_eq!((&*one.key, schema_of(&many.key)), (&b"\x001"[..], Some(65_535)));
        assert!(is_mark(&one.key) && !is_mark(b"\x011") && !is_mark(b""));
        assert!(many.key < Arc::from(&[super::super::OF_KEY][..]));
        assert_eq!((schema_of(b"\x00x"), schema_of(b"\x0165"), schema_of(b"")), (None, None, None));
        assert_eq!((schema_of(b"\x00+3"), schema_of(b"\x00003")), (None, None), "each has one mark");
    }
}
