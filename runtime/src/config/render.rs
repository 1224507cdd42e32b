//! Configuration as resolved, written as TOML: read back it gives the same, but for what is hidden.

use super::document::{join, quote};
use super::units::{show_duration, show_size};
use super::{
    Alerts, BrokerKind, Format, From, HeaderStyle, Host, Http, OnLoss, Pattern, Pipeline, Token, WebhookFormat,
    is_secret,
};
use crate::alerts::shown_url;
use crate::rollout::trial::Terms;
use keyrail_engine::policy::{Absent, Breaker, Dedup, Guarantee, IdFrom, NullKey, OrderBy, Policy, Scope, Spent};
use keyrail_engine::state::schema::Schemas;
use std::fmt::Display;
use std::path::Path;

/// Stands for a value that must not be shown.
const HIDDEN: &str = "***";

/// Lines of TOML.
struct Page(String);

impl Page {
    fn section(&mut self, name: &str) {
        let gap = if self.0.is_empty() { "" } else { "\n" };
        self.0 += &format!("{gap}[{name}]\n");
    }

    fn text(&mut self, key: &str, value: &str) {
        self.plain(key, quote(value));
    }

    fn plain(&mut self, key: &str, value: impl Display) {
        self.0 += &format!("{key} = {value}\n");
    }

    fn duration(&mut self, key: &str, ms: u64) {
        self.text(key, &show_duration(ms));
    }

    fn size(&mut self, key: &str, bytes: u64) {
        self.text(key, &show_size(bytes));
    }
}

/// A value that is not replaced again when read.
fn literal(value: &str) -> String {
    value.replace("${", "$${")
}

pub(super) fn host(host: &Host) -> String {
    let mut page = Page(String::new());
    let embedded = host.broker == BrokerKind::Embedded;
    page.text("broker", if embedded { "embedded" } else { "kafka" });
    page.duration("shutdown-grace", ms(host.shutdown_grace));
    if !embedded || !host.kafka.is_empty() {
        page.section("kafka");
    }
    for (name, value) in &host.kafka {
        let value = if is_secret(name) { HIDDEN.to_owned() } else { literal(value) };
        page.text(&quote(name), &value);
    }
    page.section("embedded");
    page.text("dir", &literal(&host.embedded.dir.display().to_string()));
    page.plain("partitions", host.embedded.partitions);
    page.text("sync", if host.embedded.sync_full { "full" } else { "normal" });
    page.section("plugins");
    page.text("dir", &literal(&host.plugins_dir.display().to_string()));
    page.duration("poll", ms(host.plugins_poll));
    let keys: Vec<String> = host.trust.keys.iter().map(|key| quote(&literal(key.as_str()))).collect();
    if !keys.is_empty() {
        page.plain("trusted-keys", format!("[{}]", keys.join(", ")));
    }
    page.plain("require-signature", host.trust.required);
    page.section("store");
    page.text("dir", &literal(&host.store_dir.display().to_string()));
    page.section("memory");
    page.size("records", host.records_bytes);
    page.section("admin");
    page.text("listen", &host.admin_listen.to_string());
    match &host.admin_token {
        Some(Token::Given(_)) => page.text("token", &HIDDEN.repeat(6)),
        Some(Token::File(path)) => page.text("token-file", &literal(&path.display().to_string())),
        None => {}
    }
    page.section("logging");
    page.text("level", host.logging.level.as_str());
    let format = match host.logging.format {
        Format::Auto => "auto",
        Format::Text => "text",
        Format::Json => "json",
    };
    page.text("format", format);
    alerts(&mut page, &host.alerts);
    page.0
}

