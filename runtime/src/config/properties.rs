//! The properties of librdkafka 2.12.1, from its CONFIGURATION.md: name, kind of value, and what it is an alias of.
//! Those that take a function (`*_cb`, `opaque`, ...) can't stand in a file and are left out.

/// What a property's value may be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Kind {
    /// Any text.
    Text,
    /// `true` or `false`.
    Bool,
    /// A whole number from .. to.
    Whole(i64, i64),
    /// A number from .. to.
    Number(f64, f64),
    /// One of these, in upper or lower case.
    One(&'static [&'static str]),
}

/// A property.
#[derive(Debug)]
pub(super) struct Property {
    /// Its name.
    pub(super) name: &'static str,
    /// What its value may be.
    pub(super) kind: Kind,
    /// The property that this is another name of.
    pub(super) alias_of: Option<&'static str>,
}

use Kind::{Bool, Number, One, Text, Whole};

/// The property of this name.
pub(super) fn find(name: &str) -> Option<&'static Property> {
    PROPERTIES.binary_search_by(|property| property.name.cmp(name)).ok().map(|index| &PROPERTIES[index])
}

const fn plain(name: &'static str, kind: Kind) -> Property {
    Property { name, kind, alias_of: None }
}

const fn alias(name: &'static str, of: &'static str, kind: Kind) -> Property {
    Property { name, kind, alias_of: Some(of) }
}

