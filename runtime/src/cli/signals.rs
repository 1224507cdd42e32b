//! SIGTERM and SIGINT: the first asks the pipelines to drain, the second ends the process at once.

use super::terminal::say;
use anyhow::Context as _;
use keyrail::admin::health::Health;
use keyrail::admin::stop::Stop;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// What the pipelines get beyond the grace they know of, before the process ends without them.
const MARGIN: Duration = Duration::from_secs(2);

/// Listens on a thread of its own until the process ends. A stop that takes longer than `grace` is forced.
pub(super) fn listen(stop: Stop, health: Arc<Health>, grace: Duration) -> anyhow::Result<()> {
    let (runtime, signals) = catch()?;
    let serve = move || {
        runtime.block_on(async {
            let tasks: Vec<_> = signals
                .into_iter()
                .map(|(name, signal)| tokio::spawn(wait(name, signal, stop.clone(), health.clone(), grace)))
                .collect();
            for task in tasks {
                if let Err(error) = task.await {
                    tracing::error!(%error, "signals are no longer listened for");
                }
            }
        });
    };
    std::thread::Builder::new().name("signals".to_owned()).spawn(serve).context("no thread for signals")?;
    Ok(())
}

/// For commands that don't run pipelines: a flag that the first SIGINT or SIGTERM raises. The second ends the process.
pub(super) fn interrupted() -> anyhow::Result<Stop> {
    let (runtime, signals) = catch()?;
    let stop = Stop::new();
    let raised = stop.clone();
    let serve = move || {
        runtime.block_on(async {
            for (_, mut signal) in signals {
                let stop = raised.clone();
                drop(tokio::spawn(async move {
                    let mut first: Option<Instant> = None;
                    while signal.recv().await.is_some() {
                        if first.is_some_and(|first| first.elapsed() >= SAME) {
                            // These commands have no log.
                            say("keyrail: a second signal: ending at once; what was under way may be done or not");
                            end();
                        }
                        first.get_or_insert_with(Instant::now);
                        stop.request();
                    }
                }));
            }
            std::future::pending::<()>().await;
        });
    };
    std::thread::Builder::new().name("signals".to_owned()).spawn(serve).context("no thread for signals")?;
    Ok(stop)
}

type Signals = Vec<(&'static str, Signal)>;

/// From here on the signals no longer end the process by themselves.
fn catch() -> anyhow::Result<(tokio::runtime::Runtime, Signals)> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .build()
        .context("no runtime for signals")?;
    let entered = runtime.enter();
    let signals = [("SIGTERM", SignalKind::terminate()), ("SIGINT", SignalKind::interrupt())]
        .into_iter()
        .map(|(name, kind)| signal(kind).map(|s| (name, s)).with_context(|| format!("can't listen for {name}")))
        .collect::<anyhow::Result<Vec<_>>>()?;
    drop(entered);
    Ok((runtime, signals))
}

/// A second signal this soon is the same request: `timeout` and some supervisors signal a process and then its group.
/// People are slower, also where they press Ctrl-C twice.
const SAME: Duration = Duration::from_millis(100);

async fn wait(name: &'static str, mut signal: Signal, stop: Stop, health: Arc<Health>, grace: Duration) {
    let mut first: Option<Instant> = None;
    while signal.recv().await.is_some() {
        if first.is_some_and(|first| first.elapsed() < SAME) {
            continue;
        }
        first.get_or_insert_with(Instant::now);
        if stop.requested() {
            tracing::warn!("{name} again: ending at once; what was not committed runs again");
            end();
        }
        tracing::info!("{name}: draining for at most {} s; once more ends at once", grace.as_secs());
        health.stopping();
        stop.request();
        drop(tokio::spawn(async move {
            tokio::time::sleep(grace + MARGIN).await;
            tracing::warn!("the drain takes longer than shutdown-grace: ending; what was not committed runs again");
            end();
        }));
    }
}

/// Ends the process as failed, whatever its threads do. Standard output is not flushed: who holds its lock may be stuck.
#[allow(clippy::disallowed_methods, reason = "the drain was waited for, or is no longer wanted")]
fn end() -> ! {
    std::process::exit(super::Exit::Failed as i32)
}

#[cfg(test)]
mod tests;