fn alerts(page: &mut Page, alerts: &Alerts) {
    let list = |all: &mut dyn Iterator<Item = &str>| {
        format!("[{}]", all.map(|text| quote(&literal(text))).collect::<Vec<_>>().join(", "))
    };
    page.section("alerts");
    page.plain("kinds", list(&mut alerts.kinds.iter().map(|kind| kind.as_str())));
    page.duration("parked-age", ms(alerts.parked_age));
    page.text("keys", if alerts.shows_keys { "shown" } else { "hidden" });
    page.duration("group-wait", alerts.timing.group_wait_ms);
    page.duration("group-interval", alerts.timing.group_interval_ms);
    page.duration("repeat-interval", alerts.timing.repeat_interval_ms);
    page.duration("timeout", ms(alerts.timeout));
    if let Some(webhook) = &alerts.webhook {
        page.section("alerts.webhook");
        page.text("url", &format!("{}/{HIDDEN}", shown_url(&webhook.url)));
        page.text("format", if webhook.format == WebhookFormat::Keyrail { "keyrail" } else { "alertmanager" });
        webhook.secret.iter().for_each(|_| page.text("secret", HIDDEN));
        webhook.authorization.iter().for_each(|_| page.text("authorization", HIDDEN));
    }
    if let Some(mail) = &alerts.mail {
        page.section("alerts.mail");
        let host = if mail.host.contains(':') { format!("[{}]", mail.host) } else { mail.host.clone() };
        page.text("server", &format!("{host}:{}", mail.port));
        page.text("security", mail.security.as_str());
        page.text("from", &literal(&mail.from));
        page.plain("to", list(&mut mail.to.iter().map(String::as_str)));
        if let Some((user, _)) = &mail.login {
            page.text("user", &literal(user));
            page.text("password", HIDDEN);
        }
    }
}

pub(super) fn pipeline(pipeline: &Pipeline) -> String {
    let mut page = Page(String::new());
    let dir = pipeline.manifest.parent().unwrap_or(Path::new(""));
    let handler = pipeline.handler.strip_prefix(dir).unwrap_or(&pipeline.handler);
    page.text("handler", &literal(&handler.display().to_string()));
    if let Some(digest) = pipeline.sha256 {
        page.text("sha256", &digest.iter().map(|byte| format!("{byte:02x}")).collect::<String>());
    }
    page.plain("input", format!("[{}]", inputs(pipeline).map(quote).collect::<Vec<_>>().join(", ")));
    page.text("group", &pipeline.group);
    let exactly = pipeline.policy.guarantee == Guarantee::ExactlyOnce;
    page.text("guarantee", if exactly { "exactly-once" } else { "at-least-once" });
    page.text("from", if pipeline.from == From::Earliest { "earliest" } else { "latest" });
    page.text("on-loss", if pipeline.on_loss == OnLoss::Stop { "stop" } else { "continue" });
    if let Some(after) = pipeline.policy.expires_after_ms {
        page.duration("expires-after", after);
    }
    if !pipeline.outputs.is_empty() {
        page.section("output");
    }
    for (name, topic) in &pipeline.outputs {
        page.text(&join("", name), topic);
    }
    policy(&mut page, &pipeline.policy, pipeline.http.as_ref());
    dead_letter(&mut page, pipeline);
    page.section("limits");
    page.duration("timeout", pipeline.policy.timeout_ms);
    page.size("memory", pipeline.limits.memory_bytes);
    page.plain("outputs", pipeline.limits.outputs);
    page.size("output-bytes", pipeline.limits.output_bytes);
    if let Some(delay) = pipeline.limits.delay {
        page.duration("delay", u64::try_from(delay.as_millis()).unwrap_or(u64::MAX));
    }
    if let Some(http) = &pipeline.http {
        page.plain("requests", http.requests);
        page.size("response-bytes", http.response_bytes);
        page.section("capabilities");
        let hosts: Vec<String> = http.hosts.iter().map(|host| quote(&literal(&host.to_string()))).collect();
        page.plain("http", format!("[{}]", hosts.join(", ")));
    }
    page.section("commit");
    page.duration("interval", pipeline.policy.commit.interval_ms);
    if let Some(terms) = &pipeline.rollout {
        section_rollout(&mut page, terms, pipeline.audit.as_deref());
    }
    if pipeline.schemas != Schemas::default() {
        section_state(&mut page, &pipeline.schemas);
    }
    if !pipeline.config.is_empty() {
        page.section("config");
    }
    for (name, value) in &pipeline.config {
        let value = if pipeline.config_hidden.contains(name) { HIDDEN.to_owned() } else { literal(value) };
        page.text(&join("", name), &value);
    }
    page.0
}

