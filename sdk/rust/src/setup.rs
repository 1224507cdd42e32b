//! What a handler knows before its first message.

use std::fmt;
use std::str::FromStr;

use crate::contract;
use crate::host::{Active, Host};
use crate::metric::{Kind, Metric};

/// The pipeline as its manifest describes it: handed to `open`, and at hand in every message's
/// [`Context`](crate::Context::setup).
pub struct Setup {
    pub(crate) host: Active,
    pub(crate) data: contract::Setup,
}

impl Setup {
    /// The handler's name.
    pub fn handler(&self) -> &str {
        &self.data.handler
    }

    /// The input topics; [`Source::Topic`](crate::Source::Topic) is an index into them.
    pub fn topics(&self) -> &[String] {
        &self.data.topics
    }

    /// The outputs that the manifest names.
    pub fn outputs(&self) -> &[String] {
        &self.data.outputs
    }

    /// The most messages that one batch holds.
    pub fn max_batch(&self) -> u32 {
        self.data.max_batch
    }

    /// A value of the manifest's `[config]`.
    pub fn config(&self, name: &str) -> Option<&str> {
        self.data.config.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// All of the manifest's `[config]`, names and values: to refuse what is not known.
    pub fn config_all(&self) -> impl Iterator<Item = (&str, &str)> {
        self.data.config.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// A value of the manifest's `[config]`, parsed; `None` if it is absent. The error names the key.
    pub fn config_as<T>(&self, name: &str) -> Result<Option<T>, ConfigError>
    where
        T: FromStr<Err: fmt::Display>,
    {
        let Some(value) = self.config(name) else { return Ok(None) };
        value.parse().map(Some).map_err(|why| ConfigError(format!("[config] {name} = {value:?}: {why}")))
    }

    /// A value of the manifest's `[config]` that must be there. The error names the key.
    pub fn require<T>(&self, name: &str) -> Result<T, ConfigError>
    where
        T: FromStr<Err: fmt::Display>,
    {
        self.config_as(name)?
            .ok_or_else(|| ConfigError(format!("[config] {name} is missing: set it in the handler's manifest")))
    }

    /// Registers a counter: observed values are added.
    pub fn counter(&self, name: &str, labels: &[(&str, &str)]) -> Metric {
        self.register(name, Kind::Counter, labels)
    }

    /// Registers a gauge: the last observed value stands.
    pub fn gauge(&self, name: &str, labels: &[(&str, &str)]) -> Metric {
        self.register(name, Kind::Gauge, labels)
    }

    /// Registers a histogram: observed values are samples.
    pub fn histogram(&self, name: &str, labels: &[(&str, &str)]) -> Metric {
        self.register(name, Kind::Histogram, labels)
    }

    fn register(&self, name: &str, kind: Kind, labels: &[(&str, &str)]) -> Metric {
        Metric(self.host.metric_register(name, kind, labels))
    }
}

impl fmt::Debug for Setup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.data.fmt(f)
    }
}

/// A value of `[config]` is missing or can't be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError(String);

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ConfigError {}
