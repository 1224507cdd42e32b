//! The breaker, beside the ledger.

use super::{Committer, Mail, ToShard};
use crate::env::Env;
use crate::trace::Who;
use keyrail_engine::breaker::{Act, News};

impl Committer {
    /// Since when it is open, and how many dead letters there were before.
    pub(in super::super) const fn opened(&self) -> Option<(u64, u64)> {
        self.opened
    }

    pub(super) fn hear_shard(&mut self, shard: usize, news: News, at_ms: u64, mail: &Mail, env: &mut Env) {
        if matches!(news, News::Tally(_)) {
            self.tallied_ms[shard] = at_ms;
        }
        let mut acts = Vec::new();
        if let Some(breaker) = &mut self.breaker {
            breaker.hear(shard, news, env.now(), &mut acts);
        }
        self.carry_out(acts, mail, env);
    }

    pub(super) fn tick_breaker(&mut self, mail: &Mail, env: &mut Env) {
        let mut acts = Vec::new();
        if let Some(breaker) = &mut self.breaker {
            breaker.tick(env.now(), &mut acts);
        }
        self.carry_out(acts, mail, env);
    }

    fn carry_out(&mut self, acts: Vec<Act>, mail: &Mail, env: &mut Env) {
        for act in acts {
            match act {
                Act::Tell(shard, order) => self.tell_shard(shard, ToShard::Breaker(order)),
                Act::Opened { tried, failed, .. } => {
                    env.note(
                        Who::Worker(mail.worker),
                        "breaker opens",
                        None,
                        i64::from(failed) << 32 | i64::from(tried),
                    );
                    self.opened = Some((env.now_ms, env.letters));
                    self.ledger.breaker(true);
                    env.oracle.breaker_opens(mail.process, &self.tallied_ms);
                }
                Act::Closed { open_ms, .. } => {
                    env.note(Who::Worker(mail.worker), "breaker closes", None, open_ms as i64);
                    self.opened = None;
                    self.ledger.breaker(false);
                    env.oracle.breaker_closes(mail.process, env.now_ms);
                }
            }
        }
    }
}
