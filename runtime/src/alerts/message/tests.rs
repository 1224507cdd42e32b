#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use super::super::event::Place;
use super::*;

const NOW: i64 = 1_700_000_000_000;

fn sender() -> Sender {
    let timing = Timing { group_wait_ms: 10_000, group_interval_ms: 300_000, repeat_interval_ms: 14_400_000 };
    Sender { host: "worker-1".to_owned(), config: String::new(), timing }
}

fn told(kind: Kind) -> Told {
    let place = Place { topic: "orders".to_owned(), partition: Some(3) };
    Told {
        pipeline: "payments".to_owned(),
        kind,
        over: false,
        count: 12,
        new: 5,
        times: 1,
        began_ms: NOW - 60_000,
        since_ms: NOW - 60_000,
        last_ms: NOW - 1_000,
        places: vec![(place, 12)],
        elsewhere: 0,
        example: Example {
            topic: Some("orders".to_owned()),
            partition: Some(3),
            offset: Some(17),
            key: Some("cust-42".to_owned()),
            reason: Some("rejected"),
            code: Some("bad-amount".to_owned()),
            detail: Some("-3 is below 0".to_owned()),
        },
    }
}

fn of(told: Told) -> Message {
    message(Parcel { groups: vec![told], missed: 0 }, &sender(), NOW)
}

fn json(message: &Message) -> Value {
    serde_json::from_slice(&message.json()).unwrap()
}

#[test]
fn a_message_says_what_where_since_when_and_what_to_do() {
    let message = of(told(Kind::DeadLetters));
    let text = "FIRING: payments: 12 dead letters\n  since 2023-11-14T22:12:20Z, last 2023-11-14T22:13:19Z, 5 new\n  \
                where: orders/3 (12)\n  one of them: orders/3@17, key cust-42, rejected, code bad-amount, -3 is below 0\n  \
                what to do: see why, and send them back when the cause is cured\n    keyrail dlq list payments\n    \
                keyrail dlq redrive payments\nkeyrail on worker-1, 2023-11-14T22:13:20Z\n";
    assert_eq!(message.body(), text);
    assert_eq!(message.subject(), "[keyrail] FIRING: payments: 12 dead letters");
    let json = json(&message);
    assert_eq!(
        (json["version"].as_u64(), json["status"].as_str(), json["missed"].as_u64()),
        (Some(1), Some("firing"), Some(0))
    );
    let alert = &json["alerts"][0];
    assert_eq!(
        alert["example"],
        serde_json::json!({"topic":"orders","partition":3,"offset":17,"key":"cust-42","reason":"rejected","code":"bad-amount","detail":"-3 is below 0"})
    );
    assert_eq!(
        (alert["kind"].as_str(), alert["count"].as_u64(), alert["new"].as_u64()),
        (Some("dead-letters"), Some(12), Some(5))
    );
    assert_eq!(alert["places"], serde_json::json!([{"topic":"orders","partition":3,"count":12}]));
    assert_eq!(alert["commands"][0], "keyrail dlq list payments");
    assert!(json["text"].as_str().unwrap().contains("key `cust-42`"));
}

#[test]
fn an_alert_keeps_its_id_until_it_is_over() {
    let id = |told: Told| json(&of(told))["alerts"][0]["id"].as_str().unwrap().to_owned();
    let first = id(told(Kind::Breaker));
    assert_eq!(first.len(), 32);
    let over = Told { over: true, last_ms: NOW, count: 3, ..told(Kind::Breaker) };
    assert_eq!(id(over.clone()), first);
    assert_ne!(id(Told { began_ms: NOW, ..told(Kind::Breaker) }), first);
    assert_ne!(id(told(Kind::Held)), first);
    let over = of(over);
    assert_eq!(
        (json(&over)["status"].as_str(), json(&over)["alerts"][0]["commands"].as_array().unwrap().len()),
        (Some("resolved"), 0)
    );
    assert_eq!(over.subject(), "[keyrail] RESOLVED: payments: the breaker is closed: messages run again");
}

#[test]
fn the_command_for_a_held_message_names_it() {
    let held = json(&of(told(Kind::Held)));
    assert_eq!(held["alerts"][0]["commands"][1], "keyrail parked retry payments orders:3:17");
    // What is not plain is one word for a shell.
    let odd = Told { pipeline: "it's; rm -rf /".to_owned(), ..told(Kind::DeadLetters) };
    let sender = Sender { config: " -c '/etc/my keyrail.toml'".to_owned(), ..sender() };
    let odd = json(&message(Parcel { groups: vec![odd], missed: 0 }, &sender, NOW));
    let expected = r"keyrail dlq list 'it'\''s; rm -rf /' -c '/etc/my keyrail.toml'";
    assert_eq!(odd["alerts"][0]["commands"][0], expected);
}

