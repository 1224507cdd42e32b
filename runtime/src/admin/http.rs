//! The admin server: `/livez`, `/readyz`, `/metrics`, `/plugins`, on a thread and a runtime of its own, so that it answers
//! however busy the pipelines are. Plain HTTP/1.1 for probes, scrapers and `keyrail plugins` inside the operator's network; it
//! reads nothing but the request line and headers, and changes nothing without a token.

mod plugins;

use super::deployment::{self, Deployment};
use super::health::Health;
use super::metrics::{Format, Metrics};
use crate::config::Secret;
use crate::rollout::Board;
use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{ACCEPT, ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::Serialize;
use std::convert::Infallible;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, Semaphore};

/// Open connections at most; more wait in the listener's backlog.
const MAX_CONNECTIONS: usize = 64;
/// A request's headers at most, in number and bytes.
const MAX_HEADERS: usize = 64;
const MAX_HEADER_BYTES: usize = 16 * 1024;
/// From connecting to the last byte of the headers.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);
/// From connecting to the end of the answer.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(30);
/// What open connections get when the server stops.
const STOP_GRACE: Duration = Duration::from_secs(1);

/// The admin address can't be used. Says why and what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdminError {
    told: String,
    taken: bool,
}

impl AdminError {
    fn new(told: String) -> Self {
        Self { told, taken: false }
    }

    /// Whether it is another process that has the address.
    #[must_use]
    pub fn is_taken(&self) -> bool {
        self.taken
    }
}

impl std::fmt::Display for AdminError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.told)
    }
}

impl std::error::Error for AdminError {}

/// What the server shows, and who may do more than look.
#[derive(Debug, Clone)]
pub struct Sources {
    /// `/livez` and `/readyz`.
    pub health: Arc<Health>,
    /// `/metrics`.
    pub metrics: Arc<Metrics>,
    /// `/plugins`.
    pub board: Board,
    /// Who has it may act there; without one nobody may.
    pub token: Option<Secret>,
}

/// The running server. Dropping it stops it.
#[derive(Debug)]
pub struct AdminServer {
    address: SocketAddr,
    stop: Arc<Notify>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl AdminServer {
    /// Binds `listen` (port 0 picks a free one), logs the address and serves until dropped. Each answer names `deployment`.
    ///
    /// # Errors
    /// The address can't be used, or the system gives no thread or socket.
    pub fn start(listen: SocketAddr, sources: Sources, deployment: &Deployment) -> Result<Self, AdminError> {
        let Sources { health, metrics, board, token } = sources;
        let listener = bind(listen)?;
        let failed = |what: &str, e: std::io::Error| AdminError::new(format!("the admin server can't {what}: {e}"));
        let deployment = HeaderValue::from_str(deployment.as_str())
            .map_err(|e| AdminError::new(format!("the admin server can't name its deployment: {e}")))?;
        let address = listener.local_addr().map_err(|e| failed("read its address", e))?;
        listener.set_nonblocking(true).map_err(|e| failed("set up its socket", e))?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .build()
            .map_err(|e| failed("start", e))?;
        let stop = Arc::new(Notify::new());
        let stopped = stop.clone();
        let shown = Arc::new(Shown { health, metrics, board, token, deployment });
        let thread = std::thread::Builder::new()
            .name("admin".to_owned())
            .spawn(move || {
                if let Err(error) = runtime.block_on(serve(listener, &stopped, shown)) {
                    tracing::error!(%error, "the admin server ended: /livez, /readyz, /metrics and /plugins are gone");
                }
            })
            .map_err(|e| failed("start its thread", e))?;
        tracing::info!(%address, "admin server listens: /livez /readyz /metrics /plugins");
        Ok(Self { address, stop, thread: Some(thread) })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for AdminServer {
    fn drop(&mut self) {
        self.stop.notify_one();
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the admin server's thread panicked");
        }
    }
}

/// Whether [`AdminServer::start`] could bind this address now; for `keyrail check`.
///
/// # Errors
/// It could not.
pub fn check_address(listen: SocketAddr) -> Result<(), AdminError> {
    bind(listen).map(drop)
}

fn bind(listen: SocketAddr) -> Result<TcpListener, AdminError> {
    TcpListener::bind(listen).map_err(|e| {
        let cure = match e.kind() {
            std::io::ErrorKind::AddrInUse => {
                "another process listens there, most often a keyrail that runs already: end it, or choose another port, as \
                 with --set admin.listen=127.0.0.1:0, where 0 picks a free one"
            }
            std::io::ErrorKind::AddrNotAvailable => {
                "this machine has no such address: use one of its own, 127.0.0.1 or 0.0.0.0"
            }
            std::io::ErrorKind::PermissionDenied => "ports below 1024 need a right of their own: choose a higher one",
            _ => "choose another address",
        };
        let told = format!("[admin] listen = \"{listen}\" can't be used: {e}; {cure}");
        AdminError { told, taken: e.kind() == std::io::ErrorKind::AddrInUse }
    })
}

/// What the server shows.
struct Shown {
    health: Arc<Health>,
    metrics: Arc<Metrics>,
    board: Board,
    token: Option<Secret>,
    deployment: HeaderValue,
}

async fn serve(listener: TcpListener, stop: &Notify, shown: Arc<Shown>) -> std::io::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let accepting = tokio::spawn(accept(listener, slots.clone(), shown));
    stop.notified().await;
    accepting.abort();
    // Each open connection holds a slot; what is still open after the grace ends with the runtime.
    let all = u32::try_from(MAX_CONNECTIONS).unwrap_or(u32::MAX);
    if tokio::time::timeout(STOP_GRACE, slots.acquire_many(all)).await.is_err() {
        tracing::debug!("the admin server stops with connections open");
    }
    Ok(())
}

async fn accept(listener: tokio::net::TcpListener, slots: Arc<Semaphore>, shown: Arc<Shown>) {
    loop {
        // Only closing the semaphore makes this fail, and nobody does.
        let Ok(slot) = slots.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let shown = shown.clone();
                drop(tokio::spawn(async move {
                    connection(stream, shown).await;
                    drop(slot);
                }));
            }
            Err(error) => {
                // Out of descriptors, most likely: it would fail again at once.
                tracing::warn!(%error, "the admin server can't accept a connection");
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        }
    }
}

