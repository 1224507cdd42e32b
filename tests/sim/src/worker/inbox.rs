//! The bounded inboxes of a worker's threads.

use keyrail_engine::handover::{self, Refused};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

/// An inbox with so many places; its owner and all who write to it hold it. It outlives them, so it is never gone.
#[derive(Debug)]
pub(crate) struct Inbox<T> {
    places: Rc<RefCell<VecDeque<T>>>,
    room: usize,
}

impl<T> Clone for Inbox<T> {
    fn clone(&self) -> Self {
        Self { places: Rc::clone(&self.places), room: self.room }
    }
}

impl<T> Inbox<T> {
    pub(crate) fn new(room: usize) -> Self {
        Self { places: Rc::default(), room }
    }

    pub(crate) fn take(&self) -> Option<T> {
        self.places.borrow_mut().pop_front()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.places.borrow().is_empty()
    }

    pub(crate) fn has_room(&self) -> bool {
        self.places.borrow().len() < self.room
    }
}

impl<T> handover::Inbox for Inbox<T> {
    type Message = T;

    fn offer(&self, message: T) -> Result<(), Refused<T>> {
        if self.has_room() {
            self.places.borrow_mut().push_back(message);
            Ok(())
        } else {
            Err(Refused::Full(message))
        }
    }
}
