use keyrail_sdk::testing::{Host, Input, Run};

use super::*;

/// The start of a minute.
const T: i64 = 1_699_999_980_000;

struct Rig {
    host: Host,
    counter: RateCount,
}

impl Rig {
    fn new(config: &[(&str, &str)]) -> Self {
        let host = config.iter().fold(Host::new().output("counts"), |host, (key, value)| host.config(key, value));
        let counter = RateCount::open(&host.setup()).map_err(|why| why.to_string()).unwrap();
        Rig { host, counter }
    }

    fn run(&mut self, inputs: Vec<Input>) -> Vec<Run> {
        self.host.run_batch(|batch| self.counter.process(batch), inputs)
    }

    /// The summaries that a batch sent.
    fn summaries(&mut self, inputs: Vec<Input>) -> Vec<String> {
        let runs = self.run(inputs);
        runs.iter().flat_map(|run| &run.sent).map(|sent| String::from_utf8(sent.value().to_vec()).unwrap()).collect()
    }

    fn observed(&self, name: &str) -> f64 {
        self.host.observed(name).iter().sum()
    }
}

fn at(key: &str, ms: i64) -> Input {
    Input::new("{}").key(key).timestamp_ms(T + ms)
}

fn line(group: &str, from: i64, count: u64) -> String {
    let (from, to) = (T + from, T + from + 60_000);
    format!("{{\"group\":{group},\"from\":{from},\"to\":{to},\"count\":{count},\"topic\":\"input\",\"partition\":0}}")
}

#[test]
fn a_window_is_told_once_a_later_message_closes_it() {
    let mut rig = Rig::new(&[]);
    assert!(rig.summaries(vec![at("b", 0), at("a", 59_999), at("b", 1)]).is_empty());
    let runs = rig.run(vec![at("a", 60_000)]);
    let told: Vec<_> = runs[0].sent.iter().map(|sent| String::from_utf8_lossy(sent.value()).into_owned()).collect();
    assert_eq!(told, [line("\"a\"", 0, 1), line("\"b\"", 0, 2)]);
    assert_eq!((runs[0].sent[0].key.as_deref(), runs[0].sent[0].timestamp_ms), (Some(&b"a"[..]), T + 60_000));
    assert_eq!(rig.summaries(vec![at("a", 600_000)]), [line("\"a\"", 60_000, 1)]);
    assert_eq!((rig.observed("rate_count_messages"), rig.observed("rate_count_summaries")), (5.0, 3.0));
    assert_eq!(rig.host.observed("rate_count_groups").last(), Some(&1.0));
}

#[test]
fn grace_keeps_a_window_open_and_what_comes_after_is_late() {
    let mut rig = Rig::new(&[("grace", "10s")]);
    assert!(rig.summaries(vec![at("a", 0), at("a", 69_999), at("a", 1)]).is_empty());
    assert_eq!(rig.summaries(vec![at("a", 70_000)]), [line("\"a\"", 0, 2)]);
    assert!(rig.summaries(vec![at("a", 59_999)]).is_empty());
    assert_eq!(rig.observed("rate_count_late"), 1.0);
    // A window that is open counts what comes late within it.
    assert_eq!(rig.summaries(vec![at("a", 60_000), at("a", 200_000)]), [line("\"a\"", 60_000, 3)]);
}

#[test]
fn each_partition_has_a_clock_of_its_own() {
    let mut rig = Rig::new(&[]);
    rig.run(vec![at("a", 120_000).position(1, 5), at("a", 0).position(0, 1)]);
    assert_eq!(rig.observed("rate_count_late"), 0.0);
    assert_eq!(rig.summaries(vec![at("a", 60_000).position(0, 2)]), [line("\"a\"", 0, 1)]);
}

#[test]
fn a_time_in_the_far_future_closes_nothing() {
    let mut rig = Rig::new(&[("ahead", "5m")]);
    assert!(rig.summaries(vec![at("a", 0), at("a", i64::MAX - T), at("a", 10_000_000)]).is_empty());
    assert_eq!(rig.observed("rate_count_ahead"), 2.0);
    // Times before 1970, and none at all (-1), have windows like any other.
    let mut rig = Rig::new(&[]);
    let past = [i64::MIN, i64::MIN + 1, -60_001, -1, 0];
    let told = rig.summaries(past.map(|ms| Input::new("").key("k").timestamp_ms(ms)).to_vec());
    assert!(told.iter().any(|told| told.contains("\"from\":-60000,\"to\":0,\"count\":1")), "{told:?}");
}

#[test]
fn groups_come_from_key_header_or_field() {
    let value = r#"{"user":{"id":7},"tag":"x\u0041"}"#;
    for (by, group) in [
        ("key", "\"k\""),
        ("header:h", "\"2\""),
        ("header:none", "null"),
        ("field:user.id", "\"7\""),
        ("field:tag", "\"xA\""),
        ("field:user", "null"),
        ("all", "null"),
    ] {
        let mut rig = Rig::new(&[("by", by)]);
        let input = Input::new(value).key("k").header("h", "1").header("h", "2").timestamp_ms(T);
        let next = Input::new(value).key("k").header("h", "2").timestamp_ms(T + 60_000);
        rig.run(vec![input]);
        assert_eq!(rig.summaries(vec![next]), [line(group, 0, 1)], "{by}");
    }
    let mut rig = Rig::new(&[]);
    rig.run(vec![Input::new(Null).key(b"\xff\"").timestamp_ms(T), Input::new(Null).timestamp_ms(T)]);
    let runs = rig.run(vec![at("a", 60_000)]);
    assert_eq!(runs[0].sent[0].value(), line("\"\u{fffd}\\\"\"", 0, 1).as_bytes());
    assert_eq!(runs[0].sent[0].key.as_deref(), Some(&b"\xff\""[..]));
    assert_eq!((runs[0].sent[1].value(), runs[0].sent[1].key.as_deref()), (line("null", 0, 1).as_bytes(), None));
}

