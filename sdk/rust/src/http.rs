//! HTTP requests: [`Context::fetch`](crate::Context::fetch) and [`http_handler!`](crate::http_handler).
//!
//! They are made while the message runs, and again when it runs again: `idempotency-key`, which the host adds unless the
//! handler sets one, is the same then.

use std::fmt;
use std::str::Utf8Error;
use std::time::Duration;

use crate::host::{Active, Host};
use crate::outcome::{Problem, dead_letter, retry};

/// The longest wait that a `retry-after` gets, in seconds.
const MAX_RETRY_AFTER_S: u64 = 3_600;
/// So many bytes of an answer's body stand in a failure's detail.
const DETAIL_BYTES: usize = 200;

/// A request: a `GET`, or a `POST` if it has a body, unless another method is given.
///
/// ```
/// # use keyrail_sdk::http::Request;
/// # use std::time::Duration;
/// let request = Request::put("https://api.example.com/orders/7")
///     .header("content-type", "application/json")
///     .body(r#"{"state":"paid"}"#)
///     .timeout(Duration::from_secs(2));
/// assert_eq!(request.method(), "PUT");
/// assert_eq!(Request::new("https://api.example.com/").body("x").method(), "POST");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    method: Option<String>,
    url: String,
    pub(crate) headers: Vec<(String, Vec<u8>)>,
    body: Option<Vec<u8>>,
    timeout: Option<Duration>,
}

impl Request {
    /// A request to this URL, the whole of it: `https://HOST/PATH`.
    pub fn new(url: impl Into<String>) -> Self {
        Request { method: None, url: url.into(), headers: Vec::new(), body: None, timeout: None }
    }

    /// A `GET`.
    pub fn get(url: impl Into<String>) -> Self {
        Request::new(url).with_method("GET")
    }

    /// A `POST`.
    pub fn post(url: impl Into<String>) -> Self {
        Request::new(url).with_method("POST")
    }

    /// A `PUT`.
    pub fn put(url: impl Into<String>) -> Self {
        Request::new(url).with_method("PUT")
    }

    /// A `PATCH`.
    pub fn patch(url: impl Into<String>) -> Self {
        Request::new(url).with_method("PATCH")
    }

    /// A `DELETE`.
    pub fn delete(url: impl Into<String>) -> Self {
        Request::new(url).with_method("DELETE")
    }

    /// Sets the method, as it is sent: `GET`.
    #[must_use]
    pub fn with_method(mut self, method: impl Into<String>) -> Self {
        self.method = Some(method.into());
        self
    }

    /// Adds a header. Names may repeat; those of the connection (`host`, `content-length`, ...) are the host's.
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<Vec<u8>>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Sets the body.
    #[must_use]
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = Some(body.into());
        self
    }

    /// How long it may take until the answer's last byte has come; at most, and unless set, the manifest's
    /// `limits.timeout`.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// The method that is sent.
    pub fn method(&self) -> &str {
        match &self.method {
            Some(method) => method,
            None if self.body.is_some() => "POST",
            None => "GET",
        }
    }

    /// The URL.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The headers in order.
    pub fn headers(&self) -> &[(String, Vec<u8>)] {
        &self.headers
    }

    /// The value of the last header of this name, in any case.
    pub fn header_value(&self, name: &str) -> Option<&[u8]> {
        last(&self.headers, name)
    }

    /// The body.
    pub fn body_bytes(&self) -> Option<&[u8]> {
        self.body.as_deref()
    }

    /// The timeout that was set.
    pub fn timeout_set(&self) -> Option<Duration> {
        self.timeout
    }

    /// As a failure's detail names it. What follows `?` or `#` may be secret.
    fn named(&self) -> String {
        let url = self.url.split(['?', '#']).next().unwrap_or_default();
        format!("{} {url}", self.method())
    }
}

/// An answer, whatever its status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    status: u16,
    headers: Vec<(String, Vec<u8>)>,
    body: Vec<u8>,
    /// The request that it answers.
    asked: String,
}

impl Response {
    /// An answer, for tests.
    pub fn new(status: u16) -> Self {
        Response::of(status, Vec::new(), Vec::new())
    }

    pub(crate) fn of(status: u16, headers: Vec<(String, Vec<u8>)>, body: Vec<u8>) -> Self {
        Response { status, headers, body, asked: String::new() }
    }

    /// Adds a header, for tests.
    #[must_use]
    pub fn with_header(mut self, name: &str, value: impl Into<Vec<u8>>) -> Self {
        self.headers.push((name.to_ascii_lowercase(), value.into()));
        self
    }

    /// Sets the body, for tests.
    #[must_use]
    pub fn with_body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    /// As in HTTP: 200.
    pub fn status(&self) -> u16 {
        self.status
    }

    /// Whether the status is 2xx.
    pub fn ok(&self) -> bool {
        (200..=299).contains(&self.status)
    }

