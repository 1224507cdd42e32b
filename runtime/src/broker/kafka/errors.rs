//! What librdkafka's errors mean: what to do next, and the words for a person.

use super::log::broke_early;
use super::native::{Code, Failure};
use super::settings::TRANSACTION_MS;
use crate::broker::{BrokerError, BrokerErrorKind, Refusal};
use std::fmt::Display;
use std::time::{Duration, Instant};

/// Where a client talks to and as whom: what an error names so that a person can act.
#[derive(Debug, Clone, Default)]
pub(super) struct Place {
    pub(super) bootstrap: String,
    pub(super) security_protocol: String,
    pub(super) user: Option<String>,
    pub(super) group: Option<String>,
}

impl Place {
    /// An error with its cause and cure. `doing` names the failed step, as in "asking for committed offsets".
    pub(super) fn explain(&self, doing: &str, failure: &Failure) -> BrokerError {
        let (kind, cure) = self.verdict(failure);
        told(if failure.fatal { BrokerErrorKind::Fatal } else { kind }, doing, failure, &cure)
    }

    /// The same for a step of a transaction. A new producer mends what is fatal to this one, but for the loss of its id.
    pub(super) fn explain_transaction(&self, doing: impl Display, id: &str, failure: &Failure) -> BrokerError {
        use BrokerErrorKind::{Fatal, Operator, Retry, Superseded};
        let (kind, cure) = match failure.code {
            code if is_fenced(code) => (
                Fatal,
                format!(
                    "another process took the transactional id {id:?}, or a transaction was open for longer than {} s",
                    TRANSACTION_MS / 1000
                ),
            ),
            Code::FencedInstanceId => {
                (Superseded, "another member of the group has this \"group.instance.id\"".to_owned())
            }
            Code::TransactionalIdAuthorizationFailed => {
                // Each process has an id of its own, which begins with the group.
                let group = self.group.as_deref().filter(|group| id.starts_with(group));
                let named = group.map_or_else(
                    || format!("--transactional-id {id}"),
                    |group| format!("--resource-pattern-type prefixed --transactional-id {group}"),
                );
                let cure = format!(
                    "{} lacks rights on the transactional id {id:?}: allow WRITE and DESCRIBE (kafka-acls.sh --add \
                     --operation Write --operation Describe {named})",
                    self.user()
                );
                (Operator, cure)
            }
            Code::InvalidTransactionTimeout => {
                (Operator, format!("raise transaction.max.timeout.ms of the broker to at least {TRANSACTION_MS}"))
            }
            Code::UnsupportedFeature => (
                Operator,
                "update the brokers to Kafka 2.5 or later, or set `guarantee = \"at-least-once\"`".to_owned(),
            ),
            _ => match self.verdict(failure) {
                (Fatal, _) => (Retry, String::new()),
                verdict => verdict,
            },
        };
        if kind == Superseded {
            // librdkafka's own words say the same once for each partition.
            return told(kind, doing, &Failure::new(failure.code, failure.code.to_string()), &cure);
        }
        told(kind, doing, failure, &cure)
    }

    fn verdict(&self, failure: &Failure) -> (BrokerErrorKind, String) {
        use BrokerErrorKind::{Fatal, Operator, Retry, Superseded};
        let at = &self.bootstrap;
        let user = self.user();
        match failure.code {
            Code::SSL => (Operator, self.tls_cure(&failure.reason)),
            // A guess from a connection that breaks early, as it also does when a broker stops: not for giving up.
            Code::BrokerTransportFailure if broke_early(&failure.reason) => (
                Retry,
                format!(
                    "if this stays, the listener at {at} speaks another protocol than \"security.protocol\" = {:?} in [kafka]",
                    self.security_protocol
                ),
            ),
            Code::BrokerTransportFailure if failure.reason.contains("PLAINTEXT") => {
                (Operator, format!("if this stays, {}", self.tls_cure(&failure.reason)))
            }
            // Names come with their hosts, where all of a deployment starts at once.
            Code::Resolve => (
                Retry,
                format!(
                    "no host of that name is known: correct \"bootstrap.servers\" ({at}) in [kafka], or let the name server know it"
                ),
            ),
            Code::BrokerTransportFailure | Code::AllBrokersDown | Code::OperationTimedOut | Code::TimedOutQueue => (
                Retry,
                format!("is a broker running at {at}? If not, start it or correct \"bootstrap.servers\" in [kafka]"),
            ),
            Code::Authentication | Code::SaslAuthenticationFailed | Code::IllegalSASLState => (
                Operator,
                format!(
                    "{at} refuses the login of {user}: check \"sasl.username\", \"sasl.password\" and \"sasl.mechanism\" in [kafka]"
                ),
            ),
            Code::UnsupportedSASLMechanism => {
                (Operator, format!("{at} doesn't offer this login: check \"sasl.mechanism\" in [kafka]"))
            }
            Code::IllegalGeneration | Code::RebalanceInProgress => {
                (Superseded, "the group rebalances: what this member keeps can be committed again after it".to_owned())
            }
            Code::UnknownMemberId | Code::StaleMemberEpoch | Code::FencedMemberEpoch | Code::AssignmentLost => {
                (Superseded, "the group gave this member's partitions away".to_owned())
            }
            Code::PollExceeded => (
                Superseded,
                "this process did not poll for \"max.poll.interval.ms\" and left the group; it joins again".to_owned(),
            ),
            Code::Fatal
            | Code::Fenced
            | Code::FencedInstanceId
            | Code::UnreleasedInstanceId
            | Code::ProducerFenced
            | Code::InvalidProducerEpoch
            | Code::BrokerDestroy => (Fatal, String::new()),
            _ => self.verdict_on_the_request(failure.code).map_or((Retry, String::new()), |cure| (Operator, cure)),
        }
    }

