#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
use super::*;

#[test]
fn lines_are_messages_or_move_the_clock_and_what_is_neither_is_refused_by_its_place() {
    let one = ["in".to_owned()];
    let two = ["orders".to_owned(), "payments".to_owned()];
    let read = |line: &str, topics: &[String]| match step(line, topics) {
        Ok(Step::Give(input)) => format!("{}/{} {:?}", input.topic, input.partition, input.timestamp_ms),
        Ok(Step::Advance(ms)) => format!("{ms} ms"),
        Ok(Step::Answer(answer)) => {
            format!("{} {} {:?}", answer.method, answer.url, answer.fetched.map(|r| r.status))
        }
        Err(why) => why,
    };
    assert_eq!(read(r#"{"key":"k","value":"v"}"#, &one), "0/0 None");
    assert_eq!(read(r#"{"topic":"payments","value":null,"partition":3,"timestamp":7}"#, &two), "1/3 Some(7)");
    assert_eq!(read(r#"{"advance":"1h"}"#, &one), "3600000 ms");
    assert_eq!(read(r#"{"answer":"GET http://a/","status":204}"#, &one), "GET http://a/ Ok(204)");
    assert_eq!(read(r#"{"answer":"PUT http://a/","error":"timeout"}"#, &one), "PUT http://a/ Err(Timeout)");
    assert_eq!(
        read(r#"{"answer":"GET http://a/","error":"denied"}"#, &one),
        ": \"denied\" is no error: \"timeout\" or \"unreachable\""
    );
    assert_eq!(read(r#"{"value":"v"}"#, &two), ": \"topic\" is missing: one of orders, payments");
    assert_eq!(
        read(r#"{"topic":"x","value":"v"}"#, &two),
        ": \"x\" is no input of the pipeline, which reads orders, payments"
    );
    assert!(read(r#"{"advance":"soon"}"#, &one).starts_with(": \"soon\" is not a duration"));
    assert!(read(r#"{"advance":"1h","key":"k"}"#, &one).contains("unknown field `key`"));
    assert!(read(r#"{"pipline":"p"}"#, &one).contains("\"value\" is missing: a message has"));
    assert_eq!(read(r#"{"topic":7,"value":"v"}"#, &one), ": \"topic\" must be text");
    assert!(read(r#"{"value":}"#, &one).starts_with(":10: "), "{}", read(r#"{"value":}"#, &one));
}

#[test]
fn what_differs_is_shown_and_a_text_may_be_given_by_a_part_of_it() {
    let came: Vec<String> =
        [r#"{"detail":"bad at line 7","n":[1]}"#, r#"{"outcome":"done"}"#].map(str::to_owned).to_vec();
    let loose = "{\"n\":[1],\"detail\":{\"contains\":\"line\"}}\n\n{\"outcome\":\"done\"}\n";
    assert_eq!(against(loose, &came), Vec::<String>::new());
    assert_eq!(
        against("{\"detail\":{\"contains\":\"row\"},\"n\":[1]}\n{\"outcome\":\"done\"}\n{\"x\":1}\n", &came),
        [
            "from line 1: expected -, came +",
            "- {\"detail\":{\"contains\":\"row\"},\"n\":[1]}",
            "- {\"outcome\":\"done\"}",
            "- {\"x\":1}",
            "+ {\"detail\":\"bad at line 7\",\"n\":[1]}",
            "+ {\"outcome\":\"done\"}",
        ]
    );
    // A line that is new, or gone, in the midst of others is told alone.
    let many: Vec<String> = (0..9).map(|n| n.to_string()).collect();
    assert_eq!(against("0\n1\n3\n4\n5\n6\n7\n8\n", &many), ["from line 3: expected -, came +", "+ 2"]);
    assert_eq!(against("0\n1\n2\n3\n4\n5\n6\n7\n8\n8\n", &many), ["from line 10: expected -, came +", "- 8"]);
    assert_eq!(against("", &many).last().unwrap(), "  and 4 lines more");
    assert!(against("1\n{\n", &many)[0].starts_with("line 2 of what is expected is no JSON: EOF"));
    let (first, loosened) = (r#"{"new":1}"#.to_owned(), r#"{"n":[1],"detail":{"contains":"line"}}"#);
    let kept = kept(&loose.replace("done", "skip"), &[first.clone(), came[0].clone(), came[1].clone()]);
    assert_eq!(kept, [first.as_str(), loosened, r#"{"outcome":"done"}"#]);
}

#[test]
fn what_is_expected_stands_beside() {
    assert_eq!(expected(Path::new("a/b.jsonl")), Path::new("a/b.expected.jsonl"));
}

#[test]
fn the_first_difference_is_told_with_its_line() {
    let came = [r#"{"n":1}"#, r#"{"n":2}"#].map(str::to_owned);
    let told = |expected: &str| first_against(Path::new("a.expected.jsonl"), expected, &came);
    assert_eq!(told("{\"n\":1}\n{\"n\":2}\n"), None);
    let second = r#"a.expected.jsonl:3: expected {"n":3}, came {"n":2}"#;
    assert_eq!(told("{\"n\":1}\n\n{\"n\":3}\n").as_deref(), Some(second));
    let more = r#"a.expected.jsonl:2: expected no further line, came {"n":2}"#;
    assert_eq!(told("{\"n\":1}\n").as_deref(), Some(more));
    let less = r#"a.expected.jsonl:3: expected {"n":9}, came no further line"#;
    assert_eq!(told("{\"n\":1}\n{\"n\":2}\n{\"n\":9}").as_deref(), Some(less));
    assert_eq!(told("").as_deref(), Some(r#"a.expected.jsonl:1: expected no further line, came {"n":1}"#));
    assert!(
        told("{\n").is_some_and(|told| told.starts_with("a.expected.jsonl: line 1 of what is expected is no JSON: "))
    );
    let long = format!("{{\"x\":\"{}\"}}", "é".repeat(9_000));
    assert!(told(&long).is_some_and(|told| told.len() < 1_000 && told.contains("é..., came {")));
}
