//! `keyrail run`: sets the process up, hands over to the pipelines, and takes it down in order.

use super::{Config, signals, variable};
use keyrail::admin::health::Health;
use keyrail::admin::http::AdminServer;
use keyrail::admin::logging::{self, LogFormat, LogLevel};
use keyrail::admin::metrics::Metrics;
use keyrail::admin::stop::Stop;
use keyrail::config::{Format, Logging, load};
use keyrail::pipeline::{self, Surroundings};
use std::process::ExitCode;
use std::sync::Arc;

pub(super) fn run(config: &Config) -> anyhow::Result<ExitCode> {
    let (host, pipelines) = load(&config.config, &config.set, &variable)
        .map_err(|faults| anyhow::anyhow!("the configuration has faults, and nothing was started\n{faults}"))?;
    set_up_log(host.logging)?;
    keyrail::fail::arm().map_err(anyhow::Error::msg)?;
    for pipeline in &pipelines {
        for warning in &pipeline.warnings {
            tracing::warn!(pipeline = pipeline.name, "{warning}");
        }
    }
    let (stop, health, metrics) = (Stop::new(), Arc::new(Health::new()), Arc::new(Metrics::new()));
    metrics.budget_limit_bytes.set(host.records_bytes);
    // IMPORTANT: before the pipelines, so that probes see them start, and dropped after them, so that they see them drain.
    let admin = AdminServer::start(host.admin_listen, health.clone(), metrics.clone())?;
    signals::listen(stop.clone(), health.clone(), host.shutdown_grace)?;
    tracing::info!(version = env!("CARGO_PKG_VERSION"), pipelines = pipelines.len(), "keyrail starts");
    let surroundings = Surroundings { health, metrics, stop, variables: variable, witness: None };
    let ended = pipeline::run(&host, pipelines, surroundings);
    drop(admin);
    Ok(super::Exit::from(ended?).into())
}

fn set_up_log(logging: Logging) -> anyhow::Result<()> {
    let level: LogLevel = logging.level.as_str().parse()?;
    let format = match logging.format {
        Format::Auto => LogFormat::Auto,
        Format::Text => LogFormat::Text,
        Format::Json => LogFormat::Json,
    };
    Ok(logging::init(&level, format)?)
}