    /// What a person must change so that the broker takes the request; `None` when nothing is known.
    fn verdict_on_the_request(&self, code: Code) -> Option<String> {
        let at = &self.bootstrap;
        let user = self.user();
        let group = self.group.as_deref().unwrap_or_default();
        Some(match code {
            Code::TopicAuthorizationFailed => format!(
                "{user} lacks rights on the topic: allow READ on inputs, WRITE on outputs and dead-letter topics, both on topics of seen ids, CREATE on what is to be made"
            ),
            Code::GroupAuthorizationFailed => format!(
                "{user} lacks rights on the group {group:?}: allow READ on it (kafka-acls.sh --add --operation Read --group {group})"
            ),
            Code::ClusterAuthorizationFailed => format!(
                "{user} lacks rights: allow WRITE on outputs and dead-letter topics (on brokers before 3.0 also IDEMPOTENT_WRITE on the cluster), CREATE on what is to be made"
            ),
            Code::UnknownTopicOrPartition | Code::UnknownTopic | Code::UnknownPartition | Code::UnknownTopicId => {
                format!("no such topic at {at}: create it, or correct its name")
            }
            Code::InvalidTopic => "topic names have 1 to 249 of a-z, A-Z, 0-9, '.', '_' and '-'".to_owned(),
            Code::InconsistentGroupProtocol => format!(
                "the group {group:?} has members with another \"partition.assignment.strategy\": use one for all, or another group"
            ),
            Code::OffsetMetadataTooLarge => {
                "raise offset.metadata.max.bytes of the broker to its default of 4096".to_owned()
            }
            Code::PolicyViolation | Code::InvalidConfig | Code::InvalidReplicationFactor | Code::InvalidPartitions => {
                String::new()
            }
            Code::GroupMaxSizeReached => {
                format!("the group {group:?} is full: raise group.max.size of the broker or run fewer workers")
            }
            _ => return None,
        })
    }

    fn user(&self) -> String {
        self.user.as_deref().map_or_else(|| "this client".to_owned(), |u| format!("user {u:?}"))
    }

    fn tls_cure(&self, reason: &str) -> String {
        let at = &self.bootstrap;
        if reason.contains("PLAINTEXT") || reason.contains("wrong version number") || reason.contains("record layer") {
            format!(
                "the listener at {at} speaks no TLS, while \"security.protocol\" = {:?} in [kafka] asks for it",
                self.security_protocol
            )
        } else if reason.contains("hostname") || reason.contains("IP address mismatch") {
            "the broker's certificate is made out for another name: use that name in \"bootstrap.servers\" and in the \
             broker's advertised.listeners"
                .to_owned()
        } else if reason.contains("certificate required") || reason.contains("bad certificate") {
            "the broker asks for a client certificate: set \"ssl.certificate.location\" and \"ssl.key.location\" in [kafka]"
                .to_owned()
        } else {
            "set \"ssl.ca.location\" in [kafka] to the certificate of the authority that signed the broker's".to_owned()
        }
    }

    /// What a failed record means.
    pub(super) fn refusal(&self, topic: &str, failure: &Failure) -> Refusal {
        let told = self.explain(&format!("producing to {topic:?}"), failure).message;
        match failure.code {
            Code::MessageSizeTooLarge
            | Code::MessageBatchTooLarge
            | Code::InvalidMessageSize
            | Code::InvalidRecord
            | Code::InvalidTimestamp
            | Code::BadMessage
            | Code::UnsupportedForMessageFormat => Refusal::Undeliverable(told),
            Code::Fatal
            | Code::Fenced
            | Code::ProducerFenced
            | Code::InvalidProducerEpoch
            | Code::OutOfOrderSequenceNumber
            | Code::GaplessGuarantee
            | Code::BrokerDestroy => Refusal::Fenced(told),
            // InvalidDifferentRecord among them: another record of the batch was refused, this one may pass alone. And
            // InvalidMessage: a checksum that did not match, which is the way's fault.
            _ => Refusal::Blocked(told),
        }
    }
}

/// Whether a producer with a higher epoch has the transactional id.
pub(super) fn is_fenced(code: Code) -> bool {
    matches!(code, Code::Fenced | Code::ProducerFenced | Code::InvalidProducerEpoch)
}

