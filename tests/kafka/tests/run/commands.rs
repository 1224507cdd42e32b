//! `send`, `tail`, `lag`, `topics` and `state` on a real Kafka.

use crate::client::{Rec, Writer, add_partitions, bounds, read_all, reset, send_all, set_topic};
use crate::stage::{Setup, Stage, broker};
use crate::worker::{Worker, binary};
use keyrail_kafka_tests::unique;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const LIMIT: Duration = Duration::from_secs(60);

pub(crate) struct Done {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

pub(crate) fn command(stage: &Stage<'_>, args: &[&str]) -> Command {
    let mut command = Command::new(binary());
    command.args(args).arg("-c").arg(stage.dir.join("keyrail.toml")).current_dir(&stage.dir);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

pub(crate) fn run(stage: &Stage<'_>, args: &[&str]) -> Done {
    run_with(stage, args, b"")
}

fn run_with(stage: &Stage<'_>, args: &[&str], input: &[u8]) -> Done {
    let mut child = command(stage, args).stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    // A command that stops at an error reads no further.
    let writer = std::thread::spawn(move || drop(stdin.write_all(&input)));
    let done = child.wait_with_output().unwrap();
    writer.join().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Done { code: done.status.code().unwrap(), out: text(done.stdout), err: text(done.stderr) }
}

/// Waits for the end, and not for ever.
fn ends(child: &mut Child) -> Option<i32> {
    let until = Instant::now() + LIMIT;
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status.code();
        }
        if Instant::now() > until {
            child.kill().unwrap();
            panic!("the command runs on");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn values(out: &str) -> Vec<String> {
    let value = |line: &str| line.split("\"value\":\"").nth(1)?.split('"').next().map(str::to_owned);
    out.lines().map(|line| value(line).unwrap_or_else(|| panic!("{line}"))).collect()
}

#[test]
fn what_tail_prints_send_takes_byte_for_byte() {
    let test = "what_tail_prints_send_takes_byte_for_byte";
    let Some(kafka) = broker(test) else { return };
    let stage = Stage::new(test, kafka, &Setup { guest: "identity", partitions: 2, ..Setup::default() });
    let binary: Vec<u8> = (0..=255).collect();
    let base = Rec { partition: 1, timestamp_ms: 1_790_000_000_123, ..Rec::default() };
    let odd = ["a", "b", "a", "\u{e4}", ""].map(|name| (name.to_owned(), Some(binary.clone()))).to_vec();
    let twice = vec![("a".to_owned(), None), ("a".to_owned(), Some(vec![])), ("z".to_owned(), Some(b"1".to_vec()))];
    let records = [
        base.clone(),
        Rec { key: Some(vec![]), value: Some(vec![]), ..base.clone() },
        Rec { key: Some(binary.clone()), value: Some(binary.clone()), headers: odd, ..base.clone() },
        Rec { value: Some(b"{\"n\":123456789012345678901234567890.5}\x1b[2J\r\n".to_vec()), headers: twice, ..base },
    ];
    send_all(kafka, &stage.input, &records);
    let tail = run(&stage, &["tail", &stage.input, "--from", "earliest"]);
    assert_eq!((tail.code, tail.err.as_str(), tail.out.lines().count()), (0, "", 4), "{}", tail.out);
    assert!(
        !tail.out.contains('\x1b') && tail.out.contains("\"headers\":{\"a\":[null,\"\"],\"z\":\"1\"}"),
        "{}",
        tail.out
    );
    let sent = run_with(&stage, &["send", &stage.output], tail.out.as_bytes());
    assert_eq!((sent.code, sent.out.as_str()), (0, ""), "{}", sent.err);
    assert_eq!(sent.err, format!("sent 4 records to {}\n", stage.output));
    assert_eq!(read_all(kafka, &stage.output), read_all(kafka, &stage.input));
}

#[test]
fn a_line_with_an_error_is_told_with_its_place_and_nothing_unsent_is_told_as_sent() {
    let test = "a_line_with_an_error_is_told_with_its_place_and_nothing_unsent_is_told_as_sent";
    let Some(kafka) = broker(test) else { return };
    let stage = Stage::new(test, kafka, &Setup { guest: "identity", partitions: 2, ..Setup::default() });
    let lines =
        b"{\"value\":\"a\"}\n{\"value\":tru}\n\n{\"value\":\"c\",\"partition\":2}\n{\"value\":\"d\",\"partition\":0}";
    let stopped = run_with(&stage, &["send", &stage.input], lines);
    assert_eq!(stopped.code, 1);
    let told: Vec<&str> = stopped.err.lines().collect();
    assert!(told[0].starts_with("stdin:2:13: expected"), "{told:?}");
    assert!(
        told[1].starts_with("sent 1 record to ") && told[1].contains("1 line with an error; stopped there"),
        "{told:?}"
    );
    let file = stage.dir.join("lines.json");
    fs::write(&file, lines).unwrap();
    let skipped = run(&stage, &["send", &stage.output, file.to_str().unwrap(), "--on-error", "skip", "--json"]);
    assert_eq!(skipped.code, 1);
    assert!(skipped.err.contains("lines.json:4: no partition 2: the topic"), "{}", skipped.err);
    assert!(
        skipped.out.contains("\"sent\":2,\"skipped\":2,\"refused\":0,\"unknown\":0,\"ok\":false"),
        "{}",
        skipped.out
    );
    assert_eq!((read_all(kafka, &stage.input).len(), read_all(kafka, &stage.output).len()), (1, 2));
    // What the broker refuses is told with its line, and not counted.
    set_topic(kafka, &stage.input, &[("max.message.bytes", "2000")]);
    let large = format!("{{\"value\":\"small\"}}\n{{\"value\":\"{}\"}}\n", "x".repeat(5_000));
    let refused = run_with(&stage, &["send", &stage.input, "--partition", "1"], large.as_bytes());
    assert_eq!(refused.code, 1);
    assert!(refused.err.contains("stdin:2: refused: ") && refused.err.contains("sent 1 record"), "{}", refused.err);
    assert_eq!(read_all(kafka, &stage.input).len(), 2);
    let nowhere = run(&stage, &["send", &stage.input, "nowhere.json"]);
    assert!(nowhere.code == 2 && nowhere.err.contains("can't read nowhere.json"), "{}", nowhere.err);
}

#[test]
fn a_topic_that_is_not_there_names_the_nearest_or_is_made() {
    let test = "a_topic_that_is_not_there_names_the_nearest_or_is_made";
    let Some(kafka) = broker(test) else { return };
    let stage = Stage::new(test, kafka, &Setup { guest: "identity", partitions: 1, ..Setup::default() });
    let wrong = stage.input.replace("-in", "-inn");
    for args in [["send", wrong.as_str()], ["tail", wrong.as_str()]] {
        let done = run(&stage, &args);
        assert_eq!(done.code, 2);
        assert!(done.err.contains(&format!("there is no topic {wrong:?} at ")), "{}", done.err);
        assert!(done.err.contains(&format!("did you mean {:?}?", stage.input)), "{}", done.err);
    }
    let fresh = unique("made");
    let made = run_with(&stage, &["send", &fresh, "--create", "--partitions", "3", "--raw"], b"a\nb\n");
    assert_eq!(made.code, 0, "{}", made.err);
    assert_eq!((bounds(kafka, &fresh).len(), read_all(kafka, &fresh).len()), (3, 2));
    assert_eq!(run(&stage, &["tail", &fresh, "--from", "soon"]).code, 2, "wrong use");
    let none = run(&stage, &["tail", &fresh, "--partition", "3"]);
    assert!(none.code == 2 && none.err.contains("no partition 3"), "{}", none.err);
}

#[test]
fn raw_lines_keys_places_and_filters() {
    let test = "raw_lines_keys_places_and_filters";
    let Some(kafka) = broker(test) else { return };
    let stage = Stage::new(test, kafka, &Setup { guest: "identity", partitions: 1, ..Setup::default() });
    let text: String = (0..20).map(|n| format!("k{}:v{n}\n", n % 3)).collect();
    let sent = run_with(&stage, &["send", &stage.input, "--raw", "--key-separator", ":"], text.as_bytes());
    assert_eq!(sent.code, 0, "{}", sent.err);
    let tail = |args: &[&str]| {
        let done = run(&stage, &[&["tail", &stage.input], args].concat());
        assert_eq!((done.code, done.err.as_str()), (0, ""), "{args:?}");
        done.out
    };
    assert_eq!(tail(&["--from", "earliest", "--raw", "--key-separator", ":"]), text);
    assert_eq!(tail(&["--from", "-2", "--raw"]), "v18\nv19\n");
    assert_eq!(tail(&["--from", "5", "--until", "7", "--raw"]), "v5\nv6\n");
    assert_eq!(tail(&["--from", "1h", "--count", "1", "--raw"]), "v0\n");
    assert_eq!(tail(&["--from", "1970-01-02", "--until", "1970-01-03", "--raw"]), "");
    assert_eq!(tail(&["--from", "99", "--until", "latest"]), "");
    assert_eq!(tail(&["--from", "15", "--key", "k1", "--format", "%p/%o %k=%s\\n"]), "0/16 k1=v16\n0/19 k1=v19\n");
}

#[test]
fn tail_ends_at_the_end_whatever_transactions_left_there() {
    let test = "tail_ends_at_the_end_whatever_transactions_left_there";
    let Some(kafka) = broker(test) else { return };
    let stage = Stage::new(test, kafka, &Setup { guest: "identity", partitions: 1, ..Setup::default() });
    let mut writer = Writer::transactional(kafka, &unique("tx"));
    for (value, commit) in [("committed", true), ("aborted", false)] {
        writer.begin();
        writer.send(&stage.input, &Rec { partition: 0, ..Rec::new("k", value) });
        writer.finish();
        if commit { writer.commit() } else { writer.abort() }
    }
    let began = Instant::now();
    let closed = run(&stage, &["tail", &stage.input, "--from", "earliest"]);
    assert_eq!((closed.code, values(&closed.out)), (0, vec!["committed".to_owned()]), "{}", closed.err);
    writer.begin();
    writer.send(&stage.input, &Rec { partition: 0, ..Rec::new("k", "open") });
    writer.finish();
    let open = run(&stage, &["tail", &stage.input, "--from", "earliest"]);
    assert_eq!((open.code, values(&open.out)), (0, vec!["committed".to_owned()]), "{}", open.err);
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    writer.abort();
}

#[test]
fn tail_follows_ends_well_on_an_interrupt_and_when_nobody_reads() {
    let test = "tail_follows_ends_well_on_an_interrupt_and_when_nobody_reads";
    let Some(kafka) = broker(test) else { return };
    let stage = Stage::new(test, kafka, &Setup { guest: "identity", partitions: 2, ..Setup::default() });
    let some = |n: usize| (0..n).map(|n| Rec::new(&format!("k{n}"), format!("v{n}"))).collect::<Vec<_>>();
    send_all(kafka, &stage.input, &some(50));
    let mut child = command(&stage, &["tail", &stage.input, "--from", "earliest", "--follow"]).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert_eq!(lines.by_ref().take(50).filter(|line| line.is_ok()).count(), 50);
    send_all(kafka, &stage.input, &[Rec::new("late", "late")]);
    assert_eq!(values(&lines.next().unwrap().unwrap()), ["late"]);
    let interrupt = Command::new("kill").arg("-INT").arg(child.id().to_string()).status().unwrap();
    assert!(interrupt.success());
    assert_eq!(ends(&mut child), Some(0));
    assert!(lines.next().is_none());
    // As `| head -1`: more is printed than a pipe holds.
    send_all(kafka, &stage.output, &some(20_000));
    let mut child = command(&stage, &["tail", &stage.output, "--from", "earliest", "--follow"]).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.next().unwrap().is_ok());
    drop(lines);
    assert_eq!(ends(&mut child), Some(0));
    let mut told = String::new();
    std::io::Read::read_to_string(&mut child.stderr.take().unwrap(), &mut told).unwrap();
    assert_eq!(told, "");
}

#[test]
fn lag_tells_what_waits_for_groups_that_ran_and_for_those_that_never_did() {
    let test = "lag_tells_what_waits_for_groups_that_ran_and_for_those_that_never_did";
    let Some(kafka) = broker(test) else { return };
    // Records this old are deleted by the broker's first look at retention, 30 s after its start.
    let topics = &[("retention.ms", "-1")];
    let stage = Stage::new(test, kafka, &Setup { guest: "identity", partitions: 2, topics, ..Setup::default() });
    let old = Rec { timestamp_ms: 1_700_000_000_000, ..Rec::new("k", "v") };
    let records: Vec<Rec> = (0..10).map(|n| Rec { partition: n % 2, ..old.clone() }).collect();
    send_all(kafka, &stage.input, &records);
    let never = run(&stage, &["lag", "p", "--json"]);
    assert_eq!(never.code, 0, "{}", never.err);
    assert!(never.out.contains("\"lag\":10,\"lag_seconds\":"), "{}", never.out);
    assert!(never.out.contains("\"partition\":0,\"committed\":null,\"start\":0,\"end\":5,\"lag\":5,"), "{}", never.out);
    reset(kafka, &stage.group, &stage.input, &[(0, 5)], "");
    let partly = run(&stage, &["lag", "--json"]);
    assert!(
        partly.out.contains("\"committed\":5,\"start\":0,\"end\":5,\"lag\":0,\"lag_seconds\":0.0"),
        "{}",
        partly.out
    );
    assert!(partly.out.contains("\"committed\":null,\"start\":0,\"end\":5,\"lag\":5,"), "{}", partly.out);
    let table = run(&stage, &["lag"]);
    let lines: Vec<&str> = table.out.lines().collect();
    assert!(lines[0].starts_with("PIPELINE  TOPIC") && !table.out.contains('\x1b'), "{}", table.out);
    let last: Vec<&str> = lines[3].split_whitespace().collect();
    assert!(last.starts_with(&["p", "total", "5"]) && last[3].ends_with('d'), "{}", table.out);
    let wrong = run(&stage, &["lag", "q"]);
    assert!(wrong.code == 2 && wrong.err.contains("there is no pipeline \"q\"; did you mean \"p\"?"), "{}", wrong.err);
    narrow(&stage);
    kafka.create_topic(&format!("{}ut", stage.input), 1, &[]).unwrap();
    stage.write_manifest(&Setup { guest: "identity", top: "", ..Setup::default() });
    let manifest = stage.dir.join("plugins/p.toml");
    let text = fs::read_to_string(&manifest).unwrap();
    fs::write(&manifest, text.replace(&format!("\"{}\"", stage.input), &format!("\"{}u\"", stage.input))).unwrap();
    let missing = run(&stage, &["lag"]);
    assert!(
        missing.code == 1 && missing.out.contains("missing") && missing.err.contains("did you mean"),
        "{}",
        missing.err
    );
}

/// On a terminal of 40 columns no line of the table's own is wider.
fn narrow(stage: &Stage<'_>) {
    let line = format!("stty cols 40; {} lag -c keyrail.toml", binary().display());
    let done = Command::new("script").args(["-qec", &line, "/dev/null"]).current_dir(&stage.dir).output();
    let Ok(done) = done else { return stage.say("no terminal without script(1)") };
    let text = String::from_utf8_lossy(&done.stdout).into_owned();
    let bare =
        ["\x1b[1m", "\x1b[0m", "\x1b[31m", "\x1b[32m", "\x1b[33m"].iter().fold(text.clone(), |t, c| t.replace(c, ""));
    assert!(bare.contains("  lag       5\r\n") && bare.contains("- topic     total\r\n"), "{text:?}");
    // A name is never cut: it is there to be copied.
    assert!(bare.lines().filter(|l| !l.contains(&stage.input)).all(|l| l.trim_end().chars().count() <= 40), "{bare}");
    assert!(text.contains("\x1b[33m5\x1b[0m"), "{text:?}");
}

#[test]
fn topics_tells_what_is_missing_or_unfit_and_makes_it() {
    let test = "topics_tells_what_is_missing_or_unfit_and_makes_it";
    let Some(kafka) = broker(test) else { return };
    let stage = Stage::new(test, kafka, &Setup { guest: "identity", partitions: 2, ..Setup::default() });
    let fine = run(&stage, &["topics"]);
    assert_eq!(fine.code, 0, "{}{}", fine.out, fine.err);
    assert!(fine.out.starts_with("TOPIC ") && fine.out.matches("  exists  ").count() == 3, "{}", fine.out);
    add_partitions(kafka, &stage.input, 4);
    set_topic(kafka, &stage.letters, &[("cleanup.policy", "compact")]);
    let unfit = run(&stage, &["topics"]);
    assert_eq!(unfit.code, 1);
    assert!(unfit.out.contains("partitions is 2, needs 4, cleanup.policy is compact, needs delete"), "{}", unfit.out);
    let print = run(&stage, &["topics", "--print"]);
    let commands: Vec<&str> = print.out.lines().collect();
    assert_eq!((print.code, commands.len()), (0, 2), "{}", print.out);
    assert!(commands[0].ends_with(&format!("--alter --topic {} --partitions 4", stage.letters)), "{}", print.out);
    assert!(
        commands[1].starts_with("kafka-configs.sh --bootstrap-server ")
            && commands[1].ends_with("cleanup.policy=delete")
    );
    // A pipeline whose topics are all to be made.
    let fresh = unique("fresh");
    let text = fs::read_to_string(stage.dir.join("plugins/p.toml")).unwrap();
    let text = text.replace(&stage.input, &format!("{fresh}-in")).replace(&stage.output, &format!("{fresh}-out"));
    fs::write(stage.dir.join("plugins/p.toml"), text.replace(&stage.group, &fresh)).unwrap();
    let print = run(&stage, &["topics", "--print", "--partitions", "3"]);
    assert_eq!(print.out.matches("kafka-topics.sh --bootstrap-server ").count(), 3, "{}", print.out);
    assert!(print.out.contains(&format!("--create --topic {fresh}-in --partitions 3\n")), "{}", print.out);
    let made = run(&stage, &["topics", "--create", "--partitions", "3", "--json"]);
    assert_eq!(made.code, 0, "{}{}", made.out, made.err);
    assert_eq!(made.out.matches("\"state\":\"created\",\"partitions\":3").count(), 3, "{}", made.out);
    assert!(made.out.contains("\"name\":\"max.message.bytes\""), "{}", made.out);
    let again = run(&stage, &["topics", "--create"]);
    assert!(again.code == 0 && again.out.matches("  exists  ").count() == 3, "{}", again.out);
    assert_eq!(bounds(kafka, &format!("{fresh}-in")).len(), 3);
}

#[test]
fn state_is_shown_as_it_is_committed_workers_or_not() {
    let test = "state_is_shown_as_it_is_committed_workers_or_not";
    let Some(kafka) = broker(test) else { return };
    let stage = Stage::new(test, kafka, &Setup { guest: "tally", partitions: 3, ..Setup::default() });
    let topic = format!("{}.{}.state", stage.group, stage.input);
    let none = run(&stage, &["state", "get", "p", "k0", "count"]);
    assert!(none.code == 1 && none.err.contains(&format!("there is no topic {topic:?} at ")), "{}", none.err);
    let records: Vec<Rec> = (0..300).map(|n| Rec::new(&format!("k{}", n % 30), "x")).collect();
    send_all(kafka, &stage.input, &records);
    let mut worker = Worker::start(&stage, 0);
    stage.wait_settled(&[&worker], 0, LIMIT);
    for key in ["k0", "k7", "k29"] {
        let until = Instant::now() + LIMIT;
        // The offsets are committed; the mark that state is may come a moment later.
        while run(&stage, &["state", "get", "p", key, "count"]).out != "10" {
            assert!(Instant::now() < until, "{key}");
        }
    }
    worker.stop(LIMIT);
    // A transaction that is open, and one that was given up, have changed nothing.
    let key = [&[1, 0, 2][..], b"k0count"].concat();
    let mut writer = Writer::transactional(kafka, &unique("tx"));
    for _ in 0..2 {
        writer.begin();
        for partition in 0..3 {
            let (key, value) = (Some(key.clone()), Some(vec![1, b'9']));
            writer.send(&topic, &Rec { partition, key, value, ..Rec::default() });
        }
        writer.finish();
        let open = run(&stage, &["state", "get", "p", "k0", "count"]);
        assert_eq!((open.code, open.out.as_str(), open.err.as_str()), (0, "10", ""));
        writer.abort();
    }
    let list = run(&stage, &["state", "list", "p", "--json"]);
    assert_eq!((list.code, list.out.matches("\"name\":\"count\",\"value\":\"10\"").count()), (0, 30), "{}", list.err);
    let some = run(&stage, &["state", "list", "p", "--key-prefix", "k1"]);
    assert_eq!((some.code, some.out.lines().count()), (0, 12), "{}", some.out);
    let gone = run(&stage, &["state", "get", "p", "k30"]);
    assert!(gone.code == 1 && gone.err.contains("p keeps nothing for the key \"k30\""), "{}", gone.err);
}

#[test]
fn tail_prints_and_send_takes_many_records_and_say_how_fast() {
    const RECORDS: usize = 300_000;
    let test = "tail_prints_and_send_takes_many_records_and_say_how_fast";
    let Some(kafka) = broker(test) else { return };
    let stage = Stage::new(test, kafka, &Setup { guest: "identity", partitions: 6, ..Setup::default() });
    let line = |n| format!("{{\"key\":\"k{}\",\"value\":\"{n:0>100}\",\"headers\":{{\"h\":\"v\"}}}}\n", n % 1000);
    let lines: String = (0..RECORDS).map(line).collect();
    fs::write(stage.dir.join("lines.json"), lines).unwrap();
    let rate = |began: Instant| (RECORDS as f64 / began.elapsed().as_secs_f64()) as u64;
    let began = Instant::now();
    let sent = run(&stage, &["send", &stage.input, "lines.json"]);
    assert!(sent.code == 0 && sent.err.starts_with("sent 300,000 records"), "{}", sent.err);
    stage.say(&format!("send: {} records a second, start and end included", rate(began)));
    let began = Instant::now();
    let tail = run(&stage, &["tail", &stage.input, "--from", "earliest"]);
    let rate = rate(began);
    stage.say(&format!("tail: {rate} records a second, start and end included"));
    assert_eq!((tail.code, tail.out.lines().count()), (0, RECORDS), "{}", tail.err);
    // Each key in order, which is the order of its numbers.
    let mut last = std::collections::BTreeMap::new();
    for line in tail.out.lines() {
        let (key, value) = line.split_once("\"value\":").unwrap();
        let key = key.split_once("\"key\":").unwrap().1.to_owned();
        let before = last.insert(key, value.to_owned());
        assert!(before.is_none_or(|before| before.as_str() < value), "{line}");
    }
    assert_eq!(last.len(), 1000);
}

/// The rig is one broker, so each topic has one replica.
#[test]
fn a_cluster_that_may_lose_what_it_acknowledged_is_told_with_the_cures() {
    let test = "a_cluster_that_may_lose_what_it_acknowledged_is_told_with_the_cures";
    let Some(kafka) = broker(test) else { return };
    let topics = [("min.insync.replicas", "1")];
    let stage = Stage::new(test, kafka, &Setup { guest: "identity", topics: &topics, ..Setup::default() });
    let sound = run(&stage, &["check"]);
    assert_eq!((sound.code, sound.out.contains("durability")), (0, false), "{}", sound.out);
    set_topic(kafka, &stage.output, &[("unclean.leader.election.enable", "true")]);
    set_topic(kafka, &stage.letters, &[("min.insync.replicas", "2")]);
    let weak = run(&stage, &["check", "--durability"]);
    assert_eq!(weak.code, 1, "{}", weak.out);
    let bootstrap = kafka.bootstrap(keyrail_kafka_tests::Security::Plain);
    let faults = |topic: &str| {
        let head = format!("durability     {topic} ");
        weak.out.lines().filter(|line| line.starts_with("FAULT") && line.contains(&head)).count()
    };
    assert_eq!([&stage.input, &stage.output, &stage.letters].map(|topic| faults(topic)), [1, 2, 2], "{}", weak.out);
    let set = |topic: &str, value: &str| {
        format!(
            "$ kafka-configs.sh --bootstrap-server {bootstrap} --alter --entity-type topics --entity-name {topic} \
             --add-config {value}\n"
        )
    };
    for told in [
        "ok       durability     [kafka]  ",
        "input of p: has one replica: what its broker's disk loses is lost",
        "min.insync.replicas is 2, and it has 1 replicas: it takes no writes",
        &set(&stage.output, "unclean.leader.election.enable=false"),
        &set(&stage.letters, "min.insync.replicas=1"),
        &format!(
            "$ kafka-reassign-partitions.sh --bootstrap-server {bootstrap} --reassignment-json-file replicas.json"
        ),
    ] {
        assert!(weak.out.contains(told), "{told}\nis not in\n{}", weak.out);
    }
}
