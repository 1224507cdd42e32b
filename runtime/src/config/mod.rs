//! Configuration: as written (`document`), checked against what is known (`schema`), and as resolved (the types here).
//! All that can fail fails in between, all faults at once; what comes out of it needs no further check.
//!
//! What there is to know of each key (kind, default, limits, meaning) stands in `catalogue`, once.
//!
//! [`load`] reads keyrail.toml and the folder of manifests. Both formats are told in
//! `CONFIGURATION.md`.

mod alerts;
mod catalogue;
mod client;
mod document;
mod fault;
mod files;
mod host;
mod json_schema;
mod manifest;
mod pattern;
mod properties;
mod reader;
mod render;
mod schema;
mod tell;
mod together;
mod token;
mod topic;
mod units;
mod variables;
mod versions;

#[cfg(any(test, feature = "fuzz"))]
pub(crate) mod fuzz;
#[cfg(test)]
mod reference;
#[cfg(test)]
mod tests;

/// Milliseconds of a duration as it stands in the files, such as `5s`.
///
/// # Errors
/// It is none, in words with the cure.
pub fn duration_ms(written: &str) -> Result<u64, String> {
    units::duration(written).map_err(|(problem, cure)| format!("{problem}: {cure}"))
}

/// A manifest of the folder `plugins`, without a look at the disk.
#[cfg(test)]
pub(crate) fn for_tests(name: &str, text: &str) -> Pipeline {
    let files = [(format!("plugins/{name}.toml"), name.to_owned(), text.to_owned())];
    let mut faults = Vec::new();
    let mut all = files::resolve(&files, std::path::Path::new("plugins"), &[], &|_| true, &|_| None, &mut faults);
    assert_eq!(faults, []);
    all.remove(0)
}

pub use crate::nearest::nearest_file;
pub use alerts::{Alerts, Mail, MailSecurity, Webhook, WebhookFormat};
pub use client::{against_range, is_secret};
pub use document::check_set;
pub use fault::{Fault, Faults};
pub use files::{Found, PROBE, find_manifests, find_pipelines, load, load_host, load_pipelines};
pub(crate) use files::{NoText, is_probe, read_text};
pub use json_schema::{host as host_schema, pipeline as pipeline_schema};
pub use pattern::{Pattern, is_internal};
pub use token::{Secret, Token};

use crate::rollout::trial::Terms;
use crate::signature::Trust;
use keyrail_engine::policy::Policy;
use keyrail_engine::state::schema::Schemas;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// keyrail.toml as resolved.
#[derive(Clone, PartialEq, Eq)]
pub struct Host {
    /// What stands behind the topics.
    pub broker: BrokerKind,
    /// librdkafka properties, known ones only and none that Keyrail owns. Holds secrets: see [`is_secret`].
    pub kafka: BTreeMap<String, String>,
    /// The embedded broker; of use only if `broker` says so.
    pub embedded: Embedded,
    /// The folder of the pipelines.
    pub plugins_dir: PathBuf,
    /// Between two looks at it, beside those that events of the file system ask for.
    pub plugins_poll: Duration,
    /// Whose handlers may run: `plugins.trusted-keys` and `plugins.require-signature`.
    pub trust: Trust,
    /// The folder of what can be made anew: compiled handlers.
    pub store_dir: PathBuf,
    /// Bytes of records fetched and not yet settled, all pipelines together, at most.
    pub records_bytes: u64,
    /// Where `/livez`, `/readyz`, `/metrics` and `/plugins` are served; port 0 lets the system pick one.
    pub admin_listen: SocketAddr,
    /// Who may change what runs, by `/plugins`; `None`: nobody.
    pub admin_token: Option<Token>,
    /// What is logged, and how.
    pub logging: Logging,
    /// How long a stop may take before it is forced.
    pub shutdown_grace: Duration,
    /// Who is told of what a person should know.
    pub alerts: Alerts,
}

/// `broker`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BrokerKind {
    /// Apache Kafka, by `[kafka]`.
    Kafka,
    /// One folder of this machine, by `[embedded]`.
    Embedded,
}

/// `[embedded]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Embedded {
    /// The folder.
    pub dir: PathBuf,
    /// Partitions of a topic that is made without saying how many; at least 1.
    pub partitions: u32,
    /// `sync = "full"`: what is acknowledged survives a loss of power, and not only the end of the process.
    pub sync_full: bool,
}

/// `[logging]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Logging {
    /// The least level that is logged.
    pub level: Level,
    /// How a line looks.
    pub format: Format,
}

/// `logging.level`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// What failed.
    Error,
    /// And what may become a failure.
    Warn,
    /// And what a person running it wants to know.
    Info,
    /// And what helps to find a fault.
    Debug,
    /// Everything.
    Trace,
}

impl Level {
    /// The level's name, as tracing's filters take it too.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

/// `logging.format`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Text on a terminal, JSON elsewhere.
    Auto,
    /// A line for people.
    Text,
    /// One JSON object a line.
    Json,
}

