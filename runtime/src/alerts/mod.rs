//! Alerts: what a person should know of, to a webhook and by mail.
//!
//! Places say what happens ([`Alerts::tell`]), and never wait. Each receiver has a thread (`courier`) with a desk that
//! decides what is told when (`desk`, the pure part: groups, rates, repeats, what is over), and a way to hand it over
//! (`webhook`, `mail`). `message` is what is told, in the forms in which it is.

mod courier;
mod desk;
mod event;
mod mail;
mod message;
mod webhook;

pub use desk::Timing;
pub use event::{Event, Example, Kind, Place, What};
pub(crate) use mail::is_mailbox;
pub(crate) use webhook::{fault_of_url, is_header, shown_url};

use crate::admin::metrics::Metrics;
use crate::config;
use crate::pipeline::clock::{Clock, wall_ms};
use courier::{Courier, Receiver};
use crossbeam_channel::{RecvTimeoutError, Sender as Channel, bounded};
use desk::Desk;
use message::Sender;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Events that wait for a receiver's thread at most. Each pipeline says about one a second, and a receiver that hangs is
/// waited for as long as its `timeout`.
const EVENTS: usize = 4_096;

/// Where alerts are told. Clones share it; off by default.
#[derive(Debug, Clone, Default)]
pub struct Alerts(Option<Arc<Lines>>);

#[derive(Debug)]
struct Lines {
    kinds: Vec<Kind>,
    parked_age: Duration,
    shows_keys: bool,
    to: Vec<Line>,
}

#[derive(Debug)]
struct Line {
    events: Channel<Event>,
    /// What found no room, until the thread has heard of it.
    missed: Arc<AtomicU64>,
    metrics: Arc<crate::admin::metrics::ReceiverMetrics>,
}

/// The threads of the receivers.
#[derive(Debug)]
#[must_use = "what is not told yet is told by `finish`"]
pub struct Couriers {
    threads: Vec<Thread>,
    end: Channel<()>,
}

#[derive(Debug)]
struct Thread {
    receiver: &'static str,
    thread: JoinHandle<()>,
    /// Closes when it is through.
    done: crossbeam_channel::Receiver<()>,
}

/// A receiver of the configuration.
struct Found {
    name: &'static str,
    receiver: Box<dyn Receiver>,
}

fn receivers(settings: &config::Alerts, host: &str) -> Result<Vec<Found>, String> {
    let mut all = Vec::new();
    if let Some(webhook) = &settings.webhook {
        all.push(Found { name: WEBHOOK, receiver: Box::new(webhook::Webhook::new(webhook, settings.timeout)) });
    }
    if let Some(mail) = &settings.mail {
        let receiver = mail::Mail::new(mail, settings.timeout, host).map_err(|why| format!("alerts.mail: {why}"))?;
        all.push(Found { name: MAIL, receiver: Box::new(receiver) });
    }
    Ok(all)
}

/// The receivers' names.
pub const WEBHOOK: &str = "webhook";
/// See [`WEBHOOK`].
pub const MAIL: &str = "mail";

/// What became of a test.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tested {
    /// The receiver.
    pub receiver: &'static str,
    /// How long it took.
    pub took: Duration,
    /// What the other side said, or why it has no message.
    pub result: Result<String, String>,
}

/// Sends a test alert to each receiver, or to the one of this name.
///
/// # Errors
/// A receiver can't be set up.
pub fn test(settings: &config::Alerts, config: &Path, only: Option<&str>) -> Result<Vec<Tested>, String> {
    let sender = sender(settings, config);
    let message = message::test(&sender, wall_ms());
    let all = receivers(settings, &sender.host)?;
    let wanted = all.into_iter().filter(|found| only.is_none_or(|only| only == found.name));
    let send = |mut found: Found| {
        let began = Instant::now();
        let result = found.receiver.deliver(&message).map_err(|refusal| refusal.why);
        Tested { receiver: found.name, took: began.elapsed(), result }
    };
    Ok(wanted.map(send).collect())
}

fn sender(settings: &config::Alerts, config: &Path) -> Sender {
    let standard = config == Path::new("keyrail.toml");
    let config = if standard { String::new() } else { format!(" -c {}", message::quoted(&config.to_string_lossy())) };
    Sender { host: host(), config, timing: settings.timing }
}

