//! The breaker, beside the ledger: shards tell it, it orders, and what it does is shown.

use super::{Ledger, Worker, ended};
use crate::admin::metrics::Probe;
use crate::alerts::{Example, Kind, What};
use crate::pipeline::Trouble;
use crate::pipeline::clock::wall_ms;
use crate::pipeline::link::{Attention, ToShard};
use keyrail_engine::breaker::{Act, Breaker, News, Phase, Probed};
use keyrail_engine::message::{Failure, Now};

/// The breaker is open, as alerts are told of it: each second, so that one that is lost does no harm.
#[derive(Debug, Default)]
pub(super) struct Outage(Option<What>);

impl Outage {
    fn begin(&mut self, failed: u32, tried: u32, failure: &Failure) {
        let detail = format!("{failed} of {tried} order keys failed: {}", failure.detail);
        let example = Example { code: Some(failure.code.clone()), detail: Some(detail), ..Example::default() };
        // One that opens anew while it tries is the same outage.
        if self.0.is_none() {
            self.0 = Some(What::Stands { count: u64::from(failed), since_ms: Some(wall_ms()), example });
        }
    }

    pub(super) fn tell(&self, ledger: &Ledger) {
        if ledger.breaker.is_some() {
            ledger.alerts.tell(&ledger.names.pipeline, Kind::Breaker, self.0.clone().unwrap_or(What::Over));
        }
    }

    pub(super) fn end(&mut self, ledger: &Ledger) {
        self.0 = None;
        self.tell(ledger);
    }
}

impl Worker {
    pub(super) fn hear_shard(&mut self, shard: usize, news: News, now: Now) -> Result<(), Trouble> {
        let probes = &self.ledger.metrics.breaker_probes;
        match &news {
            News::Probed { probed: Probed::Stood, .. } => probes.add(Probe::Stood, 1),
            News::Probed { probed: Probed::Failed, .. } => probes.add(Probe::Failed, 1),
            News::Probed { probed: Probed::Nothing, .. } | News::Tally(_) => {}
        }
        self.break_off(|breaker, acts| breaker.hear(shard, news, now, acts))
    }

    pub(super) fn tick_breaker(&mut self) -> Result<(), Trouble> {
        let now = self.ledger.clock.now();
        self.break_off(|breaker, acts| breaker.tick(now, acts))
    }

    fn break_off(&mut self, decide: impl FnOnce(&mut Breaker, &mut Vec<Act>)) -> Result<(), Trouble> {
        let Some(breaker) = &mut self.ledger.breaker else { return Ok(()) };
        let mut acts = Vec::new();
        decide(breaker, &mut acts);
        if acts.is_empty() {
            return Ok(());
        }
        let state = match breaker.phase() {
            Phase::Closed => 0,
            Phase::Probing => 1,
            Phase::Open => 2,
        };
        self.ledger.metrics.breaker_state.set(state);
        acts.into_iter().try_for_each(|act| self.carry_out(act))
    }

    fn carry_out(&mut self, act: Act) -> Result<(), Trouble> {
        let pipeline = &self.ledger.names.pipeline;
        match act {
            Act::Tell(shard, order) => {
                self.ledger.attention.get(shard).into_iter().for_each(Attention::ask);
                let line = self.ledger.shards.get_mut(shard);
                return line.map_or(Ok(()), |line| line.push(ToShard::Breaker(order)).map_err(ended));
            }
            Act::Opened { tried, failed, failure } => {
                self.ledger.engine.breaker(true);
                self.ledger.metrics.breaker_opened.add(1);
                self.outage.begin(failed, tried, &failure);
                self.outage.tell(&self.ledger);
                let pause_s = self.ledger.breaker.as_ref().map_or(0.0, |breaker| breaker.pause_ms() as f64 / 1e3);
                tracing::warn!(
                    pipeline,
                    failed,
                    tried,
                    code = failure.code,
                    detail = failure.detail,
                    "most order keys fail, as if a service were down: the breaker is open, and messages wait. One is tried in {pause_s} s"
                );
            }
            Act::Closed { open_ms, probes, few } => {
                self.ledger.engine.breaker(false);
                self.outage.end(&self.ledger);
                let open_s = open_ms as f64 / 1e3;
                let why = if few { "too few order keys are left to tell" } else { "messages that were tried succeed" };
                tracing::info!(pipeline, open_s, probes, "{why}: the breaker is closed, and messages run again");
            }
        }
        Ok(())
    }
}
