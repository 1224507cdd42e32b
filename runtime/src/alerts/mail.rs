//! Mail, by SMTP. The only file that knows the library for it.

use super::courier::{Receiver, Refusal};
use super::message::{Message, clean};
use crate::config::{Mail as Settings, MailSecurity};
use lettre::message::header::{ContentType, HeaderName, HeaderValue};
use lettre::message::{Mailbox, MessageBuilder};
use lettre::transport::smtp::SmtpTransportBuilder;
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::extension::ClientId;
use lettre::{SmtpTransport, Transport as _};
use std::io;
use std::time::Duration;

const TOLD_CHARS: usize = 200;

/// See the module.
pub(super) struct Mail {
    transport: SmtpTransport,
    settings: Settings,
    /// For the ids of mails.
    host: String,
}

/// Whether it is `NAME@HOST` or `Name <NAME@HOST>`.
pub(crate) fn is_mailbox(text: &str) -> bool {
    text.is_ascii() && text.parse::<Mailbox>().is_ok()
}

impl Mail {
    /// # Errors
    /// TLS can't be set up for this server.
    pub(super) fn new(settings: &Settings, timeout: Duration, host: &str) -> Result<Self, String> {
        let label = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '.' | '-') { c } else { '-' };
        let host: String = host.chars().map(label).collect();
        let builder = SmtpTransport::builder_dangerous(settings.host.as_str())
            .port(settings.port)
            .hello_name(ClientId::Domain(host.clone()))
            .timeout(Some(timeout));
        let mut builder = protected(builder, settings)?;
        if let Some((user, password)) = &settings.login {
            builder = builder.credentials(Credentials::new(user.clone(), password.clone()));
        }
        Ok(Self { transport: builder.build(), settings: settings.clone(), host })
    }

    fn letter(&self, message: &Message) -> Result<lettre::Message, String> {
        let mailbox = |text: &String| text.parse::<Mailbox>().map_err(|e| format!("{text:?} is no address: {e}"));
        let mut builder = MessageBuilder::new()
            .from(mailbox(&self.settings.from)?)
            .subject(message.subject())
            .message_id(Some(format!("<{}@{}>", message.id(), self.host)))
            // Nobody's automatic answer to a machine.
            .raw_header(header("Auto-Submitted", "auto-generated"))
            .raw_header(header("X-Auto-Response-Suppress", "All"))
            .header(ContentType::TEXT_PLAIN)
            .date_now();
        for to in &self.settings.to {
            builder = builder.to(mailbox(to)?);
        }
        builder.body(message.body()).map_err(|e| e.to_string())
    }
}

fn header(name: &'static str, value: &str) -> HeaderValue {
    HeaderValue::new(HeaderName::new_from_ascii_str(name), value.to_owned())
}

#[cfg(feature = "tls")]
fn protected(builder: SmtpTransportBuilder, settings: &Settings) -> Result<SmtpTransportBuilder, String> {
    use lettre::transport::smtp::client::{Tls, TlsParameters};
    let parameters = || TlsParameters::new(settings.host.clone()).map_err(|e| format!("TLS can't be set up: {e}"));
    Ok(builder.tls(match settings.security {
        MailSecurity::StartTls => Tls::Required(parameters()?),
        MailSecurity::Tls => Tls::Wrapper(parameters()?),
        MailSecurity::None => Tls::None,
    }))
}

#[cfg(not(feature = "tls"))]
fn protected(builder: SmtpTransportBuilder, settings: &Settings) -> Result<SmtpTransportBuilder, String> {
    match settings.security {
        MailSecurity::None => Ok(builder),
        // The configuration has refused it before.
        MailSecurity::StartTls | MailSecurity::Tls => Err("this build does not know TLS".to_owned()),
    }
}

impl Receiver for Mail {
    fn deliver(&mut self, message: &Message) -> Result<String, Refusal> {
        let refusal = |why: String| Refusal { why, retry_after_ms: None };
        let letter = self.letter(message).map_err(refusal)?;
        match self.transport.send(&letter) {
            Ok(answer) => {
                let said: Vec<&str> = answer.message().collect();
                Ok(format!("SMTP {} {}", answer.code(), clean(said.join(" ").trim(), TOLD_CHARS)).trim().to_owned())
            }
            Err(error) => Err(refusal(told(&error, &self.settings))),
        }
    }
}

fn told(error: &lettre::transport::smtp::Error, settings: &Settings) -> String {
    if is_silence(error) {
        return "no answer in time (alerts.timeout)".to_owned();
    }
    let said = clean(&error.to_string(), TOLD_CHARS);
    let cure = match error.status().map(|code| code.to_string()).as_deref() {
        Some("535" | "534" | "530") => ": look at `user` and `password`",
        Some("550" | "551" | "553" | "554") => ": look at `from` and `to`",
        None if error.is_client() && settings.security == MailSecurity::StartTls => {
            ": `security = \"tls\"` is for port 465"
        }
        None if said.contains("certificate") => ": is it one that an authority of this machine vouches for?",
        None if said.contains("SSL routines") => ": look at `security` and at the port",
        _ => "",
    };
    format!("{said}{cure}")
}

/// Whether the other side said nothing in time, which a socket tells in two ways.
fn is_silence(error: &lettre::transport::smtp::Error) -> bool {
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        if let Some(io) = error.downcast_ref::<io::Error>() {
            return matches!(io.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut);
        }
        cause = error.source();
    }
    false
}
