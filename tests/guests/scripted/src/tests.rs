use keyrail_sdk::testing::{Host, Input, Run};

use super::*;

fn host() -> Host {
    Host::new().output("out")
}

fn run(host: &mut Host, command: &str, attempt: u32) -> Run {
    let script = format!(r#"{{"do":"{command}","id":"m7"}}"#);
    host.run(handle, Input::new(script).key("k").position(3, 17).attempt(attempt))
}

#[test]
fn done_and_skip_tell_where_and_which_run_they_were() {
    for (command, outcome) in [("done", Done), ("skip", Skip), ("spin:1000", Done)] {
        let run = run(&mut host(), command, 2);
        assert_eq!(run.outcome, Ok(outcome), "{command}");
        let [sent] = &run.sent[..] else { panic!("one record, not {:?}", run.sent) };
        assert_eq!((sent.to.as_str(), sent.key.as_deref(), sent.value()), ("out", Some(&b"k"[..]), &b"m7"[..]));
        for (name, value) in [("id", "m7"), ("partition", "3"), ("offset", "17"), ("attempt", "2")] {
            assert_eq!(sent.header(name), Some(value.as_bytes()), "{name}");
        }
    }
}

#[test]
fn failures_come_when_they_are_said_to() {
    // command, attempt, then the problem: code, dead letter, outage, delay
    let ms = Duration::from_millis;
    let retried = Some(("scripted", false, false, None));
    let cases = [
        ("retry", 9, retried),
        ("fail-times:2", 2, retried),
        ("fail-times:2", 3, None),
        ("delay:250", 1, Some(("scripted", false, false, Some(ms(250))))),
        ("delay:250", 2, None),
        ("outage", 1, Some(("scripted", false, true, None))),
        ("outage-until:1700000000001", 1, Some(("scripted", false, true, None))),
        ("outage-until:1700000000000", 1, None),
        ("dead-letter", 1, Some(("scripted", true, false, None))),
        ("trap-times:2", 3, None),
        ("sends:999", 1, None),
        ("sends:1000", 1, Some(("over-quota", true, false, None))),
        ("bytes:4194305", 1, Some(("over-quota", true, false, None))),
        ("unknown-output", 1, Some(("unknown-output", true, false, None))),
    ];
    for (command, attempt, expected) in cases {
        let run = run(&mut host(), command, attempt);
        let problem = run.outcome.as_ref().err();
        let seen = problem.map(|p| (p.code(), p.is_dead_letter(), p.is_outage(), p.delay()));
        assert_eq!(seen, expected, "{command} at attempt {attempt}");
        assert_eq!(run.sent.is_empty(), expected.is_some(), "{command} at attempt {attempt}");
    }
}

#[test]
#[should_panic(expected = "scripted: m7")]
fn a_trap_names_the_message() {
    run(&mut host(), "trap-times:1", 1);
}

#[test]
fn what_is_no_script_is_dead_lettered() {
    let no_script = [
        "",
        "{}",
        "[]",
        "\u{0}",
        r#"{"do":"done"}"#,
        r#"{"do":"dance","id":"1"}"#,
        r#"{"do":"spin","id":"1"}"#,
        r#"{"do":"spin:-1","id":"1"}"#,
        r#"{"do":"done:1","id":"1"}"#,
        r#"{"do":"done","id":"1","x":1}"#,
    ];
    for value in no_script {
        let run = host().run(handle, value);
        let problem = run.outcome.expect_err(value);
        assert_eq!((problem.code(), problem.is_dead_letter()), ("bad-script", true), "{value}");
    }
    assert!(host().run(handle, Null).outcome.is_err_and(|problem| problem.code() == "bad-script"));
}

#[test]
fn log_writes_each_level_once() {
    let mut host = host();
    assert_eq!(run(&mut host, "log:hello", 1).outcome, Ok(Done));
    let logs = host.logs();
    let levels: Vec<_> = logs.iter().map(|line| line.level.as_str()).collect();
    assert_eq!(levels, ["TRACE", "DEBUG", "INFO", "WARN", "ERROR"]);
    assert!(logs.iter().all(|line| line.message == "hello" && line.fields == [("id".into(), "m7".into())]));
}
