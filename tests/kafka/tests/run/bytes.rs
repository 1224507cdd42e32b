//! Records at the edges of what Kafka allows, through a handler and into the dead letters, byte for byte.

use crate::client::{Rec, read_all, send_all};
use crate::stage::{Setup, Stage, broker};
use crate::worker::Worker;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(60);
const LARGE: &[(&str, &str)] = &[("max.message.bytes", "12000000")];
const ROOM: &str = "[limits]\nmemory = \"256MiB\"\noutput-bytes = \"16MiB\"";

fn edges() -> Vec<Rec> {
    let binary: Vec<u8> = (0..=255).collect();
    let base = Rec { partition: 0, timestamp_ms: 1_790_000_000_123, ..Rec::default() };
    let many = (0..1000).map(|n| (format!("h{}", n % 700), Some(vec![n as u8; n % 5]))).collect();
    let odd = vec![
        ("a".to_owned(), None),
        ("a".to_owned(), Some(vec![])),
        ("\u{e4}".to_owned(), Some(binary.clone())),
        (String::new(), Some(b"no name".to_vec())),
    ];
    vec![
        base.clone(),
        Rec { key: Some(vec![]), value: Some(vec![]), ..base.clone() },
        Rec { key: Some(b"tombstone".to_vec()), ..base.clone() },
        Rec { value: Some(b"no key".to_vec()), ..base.clone() },
        Rec { key: Some(binary.clone()), value: Some(binary), headers: odd, ..base.clone() },
        Rec { key: Some(b"many".to_vec()), value: Some(b"v".to_vec()), headers: many, ..base.clone() },
        Rec { key: Some(b"large".to_vec()), value: Some(vec![0x5a; 10 << 20]), ..base.clone() },
        Rec { key: Some(vec![0xff; 1 << 20]), value: Some(b"large key".to_vec()), ..base },
    ]
}

fn short(rec: &Rec) -> String {
    let length = |bytes: &Option<Vec<u8>>| bytes.as_ref().map(Vec::len);
    format!("key of {:?} B, value of {:?} B, {} headers", length(&rec.key), length(&rec.value), rec.headers.len())
}

#[test]
fn records_at_the_edges_come_out_as_they_came_in() {
    let test = "records_at_the_edges_come_out_as_they_came_in";
    let Some(kafka) = broker(test) else { return };
    let setup = Setup { guest: "identity", partitions: 1, topics: LARGE, tables: ROOM, ..Setup::default() };
    let stage = Stage::new(test, kafka, &setup);
    send_all(kafka, &stage.input, &edges());
    let mut worker = Worker::start(&stage, 0);
    stage.wait_settled(&[&worker], 0, LIMIT);
    assert_eq!(read_all(kafka, &stage.letters).iter().map(short).collect::<Vec<_>>(), [""; 0], "{}", worker.tail());
    let mut out = read_all(kafka, &stage.output);
    for wanted in edges() {
        let same = |r: &Rec| (&r.key, &r.value, &r.headers) == (&wanted.key, &wanted.value, &wanted.headers);
        let found = out.iter().position(same).unwrap_or_else(|| panic!("{} did not come out", short(&wanted)));
        assert_eq!(out.swap_remove(found).timestamp_ms, wanted.timestamp_ms);
    }
    assert_eq!(out.len(), 0);
    worker.stop(Duration::from_secs(15));
}

#[test]
fn records_at_the_edges_are_byte_exact_in_dead_letters() {
    let test = "records_at_the_edges_are_byte_exact_in_dead_letters";
    let Some(kafka) = broker(test) else { return };
    // The scripted handler refuses all of them: none is a script.
    let setup = Setup { partitions: 1, topics: LARGE, tables: ROOM, ..Setup::default() };
    let stage = Stage::new(test, kafka, &setup);
    send_all(kafka, &stage.input, &edges());
    let mut worker = Worker::start(&stage, 0);
    stage.wait_settled(&[&worker], 0, LIMIT);
    let mut letters = read_all(kafka, &stage.letters);
    letters.sort_by_key(|l| l.told("keyrail-offset").parse::<i64>().unwrap());
    assert_eq!(letters.len(), edges().len(), "{}", worker.tail());
    for (n, (letter, wanted)) in letters.iter().zip(edges()).enumerate() {
        assert!(letter.key == wanted.key && letter.value == wanted.value, "{} of {}", short(letter), short(&wanted));
        let (own, ours) = letter.headers.split_at(wanted.headers.len());
        assert!(own == wanted.headers, "the message's own headers come first, as they were: {}", short(&wanted));
        assert!(ours.iter().all(|(name, _)| name.starts_with("keyrail-")), "{ours:?}");
        assert_eq!(letter.told("keyrail-timestamp"), wanted.timestamp_ms.to_string());
        assert_eq!(letter.told("keyrail-offset"), n.to_string());
        assert_eq!(
            (letter.told("keyrail-reason"), letter.told("keyrail-code")),
            ("rejected".into(), "bad-script".into())
        );
    }
    worker.stop(Duration::from_secs(15));
}