#[test]
fn words_from_outside_forge_nothing() {
    let mut hostile = told(Kind::DeadLetters);
    hostile.example.key = Some("x\r\nBcc: all@example.com\r\n\r\n.\r\nRCPT".to_owned());
    hostile.example.code = Some("<!channel> `rm` <https://evil|click> & \u{202e}gnp".to_owned());
    hostile.example.detail = Some("\u{1b}[2J\u{2028}line\u{200b}\u{feff}".repeat(100));
    let message = of(hostile);
    let lines = of(told(Kind::DeadLetters)).body().lines().count();
    let body = message.body();
    assert_eq!(body.lines().count(), lines, "{body}");
    assert!(!body.contains(['\r', '\u{1b}', '\u{202e}', '\u{2028}', '\u{200b}', '\u{feff}']), "{body:?}");
    assert!(body.contains("x\\u{d}\\u{a}Bcc: all@example.com"), "{body}");
    assert!(body.len() < 4_000);
    let json = json(&message);
    let text = json["text"].as_str().unwrap();
    assert!(text.contains("code `&lt;!channel&gt; 'rm' &lt;https://evil|click&gt; &amp; \\u{202e}gnp`"), "{text}");
    assert!(!text.contains('<') && text.lines().count() == lines, "{text}");
    assert_eq!(text.matches('`').count() % 2, 0, "{text}");
    // Programs get it as it is.
    assert!(json["alerts"][0]["example"]["key"].as_str().unwrap().starts_with("x\r\nBcc"));
    assert!(!message.subject().contains(['\r', '\n']) && !message.subject().contains("evil"));
    let chars = clean(&"k".repeat(1_000), 10);
    assert_eq!(chars, "kkkkkkkkkk...");
}

#[test]
fn several_alerts_are_one_message() {
    let over = Told { over: true, pipeline: "orders".to_owned(), ..told(Kind::Breaker) };
    let parcel = Parcel { groups: vec![told(Kind::Loss), over], missed: 7 };
    let message = message(parcel, &sender(), NOW);
    assert_eq!(message.subject(), "[keyrail] FIRING: 2 alerts of orders, payments");
    assert_eq!(json(&message)["status"], "firing");
    assert!(message.body().contains("7 events found no room, counted nowhere else\n"), "{}", message.body());
}

#[test]
fn alertmanager_gets_what_it_takes() {
    let all = |told: Told| serde_json::from_slice::<Value>(&of(told).for_alertmanager()).unwrap();
    let letters = all(told(Kind::DeadLetters));
    assert_eq!(
        letters[0]["labels"],
        serde_json::json!({"alertname":"KeyrailDeadLetters","pipeline":"payments","host":"worker-1","kind":"dead-letters","source":"keyrail"})
    );
    assert_eq!(letters[0]["startsAt"], "2023-11-14T22:12:20Z");
    assert_eq!(letters[0]["endsAt"], "2023-11-14T22:23:20Z", "two intervals after it was sent");
    assert_eq!(all(told(Kind::Breaker))[0]["endsAt"], "2023-11-15T06:13:20Z", "two repeats after it was sent");
    let over = all(Told { over: true, ..told(Kind::Breaker) });
    assert_eq!(over[0]["endsAt"], "2023-11-14T22:13:19Z", "when it was over");
    let labels = |value: &Value| value[0]["labels"].clone();
    assert_eq!(labels(&over), labels(&all(told(Kind::Breaker))), "by them it knows which one is over");
}

#[test]
fn times_are_dates() {
    assert_eq!(utc(0), "1970-01-01T00:00:00Z");
    assert_eq!(utc(NOW), "2023-11-14T22:13:20Z");
    assert_eq!(utc(951_782_400_000), "2000-02-29T00:00:00Z");
    assert_eq!(utc(4_102_444_799_000), "2099-12-31T23:59:59Z");
    assert_eq!((utc(-1), utc(i64::MAX)), ("1970-01-01T00:00:00Z".to_owned(), "9999-12-31T23:59:59Z".to_owned()));
}
