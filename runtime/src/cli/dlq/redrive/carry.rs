//! Sends letters back, in transactions that say so.

use super::Part;
use super::pace::Carried;
use super::target::Targets;
use crate::cli::dlq::letter::{Letter, Papers};
use crate::cli::dlq::position::{Last, Position, group_of};
use crate::cli::dlq::source::{LOOK, Source};
use crate::cli::dlq::wanted::Wanted;
use crate::cli::place;
use crate::cli::quiet::Quiet;
use keyrail::admin::stop::Stop;
use keyrail::broker::client::ANSWER_WAIT;
use keyrail::broker::{BrokerError, BrokerErrorKind, Finished, OffsetCommit, Produce, Refusal, Transactions};
use keyrail::record::{Record, TopicPartition};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// A transaction ends when it holds so many letters, or so many bytes, or is open for so long.
const LETTERS: usize = 10_000;
const BYTES: usize = 8 << 20;
const OPEN: Duration = Duration::from_secs(1);
/// Taking the id over, and each end, may take so long.
const STEP: Duration = Duration::from_secs(30);
/// What fails is tried again for so long without any letter getting through.
const PATIENCE: Duration = Duration::from_secs(60);
/// After a failure.
const PAUSE: Duration = Duration::from_millis(500);
const POLL: Duration = Duration::from_millis(50);

/// How it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum End {
    /// All is sent back, or it was interrupted in good order.
    Done,
    /// Somebody else goes on with it.
    Fenced(String),
}

/// See the module.
pub(super) struct Carrier<'a> {
    pub(super) source: &'a mut Source,
    pub(super) part: &'a Part,
    pub(super) wanted: &'a Wanted,
    pub(super) targets: &'a Targets,
    pub(super) by: &'a str,
    pub(super) stop: &'a Stop,
}

/// Why it did not go on.
enum Halt {
    /// It may pass.
    Again(anyhow::Error),
    Failed(anyhow::Error),
    Fenced(String),
}

impl From<BrokerError> for Halt {
    fn from(error: BrokerError) -> Self {
        match error.kind {
            BrokerErrorKind::Retry | BrokerErrorKind::Superseded => Self::Again(error.into()),
            BrokerErrorKind::Operator => Self::Failed(error.into()),
            BrokerErrorKind::Fatal => Self::Fenced(error.message),
        }
    }
}

/// One partition of letters.
struct Side {
    position: Position,
    /// Looked at up to here.
    next: i64,
    end: i64,
    /// The first that stays.
    left: Option<i64>,
}

/// A transaction that is open.
#[derive(Default)]
struct Batch {
    /// Where its letters stand.
    letters: Vec<(i32, i64)>,
    bytes: usize,
    began: Option<Instant>,
}

impl Batch {
    fn is_due(&self, full: bool) -> bool {
        let open = self.began.is_some_and(|began| began.elapsed() >= OPEN);
        open || (full && (self.letters.len() >= LETTERS || self.bytes >= BYTES))
    }
}

