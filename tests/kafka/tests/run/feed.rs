//! Input that keeps flowing, and the account of what must come of it.

use crate::client::{Rec, Writer, read_all, wait_decided};
use crate::judge::{Expected, Verdict, judge};
use crate::stage::Stage;
use crate::worker::Worker;
use keyrail_kafka_tests::Kafka;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

/// What flows.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    /// Order keys.
    pub(crate) keys: usize,
    /// Messages a second.
    pub(crate) rate: u64,
    /// At least so many messages, however early the end is asked for.
    pub(crate) least: u64,
    /// Of a thousand, so many take some ten milliseconds.
    pub(crate) slow: u64,
    /// Beside a thousand, so many come that were sent before: nothing may come of them.
    pub(crate) twice: u64,
    /// They are for the handler `tally`, which counts each key's, and one of five fails.
    pub(crate) counted: bool,
}

pub(crate) fn plan(keys: usize, rate: u64, least: u64) -> Plan {
    Plan { keys, rate, least, slow: 0, twice: 0, counted: false }
}

/// The account: effects in the output, and dead letters.
#[derive(Debug, Default)]
pub(crate) struct Account {
    pub(crate) messages: u64,
    /// Sent beside these, and sent before.
    pub(crate) repeats: u64,
    pub(crate) outputs: Expected,
    pub(crate) letters: Expected,
    /// What must be in the state of each key, where they are counted.
    pub(crate) counts: Option<Counts>,
}

/// By key; what is not there was never counted, or is forgotten.
pub(crate) type Counts = BTreeMap<Vec<u8>, u64>;

/// A small generator of chance; the seed is told, so that a run can be repeated.
#[derive(Debug, Clone)]
pub(crate) struct Chance(u64);

impl Chance {
    pub(crate) fn new(test: &str) -> Self {
        let seed = std::env::var("KEYRAIL_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or_else(|| {
            let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
            u64::from(now.subsec_nanos()) | 1
        });
        crate::stage::say(&format!("{test}: KEYRAIL_SEED={seed}"));
        Self(seed)
    }

    /// From 0 to below `n`.
    pub(crate) fn below(&mut self, n: u64) -> u64 {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % n
    }
}

impl Account {
    /// The next message of a key. One of a hundred fails at first, one of a thousand for good.
    pub(crate) fn next(&mut self, key: usize, chance: u64, slow: u64) -> Rec {
        let name = format!("k{key}");
        let n = self.messages;
        self.messages += 1;
        let id = format!("{name}-{n:07}");
        if self.counts.is_some() {
            return self.counted(name, &id, chance);
        }
        let (command, stream) = match chance {
            0 => ("dead-letter", &mut self.letters),
            1..=10 => ("fail-times:1", &mut self.outputs),
            _ if chance < 11 + slow => ("spin:20000000", &mut self.outputs),
            _ => ("done", &mut self.outputs),
        };
        stream.entry(name.clone().into_bytes()).or_default().push(id.clone());
        Rec::script(&name, command, &id).header("trace", id)
    }

    /// As [`Account::next`]: one of five fails at first, one of a hundred for good, and one of a hundred is the last that
    /// its key's state knows of.
    fn counted(&mut self, key: String, id: &str, chance: u64) -> Rec {
        let value = match chance {
            0..10 => format!("fail 9 {id}"),
            10..200 => format!("fail 1 {id}"),
            200..210 => format!("forget {id}"),
            _ => id.to_owned(),
        };
        let (stream, told) = match self.counts.as_mut().filter(|_| chance >= 10) {
            None => (&mut self.letters, id.to_owned()),
            Some(counts) => {
                let count = counts.entry(key.clone().into_bytes()).or_default();
                *count += 1;
                let told = format!("{count} {value}");
                if value.starts_with("forget") {
                    counts.remove(key.as_bytes());
                }
                (&mut self.outputs, told)
            }
        };
        stream.entry(key.clone().into_bytes()).or_default().push(told);
        Rec::new(&key, value).header("trace", id)
    }

    /// Reads what came out, and judges it.
    pub(crate) fn judge(&self, stage: &Stage<'_>) -> (Verdict, Verdict) {
        [&stage.output, &stage.letters].into_iter().for_each(|topic| wait_decided(stage.kafka, topic));
        let mut outputs = judge(&self.outputs, &read_all(stage.kafka, &stage.output), Rec::text);
        let mut letters = judge(&self.letters, &read_all(stage.kafka, &stage.letters), |letter| {
            let id = letter.told("trace");
            let (value, reason) = match self.counts {
                None => (crate::client::script("dead-letter", &id), "rejected"),
                Some(_) => (format!("fail 9 {id}"), "attempts"),
            };
            assert_eq!((letter.text(), letter.told("keyrail-reason")), (value, reason.to_owned()), "a dead letter");
            id
        });
        outputs.exactly_once = stage.exactly_once;
        letters.exactly_once = stage.exactly_once;
        stage.say(&format!("outputs: {}", outputs.line()));
        stage.say(&format!("dead letters: {}", letters.line()));
        if let Some(counts) = &self.counts {
            crate::state::judge(stage, counts);
        }
        (outputs, letters)
    }
}

/// A thread that writes to the input until it is told to stop.
pub(crate) struct Feed {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    thread: std::thread::JoinHandle<Account>,
}

impl Feed {
    /// Starts it. The broker may go and come back meanwhile.
    pub(crate) fn start(kafka: &Kafka, topic: &str, plan: Plan, mut chance: Chance) -> Self {
        let (stop, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (topic, mut writer) = (topic.to_owned(), Writer::new(kafka));
        let (stopping, count) = (stop.clone(), sent.clone());
        let thread = std::thread::spawn(move || {
            let counts = plan.counted.then(Counts::new);
            let (mut account, began) = (Account { counts, ..Account::default() }, Instant::now());
            let mut sent = Vec::new();
            while !stopping.load(SeqCst) || account.messages < plan.least {
                let due = began.elapsed().as_millis() as u64 * plan.rate / 1000;
                // Once the end is asked for, what is left comes as fast as it can.
                if account.messages >= due && !stopping.load(SeqCst) {
                    std::thread::sleep(Duration::from_millis(2));
                    continue;
                }
                let key = chance.below(plan.keys as u64) as usize;
                let message = account.next(key, chance.below(1000), plan.slow);
                writer.send(&topic, &message);
                if plan.twice > 0 {
                    sent.push(message);
                    // Some soon after the first, most of them long after it.
                    if chance.below(1000) < plan.twice {
                        let back = if chance.below(4) == 0 { 20 } else { sent.len() as u64 };
                        let which = sent.len() - 1 - chance.below(back.min(sent.len() as u64)) as usize;
                        writer.send(&topic, &sent[which]);
                        account.repeats += 1;
                    }
                }
                count.store(account.messages, SeqCst);
            }
            writer.finish();
            account
        });
        Self { stop, sent, thread }
    }

    pub(crate) fn sent(&self) -> u64 {
        self.sent.load(SeqCst)
    }

    pub(crate) fn finish(self) -> Account {
        self.stop.store(true, SeqCst);
        self.thread.join().expect("the feed failed")
    }

    /// Ends it, waits until all of it is settled, stops the workers in good order, and judges effects and dead letters.
    pub(crate) fn settle(self, stage: &Stage<'_>, workers: &mut [Worker], limit: Duration) -> (Verdict, Verdict) {
        let account = self.finish();
        stage.wait_settled(&workers.iter().collect::<Vec<_>>(), 0, limit);
        for worker in workers {
            worker.stop(Duration::from_secs(20));
        }
        account.judge(stage)
    }
}
