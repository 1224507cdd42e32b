//! A letter that is run again, once or with two handlers.

use super::bench::{Bench, Version, hex, short};
use super::fixture::{Expected, Fixture, Was};
use super::show;
use crate::cli::dlq::{self, Letter};
use keyrail::record::Record;
use keyrail::replay::{Case, HEADER, Kind, Played, Recorded, Verdict};
use keyrail::wasm::{Failure, MOST_READ_BYTES};
use std::rc::Rc;

/// See the module.
#[derive(Debug)]
pub(super) struct Once {
    /// `TOPIC/PARTITION@OFFSET` of the letter.
    pub(super) id: String,
    /// Why it can't be run.
    pub(super) problem: Option<String>,
    pub(super) pipeline: String,
    /// The letter keeps the run.
    pub(super) is_recorded: bool,
    /// What is run.
    pub(super) case: Case,
    /// The handler that failed, as far as its letter tells: its digest, whole or cut.
    pub(super) handler: String,
    /// How it ended then.
    pub(super) then: Verdict,
    /// With the handler that failed; without another one, with the present one if there is no more of that.
    pub(super) old: Option<Played>,
    /// With the other one, if one was given; its digest.
    pub(super) new: Option<(String, Played)>,
    /// What a reader should know of it.
    pub(super) notes: Vec<String>,
}

impl Once {
    pub(super) fn of(
        bench: &mut Bench,
        topic: &str,
        record: &Record,
        letter: &Letter,
        without_record: bool,
    ) -> anyhow::Result<Self> {
        let mut once = Self {
            id: format!("{topic}/{}@{}", record.at.partition, record.offset),
            problem: None,
            pipeline: letter.handler().split('@').next().unwrap_or_default().to_owned(),
            is_recorded: false,
            case: Case::default(),
            handler: letter.handler().split_once('@').map_or("", |(_, digest)| digest).to_owned(),
            then: Verdict { kind: Kind::Failed, failure: failure(letter), delay_ms: None },
            old: None,
            new: None,
            notes: Vec::new(),
        };
        let result = match record.header(HEADER.as_bytes()).flatten() {
            Some(run) => once.recorded(bench, record, run),
            None if without_record => once.unrecorded(bench, record, letter),
            None => Err(unrecorded(letter)),
        };
        once.problem = result.err();
        Ok(once)
    }

    /// Runs it by what its letter keeps.
    fn recorded(&mut self, bench: &mut Bench, record: &Record, run: &[u8]) -> Result<(), String> {
        let (recorded, own, lost) = Recorded::decode(run).map_err(|why| why.to_string())?;
        self.is_recorded = true;
        self.case = Case::of(record, &recorded, own, &lost).map_err(|why| why.to_string())?;
        self.pipeline.clone_from(&recorded.pipeline);
        self.handler = hex(&recorded.handler);
        self.then = recorded.verdict.clone();
        if recorded.reads.cut {
            let most = MOST_READ_BYTES >> 10;
            self.notes.push(format!("it read more of state than a letter keeps ({most} KiB): the record is cut"));
        }
        let version = bench.version(&self.pipeline, &recorded.handler);
        if version.as_ref().is_some_and(|version| version.setup() != recorded.setup) {
            let changed =
                "what the manifest opens it with (name, topics, outputs, config, order, limits) has changed since";
            self.notes.push(changed.to_owned());
        }
        self.play(bench, version)
    }

    /// Runs it by what any letter of Keyrail's tells.
    fn unrecorded(&mut self, bench: &mut Bench, record: &Record, letter: &Letter) -> Result<(), String> {
        if did_not_run(letter.reason()) {
            return Err(unrecorded(letter));
        }
        let place = letter.origin.as_ref().and_then(|origin| Some((origin, origin.partition?, origin.offset?)));
        let (origin, partition, offset) = place.ok_or("it does not tell where its message was read")?;
        let owned = |bytes: Option<&[u8]>| bytes.map(<[u8]>::to_vec);
        let own = record.headers().filter(|(name, _)| dlq::letter::is_own(name));
        self.case = Case {
            topic: origin.topic.clone(),
            partition,
            offset,
            timestamp_ms: origin.timestamp.unwrap_or(-1),
            key: owned(record.key()),
            value: owned(record.value()),
            headers: own.map(|(name, value)| (name.to_vec(), owned(value))).collect(),
            attempt: attempts(letter),
            now_ms: record.timestamp_ms,
            deadline_ms: bench.timeout_ms(&self.pipeline),
            ..Case::default()
        };
        self.notes
            .push("it keeps no record: it runs without state, at the time when it became a dead letter".to_owned());
        self.play(bench, None)
    }

