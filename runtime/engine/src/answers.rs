//! Which answer belongs to which commit.

use crate::planted::{Bug, Switch};

/// The commit that was sent last, until its answer is there. Each commit names a place of its own where its answer will
/// be, so the answer to one that was given up finds nobody, however late it comes.
#[derive(Debug, Default)]
pub struct Answers<P> {
    sent: Option<(u64, P)>,
    planted: Switch,
}

impl<P> Answers<P> {
    /// Nothing is sent.
    #[must_use]
    pub fn new() -> Self {
        Self { sent: None, planted: Switch::default() }
    }

    /// The same with a bug that the simulator must find.
    #[cfg(feature = "planted")]
    #[must_use]
    pub fn with_planted(mut self, bug: Option<Bug>) -> Self {
        self.planted = Switch { bug };
        self
    }

    /// The commit of this number was sent; `place` is where its answer will be. The answer to the one before is nobody's
    /// any more.
    pub fn sent(&mut self, number: u64, place: P) {
        match &mut self.sent {
            // As with one place for the answers of all commits.
            Some((last, _)) if self.planted.has(Bug::LateAnswerCounts) => *last = number,
            sent => *sent = Some((number, place)),
        }
    }

    /// Looks for the answer to the commit that was sent last. Where there is one, it comes out once, with the commit's
    /// number.
    pub fn take<A>(&mut self, look: impl FnOnce(&P) -> Option<A>) -> Option<(u64, A)> {
        let (number, place) = self.sent.as_ref()?;
        let answer = (*number, look(place)?);
        self.sent = None;
        Some(answer)
    }

    /// The answer to what was sent is of no use any more.
    pub fn forget(&mut self) {
        if !self.planted.has(Bug::LateAnswerCounts) {
            self.sent = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_comes_out_once_with_its_number() {
        let mut answers = Answers::new();
        assert_eq!(answers.take(|_: &char| Some(true)), None);
        answers.sent(1, 'a');
        assert_eq!(answers.take(|_| None::<bool>), None);
        assert_eq!(answers.take(|place| (*place == 'a').then_some(true)), Some((1, true)));
        assert_eq!(answers.take(|_| Some(true)), None);
    }

    #[test]
    fn an_answer_that_comes_after_the_next_commit_is_nobodys() {
        let mut answers = Answers::new();
        answers.sent(1, 'a');
        answers.sent(2, 'b');
        let mut there = alloc::vec![('a', true)];
        let look = |there: &[(char, bool)], place: char| there.iter().find(|a| a.0 == place).map(|a| a.1);
        assert_eq!(answers.take(|place| look(&there, *place)), None);
        there.push(('b', false));
        assert_eq!(answers.take(|place| look(&there, *place)), Some((2, false)));
    }

    #[test]
    fn what_is_forgotten_is_not_looked_for() {
        let mut answers = Answers::new();
        answers.sent(1, 'a');
        answers.forget();
        assert_eq!(answers.take(|_| Some(true)), None);
    }
}