#[test]
fn what_is_counted_and_undone_is_not_counted_again() {
    let mut rig = Rig::new(&[("by", "field:a")]);
    let message = |value: &str, offset: u64| Input::new(value).key("k").position(0, offset).timestamp_ms(T);
    let runs = rig.run(vec![message("{", 0), message("{\"a\":1}", 1), message("{\"a\":1}", 2)]);
    let problem = runs[0].outcome.clone().unwrap_err();
    assert_eq!((problem.code(), problem.is_dead_letter(), runs[1].undone), ("bad-json", true, true));
    // The host brings them again, behind the dead letter.
    rig.run(vec![message("{\"a\":1}", 1), message("{\"a\":1}", 2), message("{\"a\":1}", 3)]);
    let next = Input::new("{}").position(0, 4).timestamp_ms(T + 60_000);
    assert_eq!(rig.summaries(vec![next]), [line("\"1\"", 0, 3)]);
    let mut rig = Rig::new(&[("by", "field:a"), ("invalid", "drop")]);
    assert_eq!(rig.run(vec![message("\u{1}", 0)])[0].outcome, Ok(Skip));
}

#[test]
fn summaries_never_leave_with_a_message_that_is_undone() {
    let mut rig = Rig::new(&[("by", "field:a")]);
    let message = |value: &str, ms: i64| Input::new(value).key("k").timestamp_ms(T + ms);
    rig.run(vec![message("{\"a\":1}", 0)]);
    let runs = rig.run(vec![message("{", 0), message("{}", 60_000)]);
    assert!(runs.iter().all(|run| run.sent.is_empty()));
    assert_eq!(rig.summaries(vec![message("{}", 60_001)]), [line("\"1\"", 0, 1)]);
}

#[test]
fn many_groups_are_bounded_and_leave_in_portions() {
    let mut rig = Rig::new(&[("groups", "500")]);
    let inputs = (0..700).map(|n| at(&format!("k{n:03}"), 0)).collect();
    rig.run(inputs);
    assert_eq!(rig.host.observed("rate_count_groups").last(), Some(&501.0));
    let first = rig.summaries(vec![at("x", 60_000)]);
    let second = rig.summaries(vec![at("x", 60_001), at("x", 60_002)]);
    assert_eq!((first.len(), second.len()), (200, 301));
    assert_eq!(second[300], line("null", 0, 200).replace("\"from\"", "\"others\":true,\"from\""));
}

#[test]
fn windows_without_end_find_no_room_in_the_end() {
    let mut rig = Rig::new(&[("groups", "10"), ("window", "1ms"), ("grace", "1d")]);
    rig.run((0..1000).map(|ms| at("a", ms)).collect());
    assert_eq!(rig.counter.windows.groups(), 20);
    assert_eq!((rig.observed("rate_count_messages"), rig.observed("rate_count_no_room")), (20.0, 980.0));
}

#[test]
fn a_refused_summary_waits_and_costs_the_message_nothing() {
    let host = Host::new().output("counts").limits(0, 1 << 20);
    let counter = RateCount::open(&host.setup()).unwrap();
    let mut rig = Rig { host, counter };
    rig.run(vec![at("a", 0)]);
    let runs = rig.run(vec![at("a", 60_000)]);
    assert_eq!((runs[0].outcome.clone(), runs[0].sent.len(), rig.counter.closed.len()), (Ok(Done), 0, 1));
    assert!(rig.host.logs()[0].message.contains("waits"));
    // What waits is bounded, and so is what is counted meanwhile.
    let mut rig = Rig { host: Host::new().output("counts").config("groups", "5").limits(0, 0), ..rig };
    rig.counter = RateCount::open(&rig.host.setup()).unwrap();
    rig.run((0..1000).map(|n| at("a", n * 60_000)).collect());
    assert!(rig.counter.closed.len() + rig.counter.windows.groups() <= 15);
}

#[test]
fn a_wrong_manifest_is_refused_with_place_and_cure() {
    for (key, value, said) in [
        ("by", "value", "key, header:NAME, field:PATH or all"),
        ("by", "field:", "name is missing"),
        ("window", "0s", "must lie between 1 ms"),
        ("window", "60", "with its unit"),
        ("groups", "0", "from 1 to 100000"),
        ("windo", "1m", "did you mean `window`?"),
        ("output", "count", "did you mean `counts`?"),
        ("invalid", "keep", "dead-letter, drop"),
    ] {
        let host = Host::new().output("counts").config(key, value);
        let refused = RateCount::open(&host.setup()).err().unwrap().to_string();
        assert!(refused.contains(said), "{key} = {value}: {refused}");
    }
}
