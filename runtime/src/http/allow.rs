//! Which hosts a pipeline's handler may reach: `capabilities.http`.

use super::{Error, Request};
use hyper::http::uri::{Scheme, Uri};
use hyper::http::{HeaderMap, HeaderName, HeaderValue, Method, header as names};
use std::fmt;
use std::str::FromStr;

/// What frames a message or belongs to a connection: the client's own.
const CLIENTS: [HeaderName; 9] = [
    names::HOST,
    names::CONTENT_LENGTH,
    names::TRANSFER_ENCODING,
    names::CONNECTION,
    names::UPGRADE,
    names::TE,
    names::TRAILER,
    names::EXPECT,
    names::PROXY_AUTHORIZATION,
];
const KEEP_ALIVE: [&str; 2] = ["keep-alive", "proxy-connection"];
const AGENT: &str = concat!("keyrail/", env!("CARGO_PKG_VERSION"));

/// More headers no server takes.
const HEADERS: usize = 500;

/// A URL without what may be secret in it.
pub(crate) fn shown(url: &str) -> &str {
    url.split(['?', '#']).next().unwrap_or_default()
}

/// A host that may be reached, as a manifest writes it: `HOST:PORT`, where HOST may begin with `*.` for all that are below it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// In lower case, without `*`; `.example.com` for all below it.
    name: String,
    port: u16,
}

/// Why a text names no host, and the cure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostFault {
    /// What is wrong.
    pub problem: String,
    /// What to write.
    pub cure: String,
}

impl FromStr for Host {
    type Err = HostFault;

    fn from_str(text: &str) -> Result<Self, HostFault> {
        let fault = |problem: &str, cure: String| HostFault { problem: format!("{text:?} {problem}"), cure };
        if let Some((scheme, rest)) = text.split_once("://") {
            let port = if scheme == "http" { 80 } else { 443 };
            let host = rest.split(['/', '?', '#']).next().unwrap_or(rest);
            let host = if host.contains(':') { host.to_owned() } else { format!("{host}:{port}") };
            return Err(fault("is a URL, and whole hosts are granted", format!("write {host:?}")));
        }
        if text.contains('/') {
            return Err(fault("names a path, and whole hosts are granted", "write \"HOST:PORT\"".to_owned()));
        }
        let numbered = text.rsplit_once(':').filter(|(host, _)| !host.contains(':') || host.ends_with(']'));
        let Some((host, port)) = numbered else {
            let cure = match text.parse::<std::net::Ipv6Addr>() {
                Ok(_) => format!("write \"[{text}]:443\""),
                Err(_) if text.contains(':') => "write \"HOST:PORT\", an IPv6 address in brackets".to_owned(),
                Err(_) => format!("write \"{text}:443\""),
            };
            return Err(fault("has no port", cure));
        };
        let port = match port.parse() {
            Ok(0) | Err(_) => return Err(fault("has no port that is one", "a number from 1 to 65535".to_owned())),
            Ok(port) => port,
        };
        let name = host.strip_prefix('*').unwrap_or(host).to_ascii_lowercase();
        let legal = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
        let plain = !name.is_empty() && name.bytes().all(legal);
        let wide = host.starts_with('*') && !(name.starts_with('.') && name.len() > 1);
        let six = name.strip_prefix('[').and_then(|name| name.strip_suffix(']'));
        if wide || !plain && six.is_none_or(|six| six.parse::<std::net::Ipv6Addr>().is_err()) {
            let cure = "write \"HOST:PORT\", with a name or an address, or \"*.DOMAIN:PORT\"".to_owned();
            return Err(fault("names no host", cure));
        }
        Ok(Self { name, port })
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let wide = if self.name.starts_with('.') { "*" } else { "" };
        write!(f, "{wide}{}:{}", self.name, self.port)
    }
}

impl Host {
    fn covers(&self, name: &str, port: u16) -> bool {
        let below = self.name.starts_with('.') && name.len() > self.name.len() && name.ends_with(&self.name);
        self.port == port && (below || self.name == name)
    }
}

/// The hosts that a pipeline's handler may reach.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Allowed(pub Vec<Host>);

/// A request that may be sent.
#[derive(Debug)]
pub(crate) struct Ready {
    pub(super) method: Method,
    pub(super) uri: Uri,
    pub(super) headers: HeaderMap,
}

impl Allowed {
    /// Looks at all of a request but its body.
    pub(crate) fn check(&self, request: &Request) -> Result<Ready, Error> {
        let invalid = |why: String| Error::Invalid(why);
        let url = &request.url;
        let uri: Uri = url.parse().map_err(|e| invalid(format!("{:?} is no URL: {e}", shown(url))))?;
        let port = match uri.scheme() {
            Some(scheme) if *scheme == Scheme::HTTP => 80,
            Some(scheme) if *scheme == Scheme::HTTPS => 443,
            _ => return Err(invalid(format!("{:?} does not begin with https:// or http://", shown(url)))),
        };
        let authority = uri.authority().map_or("", |authority| authority.as_str());
        if authority.contains('@') {
            return Err(invalid("the URL holds a user: send an authorization header".to_owned()));
        }
        let name = uri.host().unwrap_or_default().to_ascii_lowercase();
        let port = uri.port_u16().unwrap_or(port);
        if !self.0.iter().any(|host| host.covers(&name, port)) {
            return Err(Error::Denied(format!(
                "{name}:{port} is not granted: add \"{name}:{port}\" to capabilities.http in the manifest"
            )));
        }
        let method = Method::from_bytes(request.method.as_bytes()).ok().filter(|method| *method != Method::CONNECT);
        let method = method.ok_or_else(|| invalid(format!("{:?} is no method to send", request.method)))?;
        if request.headers.len() > HEADERS {
            return Err(invalid(format!("it has {} headers: at most {HEADERS} are sent", request.headers.len())));
        }
        let mut headers = HeaderMap::with_capacity(request.headers.len() + 2);
        for (name, value) in &request.headers {
            let (known, value) = header(name, value).map_err(|fault| {
                let lower = name.to_ascii_lowercase();
                invalid(match fault {
                    HeaderFault::Name => format!("{name:?} is no name of a header"),
                    HeaderFault::Value => format!("what the header {lower} holds can't be sent"),
                    HeaderFault::Clients => format!("the header {lower} is the host's to set: leave it out"),
                })
            })?;
            headers.append(known, value);
        }
        headers.entry(names::USER_AGENT).or_insert(HeaderValue::from_static(AGENT));
        Ok(Ready { method, uri, headers })
    }
}

/// Why a header can't be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeaderFault {
    /// It is no name of a header.
    Name,
    /// It is no value of one.
    Value,
    /// The client sets it.
    Clients,
}

fn header(name: &str, value: &[u8]) -> Result<(HeaderName, HeaderValue), HeaderFault> {
    let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| HeaderFault::Name)?;
    let value = HeaderValue::from_bytes(value).map_err(|_| HeaderFault::Value)?;
    if CLIENTS.contains(&name) || KEEP_ALIVE.contains(&name.as_str()) {
        return Err(HeaderFault::Clients);
    }
    Ok((name, value))
}

/// Whether a header can be sent.
///
/// # Errors
/// It can't.
pub fn check_header(name: &str, value: &[u8]) -> Result<(), HeaderFault> {
    header(name, value).map(drop)
}
