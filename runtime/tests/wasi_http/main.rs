//! `wasi:http` for a handler that was built with it (`tests/guests/outgoing`), in the real host: with answers that a test makes up,
//! and with a server on loopback.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod answers;
mod misuse;
mod server;

use answers::{Answers, header};
use keyrail::http::Fetch;
use keyrail::record::{RecordBuilder, TopicPartition};
use keyrail::wasm::{CallFailure, Delivery, Handler, Host, HostOptions, Instance, Limits, Outcome, Setup};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};
use wit_component::ComponentEncoder;

const NOW_MS: i64 = 1_700_000_000_000;
/// Long enough for any machine.
const DEADLINE: Duration = Duration::from_secs(60);

/// The handler as a component; `None`, noted, where it is not built.
fn handler(test: &str) -> Option<Handler> {
    static HANDLER: OnceLock<Handler> = OnceLock::new();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let guests = std::env::var_os("KEYRAIL_GUESTS").map_or_else(|| root.join("target/guests"), PathBuf::from);
    let file = guests.join("outgoing.wasm");
    let Ok(module) = std::fs::read(&file) else {
        skip(test, &format!("no {}; cargo xtask test builds it", file.display()));
        return None;
    };
    let handler = HANDLER.get_or_init(|| {
        let component = ComponentEncoder::default().validate(true).module(&module).unwrap().encode().unwrap();
        Host::new(HostOptions::default()).unwrap().load("outgoing", &component).unwrap()
    });
    Some(handler.clone())
}

fn skip(test: &str, why: &str) {
    println!("SKIP {test}: {why}");
    if let Some(list) = std::env::var_os("KEYRAIL_SKIPS") {
        let mut file = std::fs::OpenOptions::new().append(true).create(true).open(list).unwrap();
        writeln!(file, "{test}: {why}").unwrap();
    }
}

/// An instance whose requests are answered there.
fn open(test: &str, outside: Option<Arc<dyn Fetch>>, limits: &Limits) -> Option<Instance> {
    let setup = Setup {
        handler: "outgoing".to_owned(),
        topics: vec!["orders".to_owned()],
        group: "test".to_owned(),
        outputs: vec!["out".to_owned()],
        max_batch: 256,
        ..Setup::default()
    };
    let mut instance = handler(test)?.open(&setup, limits).unwrap();
    if let Some(outside) = outside {
        instance.reach(outside);
    }
    Some(instance)
}

/// The message that asks for it, and says how it is traced.
fn delivery(command: &str, offset: i64) -> Delivery {
    let mut record = RecordBuilder::new(None, Some(command.as_bytes()));
    record.header(b"traceparent", Some(b"00-1-2-01"));
    let record = record.build(TopicPartition { topic: 0, partition: 3 }, offset, 5);
    Delivery { record, timer: None, attempt: 1, follows_dead_letter: false }
}

/// What the handler says to each of the commands, in one call.
fn call(instance: &mut Instance, commands: &[&str], deadline: Duration) -> Result<Vec<String>, CallFailure> {
    let mut batch: Vec<_> = (7..).zip(commands).map(|(offset, command)| delivery(command, offset)).collect();
    let answer = instance.process(&mut batch, NOW_MS, deadline)?;
    assert!(answer.outcomes.iter().all(|outcome| *outcome == Outcome::Done), "{:?}", answer.outcomes);
    let slots = 0..commands.len() as u32;
    let said = slots.flat_map(|slot| answer.effects.of(slot)).map(|send| send.value.unwrap().to_vec());
    Ok(said.map(|said| String::from_utf8(said).unwrap()).collect())
}

fn ask(instance: &mut Instance, command: &str) -> String {
    let said = call(instance, &[command], DEADLINE).unwrap();
    assert_eq!(said.len(), 1);
    said.concat()
}

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// What is logged on this thread.
fn logged(run: impl FnOnce()) -> String {
    let lines = Lines::default();
    let writer = lines.clone();
    let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
    tracing::subscriber::with_default(subscriber, run);
    let lines = lines.0.lock().unwrap();
    String::from_utf8(lines.clone()).unwrap()
}

/// An instance of its own for one command.
fn told(test: &str, answers: &Arc<Answers>, command: &str) -> Option<String> {
    open(test, Some(answers.clone()), &Limits::default()).map(|mut instance| ask(&mut instance, command))
}

#[test]
fn a_request_is_sent_as_it_was_made_and_its_answer_read() {
    let answers = Answers::new();
    let Some(said) = told("a_request_is_sent", &answers, "get a.test:81 /hello?x=1") else { return };
    assert_eq!(said, "200 [x-a=1,x-a=2] hello");
    let [sent] = answers.sent().try_into().unwrap();
    assert_eq!((sent.method.as_str(), sent.url.as_str()), ("GET", "http://a.test:81/hello?x=1"));
    assert_eq!((&sent.body, sent.timeout, sent.slot), (&None, None, Some(0)));
    assert_eq!(header(&sent, "idempotency-key"), Some("orders/3/7"));
    assert_eq!(header(&sent, "traceparent"), Some("00-1-2-01"));
}

#[test]
fn a_body_may_be_written_before_or_after_the_request_is_handed_over() {
    for order in ["post", "write-first"] {
        let answers = Answers::new();
        let Some(said) = told("a_body_may_be_written", &answers, &format!("{order} a.test:81 words")) else { return };
        assert_eq!(said, "200 [x-a=1,x-a=2] hello", "{order}");
        let [sent] = answers.sent().try_into().unwrap();
        assert_eq!((sent.method.as_str(), sent.url.as_str()), ("POST", "http://a.test:81/post?a=b"));
        assert_eq!(sent.body.as_deref(), Some(&b"words\0"[..]), "{order}");
        assert_eq!(sent.timeout, Some(Duration::from_secs(3)), "the sum of its parts");
        assert_eq!(header(&sent, "content-type"), Some("text/plain"));
        assert_eq!(header(&sent, "content-length"), None, "the client sets it");
    }
}

