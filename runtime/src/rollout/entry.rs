//! A pipeline as its fleet has it.

use super::board::RolledBack;
use super::folder::{Candidate, told};
use crate::admin::metrics::PipelineMetrics;
use crate::admin::stop::Stop;
use crate::config;
use crate::pipeline::{Budget, Failure, Serving};
use crate::wasm::Handler;
use crossbeam_channel::Sender;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::thread::JoinHandle;

/// What wakes the fleet.
pub(super) enum Event {
    /// The folder may have changed, or a stop was asked for.
    Look,
    Ended(String, Result<(), Failure>),
}

/// A pipeline that is about to run.
pub struct Ready {
    /// Its manifest.
    pub manifest: config::Pipeline,
    /// Its handler.
    pub handler: Handler,
    /// Topics that a pattern matched only while it ran: where nothing of them is committed, they start at their beginning.
    pub fresh: BTreeSet<String>,
    /// What it was loaded from, with the probe that it passed: see [`crate::pipeline::Code::identity`]. `None`: as the first look finds it.
    pub probed: Option<String>,
}

pub(super) struct Entry {
    pub(super) manifest: config::Pipeline,
    pub(super) digest: String,
    pub(super) serving: Arc<Serving>,
    pub(super) budget: Budget,
    pub(super) metrics: Arc<PipelineMetrics>,
    pub(super) stop: Stop,
    pub(super) thread: Option<JoinHandle<()>>,
    /// Why it ended; a person must act.
    pub(super) failed: bool,
    /// It was removed, and is on its way out.
    pub(super) leaving: bool,
    /// What takes its place once it has ended.
    pub(super) next: Option<Ready>,
    /// See [`Ready::fresh`]. Kept for as long as the process lives: what is committed counts for more anyway.
    pub(super) fresh: BTreeSet<String>,
    /// The folder's version was rolled back.
    pub(super) rolled_back: Option<RolledBack>,
    /// The probe that was last seen beside what runs, and what came of it.
    pub(super) probed: Option<(String, Result<(), String>)>,
}

impl Entry {
    /// Whether what runs passes the probe that lies beside it now: its next start would not come about otherwise. The one that it
    /// was loaded with is not played again, nor is one twice.
    pub(super) fn passes(&mut self, candidate: &Candidate) -> Result<(), String> {
        let identity = candidate.code.identity();
        match &self.probed {
            Some((before, result)) if *before == identity => return result.clone(),
            Some(_) if self.runs() => {}
            _ => {
                self.probed = Some((identity, Ok(())));
                return Ok(());
            }
        }
        let handler = self.serving.present();
        let result = candidate.code.probe().map_or(Ok(()), |probe| probe.play(&handler, &candidate.manifest));
        let result = result.map_err(|why| told(&candidate.manifest.handler, &why));
        self.probed = Some((identity, result.clone()));
        result
    }

    /// Its threads run, or are about to end.
    pub(super) fn runs(&self) -> bool {
        self.thread.is_some()
    }
}

/// Tells the fleet that a thread is through, however it ends.
pub(super) struct Last {
    pub(super) name: String,
    pub(super) to: Sender<Event>,
    pub(super) result: Option<Result<(), Failure>>,
}

impl Drop for Last {
    fn drop(&mut self) {
        let panicked = || Err(Failure::Person("it panicked; the log says where".to_owned()));
        let result = self.result.take().unwrap_or_else(panicked);
        // Nobody listens only when the process is over.
        drop(self.to.send(Event::Ended(std::mem::take(&mut self.name), result)));
    }
}