/// Every property, by name.
#[rustfmt::skip]
pub(super) static PROPERTIES: [Property; 164] = [
    alias("acks", "request.required.acks", Whole(-1, 1000)),
    plain("allow.auto.create.topics", Bool),
    plain("api.version.fallback.ms", Whole(0, 604_800_000)),
    plain("api.version.request", Bool),
    plain("api.version.request.timeout.ms", Whole(1, 300_000)),
    plain("auto.commit.enable", Bool),
    plain("auto.commit.interval.ms", Whole(0, 86_400_000)),
    plain("auto.offset.reset", One(&["smallest", "earliest", "beginning", "largest", "latest", "end", "error"])),
    plain("batch.num.messages", Whole(1, 1_000_000)),
    plain("batch.size", Whole(1, 2_147_483_647)),
    alias("bootstrap.servers", "metadata.broker.list", Text),
    plain("broker.address.family", One(&["any", "v4", "v6"])),
    plain("broker.address.ttl", Whole(0, 86_400_000)),
    plain("broker.version.fallback", Text),
    plain("builtin.features", Text),
    plain("check.crcs", Bool),
    plain("client.dns.lookup", One(&["use_all_dns_ips", "resolve_canonical_bootstrap_servers_only"])),
    plain("client.id", Text),
    plain("client.rack", Text),
    plain("compression.codec", One(&["none", "gzip", "snappy", "lz4", "zstd"])),
    plain("compression.level", Whole(-1, 12)),
    alias("compression.type", "compression.codec", One(&["none", "gzip", "snappy", "lz4", "zstd"])),
    plain("connections.max.idle.ms", Whole(0, 2_147_483_647)),
    plain("consume.callback.max.messages", Whole(0, 1_000_000)),
    plain("coordinator.query.interval.ms", Whole(1, 3_600_000)),
    plain("debug", Text),
    plain("delivery.report.only.error", Bool),
    alias("delivery.timeout.ms", "message.timeout.ms", Whole(0, 2_147_483_647)),
    plain("enable.auto.commit", Bool),
    plain("enable.auto.offset.store", Bool),
    plain("enable.gapless.guarantee", Bool),
    plain("enable.idempotence", Bool),
    plain("enable.metrics.push", Bool),
    plain("enable.partition.eof", Bool),
    plain("enable.random.seed", Bool),
    plain("enable.sasl.oauthbearer.unsecure.jwt", Bool),
    plain("enable.ssl.certificate.verification", Bool),
    plain("enabled_events", Whole(0, 2_147_483_647)),
    plain("fetch.error.backoff.ms", Whole(0, 300_000)),
    plain("fetch.max.bytes", Whole(0, 2_147_483_135)),
    plain("fetch.message.max.bytes", Whole(1, 1_000_000_000)),
    plain("fetch.min.bytes", Whole(1, 100_000_000)),
    plain("fetch.queue.backoff.ms", Whole(0, 300_000)),
    plain("fetch.wait.max.ms", Whole(0, 300_000)),
    plain("group.id", Text),
    plain("group.instance.id", Text),
    plain("group.protocol", One(&["classic", "consumer"])),
    plain("group.protocol.type", Text),
    plain("group.remote.assignor", Text),
    plain("heartbeat.interval.ms", Whole(1, 3_600_000)),
    plain("https.ca.location", Text),
    plain("https.ca.pem", Text),
    plain("internal.termination.signal", Whole(0, 128)),
    plain("isolation.level", One(&["read_uncommitted", "read_committed"])),
    alias("linger.ms", "queue.buffering.max.ms", Number(0.0, 900_000.0)),
    plain("log.connection.close", Bool),
    plain("log.queue", Bool),
    plain("log.thread.name", Bool),
    plain("log_level", Whole(0, 7)),
    alias("max.in.flight", "max.in.flight.requests.per.connection", Whole(1, 1_000_000)),
    plain("max.in.flight.requests.per.connection", Whole(1, 1_000_000)),
    alias("max.partition.fetch.bytes", "fetch.message.max.bytes", Whole(1, 1_000_000_000)),
    plain("max.poll.interval.ms", Whole(1, 86_400_000)),
    plain("message.copy.max.bytes", Whole(0, 1_000_000_000)),
    plain("message.max.bytes", Whole(1000, 1_000_000_000)),
    plain("message.send.max.retries", Whole(0, 2_147_483_647)),
    plain("message.timeout.ms", Whole(0, 2_147_483_647)),
    plain("metadata.broker.list", Text),
    plain("metadata.max.age.ms", Whole(1, 86_400_000)),
    plain("metadata.recovery.rebootstrap.trigger.ms", Whole(0, 2_147_483_647)),
    plain("metadata.recovery.strategy", One(&["none", "rebootstrap"])),
    plain("offset.store.method", One(&["none", "file", "broker"])),
    plain("offset.store.path", Text),
    plain("offset.store.sync.interval.ms", Whole(-1, 86_400_000)),
    plain("partition.assignment.strategy", Text),
    plain("partitioner", Text),
    plain("plugin.library.paths", Text),
    plain("produce.offset.report", Bool),
    plain("queue.buffering.backpressure.threshold", Whole(1, 1_000_000)),
    plain("queue.buffering.max.kbytes", Whole(1, 2_147_483_647)),
    plain("queue.buffering.max.messages", Whole(0, 2_147_483_647)),
    plain("queue.buffering.max.ms", Number(0.0, 900_000.0)),
    plain("queued.max.messages.kbytes", Whole(1, 2_097_151)),
    plain("queued.min.messages", Whole(1, 10_000_000)),
    plain("queuing.strategy", One(&["fifo", "lifo"])),
    plain("receive.message.max.bytes", Whole(1000, 2_147_483_647)),
    plain("reconnect.backoff.jitter.ms", Whole(0, 3_600_000)),
    plain("reconnect.backoff.max.ms", Whole(0, 3_600_000)),
    plain("reconnect.backoff.ms", Whole(0, 3_600_000)),
    plain("request.required.acks", Whole(-1, 1000)),
    plain("request.timeout.ms", Whole(1, 900_000)),
    alias("retries", "message.send.max.retries", Whole(0, 2_147_483_647)),
    plain("retry.backoff.max.ms", Whole(1, 300_000)),
    plain("retry.backoff.ms", Whole(1, 300_000)),
    plain("sasl.kerberos.keytab", Text),
    plain("sasl.kerberos.kinit.cmd", Text),
    plain("sasl.kerberos.min.time.before.relogin", Whole(0, 86_400_000)),
    plain("sasl.kerberos.principal", Text),
    plain("sasl.kerberos.service.name", Text),
    alias("sasl.mechanism", "sasl.mechanisms", Text),
    plain("sasl.mechanisms", Text),
    plain("sasl.oauthbearer.assertion.algorithm", One(&["RS256", "ES256"])),
    plain("sasl.oauthbearer.assertion.claim.aud", Text),
    plain("sasl.oauthbearer.assertion.claim.exp.seconds", Whole(1, 2_147_483_647)),
    plain("sasl.oauthbearer.assertion.claim.iss", Text),
    plain("sasl.oauthbearer.assertion.claim.jti.include", Bool),
    plain("sasl.oauthbearer.assertion.claim.nbf.seconds", Whole(0, 2_147_483_647)),
    plain("sasl.oauthbearer.assertion.claim.sub", Text),
    plain("sasl.oauthbearer.assertion.file", Text),
    plain("sasl.oauthbearer.assertion.jwt.template.file", Text),
    plain("sasl.oauthbearer.assertion.private.key.file", Text),
    plain("sasl.oauthbearer.assertion.private.key.passphrase", Text),
    plain("sasl.oauthbearer.assertion.private.key.pem", Text),
    alias("sasl.oauthbearer.client.credentials.client.id", "sasl.oauthbearer.client.id", Text),
    alias("sasl.oauthbearer.client.credentials.client.secret", "sasl.oauthbearer.client.secret", Text),
    plain("sasl.oauthbearer.client.id", Text),
    plain("sasl.oauthbearer.client.secret", Text),
    plain("sasl.oauthbearer.config", Text),
    plain("sasl.oauthbearer.extensions", Text),
    plain("sasl.oauthbearer.grant.type", One(&["client_credentials", "urn:ietf:params:oauth:grant-type:jwt-bearer"])),
    plain("sasl.oauthbearer.metadata.authentication.type", One(&["none", "azure_imds"])),
    plain("sasl.oauthbearer.method", One(&["default", "oidc"])),
    plain("sasl.oauthbearer.scope", Text),
    plain("sasl.oauthbearer.token.endpoint.url", Text),
    plain("sasl.password", Text),
    plain("sasl.username", Text),
    plain("security.protocol", One(&["plaintext", "ssl", "sasl_plaintext", "sasl_ssl"])),
    plain("session.timeout.ms", Whole(1, 3_600_000)),
    plain("socket.blocking.max.ms", Whole(1, 60_000)),
    plain("socket.connection.setup.timeout.ms", Whole(1000, 2_147_483_647)),
    plain("socket.keepalive.enable", Bool),
    plain("socket.max.fails", Whole(0, 1_000_000)),
    plain("socket.nagle.disable", Bool),
    plain("socket.receive.buffer.bytes", Whole(0, 100_000_000)),
    plain("socket.send.buffer.bytes", Whole(0, 100_000_000)),
    plain("socket.timeout.ms", Whole(10, 300_000)),
    plain("ssl.ca.certificate.stores", Text),
    plain("ssl.ca.location", Text),
    plain("ssl.ca.pem", Text),
    plain("ssl.certificate.location", Text),
    plain("ssl.certificate.pem", Text),
    plain("ssl.cipher.suites", Text),
    plain("ssl.crl.location", Text),
    plain("ssl.curves.list", Text),
    plain("ssl.endpoint.identification.algorithm", One(&["none", "https"])),
    plain("ssl.engine.id", Text),
    plain("ssl.engine.location", Text),
    plain("ssl.key.location", Text),
    plain("ssl.key.password", Text),
    plain("ssl.key.pem", Text),
    plain("ssl.keystore.location", Text),
    plain("ssl.keystore.password", Text),
    plain("ssl.providers", Text),
    plain("ssl.sigalgs.list", Text),
    plain("statistics.interval.ms", Whole(0, 86_400_000)),
    plain("sticky.partitioning.linger.ms", Whole(0, 900_000)),
    plain("topic.blacklist", Text),
    plain("topic.metadata.propagation.max.ms", Whole(0, 3_600_000)),
    plain("topic.metadata.refresh.fast.cnt", Whole(0, 1000)),
    plain("topic.metadata.refresh.fast.interval.ms", Whole(1, 60_000)),
    plain("topic.metadata.refresh.interval.ms", Whole(-1, 3_600_000)),
    plain("topic.metadata.refresh.sparse", Bool),
    plain("transaction.timeout.ms", Whole(1000, 2_147_483_647)),
    plain("transactional.id", Text),
];

#[cfg(test)]
mod tests {
    use super::{PROPERTIES, find};

    #[test]
    fn the_table_is_in_order_and_closed() {
        assert!(PROPERTIES.is_sorted_by(|a, b| a.name < b.name));
        for property in &PROPERTIES {
            assert_eq!(find(property.name).map(|found| found.name), Some(property.name));
            if let Some(of) = property.alias_of {
                assert!(find(of).is_some_and(|target| target.alias_of.is_none()), "{}", property.name);
            }
        }
    }
}