    /// The headers in order, their names in lower case.
    pub fn headers(&self) -> &[(String, Vec<u8>)] {
        &self.headers
    }

    /// The value of the last header of this name, in any case.
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        last(&self.headers, name)
    }

    /// The body, as it came over the wire.
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    /// The body without a copy.
    pub fn into_body(self) -> Vec<u8> {
        self.body
    }

    /// The body as text.
    ///
    /// # Errors
    /// It is no UTF-8.
    pub fn text(&self) -> Result<&str, Utf8Error> {
        std::str::from_utf8(&self.body)
    }

    /// The same response if its status is 2xx.
    ///
    /// # Errors
    /// 408, 425, 429 and 5xx become a retry with the code `http-STATUS`; a `retry-after` of 429 and 503 in seconds says
    /// after how long, an hour at most. Any other status becomes a dead letter with that code.
    pub fn ok_or_retry(self) -> Result<Self, Problem> {
        if self.ok() {
            return Ok(self);
        }
        let (code, detail) = (format!("http-{}", self.status), self.detail());
        Err(match self.status {
            429 | 503 => match self.retry_after() {
                Some(wait) => retry(code, detail).after(wait),
                None => retry(code, detail),
            },
            408 | 425 | 500..=599 => retry(code, detail),
            _ => dead_letter(code, detail),
        })
    }

    fn detail(&self) -> String {
        let head = &self.body[..self.body.len().min(DETAIL_BYTES)];
        let text = match std::str::from_utf8(head) {
            Ok(text) => text,
            // Cut in two by us, or by the body's own end.
            Err(error) if error.error_len().is_none() => {
                std::str::from_utf8(&head[..error.valid_up_to()]).unwrap_or_default()
            }
            Err(_) => "",
        };
        let space = if text.is_empty() { "" } else { " " };
        format!("{}: {}{space}{text}", self.asked, self.status)
    }

    fn retry_after(&self) -> Option<Duration> {
        let text = std::str::from_utf8(self.header("retry-after")?).ok()?.trim();
        if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        // More digits than a number has are more than an hour.
        let seconds = text.parse().unwrap_or(MAX_RETRY_AFTER_S).min(MAX_RETRY_AFTER_S);
        (seconds > 0).then(|| Duration::from_secs(seconds))
    }
}

fn last<'a>(headers: &'a [(String, Vec<u8>)], name: &str) -> Option<&'a [u8]> {
    headers.iter().rfind(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_slice())
}

/// Why there is no answer: the contract's error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The manifest does not grant it; nothing was sent.
    Denied(String),
    /// No such request can be sent; nothing was.
    Invalid(String),
    /// No answer in time: it may have been done all the same.
    Timeout,
    /// No connection, or one that broke: it may have been done all the same.
    Unreachable(String),
    /// The answer's body is larger than the manifest's `limits.response-bytes`.
    TooLarge,
}

/// A request that was not answered.
///
/// `?` turns it into a [`Problem`]: a dead letter with the code `http-denied`, `http-invalid` or `http-too-large`, or a retry
/// with the code `http-timeout` or `http-unreachable`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    reason: Reason,
    asked: String,
}

impl Error {
    /// What happened.
    pub fn reason(&self) -> &Reason {
        &self.reason
    }

    /// The code under which the failure is counted and dead-lettered.
    pub fn code(&self) -> &'static str {
        match self.reason {
            Reason::Denied(_) => "http-denied",
            Reason::Invalid(_) => "http-invalid",
            Reason::Timeout => "http-timeout",
            Reason::Unreachable(_) => "http-unreachable",
            Reason::TooLarge => "http-too-large",
        }
    }

    pub(crate) fn problem(&self) -> Problem {
        match self.reason {
            Reason::Timeout | Reason::Unreachable(_) => retry(self.code(), self),
            Reason::Denied(_) | Reason::Invalid(_) | Reason::TooLarge => dead_letter(self.code(), self),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let why = match &self.reason {
            Reason::Denied(why) | Reason::Invalid(why) | Reason::Unreachable(why) => why,
            Reason::Timeout => "no answer in time",
            Reason::TooLarge => "the answer is larger than limits.response-bytes allows",
        };
        write!(f, "{}: {why}", self.asked)
    }
}

impl std::error::Error for Error {}

/// What came of one request.
pub type Answer = Result<Response, Error>;

/// Makes the requests of these slots at the same time: one answer for each, in their order.
pub(crate) fn fetch_all(host: &Active, requests: Vec<(u32, Request)>) -> Vec<Answer> {
    if requests.is_empty() {
        return Vec::new();
    }
    let asked: Vec<String> = requests.iter().map(|(_, request)| request.named()).collect();
    let answer = |(fetched, asked): (Result<Response, Reason>, String)| match fetched {
        Ok(response) => Ok(Response { asked, ..response }),
        Err(reason) => Err(Error { reason, asked }),
    };
    host.fetch_all(requests).into_iter().zip(asked).map(answer).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test")]
mod tests;
