//! `[alerts]`: who is told, and how often.

use super::catalogue::Kind as KeyKind;
use super::reader::{Reader, Text, cure_of_choice};
use crate::alerts::{Kind, Timing, fault_of_url, is_header, is_mailbox};
use std::net::IpAddr;
use std::time::Duration;

/// `[alerts]`. Holds secrets.
#[derive(Clone, PartialEq, Eq)]
pub struct Alerts {
    /// What is told of.
    pub kinds: Vec<Kind>,
    /// A parked message is old from this age on.
    pub parked_age: Duration,
    /// Whether an example shows the message's key.
    pub shows_keys: bool,
    /// Group wait, group interval, repeat interval.
    pub timing: Timing,
    /// How long a receiver may take.
    pub timeout: Duration,
    /// `[alerts.webhook]`.
    pub webhook: Option<Webhook>,
    /// `[alerts.mail]`.
    pub mail: Option<Mail>,
}

/// `[alerts.webhook]`.
#[derive(Clone, PartialEq, Eq)]
pub struct Webhook {
    /// Where to; a secret.
    pub url: String,
    /// What is sent.
    pub format: WebhookFormat,
    /// Signs what is sent.
    pub secret: Option<String>,
    /// A header; a secret.
    pub authorization: Option<String>,
}

/// `alerts.webhook.format`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WebhookFormat {
    /// Keyrail's own.
    Keyrail,
    /// That of Alertmanager's `/api/v2/alerts`.
    Alertmanager,
}

/// `[alerts.mail]`.
#[derive(Clone, PartialEq, Eq)]
pub struct Mail {
    /// The server.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// How the connection is protected.
    pub security: MailSecurity,
    /// The sender.
    pub from: String,
    /// The recipients, at least one.
    pub to: Vec<String>,
    /// User and password.
    pub login: Option<(String, String)>,
}

/// `alerts.mail.security`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MailSecurity {
    /// The server must offer STARTTLS.
    StartTls,
    /// TLS from the first byte.
    Tls,
    /// None.
    None,
}

impl MailSecurity {
    const fn port(self) -> u16 {
        match self {
            Self::StartTls => 587,
            Self::Tls => 465,
            Self::None => 25,
        }
    }

    /// As it is written.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::StartTls => "starttls",
            Self::Tls => "tls",
            Self::None => "none",
        }
    }
}

pub(super) fn read(reader: &mut Reader<'_, '_>) -> Alerts {
    let kinds = kinds(reader);
    let shows_keys = reader.choice("alerts.keys", &[("shown", true), ("hidden", false)]);
    let timing = Timing {
        group_wait_ms: reader.duration("alerts.group-wait"),
        group_interval_ms: reader.duration("alerts.group-interval"),
        repeat_interval_ms: reader.duration("alerts.repeat-interval"),
    };
    let parked_age = Duration::from_millis(reader.duration("alerts.parked-age"));
    let timeout = Duration::from_millis(reader.duration("alerts.timeout"));
    let (webhook, mail) = (webhook(reader), mail(reader));
    Alerts { kinds, parked_age, shows_keys, timing, timeout, webhook, mail }
}

fn kinds(reader: &mut Reader<'_, '_>) -> Vec<Kind> {
    if !reader.has("alerts.kinds") || reader.is_broken("alerts.kinds") {
        return Kind::ALL.to_vec();
    }
    let mut kinds = Vec::new();
    let before = reader.faults.len();
    for Text { text, place, .. } in list(reader, "alerts.kinds", Kind::ALL[0].as_str()) {
        match Kind::ALL.into_iter().find(|kind| kind.as_str() == text) {
            Some(kind) if kinds.contains(&kind) => {
                reader.faults.push(place.fault("alerts.kinds", format!("{text:?} is given twice"), "keep one of them"));
            }
            Some(kind) => kinds.push(kind),
            None => {
                let cure = cure_of_choice(&text, Kind::ALL.iter().map(|kind| kind.as_str()));
                reader.faults.push(place.fault("alerts.kinds", format!("{text:?} is not known"), cure));
            }
        }
    }
    if kinds.is_empty() && reader.faults.len() == before {
        reader.fault("alerts.kinds", "empty", "remove it for all of them, or name some");
    }
    kinds
}

/// What a list of the catalogue holds.
fn list(reader: &mut Reader<'_, '_>, path: &str, example: &str) -> Vec<Text> {
    if !matches!(reader.key(path).kind, KeyKind::List { .. }) {
        reader.key(path).misread();
    }
    reader.texts(path, example)
}

