//! Dead letters on a real Kafka: read in the forms of other tools, and sent back once, whatever ends the command.

use crate::client::{Rec, Writer, add_partitions, bounds, committed, read_all, send_all, set_topic};
use crate::commands::{Done, command, run};
use crate::stage::{Setup, Stage, broker};
use keyrail_kafka_tests::unique;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

const LIMIT: Duration = Duration::from_secs(60);

fn stage<'k>(test: &'static str, kafka: &'k keyrail_kafka_tests::Kafka) -> Stage<'k> {
    Stage::new(test, kafka, &Setup { guest: "identity", partitions: 3, ..Setup::default() })
}

/// A letter of this stage's pipeline.
fn letter(stage: &Stage<'_>, n: usize, code: &str) -> Rec {
    Rec::new(&format!("k{}", n % 50), n.to_string())
        .header("mine", "1")
        .header("keyrail-topic", stage.input.clone())
        .header("keyrail-partition", (n % 3).to_string())
        .header("keyrail-offset", n.to_string())
        .header("keyrail-reason", "rejected")
        .header("keyrail-group", stage.group.clone())
        .header("keyrail-code", code)
}

fn redrive(stage: &Stage<'_>, args: &[&str]) -> Done {
    run(stage, &[&["dlq", "redrive", "p", "--yes"], args].concat())
}

/// Numbers in a topic, by partition in their order.
fn numbers(stage: &Stage<'_>, topic: &str) -> BTreeMap<i32, Vec<usize>> {
    let mut found: BTreeMap<i32, Vec<usize>> = BTreeMap::new();
    for record in read_all(stage.kafka, topic) {
        found.entry(record.partition).or_default().push(record.text().parse().unwrap());
    }
    found
}

fn ends(stage: &Stage<'_>, topic: &str) -> Vec<i64> {
    bounds(stage.kafka, topic).iter().map(|(_, end)| *end).collect()
}

fn sorted(found: &BTreeMap<i32, Vec<usize>>) -> Vec<usize> {
    let mut all: Vec<usize> = found.values().flatten().copied().collect();
    all.sort_unstable();
    all
}

#[test]
fn a_redrive_that_is_killed_again_and_again_sends_each_letter_back_once() {
    const COUNT: usize = 30_000;
    let test = "a_redrive_that_is_killed_again_and_again_sends_each_letter_back_once";
    let Some(kafka) = broker(test) else { return };
    let stage = stage(test, kafka);
    let letters: Vec<Rec> = (0..COUNT).map(|n| letter(&stage, n, ["late", "bad", "odd"][n / 7 % 3])).collect();
    send_all(kafka, &stage.letters, &letters);
    let (mut cut_short, mut before) = (0, 0);
    let filters = [&["--code", "late"][..], &["--key", "k3", "--key", "k4"], &["--code", "bad"], &[]];
    for round in 0..12_usize {
        let mut args = vec!["dlq", "redrive", "p", "--yes", "--rate", "4000"];
        args.extend(filters[round % 4]);
        let mut child = command(&stage, &args).spawn().unwrap();
        let (until, written) = (Instant::now() + LIMIT, ends(&stage, &stage.input));
        while child.try_wait().unwrap().is_none() && ends(&stage, &stage.input) == written {
            assert!(Instant::now() < until, "it does not begin");
        }
        std::thread::sleep(Duration::from_millis(round as u64 * 370 % 2_300));
        child.kill().unwrap();
        child.wait().unwrap();
        let sent = sorted(&numbers(&stage, &stage.input)).len();
        cut_short += usize::from(sent > before && sent < COUNT);
        before = sent;
    }
    assert!(cut_short > 1, "only {cut_short} kills came in between: nothing was tested");
    for args in [&["--code", "bad"][..], &[]] {
        let done = redrive(&stage, args);
        assert_eq!(done.code, 0, "{}", done.err);
    }
    let there = numbers(&stage, &stage.input);
    assert_eq!(sorted(&there), (0..COUNT).collect::<Vec<_>>());
    assert!(there.iter().all(|(partition, all)| all.iter().all(|n| (n % 3) as i32 == *partition)));
    // All is behind the position then, and nothing is left to tell of.
    let group = format!("{}.redrive", stage.letters);
    assert_eq!(committed(kafka, &group, &stage.letters).unwrap(), ends(&stage, &stage.letters));
    stage.say(&format!("{cut_short} of 12 kills came in between"));
}

