//! Sends requests, over HTTP/1.1, on a thread of its own.

use super::allow::{Allowed, Ready};
use super::{Error, Fetch, Fetched, Request, Response, Scope};
use crate::admin::metrics::{HttpResult, PipelineMetrics};
use crossbeam_channel::Sender;
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::runtime::{Builder, Handle};
use tokio::sync::{Semaphore, oneshot};

/// A connection that nobody has used for so long is closed: the least after which servers in wide use do so is 5 s, and what is sent on one that is just
/// being closed is lost.
const IDLE: Duration = Duration::from_secs(4);
/// So many of one host are kept.
const IDLE_CONNECTIONS: usize = 1024;
/// A connection that is not there after so long never will be.
const CONNECT: Duration = Duration::from_secs(10);
/// Names are looked up on threads; so many.
const THREADS: usize = 32;

/// So many files are asked for, if the process may have them.
const FILES: libc::rlim_t = 65_536;

#[cfg(feature = "tls")]
type Connector = hyper_tls::HttpsConnector<HttpConnector>;
#[cfg(not(feature = "tls"))]
type Connector = HttpConnector;
type Pool = hyper_util::client::legacy::Client<Connector, Full<Bytes>>;

/// The client: one per process. It stops with the last of its clones.
#[derive(Clone)]
pub struct Client {
    pool: Pool,
    runtime: Handle,
    /// Its thread runs for as long as this lives.
    _alive: Arc<oneshot::Sender<()>>,
}

impl Client {
    /// Starts its thread.
    ///
    /// # Errors
    /// There is none to be had, or TLS can't be set up.
    pub fn start() -> io::Result<Self> {
        more_files();
        let runtime = Builder::new_current_thread().enable_all().max_blocking_threads(THREADS).build()?;
        let handle = runtime.handle().clone();
        let (alive, over) = oneshot::channel::<()>();
        std::thread::Builder::new().name("http".to_owned()).spawn(move || {
            // Ends when the last client is dropped.
            let _dropped = runtime.block_on(over);
            runtime.shutdown_background();
        })?;
        let mut pool = hyper_util::client::legacy::Client::builder(TokioExecutor::new());
        pool.pool_timer(TokioTimer::new()).pool_idle_timeout(IDLE).pool_max_idle_per_host(IDLE_CONNECTIONS);
        Ok(Self { pool: pool.build(connector()?), runtime: handle, _alive: Arc::new(alive) })
    }
}

/// Starts the process's client when it is first asked for. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Clients(Arc<Mutex<Option<Client>>>);

impl Clients {
    /// The client.
    ///
    /// # Errors
    /// As [`Client::start`]; asked again, it is tried again.
    pub fn get(&self) -> io::Result<Client> {
        // A thread that panicked while it held this lock left either nothing or a whole client.
        let mut started = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = &*started {
            return Ok(client.clone());
        }
        Ok(started.insert(Client::start()?).clone())
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").finish_non_exhaustive()
    }
}

/// Each connection is an open file, and what a process may open is less by default on many systems than what it may ask for.
#[allow(unsafe_code, reason = "the standard library does not ask for it")]
fn more_files() {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: a live struct of the right type, which is only written.
    let told = unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } == 0;
    let wanted = limit.rlim_max.min(FILES);
    if told && limit.rlim_cur < wanted {
        limit.rlim_cur = wanted;
        // SAFETY: as above, only read.
        if unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) } != 0 {
            tracing::warn!(error = %io::Error::last_os_error(), "no more files may be opened, so fewer requests be under way");
        }
    }
}

#[cfg(feature = "tls")]
fn connector() -> io::Result<Connector> {
    let tls = hyper_tls::native_tls::TlsConnector::new().map_err(io::Error::other)?;
    let mut http = plain();
    http.enforce_http(false);
    Ok((http, tls.into()).into())
}

#[cfg(not(feature = "tls"))]
fn connector() -> io::Result<Connector> {
    Ok(plain())
}

fn plain() -> HttpConnector {
    let mut http = HttpConnector::new();
    http.set_nodelay(true);
    http.set_connect_timeout(Some(CONNECT));
    http
}

/// What a pipeline allows.
#[derive(Debug, Clone)]
pub struct Options {
    /// Which hosts.
    pub allowed: Allowed,
    /// How long a request may take.
    pub timeout: Duration,
    /// The largest body of an answer, in bytes.
    pub response_bytes: usize,
    /// Requests under way at the same time; others wait for their turn, which only their call's end cuts short.
    pub at_once: usize,
}

/// The way out of one pipeline.
#[derive(Debug)]
pub struct Outside {
    client: Client,
    options: Options,
    room: Arc<Semaphore>,
    metrics: Arc<PipelineMetrics>,
}