fn webhook(reader: &mut Reader<'_, '_>) -> Option<Webhook> {
    let section = "alerts.webhook";
    if !reader.has(section) || !reader.is_table_or_absent(section) {
        return None;
    }
    let format = [("keyrail", WebhookFormat::Keyrail), ("alertmanager", WebhookFormat::Alertmanager)];
    let format = reader.choice("alerts.webhook.format", &format);
    let secret = reader.text("alerts.webhook.secret", "${NAME}").map(|text| text.text);
    let authorization = reader.text("alerts.webhook.authorization", "Bearer ${TOKEN}").map(|text| text.text);
    if authorization.as_ref().is_some_and(|value| !is_header(value)) {
        // Not repeated: it is a secret.
        reader.fault("alerts.webhook.authorization", "not the value of a header", "write printable characters alone");
    }
    let example = "https://HOST/PATH";
    reader.require("alerts.webhook.url", &format!("write url = {example:?}"));
    let url = reader.text("alerts.webhook.url", example)?.text;
    if let Some((problem, cure)) = fault_of_url(&url) {
        reader.fault("alerts.webhook.url", problem, cure);
    }
    Some(Webhook { url, format, secret, authorization })
}

fn mail(reader: &mut Reader<'_, '_>) -> Option<Mail> {
    let section = "alerts.mail";
    if !reader.has(section) || !reader.is_table_or_absent(section) {
        return None;
    }
    let security = [("starttls", MailSecurity::StartTls), ("tls", MailSecurity::Tls), ("none", MailSecurity::None)];
    let security = reader.choice("alerts.mail.security", &security);
    if security != MailSecurity::None && !cfg!(feature = "tls") {
        let cure = "build it with the cargo feature \"tls\", or write security = \"none\" for a relay on this machine";
        reader.fault("alerts.mail.security", "this build does not know TLS", cure);
    }
    reader.require("alerts.mail.server", "write server = \"smtp.example.com\"");
    let server = server(reader, security);
    reader.require("alerts.mail.from", "write from = \"keyrail@example.com\"");
    let from = reader.text("alerts.mail.from", "keyrail@example.com").filter(|from| {
        let fine = is_mailbox(&from.text);
        if !fine {
            reader.faults.push(not_a_mailbox("alerts.mail.from", from));
        }
        fine
    });
    reader.require("alerts.mail.to", "write to = [\"operators@example.com\"]");
    let before = reader.faults.len();
    let to = list(reader, "alerts.mail.to", "operators@example.com");
    let wrong: Vec<_> =
        to.iter().filter(|to| !is_mailbox(&to.text)).map(|to| not_a_mailbox("alerts.mail.to", to)).collect();
    reader.faults.extend(wrong);
    if reader.has("alerts.mail.to")
        && to.is_empty()
        && reader.faults.len() == before
        && !reader.is_broken("alerts.mail.to")
    {
        reader.fault("alerts.mail.to", "empty", "name somebody, as [\"operators@example.com\"]");
    }
    let login = login(reader);
    let (host, port) = server?;
    if login.is_some() && security == MailSecurity::None && !is_this_machine(&host) {
        let cure = "write security = \"starttls\" or \"tls\"";
        reader.fault("alerts.mail.security", "a password would cross the network in the clear", cure);
    }
    Some(Mail { host, port, security, from: from?.text, to: to.into_iter().map(|to| to.text).collect(), login })
}

fn not_a_mailbox(path: &str, text: &Text) -> super::Fault {
    let cure = "write NAME@HOST or \"Words <NAME@HOST>\", in ASCII (a domain that is not as xn--...)";
    text.place.fault(path, format!("{:?} is not an address", text.text), cure)
}

fn login(reader: &mut Reader<'_, '_>) -> Option<(String, String)> {
    let user = reader.text("alerts.mail.user", "keyrail");
    let password = reader.text("alerts.mail.password", "${NAME}");
    match (reader.has("alerts.mail.user"), reader.has("alerts.mail.password")) {
        (true, false) => {
            reader.fault("alerts.mail.user", "there is no password for it", "write password = \"${NAME}\"")
        }
        (false, true) => reader.fault("alerts.mail.password", "there is no user for it", "write user = \"NAME\""),
        _ => {}
    }
    Some((user?.text, password?.text))
}

fn server(reader: &mut Reader<'_, '_>, security: MailSecurity) -> Option<(String, u16)> {
    let written = reader.text("alerts.mail.server", "smtp.example.com:587")?.text;
    let apart = match written.rsplit_once(':') {
        // An address of IPv6 without a port.
        Some((before, _)) if before.contains(':') && !before.ends_with(']') => {
            Some((written.as_str(), security.port()))
        }
        Some((host, port)) => port.parse().ok().filter(|port| *port > 0).map(|port| (host, port)),
        None => Some((written.as_str(), security.port())),
    };
    let host = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':');
    let apart = apart.map(|(name, port)| (name.trim_start_matches('[').trim_end_matches(']'), port));
    match apart.filter(|(name, _)| !name.is_empty() && name.chars().all(host)) {
        Some((name, port)) => Some((name.to_owned(), port)),
        None => {
            let cure = "write HOST:PORT, as \"smtp.example.com:587\"";
            reader.fault("alerts.mail.server", format!("{written:?} is not a server"), cure);
            None
        }
    }
}

fn is_this_machine(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}
