use super::*;
use alloc::rc::Rc;
use core::cell::{Cell, RefCell};

/// An inbox of so many places.
#[derive(Clone)]
struct Places(Rc<RefCell<VecDeque<i32>>>, usize, Rc<Cell<bool>>);

impl Places {
    fn new(room: usize) -> Self {
        Self(Rc::default(), room, Rc::default())
    }

    fn take(&self) -> Option<i32> {
        self.0.borrow_mut().pop_front()
    }

    fn all(&self) -> Vec<i32> {
        self.0.borrow_mut().drain(..).collect()
    }

    fn close(&self) {
        self.2.set(true);
    }
}

impl Inbox for Places {
    type Message = i32;

    fn offer(&self, message: i32) -> Result<(), Refused<i32>> {
        let mut places = self.0.borrow_mut();
        if self.2.get() {
            return Err(Refused::Gone);
        }
        if places.len() == self.1 {
            return Err(Refused::Full(message));
        }
        places.push_back(message);
        Ok(())
    }
}

#[test]
fn a_full_inbox_keeps_what_waits_in_order() {
    let inbox = Places::new(2);
    let mut line = Line::new(inbox.clone());
    for n in 0..5 {
        assert_eq!(line.push(n), Ok(()));
    }
    assert!(line.is_waiting());
    let mut got = inbox.all();
    while line.is_waiting() {
        assert_eq!(line.flush(), Ok(()));
        got.extend(inbox.all());
    }
    assert_eq!(got, [0, 1, 2, 3, 4]);
    line.put(5);
    assert_eq!(inbox.take(), None, "what is put is not sent before the next flush");
    assert_eq!((line.flush(), line.flush()), (Ok(()), Ok(())));
    assert_eq!(inbox.take(), Some(5));
    inbox.close();
    assert_eq!(line.push(6), Err(Gone));
}

#[test]
fn a_shard_gets_nothing_while_something_waits_for_the_ledger() {
    let (ledger, shards) = (Places::new(1), [Places::new(9), Places::new(9)]);
    let mut handover = Handover::new(ledger.clone(), shards.clone());
    assert_eq!(handover.shards(), 2);
    for n in 0..3 {
        assert_eq!(handover.tell(n), Ok(()));
        handover.give(n as usize % 2, 10 + n);
    }
    for told in 0..2 {
        assert_eq!(handover.flush(), Ok(true));
        assert!(handover.waits_for_ledger() && handover.waits_for_shard(0));
        assert_eq!((shards[0].take(), shards[1].take(), ledger.take()), (None, None, Some(told)));
    }
    // The last one fits, so the ledger has all: the shards' turn.
    assert_eq!(handover.flush(), Ok(false));
    assert_eq!((ledger.all(), shards[0].all(), shards[1].all()), ([2].into(), [10, 12].into(), [11].into()));
}

#[test]
fn one_full_shard_holds_up_no_other() {
    let (ledger, shards) = (Places::new(9), [Places::new(1), Places::new(9)]);
    let mut handover = Handover::new(ledger, shards.clone());
    for n in 0..4 {
        handover.give(n % 2, n as i32);
    }
    assert_eq!((handover.flush(), handover.flush()), (Ok(true), Ok(true)));
    assert_eq!([0, 1, 2].map(|shard| handover.sent_to_shard(shard)), [1, 2, 0]);
    assert!(!handover.waits_for_ledger() && handover.waits_for_shard(0) && !handover.waits_for_shard(1));
    assert_eq!((shards[0].all(), shards[1].all()), ([0].into(), [1, 3].into()));
    shards[1].close();
    handover.give(1, 5);
    assert_eq!(handover.flush(), Err(Gone));
}
