//! Dead letters on a real Kafka, run again offline while a worker runs.

use crate::client::{Rec, read_all, send_all};
use crate::commands::run;
use crate::stage::{Setup, Stage, broker};
use crate::worker::Worker;
use std::time::{Duration, Instant};

const LIMIT: Duration = Duration::from_secs(60);
const TABLES: &str =
    "[dead-letter]\nrecord = true\n[retry]\nattempts = 3\nbackoff = { first = \"5ms\", max = \"5ms\" }\n";

#[test]
fn letters_end_as_they_did_with_either_guarantee() {
    const LETTERS: usize = 60;
    let test = "letters_end_as_they_did_with_either_guarantee";
    let Some(kafka) = broker(test) else { return };
    for guarantee in ["exactly-once", "at-least-once"] {
        let setup = Setup { guest: "fickle", partitions: 2, guarantee, tables: TABLES, ..Setup::default() };
        let stage = Stage::new(test, kafka, &setup);
        let mut worker = Worker::start(&stage, 0);
        worker.wait_ready();
        let kinds = ["done", "retry", "dead", "panic"];
        let message = |n: usize| Rec::new(&format!("k{}", n % 10), format!("{} {n}", kinds[n % kinds.len()]));
        send_all(kafka, &stage.input, &(0..LETTERS / 3 * 4).map(message).collect::<Vec<_>>());
        let until = Instant::now() + LIMIT;
        let letters = loop {
            let letters = read_all(kafka, &stage.letters);
            if letters.len() >= LETTERS {
                break letters;
            }
            assert!(Instant::now() < until, "{} letters\n{}", letters.len(), worker.tail());
            std::thread::sleep(Duration::from_millis(200));
        };
        assert_eq!(letters.len(), LETTERS, "{guarantee}");
        let all = run(&stage, &["replay", "dlq:p"]);
        assert_eq!((all.code, all.out.as_str()), (0, ""), "{guarantee}: {}", all.err);
        assert!(all.err.ends_with("keyrail: 60 letters: 60 identical\n"), "{guarantee}: {}", all.err);
        let one = run(&stage, &["replay", &format!("dlq:{}/0@{}", stage.letters, first(&stage)), "--json"]);
        assert!(one.code == 0 && one.out.contains("\"exact\":true,"), "{guarantee}: {}{}", one.out, one.err);
        assert_eq!(read_all(kafka, &stage.letters).len(), LETTERS, "nothing is written");
        worker.stop(Duration::from_secs(20));
    }
}

/// The offset of the first letter in partition 0.
fn first(stage: &Stage<'_>) -> String {
    let listed = run(stage, &["dlq", "list", "p", "--each", "--partition", "0", "--limit", "1"]);
    let place = listed.out.split_whitespace().next().unwrap_or_default();
    place.rsplit('@').next().unwrap_or_default().to_owned()
}