async fn connection(stream: tokio::net::TcpStream, shown: Arc<Shown>) {
    let service = service_fn(move |request: Request<hyper::body::Incoming>| {
        let shown = shown.clone();
        async move {
            let mut response = answer(&request, &shown).await;
            response.headers_mut().insert(deployment::HEADER, shown.deployment.clone());
            Ok::<_, Infallible>(response)
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_headers(MAX_HEADERS)
        .max_buf_size(MAX_HEADER_BYTES)
        // One request each: an idle connection would hold a slot, and a scrape each 15 s gains nothing from it.
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    match tokio::time::timeout(CONNECTION_TIMEOUT, connection).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "an admin connection ended early"),
        Err(_) => tracing::debug!("an admin connection took too long and was closed"),
    }
}

async fn answer<B>(request: &Request<B>, shown: &Shown) -> Response<Full<Bytes>> {
    let page = request.uri().path();
    if plugins::is_meant(page) {
        return plugins::answer(request, shown).await;
    }
    if !matches!(page, "/livez" | "/readyz" | "/metrics") {
        return text(StatusCode::NOT_FOUND, "not found: there are /livez, /readyz, /metrics and /plugins\n".to_owned());
    }
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return allows_only("GET, HEAD", "only GET and HEAD are answered\n");
    }
    match page {
        "/livez" => verdict(&shown.health.dead(), &[]),
        "/readyz" => verdict(&shown.health.unready(), &shown.health.paused()),
        _ => {
            let accept = request.headers().get(ACCEPT).and_then(|v| v.to_str().ok());
            let format = Format::accepted(accept);
            let mut response = text(StatusCode::OK, shown.metrics.render(format));
            response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(format.content_type()));
            response
        }
    }
}

fn allows_only(methods: &'static str, told: &str) -> Response<Full<Bytes>> {
    let mut response = text(StatusCode::METHOD_NOT_ALLOWED, told.to_owned());
    response.headers_mut().insert(ALLOW, HeaderValue::from_static(methods));
    response
}

/// `besides`: what is told where there is no fault.
fn verdict(faults: &[String], besides: &[String]) -> Response<Full<Bytes>> {
    let lines = |lines: &[String]| -> String { lines.iter().flat_map(|line| [line.as_str(), "\n"]).collect() };
    if faults.is_empty() {
        return text(StatusCode::OK, format!("ok\n{}", lines(besides)));
    }
    text(StatusCode::SERVICE_UNAVAILABLE, lines(faults))
}

fn respond(status: StatusCode, body: &impl Serialize) -> Response<Full<Bytes>> {
    match serde_json::to_string(body) {
        Ok(body) => {
            let mut response = text(status, body + "\n");
            response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
            response
        }
        Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("it can't be told: {error}\n")),
    }
}

fn text(status: StatusCode, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests;
