//! Which version of a handler serves a pipeline, and which is on trial beside it. Both change while the pipeline runs: each shard
//! takes the new line-up before its next batch, so what is under way ends on the version that began it.

use crate::rollout::trial::{Account, Terms, Verdict};
use crate::wasm::Handler;
use keyrail_engine::shard::{Evidence, Overruled, Trial};
use std::collections::BTreeSet;
use std::fmt;
use std::sync::atomic::{
    AtomicU32,
    Ordering::{Acquire, Release},
};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The handlers of a pipeline, shared by its threads and by whoever changes them.
#[derive(Debug)]
pub struct Serving {
    /// Grows with each change; to be read without the lock.
    edition: AtomicU32,
    versions: Mutex<Versions>,
    /// Of its state, in all partitions so far.
    schemas: Arc<FoundSchemas>,
}

/// Schemas of state that were found in partitions; see [`keyrail_engine::state::schema`].
#[derive(Debug, Default)]
pub struct FoundSchemas(Mutex<BTreeSet<u16>>);

impl FoundSchemas {
    /// A partition's state is of these.
    pub(super) fn add(&self, found: &BTreeSet<u16>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend(found);
    }

    /// All of them.
    #[must_use]
    pub fn all(&self) -> BTreeSet<u16> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// A version of the handler, and its number.
#[derive(Debug, Clone)]
pub struct Numbered {
    /// Counted from 0, as they come.
    pub number: u32,
    /// What is called.
    pub handler: Handler,
}

/// What serves and what is on trial.
#[derive(Debug, Clone)]
pub struct LineUp {
    /// See [`Serving::edition`].
    pub edition: u32,
    /// The version that serves.
    pub serving: Numbered,
    /// The version on trial, and for which keys.
    pub trial: Option<(Trial, Numbered)>,
}

#[derive(Debug)]
struct Versions {
    serving: Numbered,
    trial: Option<OnTrial>,
    /// A trial that its own evidence has ended, until somebody asks.
    ended: Option<Ended>,
    /// Digests of all versions so far, shortened; a version's number is its index.
    digests: Vec<Arc<str>>,
}

struct OnTrial {
    version: Numbered,
    trial: Trial,
    terms: Terms,
    began: Instant,
    account: Account,
    /// Called once it has ended by its own evidence.
    wake: Box<dyn Fn() + Send>,
}

impl fmt::Debug for OnTrial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OnTrial").field("version", &self.version.number).field("account", &self.account).finish()
    }
}

/// A trial that has ended before its time.
#[derive(Debug, Clone)]
pub struct Ended {
    /// Digest of the version.
    pub digest: String,
    /// Why it was rolled back.
    pub why: String,
    /// All that it has shown.
    pub account: Account,
}

/// How a trial stands.
#[derive(Debug, Clone)]
pub struct Standing {
    /// Digest of the version on trial.
    pub digest: String,
    /// The part of the keys that it runs.
    pub share: f64,
    /// How long it has been so.
    pub elapsed: Duration,
    /// All that it has shown.
    pub account: Account,
    /// What follows now.
    pub verdict: Verdict,
}

impl Serving {
    /// The first version.
    #[must_use]
    pub fn new(handler: Handler) -> Arc<Self> {
        let digests = vec![short(handler.digest()).into()];
        let serving = Numbered { number: 0, handler };
        Arc::new(Self {
            edition: AtomicU32::new(0),
            versions: Mutex::new(Versions { serving, trial: None, ended: None, digests }),
            schemas: Arc::default(),
        })
    }

    /// From each shard's next batch on this handler serves, and none is on trial.
    pub fn swap(&self, handler: Handler) {
        let mut versions = self.versions();
        versions.serving = versions.number(handler);
        (versions.trial, versions.ended) = (None, None);
        self.changed();
    }

    /// From each shard's next batch on this handler runs a part of the keys, in place of one that was on trial before. `wake` is
    /// called when its own evidence has ended that, on the thread that has seen it: [`Serving::ended`] then tells why.
    pub fn try_out(&self, handler: Handler, terms: Terms, wake: impl Fn() + Send + 'static) {
        let mut versions = self.versions();
        let version = versions.number(handler);
        // Of the digest: other processes choose the same keys.
        let salt = u64::from_str_radix(version.handler.digest().get(..16).unwrap_or_default(), 16).unwrap_or_default();
        let trial = Trial::new(version.number, terms.share, salt);
        let (began, account, wake) = (Instant::now(), Account::default(), Box::new(wake));
        versions.trial = Some(OnTrial { version, trial, terms, began, account, wake });
        versions.ended = None;
        self.changed();
    }

