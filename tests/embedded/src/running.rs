//! Pipelines that run in this process, for figures of them.

use anyhow::{Result, ensure};
use keyrail::admin::health::{Health, State};
use keyrail::admin::metrics::Metrics;
use keyrail::admin::stop::Stop;
use keyrail::alerts::Alerts;
use keyrail::broker::client::NewTopic;
use keyrail::broker::embedded::{Embedded, Options};
use keyrail::config;
use keyrail::pipeline::{self, Ended, StartError, Surroundings};
use keyrail::rollout::Board;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// See the module.
pub(super) struct Running {
    /// Of their broker.
    pub(super) options: Options,
    pub(super) metrics: Arc<Metrics>,
    health: Arc<Health>,
    stop: Stop,
    thread: JoinHandle<Result<Ended, StartError>>,
}

impl Running {
    /// Starts what a keyrail.toml says, on a new folder with these topics, each with so many partitions.
    pub(super) fn start(file: &Path, topics: &[(&str, i32)]) -> Result<Self> {
        let (host, pipelines) = config::load(file, &[], &|_| None).map_err(|faults| anyhow::anyhow!("{faults}"))?;
        let options = pipeline::embedded_options(&host);
        let mut client = Embedded::open(&options)?.client()?;
        for (name, partitions) in topics {
            let (name, partitions) = ((*name).to_owned(), Some(*partitions));
            client.create_topic(&NewTopic { name, partitions, settings: Vec::new() })?;
        }
        drop(client);
        let (stop, health, metrics) = (Stop::new(), Arc::new(Health::new()), Arc::new(Metrics::new()));
        let surroundings = Surroundings {
            health: health.clone(),
            metrics: metrics.clone(),
            stop: stop.clone(),
            variables: |_| None,
            witness: None,
            alerts: Alerts::default(),
            claim: None,
            board: Board::default(),
        };
        let thread = std::thread::spawn(move || pipeline::run(&host, pipelines, surroundings));
        Ok(Self { options, metrics, health, stop, thread })
    }

    /// Waits until these pipelines work.
    pub(super) fn wait_ready(&self, names: &[String], limit: Duration) -> Result<()> {
        let began = Instant::now();
        while names.iter().any(|name| self.health.state(name) != Some(State::Ready)) {
            ensure!(began.elapsed() < limit && !self.thread.is_finished(), "the pipelines did not start");
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Ends them in good order.
    pub(super) fn end(self) -> Result<()> {
        self.stop.request();
        ensure!(self.thread.join().is_ok_and(|ended| ended.is_ok()), "the pipelines failed");
        Ok(())
    }
}