impl Carrier<'_> {
    pub(super) fn run(&mut self, carried: &mut Carried) -> anyhow::Result<End> {
        let topic = &self.part.topic.name;
        let (group, topics) = (group_of(topic), [topic.clone()]);
        let mut transactions = self.source.client.transactions(&group, &group, &topics, &self.targets.written())?;
        let (mut since, mut before) = (Instant::now(), carried.done());
        loop {
            match self.life(transactions.as_mut(), carried) {
                Ok(()) => return Ok(End::Done),
                Err(Halt::Failed(why)) => return Err(why),
                Err(Halt::Fenced(why)) => return Ok(End::Fenced(why)),
                Err(Halt::Again(why)) => {
                    if carried.done() > before {
                        (since, before) = (Instant::now(), carried.done());
                    }
                    if since.elapsed() >= PATIENCE {
                        return Err(why);
                    }
                    if self.stop.wait(PAUSE) {
                        return Ok(End::Done);
                    }
                }
            }
        }
    }

    /// From what is committed to the end, or to the next failure. IMPORTANT: the id is taken over before it is asked what is
    /// committed, so what an earlier producer left open is decided, and none comes in between.
    fn life(&mut self, transactions: &mut dyn Transactions, carried: &mut Carried) -> Result<(), Halt> {
        transactions.renew();
        ended(transactions)?;
        let mut sides = self.sides()?;
        let starts: Vec<_> = sides.iter().map(|(at, side)| (*at, side.next)).collect();
        if starts.is_empty() {
            return Ok(());
        }
        let topic = self.part.topic.name.clone();
        let mut reader = self.source.client.read(std::slice::from_ref(&topic), &starts)?;
        let (mut records, mut batch) = (Vec::new(), Batch::default());
        let mut quiet = Quiet::new(false, self.source.comes_back);
        while !self.stop.requested() && !sides.iter().all(|(at, side)| reader.has_passed(*at, side.end)) {
            records.clear();
            let read = reader.next(LOOK, &mut records);
            quiet.after(read, records.is_empty()).map_err(Halt::Again)?;
            for record in &records {
                if batch.is_due(true) {
                    self.commit(transactions, &mut sides, &mut batch, carried)?;
                }
                let Some(side) = sides.get_mut(&record.at).filter(|side| record.offset < side.end) else { continue };
                if !self.look(transactions, record, side, &mut batch, carried)? {
                    break;
                }
            }
            if batch.is_due(false) {
                self.commit(transactions, &mut sides, &mut batch, carried)?;
            }
        }
        self.commit(transactions, &mut sides, &mut batch, carried)
    }

    fn sides(&mut self) -> Result<BTreeMap<TopicPartition, Side>, Halt> {
        let topic = &self.part.topic;
        let bounds = self.source.bounds(topic).map_err(failed)?;
        let positions = self.source.positions(topic, &bounds).map_err(failed)?;
        let side = |span: &super::Span| {
            let position = positions.get(usize::try_from(span.partition).ok()?)?.clone();
            let at = TopicPartition { topic: 0, partition: span.partition };
            let side = Side { next: position.offset, end: span.to, left: None, position };
            (side.next < side.end).then_some((at, side))
        };
        Ok(self.part.ends.iter().filter_map(side).collect())
    }

    /// Looks at the next letter of a partition. `false`: it is to end.
    fn look(
        &self,
        transactions: &mut dyn Transactions,
        record: &Record,
        side: &mut Side,
        batch: &mut Batch,
        carried: &mut Carried,
    ) -> Result<bool, Halt> {
        let letter = Letter::of(record);
        if !side.position.is_done(record, &letter) {
            if self.wanted.takes(record, &letter) {
                if self.stop.wait(carried.wait(Instant::now())) {
                    return Ok(false);
                }
                self.send(transactions, record, &letter, batch)?;
                carried.send(Instant::now());
            } else {
                side.left.get_or_insert(record.offset);
            }
        }
        side.next = record.offset + 1;
        Ok(true)
    }

    fn send(
        &self,
        transactions: &mut dyn Transactions,
        record: &Record,
        letter: &Letter,
        batch: &mut Batch,
    ) -> Result<(), Halt> {
        // What was counted had a target; what comes after the count is not looked at.
        let none = || Halt::Failed(anyhow::anyhow!("{}: it does not say where it comes from", self.place(record)));
        let target = self.targets.of(letter, self.part.input.as_deref()).ok_or_else(none)?;
        let papers = Papers::of(letter);
        let headers = papers.headers(record);
        let command = self.targets.command(record, letter, &headers);
        let (key, value, headers) = match &command {
            Some((key, value)) => (Some(key.as_slice()), Some(value.as_slice()), [].as_slice()),
            None => (record.key(), record.value(), headers.as_slice()),
        };
        let produce = Produce {
            topic: &target,
            partition: self.targets.partition(letter, &target),
            key,
            value,
            headers,
            // The time of this, as with a dead letter: retention would take an old one at once. The first one stands in a header.
            timestamp_ms: None,
        };
        let token = batch.letters.len() as u64;
        batch.began.get_or_insert_with(Instant::now);
        batch.letters.push((record.at.partition, record.offset));
        batch.bytes += record.content_bytes();
        let until = Instant::now() + ANSWER_WAIT;
        while !transactions.send(&produce, token).map_err(|refusal| self.refused(batch, token, refusal))? {
            self.reports(transactions, batch)?;
            if Instant::now() >= until {
                return Err(self.nothing_acknowledged(transactions));
            }
        }
        Ok(())
    }

    /// Takes reports; the first that is none of success ends the transaction.
    fn reports(&self, transactions: &mut dyn Transactions, batch: &Batch) -> Result<(), Halt> {
        let mut reports = Vec::new();
        transactions.poll(POLL, &mut reports);
        for (token, result) in reports {
            result.map_err(|refusal| self.refused(batch, token, refusal))?;
        }
        Ok(())
    }

    fn refused(&self, batch: &Batch, token: u64, refusal: Refusal) -> Halt {
        let spot = usize::try_from(token).ok().and_then(|token| batch.letters.get(token));
        let (partition, offset) = spot.copied().unwrap_or((-1, -1));
        match refusal {
            Refusal::Undeliverable(why) => Halt::Failed(anyhow::anyhow!(
                "{}/{partition}@{offset} will never be taken: {why}; --except {partition}/{offset} leaves it out",
                self.part.topic.name
            )),
            Refusal::Blocked(why) => Halt::Again(anyhow::anyhow!(why)),
            Refusal::Fenced(why) => Halt::Fenced(why),
        }
    }

    fn place(&self, record: &Record) -> String {
        format!("{}/{}@{}", self.part.topic.name, record.at.partition, record.offset)
    }

    fn nothing_acknowledged(&self, transactions: &mut dyn Transactions) -> Halt {
        let why = transactions.trouble().map_or_else(String::new, |error| format!(": {}", error.message));
        Halt::Again(anyhow::anyhow!(
            "no acknowledgement within {ANSWER_WAIT:?} from {}{why}",
            self.source.client.place()
        ))
    }

    /// Ends the transaction, if there is one: the letters go back, and it is committed that they did.
    fn commit(
        &self,
        transactions: &mut dyn Transactions,
        sides: &mut BTreeMap<TopicPartition, Side>,
        batch: &mut Batch,
        carried: &mut Carried,
    ) -> Result<(), Halt> {
        if batch.letters.is_empty() {
            return Ok(());
        }
        let until = Instant::now() + ANSWER_WAIT;
        while transactions.in_flight() > 0 {
            self.reports(transactions, batch)?;
            if Instant::now() >= until {
                return Err(self.nothing_acknowledged(transactions));
            }
        }
        let mut after = Vec::new();
        let mut offsets = Vec::new();
        for (at, side) in sides.iter() {
            let last = Last { by: self.by.to_owned(), at_ms: place::now_ms() };
            let position = side.position.after(side.next, side.left, self.wanted, last);
            // There is room: it was looked at before the first.
            let none = || Halt::Failed(anyhow::anyhow!("there is no room to remember what was sent back"));
            let metadata = position.metadata().ok_or_else(none)?;
            offsets.push(OffsetCommit { at: *at, offset: position.offset, metadata });
            after.push((*at, position));
        }
        transactions.commit(offsets);
        let resent = ended(transactions)?;
        for (at, position) in after {
            if let Some(side) = sides.get_mut(&at) {
                side.position = position;
            }
        }
        carried.commit(batch.letters.len() as u64);
        *batch = Batch::default();
        if resent {
            // What was sent twice may still be under way, and would end the next transaction.
            transactions.renew();
            ended(transactions)?;
        }
        Ok(())
    }
}

fn failed(error: anyhow::Error) -> Halt {
    match error.downcast::<BrokerError>() {
        Ok(error) => error.into(),
        Err(error) => Halt::Failed(error),
    }
}

/// Waits for the end of what was begun; `true`: the id must be taken over again before the next transaction.
fn ended(transactions: &mut dyn Transactions) -> Result<bool, Halt> {
    let until = Instant::now() + STEP;
    loop {
        match transactions.finished() {
            Some(Ok(Finished::Renewed)) => return Ok(false),
            Some(Ok(Finished::Committed { resent })) => return Ok(resent),
            Some(Err(error)) => return Err(error.into()),
            None if Instant::now() >= until => {
                return Err(Halt::Again(anyhow::anyhow!("nothing ended within {STEP:?}")));
            }
            None => transactions.poll(Duration::from_millis(1), &mut Vec::new()),
        }
    }
}