#[test]
fn what_filters_leave_goes_back_later_in_the_order_of_each_key() {
    let test = "what_filters_leave_goes_back_later_in_the_order_of_each_key";
    let Some(kafka) = broker(test) else { return };
    let stage = stage(test, kafka);
    let letters: Vec<Rec> = (0..300).map(|n| letter(&stage, n, if n % 2 == 0 { "late" } else { "bad" })).collect();
    send_all(kafka, &stage.letters, &letters);
    let listed = run(&stage, &["dlq", "list", "p", "--json"]);
    assert!(
        listed.code == 0 && listed.out.starts_with("{\"count\":300,\"redriven\":0,"),
        "{}{}",
        listed.out,
        listed.err
    );
    let dry = run(&stage, &["dlq", "redrive", "p", "--dry-run", "--code", "late", "--json"]);
    assert!(dry.code == 0 && dry.out.contains("\"letters\":150,"), "{}{}", dry.out, dry.err);
    assert!(read_all(kafka, &stage.input).is_empty());
    let done = redrive(&stage, &["--code", "late"]);
    assert!(done.code == 0 && done.err.contains("sent 150 letters back"), "{}", done.err);
    let done = redrive(&stage, &["--key", "k1", "--header", "mine=1"]);
    assert!(done.code == 0 && done.err.contains("sent 6 letters back"), "{}", done.err);
    // More letters come meanwhile.
    let more: Vec<Rec> = (300..330).map(|n| letter(&stage, n, "late")).collect();
    send_all(kafka, &stage.letters, &more);
    let done = redrive(&stage, &["--code", "late"]);
    assert!(done.code == 0 && done.err.contains("sent 30 letters back"), "{}", done.err);
    let done = redrive(&stage, &[]);
    assert!(done.code == 0 && done.err.contains("sent 144 letters back"), "{}", done.err);
    assert_eq!(sorted(&numbers(&stage, &stage.input)), (0..330).collect::<Vec<_>>());
    assert!(run(&stage, &["dlq", "list", "p"]).err.contains("0 letters of 0 causes"));
    // Of one choice each key's letters come in their order.
    let mut late: BTreeMap<Vec<u8>, Vec<usize>> = BTreeMap::new();
    for record in read_all(kafka, &stage.input).iter().filter(|r| r.text().parse::<usize>().unwrap() % 2 == 0) {
        late.entry(record.key.clone().unwrap()).or_default().push(record.text().parse().unwrap());
    }
    for all in late.values_mut() {
        // A key's messages were read from three partitions here.
        all.sort_by_key(|n| n % 3);
        let by_partition: Vec<Vec<usize>> =
            (0..3).map(|p| all.iter().copied().filter(|n| n % 3 == p).collect()).collect();
        assert!(by_partition.iter().all(|all| all.is_sorted()), "{by_partition:?}");
    }
    // A topic that is made anew begins anew: its letters are others.
    let back = read_all(kafka, &stage.input).into_iter().next().unwrap();
    let names: Vec<&str> = back.headers.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["mine", "keyrail-topic", "keyrail-partition", "keyrail-offset", "keyrail-redrives"]);
}