impl Outside {
    /// Of all clones of a client, requests share the connections.
    #[must_use]
    pub fn new(client: Client, options: Options, metrics: Arc<PipelineMetrics>) -> Self {
        let room = Arc::new(Semaphore::new(options.at_once.clamp(1, Semaphore::MAX_PERMITS)));
        Self { client, options, room, metrics }
    }
}

impl Fetch for Outside {
    fn start(&self, number: u32, request: Request, scope: &Arc<Scope>, done: &Sender<(u32, Fetched)>) {
        let (done, metrics) = (done.clone(), self.metrics.clone());
        let tell = move |fetched: Fetched| {
            metrics.http.add(result(&fetched), 1);
            // Nobody may wait for it any more.
            drop(done.try_send((number, fetched)));
        };
        let ready = match self.options.allowed.check(&request) {
            Ok(ready) => ready,
            Err(refused) => return tell(Err(refused)),
        };
        let (started, over) = (Instant::now(), scope.until());
        let timeout = request.timeout.map_or(self.options.timeout, |asked| asked.min(self.options.timeout));
        let (pool, room, most) = (self.client.pool.clone(), self.room.clone(), self.options.response_bytes);
        let (under_way, kept) = (UnderWay::new(&self.metrics), scope.clone());
        let task = self.client.runtime.spawn(async move {
            let made = async {
                // The semaphore is never closed. Until its turn has come a request's own time does not pass.
                let _room = room.acquire_owned().await;
                let sent = send(&pool, ready, request.body, (most, &kept));
                tokio::time::timeout(timeout, sent).await.unwrap_or(Err(Error::Timeout))
            };
            let fetched = tokio::time::timeout_at(over.into(), made).await;
            under_way.0.http_micros.observe_time(started.elapsed());
            drop(under_way);
            tell(fetched.unwrap_or(Err(Error::Timeout)));
        });
        let task = task.abort_handle();
        scope.stops(move || task.abort());
    }
}

/// Counts in [`PipelineMetrics::http_in_flight`] for as long as it lives.
struct UnderWay(Arc<PipelineMetrics>);

impl UnderWay {
    fn new(metrics: &Arc<PipelineMetrics>) -> Self {
        metrics.http_in_flight.raise();
        Self(metrics.clone())
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.http_in_flight.lower();
    }
}

fn result(fetched: &Fetched) -> HttpResult {
    match fetched {
        Ok(response) => match response.status {
            ..200 => HttpResult::Informational,
            200..300 => HttpResult::Success,
            300..400 => HttpResult::Redirect,
            400..500 => HttpResult::ClientError,
            500.. => HttpResult::ServerError,
        },
        Err(Error::Denied(_)) => HttpResult::Denied,
        Err(Error::Invalid(_)) => HttpResult::Invalid,
        Err(Error::Timeout) => HttpResult::Timeout,
        Err(Error::Unreachable(_)) => HttpResult::Unreachable,
        Err(Error::TooLarge) => HttpResult::TooLarge,
    }
}

async fn send(pool: &Pool, ready: Ready, body: Option<Vec<u8>>, room: (usize, &Scope)) -> Fetched {
    #[cfg(not(feature = "tls"))]
    if ready.uri.scheme() == Some(&hyper::http::uri::Scheme::HTTPS) {
        return Err(Error::Invalid("https is not in this build of Keyrail: build it with the feature tls".to_owned()));
    }
    let body = Full::new(Bytes::from(body.unwrap_or_default()));
    let mut request = hyper::Request::new(body);
    *request.method_mut() = ready.method;
    *request.uri_mut() = ready.uri;
    *request.headers_mut() = ready.headers;
    let response = pool.request(request).await.map_err(|error| unreachable(&error))?;
    read(response, room).await
}

/// All of it: `most` bytes of a body, and as many as the call has room for.
async fn read(response: hyper::Response<Incoming>, (most, scope): (usize, &Scope)) -> Fetched {
    let (parts, mut incoming) = response.into_parts();
    let mut body = Vec::new();
    while let Some(frame) = incoming.frame().await {
        // Trailers are left out.
        let Ok(data) = frame.map_err(|error| unreachable(&error))?.into_data() else { continue };
        if data.len() > most - body.len() || !scope.take(data.len()) {
            return Err(Error::TooLarge);
        }
        body.extend_from_slice(&data);
    }
    let headers = parts.headers.iter().map(|(name, value)| (name.as_str().to_owned(), value.as_bytes().to_vec()));
    Ok(Response { status: parts.status.as_u16(), headers: headers.collect(), body })
}

/// In all of its words: each cause has its own.
fn unreachable(error: &(dyn std::error::Error + 'static)) -> Error {
    let mut words = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        let told = next.to_string();
        if !words.contains(&told) {
            words = format!("{words}: {told}");
        }
        cause = next.source();
    }
    Error::Unreachable(words)
}