/// A pipeline's NAME.toml as resolved.
#[derive(Clone, PartialEq)]
pub struct Pipeline {
    /// The file's name without `.toml`.
    pub name: String,
    /// The file itself.
    pub manifest: PathBuf,
    /// The handler's file; it was there when the manifest was read.
    pub handler: PathBuf,
    /// The only content that the handler's file may have.
    pub sha256: Option<[u8; 32]>,
    /// Input topics, none twice. Empty only where there are [`Pipeline::patterns`].
    pub input: Vec<String>,
    /// Patterns of further input topics; see [`Pipeline::with_topics`].
    pub patterns: Vec<Pattern>,
    /// The consumer group.
    pub group: String,
    /// Where a new group starts.
    pub from: From,
    /// What happens when input was lost to retention or truncation.
    pub on_loss: OnLoss,
    /// Name in the handler and topic, in the order of the file. None of the topics is an input of this pipeline.
    pub outputs: Vec<(String, String)>,
    /// What the engine needs to know.
    pub policy: Policy,
    /// How a new handler is tried; `None`: it serves all keys at once.
    pub rollout: Option<Terms>,
    /// Where messages go that can't be processed.
    pub dead_letter: DeadLetter,
    /// Where the ids of messages go that were seen; `None`: nothing is suppressed.
    pub seen: Option<Seen>,
    /// Where the state of the handler goes; `None`: it has none, as far as is known before its file was looked at
    /// ([`Pipeline::with_state`]).
    pub state: Option<State>,
    /// Where it is written what becomes of versions; `None`: nowhere.
    pub audit: Option<String>,
    /// In which forms that state may be.
    pub schemas: Schemas,
    /// Where messages go that are due later than `retry.in-place`; `None`: all wait in memory.
    pub parked: Option<Parked>,
    /// What one message and one instance may use.
    pub limits: Limits,
    /// Where it may send requests; `None`: nowhere.
    pub http: Option<Http>,
    /// What the handler's `open` is given, in the order of the file.
    pub config: Vec<(String, String)>,
    /// Names in `config` whose values hold a variable of the environment: never to be shown.
    pub config_hidden: BTreeSet<String>,
}

/// `from`: where a group without committed offsets starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum From {
    /// At the first record there is.
    Earliest,
    /// At the next record to come.
    Latest,
}

/// `on-loss`: what happens when the committed offset is no longer in the log. It is reported either way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnLoss {
    /// The pipeline stops.
    Stop,
    /// It goes on at the first record there is.
    Continue,
}

/// `[dead-letter]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// One topic for each of [`Pipeline::input`], in that order; none of them is an input of any pipeline.
    pub topics: Vec<String>,
    /// The topic that the manifest names for all of them; `None`: GROUP.TOPIC.dlq.
    pub given: Option<String>,
    /// Which headers tell the origin.
    pub headers: HeaderStyle,
    /// They keep what the run read that failed; see [`crate::replay`].
    pub record: bool,
}

/// `dead-letter.headers`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeaderStyle {
    /// `keyrail-*`, as UTF-8.
    Keyrail,
    /// `kafka_dlt-*`, numbers big-endian.
    Spring,
}

/// Where ids outlive the process: `[dedup]` with `guarantee = "exactly-once"`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// GROUP.TOPIC.seen, one topic for each of [`Pipeline::owners`], in that order; no two pipelines share one.
    pub topics: Vec<String>,
    /// `dedup.window`.
    pub window: Duration,
}

/// Where state outlives the process: with `guarantee = "exactly-once"`, and messages that have an order key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    /// GROUP.TOPIC.state, one topic for each of [`Pipeline::owners`], in that order.
    pub topics: Vec<String>,
}

/// Where messages are parked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parked {
    /// GROUP.TOPIC.retry, one topic for each of [`Pipeline::input`], in that order.
    pub topics: Vec<String>,
    /// GROUP.TOPIC.inbox, the same: where commands to what is parked come in, once there was one.
    pub inboxes: Vec<String>,
}

/// `capabilities.http`, and what goes with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Http {
    /// Which hosts.
    pub hosts: Vec<crate::http::Host>,
    /// `limits.requests`.
    pub requests: u32,
    /// `limits.response-bytes`.
    pub response_bytes: u64,
    /// `batch.concurrency`.
    pub concurrency: u32,
}

/// `[limits]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Linear memory of one instance, in bytes.
    pub memory_bytes: u64,
    /// Sends of one message.
    pub outputs: u32,
    /// Bytes sent by one message.
    pub output_bytes: u64,
    /// One message's run; the same as [`Policy::timeout_ms`].
    pub timeout: Duration,
    /// The longest delay of a send, if that is told.
    pub delay: Option<Duration>,
}

/// The retry topics of a pipeline's inputs, in their order, whether or not it has a use for them.
#[must_use]
pub fn retry_topics(pipeline: &Pipeline) -> Vec<String> {
    pipeline.input.iter().map(|input| topic::retry(&pipeline.group, input)).collect()
}

impl DeadLetter {
    /// The dead letters' topic of an input.
    fn topic_of(&self, group: &str, input: &str) -> String {
        self.given.clone().unwrap_or_else(|| topic::dead_letters(group, input))
    }
}

impl Host {
    /// The configuration as TOML with every default filled in and secrets hidden.
    #[must_use]
    pub fn resolved(&self) -> String {
        render::host(self)
    }
}

impl Pipeline {
    /// The manifest as TOML with every default filled in and values from the environment hidden.
    #[must_use]
    pub fn resolved(&self) -> String {
        render::pipeline(self)
    }
}

impl fmt::Debug for Host {
    /// The same as [`Host::resolved`], so that no log line shows a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Host").field(&self.resolved()).finish()
    }
}

impl fmt::Debug for Pipeline {
    /// The same as [`Pipeline::resolved`], so that no log line shows a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Pipeline").field(&self.name).field(&self.resolved()).finish()
    }
}