/// The machine's name, as far as it is known.
pub(crate) fn host() -> String {
    let kernel = std::fs::read_to_string("/proc/sys/kernel/hostname").ok();
    let named = kernel.or_else(|| std::env::var("HOSTNAME").ok()).map(|name| name.trim().to_owned());
    named.filter(|name| !name.is_empty()).unwrap_or_else(|| "localhost".to_owned())
}

impl Alerts {
    /// Starts a thread for each receiver. `config` is the file that commands are given.
    ///
    /// # Errors
    /// A receiver can't be set up.
    pub fn start(settings: &config::Alerts, metrics: &Metrics, config: &Path) -> Result<(Self, Couriers), String> {
        let (end, ended) = bounded(0);
        let sender = sender(settings, config);
        let (mut to, mut threads) = (Vec::new(), Vec::new());
        for Found { name, receiver } in receivers(settings, &sender.host)? {
            let (events, heard) = bounded(EVENTS);
            let metrics = if name == MAIL { metrics.alerts.mail.clone() } else { metrics.alerts.webhook.clone() };
            let missed = Arc::new(AtomicU64::new(0));
            let courier = Courier {
                name,
                receiver,
                desk: Desk::new(settings.timing),
                events: heard,
                end: ended.clone(),
                missed: missed.clone(),
                sender: sender.clone(),
                metrics: metrics.clone(),
                clock: Clock::new(),
                failing: None,
            };
            let (running, done) = bounded::<()>(0);
            let run = move || {
                courier.run();
                drop(running);
            };
            let thread = std::thread::Builder::new().name(format!("alerts-{name}")).spawn(run);
            let thread = thread.map_err(|e| format!("no thread for alerts: {e}"))?;
            threads.push(Thread { receiver: name, thread, done });
            to.push(Line { events, missed, metrics });
        }
        let lines = Lines {
            kinds: settings.kinds.clone(),
            parked_age: settings.parked_age,
            shows_keys: settings.shows_keys,
            to,
        };
        let alerts = if lines.to.is_empty() { Self::default() } else { Self(Some(Arc::new(lines))) };
        Ok((alerts, Couriers { threads, end }))
    }

    /// Whether anybody wants to know of this.
    #[must_use]
    pub fn wants(&self, kind: Kind) -> bool {
        self.0.as_ref().is_some_and(|lines| lines.kinds.contains(&kind))
    }

    /// A parked message is old from this age on.
    #[must_use]
    pub fn parked_age(&self) -> Duration {
        self.0.as_ref().map_or(Duration::MAX, |lines| lines.parked_age)
    }

    /// Says what happened, or how it stands. Never waits: what finds no room is counted.
    pub fn tell(&self, pipeline: &str, kind: Kind, what: What) {
        let Some(lines) = self.0.as_ref().filter(|lines| lines.kinds.contains(&kind)) else { return };
        let mut event = Event { pipeline: pipeline.to_owned(), kind, what };
        if let What::Happened { example, .. } | What::Stands { example, .. } = &mut event.what
            && !lines.shows_keys
        {
            example.key = None;
        }
        for line in &lines.to {
            if line.events.try_send(event.clone()).is_err() {
                line.missed.fetch_add(1, Relaxed);
                line.metrics.dropped.add(1);
            }
        }
    }

    /// Of this pipeline nothing stands here any more: it ended.
    pub fn rests(&self, pipeline: &str) {
        for kind in [Kind::Breaker, Kind::Parked, Kind::Held] {
            self.tell(pipeline, kind, What::Over);
        }
    }
}

impl Couriers {
    /// Tells what is not told yet, at once, and waits for that, at most `limit`. What is not delivered then is lost, and
    /// that is logged.
    pub fn finish(self, limit: Duration) {
        drop(self.end);
        let until = Instant::now() + limit;
        for Thread { receiver, thread, done } in self.threads {
            // Nothing is ever sent: it closes.
            if done.recv_deadline(until) == Err(RecvTimeoutError::Timeout) {
                tracing::warn!(receiver, "the last alerts are not delivered: the receiver does not answer");
            } else if thread.join().is_err() {
                tracing::error!(receiver, "the thread for alerts panicked; the log says where");
            }
        }
    }
}

#[cfg(test)]
mod tests;