#[test]
fn letters_of_other_tools_are_told_and_go_back_where_they_say() {
    let test = "letters_of_other_tools_are_told_and_go_back_where_they_say";
    let Some(kafka) = broker(test) else { return };
    let stage = stage(test, kafka);
    let foreign = unique("foreign");
    kafka.create_topic(&foreign, 2, &[]).unwrap();
    let from = stage.output.clone();
    let letters = [
        Rec::new("a", "spring")
            .header("kafka_dlt-original-topic", from.clone())
            .header("kafka_dlt-original-partition", 2_i32.to_be_bytes())
            .header("kafka_dlt-original-offset", 17_i64.to_be_bytes())
            .header("kafka_dlt-original-timestamp", 1_700_000_000_000_i64.to_be_bytes())
            .header("kafka_dlt-exception-fqcn", "org.springframework.kafka.listener.ListenerExecutionFailedException")
            .header("kafka_dlt-exception-cause-fqcn", "java.lang.IllegalStateException")
            .header("kafka_dlt-exception-message", "no such account"),
        Rec::new("b", "streams")
            .header("__streams.errors.exception", "java.lang.RuntimeException")
            .header("__streams.errors.message", "boom")
            .header("__streams.errors.topic", from.clone())
            .header("__streams.errors.partition", "1")
            .header("__streams.errors.offset", "4"),
        Rec::new("c", "connect")
            .header("__connect.errors.topic", from.clone())
            .header("__connect.errors.partition", "0")
            .header("__connect.errors.offset", "9")
            .header("__connect.errors.connector.name", "sink")
            .header("__connect.errors.stage", "VALUE_CONVERTER")
            .header("__connect.errors.exception.class.name", "org.apache.kafka.connect.errors.DataException"),
        Rec::new("d", "share")
            .header("__dlq.errors.topic", from.clone())
            .header("__dlq.errors.partition", "2")
            .header("__dlq.errors.offset", "1")
            .header("__dlq.errors.group", "workers")
            .header("__dlq.errors.delivery.count", "5")
            .header("__dlq.errors.message", "Offset delivery count exceeded the threshold."),
    ];
    send_all(kafka, &foreign, &letters);
    let shown = run(&stage, &["dlq", "show", "--topic", &foreign, "--json"]);
    assert_eq!(shown.code, 0, "{}", shown.err);
    let line = |word: &str| shown.out.lines().find(|line| line.contains(&format!("\"value\":\"{word}\""))).unwrap();
    assert!(line("spring").contains(&format!(
        "\"origin\":{{\"topic\":\"{from}\",\"partition\":2,\"offset\":17,\"timestamp\":1700000000000}}"
    )));
    assert!(line("spring").contains("\"code\":\"java.lang.IllegalStateException\",\"detail\":\"no such account\""));
    assert!(line("streams").contains("\"by\":\"streams\",\"code\":\"java.lang.RuntimeException\",\"detail\":\"boom\""));
    assert!(
        line("connect").contains("\"reason\":\"VALUE_CONVERTER\"") && line("connect").contains("\"handler\":\"sink\"")
    );
    assert!(
        line("share").contains("\"reason\":\"attempts\"") && line("share").contains("\"attempts\":5"),
        "{}",
        line("share")
    );
    let done = run(&stage, &["dlq", "redrive", "--topic", &foreign, "--yes"]);
    assert!(done.code == 0 && done.err.contains("sent 4 letters back"), "{}", done.err);
    let told: Vec<_> =
        read_all(kafka, &from).iter().map(|r| (r.partition, r.text(), r.told("keyrail-redrives"))).collect();
    let one = |partition, word: &str| (partition, word.to_owned(), "1".to_owned());
    assert_eq!(told.len(), 4);
    for expected in [one(2, "spring"), one(1, "streams"), one(0, "connect"), one(2, "share")] {
        assert!(told.contains(&expected), "{expected:?} in {told:?}");
    }
    let streams = read_all(kafka, &from).into_iter().find(|r| r.text() == "streams").unwrap();
    assert_eq!((streams.told("keyrail-topic"), streams.told("keyrail-offset")), (from.clone(), "4".to_owned()));
    assert_eq!(streams.told("__streams.errors.exception"), "(none)");
    let spring = read_all(kafka, &from).into_iter().find(|r| r.text() == "spring").unwrap();
    assert_eq!((spring.told("keyrail-partition"), spring.told("kafka_dlt-original-topic")), ("2".to_owned(), from));
    assert_eq!(spring.told("kafka_dlt-exception-message"), "(none)");
}