fn told(kind: BrokerErrorKind, doing: impl Display, failure: &Failure, cure: &str) -> BrokerError {
    let mut message = format!("{doing}: {}", failure.reason.trim());
    if !cure.is_empty() {
        message.push_str("; ");
        message.push_str(cure);
    }
    BrokerError { kind, message }
}

/// Whether waiting can't help: the broker said no, or its certificate did.
pub(super) fn is_verdict(code: Code) -> bool {
    matches!(
        code,
        Code::SSL
            | Code::Authentication
            | Code::SaslAuthenticationFailed
            | Code::UnsupportedSASLMechanism
            | Code::IllegalSASLState
    )
}

/// librdkafka tells of a broken connection at each attempt; one telling in this time is enough.
const REPEAT_AFTER: Duration = Duration::from_secs(30);

/// Lets an error through once in a while.
#[derive(Debug, Default)]
pub(super) struct Repeats(Vec<((Code, BrokerErrorKind), Instant)>);

impl Repeats {
    pub(super) fn is_new(&mut self, code: Code, kind: BrokerErrorKind, now: Instant) -> bool {
        self.0.retain(|(_, at)| now.duration_since(*at) < REPEAT_AFTER);
        let new = !self.0.iter().any(|(told, _)| *told == (code, kind));
        if new {
            self.0.push(((code, kind), now));
        }
        new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_passes_is_waited_for_and_an_unknown_member_has_lost_all() {
        let told = |code| Place::default().explain("committing offsets", &Failure::new(code, "why"));
        for code in [Code::IllegalGeneration, Code::RebalanceInProgress] {
            let error = told(code);
            assert_eq!(error.kind, BrokerErrorKind::Superseded, "{code:?}");
            assert!(error.message.contains("rebalances") && !error.message.contains("away"), "{error}");
        }
        // A name that is not known yet is waited for, as a broker is that does not listen yet.
        for code in [Code::Resolve, Code::BrokerTransportFailure] {
            let error = told(code);
            assert_eq!(error.kind, BrokerErrorKind::Retry, "{code:?}");
            assert!(error.message.contains("correct \"bootstrap.servers\""), "{error}");
        }
        for code in [Code::UnknownMemberId, Code::FencedMemberEpoch, Code::AssignmentLost] {
            let error = told(code);
            assert_eq!(error.kind, BrokerErrorKind::Superseded, "{code:?}");
            assert!(error.message.ends_with("the group gave this member's partitions away"), "{error}");
        }
    }

    #[test]
    fn only_the_loss_of_its_id_ends_a_transactional_producer_for_good() {
        let place = Place { user: Some("u".to_owned()), group: Some("g".to_owned()), ..Place::default() };
        let told = |code| {
            let failure = Failure { fatal: true, ..Failure::new(code, "why") };
            place.explain_transaction("committing", "the-id", &failure)
        };
        use BrokerErrorKind::{Fatal, Operator, Retry, Superseded};
        for (code, kind, word) in [
            (Code::Fenced, Fatal, "\"the-id\""),
            (Code::InvalidProducerEpoch, Fatal, "longer than 10 s"),
            (Code::UnknownMemberId, Superseded, "gave this member's partitions away"),
            (Code::IllegalGeneration, Superseded, "rebalances"),
            (Code::FencedInstanceId, Superseded, "group.instance.id"),
            (Code::TransactionalIdAuthorizationFailed, Operator, "user \"u\" lacks rights on the transactional id"),
            (Code::GroupAuthorizationFailed, Operator, "--group g"),
            (Code::InvalidTransactionTimeout, Operator, "transaction.max.timeout.ms"),
            (Code::UnsupportedFeature, Operator, "at-least-once"),
            (Code::InvalidTransactionalState, Retry, "why"),
            (Code::Inconsistent, Retry, "why"),
            (Code::BrokerDestroy, Retry, "why"),
            (Code::OperationTimedOut, Retry, "bootstrap.servers"),
        ] {
            let error = told(code);
            assert_eq!(error.kind, kind, "{code:?}");
            assert!(error.message.starts_with("committing: ") && error.message.contains(word), "{error}");
        }
        let failure = Failure::new(Code::TransactionalIdAuthorizationFailed, "why");
        let told = place.explain_transaction("committing", "g/p-1", &failure).message;
        assert!(told.contains("--resource-pattern-type prefixed --transactional-id g)"), "{told}");
    }

    #[test]
    fn a_damaged_batch_is_the_ways_fault_and_a_refused_record_its_own() {
        let refusal = |code| Place::default().refusal("t", &Failure::new(code, "why"));
        for code in [Code::InvalidMessage, Code::InvalidDifferentRecord, Code::TopicAuthorizationFailed] {
            assert!(matches!(refusal(code), Refusal::Blocked(_)), "{code:?}");
        }
        for code in [Code::InvalidRecord, Code::MessageSizeTooLarge, Code::InvalidTimestamp] {
            assert!(matches!(refusal(code), Refusal::Undeliverable(_)), "{code:?}");
        }
        assert!(matches!(refusal(Code::InvalidProducerEpoch), Refusal::Fenced(_)));
    }
}
