//! Two versions of a handler on what a real Kafka's topic holds, transactions and their markers among it.

use crate::client::{Rec, Writer, bounds, committed, send_all};
use crate::commands::run;
use crate::stage::{Setup, Stage, broker, guests};

#[test]
fn another_version_runs_over_what_is_committed_and_changes_nothing() {
    let test = "another_version_runs_over_what_is_committed_and_changes_nothing";
    let Some(kafka) = broker(test) else { return };
    let stage = Stage::new(test, kafka, &Setup { guest: "tally", partitions: 2, ..Setup::default() });
    let message =
        |n: usize| Rec::new(&format!("k{}", n % 10), if n == 25 { "crash".to_owned() } else { n.to_string() });
    send_all(kafka, &stage.input, &(0..40).map(message).collect::<Vec<_>>());
    let mut writer = Writer::transactional(kafka, &stage.group);
    for commits in [false, true] {
        writer.begin();
        (0..6).for_each(|n| writer.send(&stage.input, &Rec::new(&format!("k{n}"), "of a transaction")));
        if commits { writer.commit() } else { writer.abort() }
    }
    let trace = || {
        let ends = [&stage.input, &stage.output].map(|topic| bounds(kafka, topic));
        (ends, committed(kafka, &stage.group, &stage.input).unwrap_or_default())
    };
    let before = trace();
    let guests = guests(test).unwrap();
    let [old, new] = ["tally", "tally-c"].map(|name| guests.join(format!("{name}.wasm")).display().to_string());
    let same = run(&stage, &["backtest", &old, "--since", "earliest", "--compare-state"]);
    assert_eq!(same.code, 0, "{}{}", same.out, same.err);
    assert!(same.err.starts_with("keyrail: 46 messages: nothing differs"), "{}", same.err);
    // Of its key there are 5, 15, the crash, 35 and that of the transaction.
    let other = run(&stage, &["backtest", &new, "--since", "1h", "--pipeline", "p"]);
    assert_eq!((other.code, other.err.as_str()), (1, "keyrail: 46 messages: 3 differ\n"), "{}", other.out);
    assert!(other.out.contains("\nk5  3 differ, first ") && other.out.contains("  - send out key k5 value 3 crash\n"));
    assert_eq!(trace(), before, "nothing is sent, and nothing is committed");
}
