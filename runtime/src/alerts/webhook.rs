//! A webhook: each message is a POST. The only file that knows the HTTP client.

use super::courier::{Receiver, Refusal};
use super::message::{Message, clean};
use crate::config::{Webhook as Settings, WebhookFormat};
use hmac::{Hmac, Mac as _};
use sha2::Sha256;
use std::io::Read as _;
use std::time::Duration;
use ureq::http::{HeaderValue, Response, Uri};
use ureq::{Agent, Body, Error};

/// Of an answer that says no so much is told.
const TOLD_BYTES: u64 = 512;
const TOLD_CHARS: usize = 160;

/// See the module.
pub(super) struct Webhook {
    agent: Agent,
    settings: Settings,
    timeout: Duration,
}

/// What is wrong with an address, if anything. It is not repeated: it may be a secret.
pub(crate) fn fault_of_url(url: &str) -> Option<(&'static str, &'static str)> {
    const CURE: &str = "write it as \"https://HOST/PATH\"";
    let Ok(uri) = url.parse::<Uri>() else { return Some(("not a URL", CURE)) };
    let Some(authority) = uri.authority().filter(|authority| !authority.host().is_empty()) else {
        return Some(("not a whole URL", CURE));
    };
    if authority.as_str().contains('@') {
        return Some(("a user or a password in a URL", "put them into `authorization`, as \"Basic ${NAME}\""));
    }
    match uri.scheme_str() {
        Some("https") if cfg!(feature = "tls") => None,
        Some("https") => Some(("this build does not know TLS", "build it with the cargo feature \"tls\"")),
        Some("http") => None,
        _ => Some(("not a URL of HTTP", CURE)),
    }
}

/// Whether it can be a header's value.
pub(crate) fn is_header(value: &str) -> bool {
    HeaderValue::from_str(value).is_ok()
}

/// Where it goes, without what may be a secret.
pub(crate) fn shown_url(url: &str) -> String {
    let uri: Option<Uri> = url.parse().ok();
    let parts = uri.as_ref().and_then(|uri| Some((uri.scheme_str()?, uri.authority()?.as_str())));
    let (scheme, authority) = parts.unwrap_or(("https", "***"));
    format!("{scheme}://{}", authority.rsplit('@').next().unwrap_or_default())
}

impl Webhook {
    pub(super) fn new(settings: &Settings, timeout: Duration) -> Self {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            // What is signed and secret goes where the operator said, and nowhere else.
            .max_redirects(0)
            .max_redirects_will_error(false)
            .timeout_global(Some(timeout))
            // Between two messages are minutes: the other side has long closed it.
            .max_idle_connections(0)
            .user_agent(concat!("keyrail/", env!("CARGO_PKG_VERSION")));
        #[cfg(feature = "tls")]
        let config = {
            use ureq::tls::{RootCerts, TlsConfig, TlsProvider};
            let tls = TlsConfig::builder().provider(TlsProvider::NativeTls).root_certs(RootCerts::PlatformVerifier);
            config.tls_config(tls.build())
        };
        Self { agent: config.build().into(), settings: settings.clone(), timeout }
    }

    fn post(&self, body: &[u8]) -> Result<Response<Body>, Error> {
        let mut request = self.agent.post(&self.settings.url).header("content-type", "application/json");
        if let Some(secret) = &self.settings.secret {
            request = request.header("x-hub-signature-256", signature(secret.as_bytes(), body));
        }
        if let Some(authorization) = &self.settings.authorization {
            request = request.header("authorization", authorization);
        }
        request.send(body)
    }
}

impl Receiver for Webhook {
    fn deliver(&mut self, message: &Message) -> Result<String, Refusal> {
        let body = match self.settings.format {
            WebhookFormat::Keyrail => message.json(),
            WebhookFormat::Alertmanager => message.for_alertmanager(),
        };
        match self.post(&body) {
            Ok(response) if response.status().is_success() => Ok(format!("HTTP {}", response.status().as_u16())),
            Ok(response) => Err(refused(response)),
            Err(error) => Err(Refusal { why: told(&error, self.timeout), retry_after_ms: None }),
        }
    }
}

/// As GitHub signs: `sha256=` and the HMAC of the body.
fn signature(secret: &[u8], body: &[u8]) -> String {
    // A key of any length is one.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret) else { return String::new() };
    mac.update(body);
    let digest: [u8; 32] = mac.finalize().into_bytes().into();
    digest.iter().fold("sha256=".to_owned(), |text, byte| text + &format!("{byte:02x}"))
}

fn refused(response: Response<Body>) -> Refusal {
    let status = response.status().as_u16();
    let header = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok());
    let retry_after_ms = header("retry-after").and_then(|after| after.trim().parse::<u64>().ok()).map(|s| s * 1_000);
    let why = match status {
        300..=399 => {
            let to = header("location").map_or_else(|| "somewhere else".to_owned(), shown_url);
            format!(
                "it answers HTTP {status}, a redirect to {to}, which is not followed: write the URL that it leads to"
            )
        }
        401 | 403 => format!("it answers HTTP {status}: look at `authorization`, `secret` and the URL"),
        404 | 405 | 410 => format!("it answers HTTP {status}: look at the URL"),
        _ => format!("it answers HTTP {status}"),
    };
    let mut said = Vec::new();
    // What it says is a help where it comes; the status is what counts.
    let _read = response.into_body().into_reader().take(TOLD_BYTES).read_to_end(&mut said);
    let said = clean(String::from_utf8_lossy(&said).trim(), TOLD_CHARS);
    let why = if said.is_empty() { why } else { format!("{why} ({said})") };
    Refusal { why, retry_after_ms }
}

fn told(error: &Error, timeout: Duration) -> String {
    match error {
        Error::Timeout(_) => format!("no answer within {} s (alerts.timeout)", timeout.as_secs_f64()),
        Error::HostNotFound => "its host is not known: look at the URL and at the name service".to_owned(),
        // These repeat the URL.
        Error::BadUri(_) | Error::RequireHttpsOnly(_) => "its URL can't be used".to_owned(),
        other => {
            let said = clean(&other.to_string(), TOLD_CHARS);
            let cure = if said.contains("certificate") {
                ": is it one that an authority of this machine vouches for?"
            } else {
                ""
            };
            format!("{said}{cure}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_what_others_compute() {
        // RFC 4231, cases 2 and 6; and GitHub's own example.
        assert_eq!(
            signature(b"Jefe", b"what do ya want for nothing?"),
            "sha256=5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
        );
        assert_eq!(
            signature(&[0xaa; 131], b"Test Using Larger Than Block-Size Key - Hash Key First"),
            "sha256=60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54"
        );
        assert_eq!(
            signature(b"It's a Secret to Everybody", b"Hello, World!"),
            "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
        );
    }

    #[test]
    fn a_url_is_looked_at_and_shown_without_its_secrets() {
        for url in ["http://localhost:9093/api/v2/alerts", "http://[::1]:80/", "http://a"] {
            assert_eq!(fault_of_url(url), None, "{url}");
        }
        for url in ["", "hooks", "ftp://a/b", "http://", "http://a b/", "http://u:p@a/", "/path", "a:80"] {
            assert!(fault_of_url(url).is_some(), "{url}");
        }
        assert_eq!(shown_url("https://hooks.example.com/services/T0/B0/secret?x=y"), "https://hooks.example.com");
        assert_eq!(shown_url("https://u:p@a:8443/x"), "https://a:8443");
        assert_eq!(shown_url("no url"), "https://***");
        assert!(is_header("Bearer abc") && !is_header("a\nb: c"));
    }
}