    fn play(&mut self, bench: &mut Bench, version: Option<Rc<Version>>) -> Result<(), String> {
        let run = |version: &Version, case: &Case| version.run(case).map_err(|why| format!("{why:#}"));
        let shown = short(&self.handler);
        if bench.has_other() {
            let other = bench.other(&self.pipeline)?;
            self.new = Some((other.digest().to_owned(), run(&other, &self.case)?));
            match version {
                Some(version) => self.old = Some(run(&version, &self.case)?),
                None => {
                    self.notes.push(format!("the version that failed ({shown}) is not here: only its verdict is shown"))
                }
            }
            return Ok(());
        }
        let version = match version {
            Some(version) => version,
            None => {
                let present = bench.present(&self.pipeline)?;
                if !present.digest().starts_with(&self.handler) || self.handler.is_empty() {
                    let digest = short(present.digest());
                    self.notes
                        .push(format!("the version that failed ({shown}) is not here: the present one ({digest}) ran"));
                }
                present
            }
        };
        self.old = Some(run(&version, &self.case)?);
        Ok(())
    }

    /// The run that counts: with the other handler, if one was given.
    pub(super) fn now(&self) -> Option<&Played> {
        if self.problem.is_some() {
            return None;
        }
        self.new.as_ref().map(|(_, played)| played).or(self.old.as_ref())
    }

    /// Whether it ended as it did then.
    pub(super) fn is_identical(&self) -> bool {
        self.now().is_some_and(|now| self.is_as_then(now))
    }

    pub(super) fn is_as_then(&self, now: &Played) -> bool {
        // Without a record there are only the words of then.
        if self.is_recorded { now.verdict == self.then } else { now.verdict.failure == self.then.failure }
    }

    /// For people in a line, or as a block; or for programs.
    pub(super) fn shown(&self, json: bool, block: bool) -> Vec<u8> {
        match (json, block) {
            (true, _) => show::json(self),
            (false, true) => show::block(self).into_bytes(),
            (false, false) => show::line(self).into_bytes(),
        }
    }

    /// The case as a fixture: with another handler, it is to do as that did; without, it is to be handled at all.
    pub(super) fn fixture(&self) -> anyhow::Result<Option<String>> {
        if self.problem.is_some() {
            return Ok(None);
        }
        let expect = match &self.new {
            Some((_, played)) => Expected::of(played),
            None => Expected::handled(),
        };
        let was = Was::of(&self.handler, &self.then);
        let fixture = Fixture::of(&format!("dlq:{}", self.id), &self.pipeline, &self.case, was, expect);
        Ok(Some(serde_json::to_string_pretty(&fixture)? + "\n"))
    }
}

fn failure(letter: &Letter) -> Failure {
    let detail = letter.cause.as_ref().and_then(|cause| cause.detail.clone()).unwrap_or_default();
    Failure { code: letter.code().to_owned(), detail }
}

/// Its last run, which is the one that it died of.
fn attempts(letter: &Letter) -> u32 {
    let told = letter.cause.as_ref().and_then(|cause| cause.attempts).unwrap_or(1);
    u32::try_from(told).unwrap_or(1).max(1)
}

/// Letters that are there for another reason than a run that failed.
fn did_not_run(reason: &str) -> bool {
    matches!(reason, "expired" | "follows" | "dropped" | "undecodable" | "undeliverable")
}

fn unrecorded(letter: &Letter) -> String {
    match letter.reason() {
        "undeliverable" => "its run did not fail: the broker never takes what it sends (or it could not be written)".to_owned(),
        reason if did_not_run(reason) => format!("it was given up unrun ({reason}): there is nothing to run again"),
        _ => "it keeps no record: letters do that whose pipeline has [dead-letter] record = true, unless they were too large, or \
              given up with their key; --without-record runs it without state"
            .to_owned(),
    }
}