#[test]
fn of_two_redrives_the_later_goes_on_and_nothing_goes_twice() {
    const COUNT: usize = 5_000;
    let test = "of_two_redrives_the_later_goes_on_and_nothing_goes_twice";
    let Some(kafka) = broker(test) else { return };
    let stage = stage(test, kafka);
    let letters: Vec<Rec> = (0..COUNT).map(|n| letter(&stage, n, "late")).collect();
    send_all(kafka, &stage.letters, &letters);
    let mut slow = command(&stage, &["dlq", "redrive", "p", "--yes", "--rate", "300"]).spawn().unwrap();
    let until = Instant::now() + LIMIT;
    while read_all(kafka, &stage.input).is_empty() {
        assert!(Instant::now() < until, "it does not begin");
    }
    let done = redrive(&stage, &[]);
    assert_eq!(done.code, 0, "{}", done.err);
    while slow.try_wait().unwrap().is_none() {
        assert!(Instant::now() < until + LIMIT, "the earlier goes on");
        std::thread::sleep(Duration::from_millis(20));
    }
    let told = slow.wait_with_output().unwrap();
    assert_eq!(told.status.code(), Some(3), "{}", String::from_utf8_lossy(&told.stderr));
    assert_eq!(sorted(&numbers(&stage, &stage.input)), (0..COUNT).collect::<Vec<_>>());
}

#[test]
fn letters_that_may_not_go_stay() {
    let test = "letters_that_may_not_go_stay";
    let Some(kafka) = broker(test) else { return };
    let stage = stage(test, kafka);
    let often = letter(&stage, 1, "late").header("keyrail-redrives", "5");
    let large = Rec { value: Some(vec![b'7'; 5_000]), ..letter(&stage, 2, "large") };
    let letters = [letter(&stage, 0, "late"), often, large, letter(&stage, 3, "late")];
    send_all(kafka, &stage.letters, &letters);
    for (args, why) in [
        (["--to", &stage.letters], "is a topic of dead letters itself"),
        (["--to", "__consumer_offsets"], "is internal to Kafka or to a pipeline"),
        (["--to", &stage.input.replace("-in", "-inn")], "did you mean"),
    ] {
        let done = redrive(&stage, &args);
        assert!(done.code == 1 && done.err.contains(why), "{args:?}: {}", done.err);
    }
    assert!(read_all(kafka, &stage.input).is_empty());
    // What the broker never takes is named, and may be left out.
    set_topic(kafka, &stage.input, &[("max.message.bytes", "2000")]);
    let done = redrive(&stage, &[]);
    assert!(done.code == 1 && done.err.contains("will never be taken"), "{}", done.err);
    let except = done.err.split("--except ").nth(1).and_then(|rest| rest.split(' ').next()).unwrap().to_owned();
    let done = redrive(&stage, &["--except", &except]);
    assert!(done.code == 1 && done.err.contains("1 letter stay: sent back 5 times or more"), "{}", done.err);
    assert_eq!(sorted(&numbers(&stage, &stage.input)), [0, 3]);
    let listed = run(&stage, &["dlq", "list", "p"]);
    assert!(listed.err.contains("2 letters of 2 causes"), "{}{}", listed.out, listed.err);
    set_topic(kafka, &stage.input, &[]);
    let done = redrive(&stage, &["--max-redrives", "6"]);
    assert!(done.code == 0 && done.err.contains("sent 2 letters back"), "{}", done.err);
    // Partitions that were added change nothing for what was read before.
    add_partitions(kafka, &stage.input, 5);
    send_all(kafka, &stage.letters, &[letter(&stage, 4, "late")]);
    let done = redrive(&stage, &[]);
    assert_eq!(done.code, 0, "{}", done.err);
    let back = read_all(kafka, &stage.input).into_iter().find(|r| r.text() == "4").unwrap();
    assert_eq!((back.partition, back.told("keyrail-redrives")), (1, "1".to_owned()));
}