fn policy(page: &mut Page, policy: &Policy, http: Option<&Http>) {
    let Policy { order, batch, retry, breaker, dedup, .. } = policy;
    page.section("order");
    match &order.by {
        OrderBy::Key => page.text("by", "key"),
        OrderBy::Header(name) => page.text("by", &literal(&format!("header:{name}"))),
        OrderBy::Partition => page.text("by", "partition"),
        OrderBy::None => page.text("by", "none"),
    }
    if matches!(order.by, OrderBy::Key | OrderBy::Header(_)) {
        page.text("null-key", if order.null_key == NullKey::None { "none" } else { "partition" });
    }
    page.text("scope", if order.scope == Scope::Topic { "topic" } else { "inputs" });
    page.section("batch");
    page.plain("max-messages", batch.max_messages);
    page.size("max-bytes", batch.max_bytes);
    page.duration("max-wait", batch.max_wait_ms);
    page.duration("max-time", batch.max_time_ms);
    if let Some(http) = http {
        page.plain("concurrency", http.concurrency);
    }
    if let Some(dedup) = dedup {
        section_dedup(page, dedup);
    }
    page.section("retry");
    page.plain("attempts", retry.attempts);
    let (first, max) = (quote(&show_duration(retry.first_ms)), quote(&show_duration(retry.max_ms)));
    let (factor, jitter) = (retry.factor, retry.jitter);
    page.plain("backoff", format!("{{ first = {first}, factor = {factor:?}, max = {max}, jitter = {jitter:?} }}"));
    if let Some(in_place_ms) = retry.in_place_ms {
        page.duration("in-place", in_place_ms);
    }
    page.duration("max-age", retry.max_age_ms);
    page.text(
        "then",
        match retry.then {
            Spent::DeadLetter => "dead-letter",
            Spent::DeadLetterKey => "dead-letter-key",
            Spent::Discard => "discard",
            Spent::Hold => "hold",
        },
    );
    section_breaker(page, breaker.as_ref());
}

fn section_rollout(page: &mut Page, terms: &Terms, audit: Option<&str>) {
    page.section("rollout");
    page.plain("share", format!("{:?}", terms.share));
    page.duration("for", ms(terms.lasts));
    page.plain("least-messages", terms.least_messages);
    page.plain("failures", format!("{:?}", terms.failures));
    page.plain("slower", format!("{:?}", terms.slower));
    if let Some(topic) = audit {
        page.text("audit", topic);
    }
}

fn section_state(page: &mut Page, schemas: &Schemas) {
    page.section("state");
    page.plain("schema", schemas.own());
    let accepts: Vec<String> = schemas.accepts().map(|schema| schema.to_string()).collect();
    page.plain("accepts", format!("[{}]", accepts.join(", ")));
}

fn section_breaker(page: &mut Page, breaker: Option<&Breaker>) {
    page.section("breaker");
    match breaker {
        Some(breaker) => {
            page.plain("failures", format!("{:?}", breaker.failures));
            page.duration("window", breaker.window_ms);
            page.duration("pause", breaker.pause_ms);
        }
        None => page.plain("failures", "0.0"),
    }
}

fn section_dedup(page: &mut Page, dedup: &Dedup) {
    page.section("dedup");
    match &dedup.id {
        IdFrom::Header(name) => page.text("id", &literal(&format!("header:{name}"))),
        IdFrom::Key => page.text("id", "key"),
        IdFrom::Digest => page.text("id", "digest"),
    }
    page.duration("window", dedup.window_ms);
    if dedup.id != IdFrom::Digest {
        let absent = match dedup.absent {
            Absent::Process => "process",
            Absent::Digest => "digest",
            Absent::DeadLetter => "dead-letter",
        };
        page.text("absent", absent);
    }
}

/// What is named, and the patterns of what is not.
fn inputs(pipeline: &Pipeline) -> impl Iterator<Item = &str> {
    pipeline.input.iter().map(String::as_str).chain(pipeline.patterns.iter().map(Pattern::text))
}

/// One topic for all inputs is told as the key; one for each can only be the default, and is told as a comment.
fn dead_letter(page: &mut Page, pipeline: &Pipeline) {
    let topics = &pipeline.dead_letter.topics;
    page.section("dead-letter");
    match (&pipeline.dead_letter.given, &topics[..]) {
        (Some(given), _) => page.text("topic", given),
        // A pattern's topics will each have their own.
        (None, [only]) if pipeline.patterns.is_empty() => page.text("topic", only),
        _ => topics.iter().for_each(|topic| page.0 += &format!("# topic: {}\n", quote(topic))),
    }
    page.text("headers", if pipeline.dead_letter.headers == HeaderStyle::Keyrail { "keyrail" } else { "spring" });
    page.plain("record", pipeline.dead_letter.record);
}

fn ms(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
