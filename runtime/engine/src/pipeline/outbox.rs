//! Messages whose records are on their way.

use crate::shard::Settled;
use alloc::boxed::Box;
use alloc::vec::Vec;

/// An empty table keeps room for this many publications.
const SPARE_PLACES: usize = 65_536;

/// Names one publication. Tokens are never used twice, so a report that comes late finds nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token(pub u64);

#[derive(Debug)]
pub(super) struct Publication<M> {
    pub(super) settled: Settled<M>,
    /// Records without a report.
    pub(super) remaining: u32,
    /// The broker will never take one of its records.
    pub(super) undeliverable: Option<Box<str>>,
    /// The broker refused one of its records for now: it must not settle, whatever becomes of the others.
    pub(super) refused: bool,
    /// It is a dead letter now.
    pub(super) letter: bool,
    /// The dead letter goes without details.
    pub(super) short: bool,
    /// How often its dead letter was refused.
    pub(super) refusals: u32,
    /// Counts publications: those of a lane come in its order.
    pub(super) number: u64,
}

#[derive(Debug)]
struct Place<M> {
    generation: u32,
    publication: Option<Publication<M>>,
}

/// A table with tokens of place and generation: no hashing on the way of a message.
#[derive(Debug)]
pub(super) struct Outbox<M> {
    places: Vec<Place<M>>,
    free: Vec<u32>,
    len: usize,
    generations: u32,
    numbers: u64,
}

impl<M> Outbox<M> {
    pub(super) const fn new() -> Self {
        Self { places: Vec::new(), free: Vec::new(), len: 0, generations: 0, numbers: 0 }
    }

    pub(super) fn insert(&mut self, settled: Settled<M>, remaining: u32, letter: bool, short: bool) -> Token {
        self.numbers += 1;
        let (number, undeliverable, refused, refusals) = (self.numbers, None, false, 0);
        let publication = Publication { settled, remaining, undeliverable, refused, letter, short, refusals, number };
        let index = self.free.pop().unwrap_or_else(|| {
            self.places.push(Place { generation: 0, publication: None });
            self.places.len() as u32 - 1
        });
        self.generations = self.generations.wrapping_add(1);
        self.places[index as usize] = Place { generation: self.generations, publication: Some(publication) };
        self.len += 1;
        Token(u64::from(self.generations) << 32 | u64::from(index))
    }

    fn place(&mut self, token: Token) -> Option<&mut Place<M>> {
        let place = self.places.get_mut(token.0 as u32 as usize)?;
        (place.generation == (token.0 >> 32) as u32).then_some(place)
    }

    pub(super) fn get(&self, token: Token) -> Option<&Publication<M>> {
        let place = self.places.get(token.0 as u32 as usize)?;
        if place.generation == (token.0 >> 32) as u32 { place.publication.as_ref() } else { None }
    }

    pub(super) fn get_mut(&mut self, token: Token) -> Option<&mut Publication<M>> {
        self.place(token)?.publication.as_mut()
    }

    pub(super) fn remove(&mut self, token: Token) -> Option<Publication<M>> {
        let place = self.place(token)?;
        let publication = place.publication.take()?;
        self.free.push(token.0 as u32);
        self.len -= 1;
        // A burst's memory goes back once all of it is gone.
        if self.len == 0 && self.places.len() > SPARE_PLACES {
            self.places = Vec::new();
            self.free = Vec::new();
        }
        Some(publication)
    }

    /// Forgets all: their tokens find nothing any more.
    pub(super) fn clear(&mut self) {
        for (index, place) in self.places.iter_mut().enumerate() {
            if place.publication.take().is_some() {
                self.free.push(index as u32);
            }
        }
        self.len = 0;
    }

    pub(super) const fn len(&self) -> usize {
        self.len
    }

    #[cfg(test)]
    pub(super) const fn room(&self) -> usize {
        self.places.len()
    }
}