/// Kafka forgets the commits of a group that nobody uses, and with them what was sent back.
#[test]
fn old_letters_of_which_nothing_is_known_go_back_only_if_told_to() {
    let test = "old_letters_of_which_nothing_is_known_go_back_only_if_told_to";
    let Some(kafka) = broker(test) else { return };
    let stage = stage(test, kafka);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() as i64;
    set_topic(kafka, &stage.letters, &[("retention.ms", "-1")]);
    let old = Rec { timestamp_ms: now - 8 * 86_400_000, ..letter(&stage, 0, "late") };
    send_all(kafka, &stage.letters, &[old.clone(), letter(&stage, 50, "late")]);
    let done = redrive(&stage, &[]);
    assert!(
        done.code == 1 && done.err.contains("it is not known of 1 letter whether they were sent back"),
        "{}",
        done.err
    );
    let done = redrive(&stage, &["--since", "6d"]);
    assert_eq!((done.code, sorted(&numbers(&stage, &stage.input))), (0, vec![50]), "{}", done.err);
    // Something is committed now: what it does not tell of was not sent back.
    let done = redrive(&stage, &[]);
    assert_eq!((done.code, sorted(&numbers(&stage, &stage.input))), (0, vec![0, 50]), "{}", done.err);
    let other = unique("old");
    kafka.create_topic(&other, 1, &[("retention.ms", "-1")]).unwrap();
    send_all(kafka, &other, &[old]);
    let args = ["dlq", "redrive", "--topic", &other, "--yes"];
    assert_eq!(run(&stage, &args).code, 1);
    let done = run(&stage, &[&args[..], &["--anew"]].concat());
    assert_eq!((done.code, sorted(&numbers(&stage, &stage.input))), (0, vec![0, 0, 50]), "{}", done.err);
}

/// Letters of a transaction that is open are none yet, and are not passed over for ever.
#[test]
fn letters_that_are_not_committed_yet_go_back_later() {
    let test = "letters_that_are_not_committed_yet_go_back_later";
    let Some(kafka) = broker(test) else { return };
    let stage = stage(test, kafka);
    send_all(kafka, &stage.letters, &[letter(&stage, 0, "late")]);
    let mut writer = Writer::transactional(kafka, &unique("open"));
    writer.begin();
    writer.send(&stage.letters, &letter(&stage, 50, "late"));
    writer.finish();
    // Behind what is open, in the same partition.
    send_all(kafka, &stage.letters, &[letter(&stage, 100, "late")]);
    let done = redrive(&stage, &[]);
    assert_eq!((done.code, sorted(&numbers(&stage, &stage.input))), (0, vec![0]), "{}", done.err);
    writer.commit();
    let done = redrive(&stage, &[]);
    assert_eq!((done.code, sorted(&numbers(&stage, &stage.input))), (0, vec![0, 50, 100]), "{}", done.err);
}

/// `KEYRAIL_LETTERS=1000000 cargo xtask test letters_go_back_and_say` for the figure.
#[test]
fn many_letters_go_back_and_say_how_fast() {
    let test = "many_letters_go_back_and_say_how_fast";
    let Some(kafka) = broker(test) else { return };
    let count = std::env::var("KEYRAIL_LETTERS").map_or(60_000, |n| n.parse().expect("KEYRAIL_LETTERS is a number"));
    let stage = Stage::new(test, kafka, &Setup { guest: "identity", partitions: 6, ..Setup::default() });
    let mut writer = Writer::new(kafka);
    for n in 0..count {
        let letter = letter(&stage, n, "late");
        writer.send(&stage.letters, &Rec { value: Some(format!("{n:0>100}").into_bytes()), ..letter });
    }
    writer.finish();
    let began = Instant::now();
    let done = redrive(&stage, &["--json"]);
    let whole = began.elapsed().as_secs_f64();
    assert_eq!(done.code, 0, "{}", done.err);
    let told = |name: &str| {
        let rest = done.out.split(&format!("\"{name}\":")).nth(1)?;
        rest.split([',', '}']).next()?.parse::<f64>().ok()
    };
    assert_eq!(told("redriven"), Some(count as f64), "{}", done.out);
    let sent = count as f64 / told("seconds").unwrap();
    stage.say(&format!("redrive: {sent:.0} letters a second; {:.0} with start, count and end", count as f64 / whole));
    assert_eq!(sorted(&numbers(&stage, &stage.input)), (0..count).collect::<Vec<_>>());
}