    /// The version on trial serves from each shard's next batch on. Gives its digest; `None` where none is on trial.
    pub fn promote(&self) -> Option<String> {
        let mut versions = self.versions();
        let OnTrial { version, .. } = versions.trial.take()?;
        let digest = version.handler.digest().to_owned();
        versions.serving = version;
        self.changed();
        Some(digest)
    }

    /// No version is on trial any more. Gives what it has shown; `None` where none was.
    pub fn roll_back(&self, why: &str) -> Option<Ended> {
        let mut versions = self.versions();
        let OnTrial { version, account, .. } = versions.trial.take()?;
        self.changed();
        Some(Ended { digest: version.handler.digest().to_owned(), why: why.to_owned(), account })
    }

    /// What a shard has seen of the version on trial. Where that is enough to roll it back, this is done at once.
    pub fn tell(&self, evidence: Evidence, named: impl FnOnce(&Overruled) -> String) {
        let mut versions = self.versions();
        let Some(on_trial) = versions.trial.as_mut().filter(|on| on.version.number == evidence.version) else { return };
        on_trial.account.add(evidence, &on_trial.terms, named);
        if let Verdict::RollBack(why) = on_trial.account.judge(&on_trial.terms, on_trial.began.elapsed()) {
            self.end(&mut versions, why);
        }
    }

    /// The version with this number can't be opened: where it is on trial, that ends.
    pub fn unopened(&self, number: u32, why: &str) {
        let mut versions = self.versions();
        if versions.trial.as_ref().is_some_and(|on| on.version.number == number) {
            self.end(&mut versions, format!("it can't be opened: {why}"));
        }
    }

    fn end(&self, versions: &mut Versions, why: String) {
        if let Some(OnTrial { version, account, wake, .. }) = versions.trial.take() {
            versions.ended = Some(Ended { digest: version.handler.digest().to_owned(), why, account });
            self.changed();
            wake();
        }
    }

    /// The trial that its own evidence has ended, once.
    pub fn ended(&self) -> Option<Ended> {
        self.versions().ended.take()
    }

    /// How the trial stands, while there is one.
    #[must_use]
    pub fn standing(&self) -> Option<Standing> {
        let versions = self.versions();
        let OnTrial { version, terms, began, account, .. } = versions.trial.as_ref()?;
        let elapsed = began.elapsed();
        Some(Standing {
            digest: version.handler.digest().to_owned(),
            share: terms.share,
            elapsed,
            account: account.clone(),
            verdict: account.judge(terms, elapsed),
        })
    }

    /// Schemas that were found in the state of partitions since the pipeline runs.
    #[must_use]
    pub const fn schemas(&self) -> &Arc<FoundSchemas> {
        &self.schemas
    }

    /// Counts changes. Takes no lock: for every batch.
    #[must_use]
    pub fn edition(&self) -> u32 {
        self.edition.load(Acquire)
    }

    /// What serves and what is on trial.
    #[must_use]
    pub fn line_up(&self) -> LineUp {
        let versions = self.versions();
        let trial = versions.trial.as_ref().map(|on| (on.trial, on.version.clone()));
        LineUp { edition: self.edition(), serving: versions.serving.clone(), trial }
    }

    /// The number of the version that serves.
    #[must_use]
    pub fn number(&self) -> u32 {
        self.versions().serving.number
    }

    /// The version that serves.
    #[must_use]
    pub fn present(&self) -> Handler {
        self.versions().serving.handler.clone()
    }

    /// The first twelve digits of a version's digest; of the one that serves where the number is `None` or not known.
    #[must_use]
    pub fn digest(&self, number: Option<u32>) -> Arc<str> {
        let versions = self.versions();
        let number = number.unwrap_or(versions.serving.number) as usize;
        let found = versions.digests.get(number).or_else(|| versions.digests.get(versions.serving.number as usize));
        found.cloned().unwrap_or_default()
    }

    /// With the lock held, so that whoever sees the new number finds what it stands for.
    fn changed(&self) {
        self.edition.fetch_add(1, Release);
    }

    fn versions(&self) -> MutexGuard<'_, Versions> {
        // A change that panicked on its way has pushed a digest or not, and what serves is whole.
        self.versions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Versions {
    fn number(&mut self, handler: Handler) -> Numbered {
        self.digests.push(short(handler.digest()).into());
        Numbered { number: u32::try_from(self.digests.len() - 1).unwrap_or(u32::MAX), handler }
    }
}

/// As much of a digest as logs and dead letters show.
pub(crate) fn short(digest: &str) -> &str {
    digest.get(..12).unwrap_or(digest)
}
