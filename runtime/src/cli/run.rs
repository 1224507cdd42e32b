//! `keyrail run`: sets the process up, hands over to the pipelines, and takes it down in order.

use super::{Config, signals, variable};
use anyhow::Context as _;
use keyrail::admin::deployment::Deployment;
use keyrail::admin::health::Health;
use keyrail::admin::http::{AdminServer, Sources};
use keyrail::admin::logging::{self, LogFormat, LogLevel};
use keyrail::admin::metrics::Metrics;
use keyrail::admin::stop::Stop;
use keyrail::alerts::Alerts;
use keyrail::broker::embedded::Claim;
use keyrail::config::{BrokerKind, Format, Host, Logging, Secret, load};
use keyrail::pipeline::{self, Ended, Surroundings};
use keyrail::rollout::Board;
use std::process::ExitCode;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

/// Beyond `shutdown-grace` the last alerts may take this: less than what a forced stop grants.
const LAST_ALERTS: Duration = Duration::from_secs(1);

pub(super) fn run(config: &Config) -> anyhow::Result<ExitCode> {
    let (host, pipelines) = load(config.file(), &config.set, &variable)
        .map_err(|faults| config.faulty("the configuration has faults, and nothing was started", &faults))?;
    set_up_log(host.logging)?;
    keyrail::fail::arm().map_err(anyhow::Error::msg)?;
    // IMPORTANT: before the port, which the process that holds the folder most often holds too: that process is the cause.
    let claim = claim(&host)?;
    let (stop, health, metrics) = (Stop::new(), Arc::new(Health::new()), Arc::new(Metrics::new()));
    metrics.budget_limit_bytes.set(host.records_bytes);
    // IMPORTANT: before the pipelines, so that probes see them start, and dropped after them, so that they see them drain.
    let (board, token) = (Board::default(), token(&host)?);
    let sources = Sources { health: health.clone(), metrics: metrics.clone(), board: board.clone(), token };
    let admin = AdminServer::start(host.admin_listen, sources, &Deployment::of(config.file()))?;
    signals::listen(stop.clone(), health.clone(), host.shutdown_grace)?;
    tracing::info!(version = env!("CARGO_PKG_VERSION"), pipelines = pipelines.len(), "keyrail starts");
    let asked: Arc<OnceLock<Instant>> = Arc::default();
    let noted = asked.clone();
    let _noted = stop.child(move || {
        noted.get_or_init(Instant::now);
    });
    let (alerts, couriers) = Alerts::start(&host.alerts, &metrics, config.file()).map_err(anyhow::Error::msg)?;
    let surroundings = Surroundings { health, metrics, stop, variables: variable, witness: None, alerts, claim, board };
    let ended = pipeline::run(&host, pipelines, surroundings);
    let used = asked.get().map_or(Duration::ZERO, Instant::elapsed);
    couriers.finish((host.shutdown_grace + LAST_ALERTS).saturating_sub(used).min(host.alerts.timeout + LAST_ALERTS));
    drop(admin);
    let ended = ended?;
    match ended {
        Ended::Stopped => tracing::info!("{}", told(ended)),
        Ended::Failed | Ended::Fenced => tracing::error!("{}", told(ended)),
    }
    Ok(super::Exit::from(ended).into())
}

/// Who may act by the admin server, if anybody.
pub(super) fn token(host: &Host) -> anyhow::Result<Option<Secret>> {
    host.admin_token.as_ref().map(|token| token.read().map_err(anyhow::Error::msg)).transpose()
}

/// Takes the embedded broker's folder, where that is the broker.
pub(super) fn claim(host: &Host) -> anyhow::Result<Option<Claim>> {
    match host.broker {
        BrokerKind::Embedded => Claim::take(&pipeline::embedded_options(host)).context("nothing was started").map(Some),
        BrokerKind::Kafka => Ok(None),
    }
}

/// The last line.
pub(super) fn told(ended: Ended) -> &'static str {
    match ended {
        Ended::Stopped => "stopped: what was handled is committed, and the rest waits for the next start",
        Ended::Failed => "stopped, and not all in good order: the lines above say what failed",
        Ended::Fenced => "stopped: a newer instance has taken over",
    }
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
