//! What a handler can ask of the host.

use super::*;
use std::io::Write;
use std::sync::Mutex;

/// The values that the probe sent for this message.
pub(super) fn ask(instance: &mut Instance, delivery: Delivery) -> Vec<Vec<u8>> {
    let results = instance.results(&mut vec![delivery]).unwrap();
    let [SlotResult { outcome: Outcome::Done, sends, .. }] = &*results else { panic!("{results:?}") };
    sends.iter().map(|send| send.value.as_deref().unwrap().to_vec()).collect()
}

pub(super) fn asked(value: &str) -> Delivery {
    delivery(7, None, Some(value.as_bytes()))
}

fn only(sent: &[Vec<u8>]) -> String {
    assert_eq!(sent.len(), 1);
    String::from_utf8(sent[0].clone()).unwrap()
}

#[test]
fn context_tells_of_the_slot() {
    let mut probe = open("probe");
    assert_eq!(only(&ask(&mut probe, asked("i"))), "refunds/3/7");
    assert_eq!(ask(&mut probe, asked("f")), [[0]]);
    assert_eq!(ask(&mut probe, Delivery { follows_dead_letter: true, ..asked("f") }), [[1]]);
    let time = [NOW_MS.to_le_bytes(), (NOW_MS + 30_000).to_le_bytes()].concat();
    assert_eq!(ask(&mut probe, asked("t")), [time]);
}

#[test]
fn random_numbers_are_the_same_when_a_message_is_run_again_and_others_for_each_attempt() {
    let mut probe = open("probe");
    let first = ask(&mut probe, asked("r"));
    // Pinned: a handler may rely on them from one release to the next.
    let expected = [0x68ad_7b95_76a3_bbc7_u64, 0xdd73_19d4_0ff9_a42b].map(u64::to_le_bytes).concat();
    assert_eq!(first, [expected]);
    assert_eq!(ask(&mut open("probe"), asked("r")), first, "another instance");
    assert_ne!(ask(&mut probe, Delivery { attempt: 2, ..asked("r") }), first);
    assert_ne!(ask(&mut probe, delivery(8, None, Some(b"r"))), first);
}

#[test]
fn headers_are_given_as_they_are() {
    let mut probe = open("probe");
    let with = |value: &[u8], headers: &[(&[u8], Option<&[u8]>)]| {
        let mut builder = RecordBuilder::new(None, Some(value));
        for (name, value) in headers {
            builder.header(name, *value);
        }
        let record = builder.build(TopicPartition { topic: 0, partition: 0 }, 0, 0);
        Delivery { record, timer: None, attempt: 1, follows_dead_letter: false }
    };
    let headers: [(&[u8], Option<&[u8]>); 4] =
        [(b"h", Some(b"first")), (b"\xffx", None), (b"h", Some(b"last\0\xfe")), (b"", Some(b""))];
    assert_eq!(ask(&mut probe, with(b"h", &headers)), [b"last\0\xfe"], "the last of a name wins");
    assert_eq!(ask(&mut probe, with(b"h", &headers[1..2])), Vec::<Vec<u8>>::new(), "no such header");
    assert_eq!(ask(&mut probe, with(b"h", &[(b"h", Some(b"x")), (b"h", None)])), Vec::<Vec<u8>>::new(), "null");
    let names = ask(&mut probe, with(b"n", &headers));
    assert_eq!(names, [&b"h"[..], "\u{fffd}x".as_bytes(), b"h", b""]);
    let many = vec![(&b"name"[..], Some(&b"value"[..])); 1000];
    assert_eq!(ask(&mut probe, with(b"n", &many)).len(), 1000);
}