#[test]
fn requests_begun_before_the_first_is_waited_for_are_under_way_together() {
    let answers = Answers::new();
    let command = "several a.test:80 /held/a /held/b /held/c";
    let Some(said) = told("requests_begun", &answers, command) else { return };
    // Nobody answers before all three were started, and then the last is answered first.
    let mut names: Vec<_> = said.split(' ').collect();
    names.sort_unstable();
    assert_eq!(names, ["/held/a", "/held/b", "/held/c"]);
    assert_eq!(answers.sent().len(), 3);
}

#[test]
fn only_a_call_of_one_message_knows_whose_request_it_is() {
    let answers = Answers::new();
    let Some(mut instance) = open("only_a_call", Some(answers.clone()), &Limits::default()) else { return };
    call(&mut instance, &["get a.test:80 /", "get a.test:80 /"], DEADLINE).unwrap();
    assert!(answers.sent().iter().all(|sent| sent.slot.is_none() && header(sent, "idempotency-key").is_none()));
    let twice = ["post a.test:80 x", "several a.test:80 / /"];
    for command in twice {
        ask(&mut instance, command);
    }
    let sent = answers.sent();
    let keys: Vec<_> = sent.iter().filter_map(|sent| header(sent, "idempotency-key")).collect();
    assert_eq!(keys, ["orders/3/7"; 3], "requests that change nothing need no number");
}

#[test]
fn errors_have_codes() {
    let test = "errors_have_codes";
    let cases = [
        ("/denied", "ErrorCode::HttpRequestDenied"),
        ("/invalid", "ErrorCode::InternalError(Some(\"wrong\"))"),
        ("/late", "ErrorCode::HttpResponseTimeout"),
        ("/lost", "ErrorCode::HttpResponseTimeout"),
        ("/down", "ErrorCode::InternalError(Some(\"no route\"))"),
        ("/large", "ErrorCode::HttpResponseBodySize(None)"),
    ];
    for (path, code) in cases {
        let Some(said) = told(test, &Answers::new(), &format!("get a.test:80 {path}")) else { return };
        assert_eq!(said, format!("failed: {code}"), "{path}");
    }
    let lines = logged(|| drop(told(test, &Answers::new(), "get a.test:80 /denied")));
    assert!(lines.contains("WARN keyrail::handler: not granted"), "a code without words: {lines}");
}

#[test]
fn without_a_grant_each_request_is_denied() {
    let Some(mut instance) = open("without_a_grant", None, &Limits::default()) else { return };
    let lines = logged(|| {
        for command in ["get a.test:80 /", "post a.test:80 words", "write-first a.test:80 words"] {
            assert_eq!(ask(&mut instance, command), "failed: ErrorCode::HttpRequestDenied");
        }
    });
    assert_eq!(lines.matches("the manifest grants no HTTP: add the host to capabilities.http").count(), 3, "{lines}");
}

#[test]
fn waiting_ends_with_the_call_s_time_for_requests() {
    let answers = Answers::new();
    let Some(mut instance) = open("waiting_ends", Some(answers), &Limits::default()) else { return };
    let started = Instant::now();
    let said = call(&mut instance, &["get a.test:80 /never"], Duration::from_millis(1_000)).unwrap();
    assert_eq!(said, ["failed: ErrorCode::HttpResponseTimeout"]);
    assert!(started.elapsed() >= Duration::from_millis(900), "{:?}", started.elapsed());
    let waited = instance.waited();
    assert!((Duration::from_millis(700)..=started.elapsed()).contains(&waited), "{waited:?}");
    ask(&mut instance, "options");
    assert_eq!(instance.waited(), Duration::ZERO);
}

#[test]
fn a_clock_that_is_polled_with_a_request_really_passes() {
    let answers = Answers::new();
    let Some(mut instance) = open("a_clock", Some(answers), &Limits::default()) else { return };
    let started = Instant::now();
    assert_eq!(ask(&mut instance, "race a.test:80 /never 200"), "[1] after 200 ms");
    assert!(started.elapsed() >= Duration::from_millis(200), "{:?}", started.elapsed());
    // Nobody waits for the clock alone, and waiting for an answer moves none.
    let started = Instant::now();
    assert_eq!(ask(&mut instance, "race a.test:80 / 3600000"), "[0] after 0 ms");
    assert!(started.elapsed() < DEADLINE);
}

#[test]
fn a_real_server_answers() {
    let test = "a_real_server_answers";
    let server = server::start();
    let outside = server::outside(&server);
    let Some(mut instance) = open(test, Some(outside), &Limits::default()) else { return };
    let said = ask(&mut instance, &format!("post {server} words"));
    let expected = "POST /post?a=b content-length=6 content-type=text/plain idempotency-key=orders/3/7 words\0";
    assert_eq!(said.split_once("] ").unwrap().1, expected);
    let said = ask(&mut instance, &format!("several {server} /1 /2 /3"));
    let mut lines: Vec<_> = said.split("GET ").collect();
    lines.sort_unstable();
    assert_eq!(lines.len(), 4);
    assert!(lines[3].starts_with("/3 "), "{lines:?}");
    assert_eq!(ask(&mut instance, "get 127.0.0.1:1 /"), "failed: ErrorCode::HttpRequestDenied");
}