#[test]
fn what_is_not_there_yet_says_so() {
    let mut probe = open("probe");
    let keyed = |value: &str| delivery(7, Some(b"k"), Some(value.as_bytes()));
    let cases = [
        ("s", "there is no state here: the handler runs without"),
        (
            "c",
            "there are no timers here: they need guarantee = \"exactly-once\" and order.scope = \"topic\"; set those, or don't call timers",
        ),
        (
            "d",
            "there are no delayed sends here: set limits.delay in the manifest, which needs guarantee = \"exactly-once\" and \
             order.scope = \"topic\", or send without a delay",
        ),
    ];
    for (value, expected) in cases {
        assert_eq!(only(&ask(&mut probe, keyed(value))), expected);
    }
    assert!(load("probe").facts().uses_state() && load("probe").facts().uses_timers());
    assert!(uses_state(&bytes("probe")) && !uses_state(&bytes("identity")), "without compiling them");
    assert_eq!(load("identity").facts().imports(), ["emit"]);
}

#[test]
fn a_send_carries_all_its_parts_and_needs_a_known_output() {
    let mut probe = open("probe");
    assert_eq!(ask(&mut probe, asked("o")), [[1]], "error.unknown-output");
    let results = probe.results(&mut batch(&["w"])).unwrap();
    let expected = Sent {
        output: 0,
        key: Some(b"h".to_vec()),
        value: None,
        headers: vec![(b"trace".to_vec(), Some(b"seen".to_vec())), (b"h".to_vec(), None)],
        forward_headers: true,
        timestamp_ms: Some(1234),
    };
    assert_eq!(results, [SlotResult { outcome: Outcome::Done, sends: vec![expected], staged_bytes: 1 + 9 + 1 + 32 }]);
}

#[test]
fn outcomes_carry_what_the_handler_said_and_a_failed_message_stages_nothing() {
    let mut probe = open("probe");
    let mut batch = batch(&["k", "y\u{1b}[1mbad\n\u{0}value", "i"]);
    let results = probe.results(&mut batch).unwrap();
    assert_eq!(results[0], SlotResult { outcome: Outcome::Skip, sends: vec![], staged_bytes: 0 });
    let failure = Failure { code: "trace".to_owned(), detail: "ybad value".to_owned() };
    let retry = Outcome::Retry { failure, delay_ms: Some(1500), outage: true };
    assert_eq!(results[1], SlotResult { outcome: retry, sends: vec![], staged_bytes: 0 });
    assert_eq!(results[2].sends, [send(None, Some(b"refunds/3/2"))]);
}

#[test]
fn metrics_are_summed_over_instances() {
    let handler = load("probe");
    for _ in 0..2 {
        let mut instance = handler.open(&setup("probe"), &Limits::default()).unwrap();
        instance.results(&mut batch(&["g", "g"])).unwrap();
    }
    let expected = MetricSnapshot {
        name: "seen".to_owned(),
        kind: MetricKind::Counter,
        labels: vec![("trace".to_owned(), "seen".to_owned())],
        value: MetricValue::Number(10.0),
    };
    assert_eq!(handler.metrics().snapshot(), [expected]);
}

#[derive(Clone, Default)]
pub(super) struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// What `run` logs at `level` and above, a line each.
pub(super) fn logged(level: tracing::Level, run: impl FnOnce()) -> Vec<String> {
    let lines = Lines::default();
    let writer = lines.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(level)
        .without_time()
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish();
    tracing::subscriber::with_default(subscriber, run);
    let bytes = lines.0.lock().unwrap().clone();
    String::from_utf8(bytes).unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn a_line_is_cleaned_and_carries_pipeline_and_fields() {
    let long = format!("l{}", "ä".repeat(10_000));
    let lines = logged(tracing::Level::INFO, || {
        let mut probe = open("probe");
        assert_eq!(ask(&mut probe, asked("l\u{1b}[31mred\nalert")), [[2]], "the threshold is info");
        assert_eq!(ask(&mut probe, asked(&long)), [[2]]);
    });
    assert_eq!(lines[0], r#" INFO keyrail::handler: lred alert pipeline="probe" fields=trace=seen"#);
    assert_eq!(lines[1].matches('ä').count(), (8192 - 1) / 2, "cut at 8 KiB");
    assert_eq!(lines.len(), 2);
    let lines = logged(tracing::Level::WARN, || {
        assert_eq!(ask(&mut open("probe"), asked("l")), [[3]], "the threshold is warn");
    });
    assert_eq!(lines, Vec::<String>::new());
}
