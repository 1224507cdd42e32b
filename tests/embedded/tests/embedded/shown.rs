//! `keyrail state`: what handlers keep, read beside the process that runs them and at rest.

use crate::commands::run;
use crate::run::{PARTITIONS, beside, guests, options, start};
use crate::support::{Folder, WAIT, stopped, topic};
use keyrail::broker::embedded::Embedded;
use std::time::Instant;

/// Pipelines with the handler `tally`: `p` by key, `whole` by partition, of a topic with one; and what is to be refused.
fn stage(test: &str) -> Option<Folder> {
    let guests = guests(test)?;
    let folder = Folder::new();
    let plugins = folder.path().join("plugins");
    std::fs::create_dir(&plugins).unwrap();
    let host = "broker = \"embedded\"\nadmin.listen = \"127.0.0.1:0\"\nembedded.partitions = 4\n";
    std::fs::write(folder.path().join("keyrail.toml"), host).unwrap();
    for (name, guest, input, more) in [
        ("p", "tally", "\"in\"", ""),
        ("whole", "tally", "\"one\", \"in\"", "order.by = \"partition\"\n"),
        ("once", "tally", "\"in\"", "order.by = \"none\"\n"),
        ("plain", "identity", "\"in\"", ""),
    ] {
        std::fs::copy(guests.join(format!("{guest}.wasm")), plugins.join(format!("{guest}.wasm"))).unwrap();
        let manifest = format!("handler = \"{guest}.wasm\"\ninput = [{input}]\noutput.out = \"out-{name}\"\n{more}");
        std::fs::write(plugins.join(format!("{name}.toml")), manifest).unwrap();
    }
    let mut client = Embedded::open(&options(&folder)).unwrap().client().unwrap();
    topic(client.as_mut(), "in", PARTITIONS, &[]);
    topic(client.as_mut(), "one", 1, &[]);
    Some(folder)
}

fn send(folder: &Folder, topic: &str, lines: &str) {
    let (code, _, err) = run(folder, &["send", topic], lines);
    assert_eq!(code, 0, "{err}");
}

/// Waits until the value is what it comes to.
fn comes_to(folder: &Folder, args: &[&str], value: &str) {
    let until = Instant::now() + WAIT;
    let mut last;
    while {
        last = run(folder, &[&["state", "get"], args].concat(), "");
        last.1 != value
    } {
        assert!(Instant::now() < until, "{args:?}: {last:?}");
    }
    assert_eq!((last.0, last.2.as_str()), (0, ""));
}

fn refused(folder: &Folder, args: &[&str], code: i32, why: &str) {
    let done = run(folder, &[&["state"], args].concat(), "");
    assert!(done.0 == code && done.1.is_empty() && done.2.contains(why), "{args:?}: {done:?}");
}

#[test]
fn what_handlers_keep_is_shown_beside_their_process_and_at_rest() {
    let Some(folder) = stage("what_handlers_keep_is_shown_beside_their_process_and_at_rest") else { return };
    refused(&folder, &["get", "p", "a"], 1, "there is no topic \"p.in.state\" at ");
    refused(&folder, &["list", "plain"], 1, "plain keeps no state: its handler does not ask for any");
    refused(&folder, &["get", "once", "a"], 2, "once keeps no state: state belongs to an order key");
    let (code, out, err) = run(&folder, &["topics", "--create"], "");
    assert!(code == 0 && out.contains("p.in.state  ") && out.contains("state of whole"), "{out}{err}");
    let child = start(&folder);
    drop(beside(&folder, &child));
    let lines = "{\"key\":\"a\",\"value\":\"x\"}\n{\"key\":\"a\",\"value\":\"fail 1\"}\n{\"key\":\"b\",\"value\":\"x\"}\n\
                 {\"key\":\"gone\",\"value\":\"forget\"}\n{\"key\":{\"base64\":\"/w==\"},\"value\":\"x\"}\n\
                 {\"key\":\"over\",\"value\":\"briefly\"}\n{\"key\":\"a\",\"value\":\"z\"}\n{\"value\":\"no key\"}\n";
    send(&folder, "in", lines);
    send(&folder, "one", "{\"key\":\"k\",\"value\":\"x\"}\n{\"value\":\"y\"}\n");
    comes_to(&folder, &["p", "a", "count"], "3");
    comes_to(&folder, &["p", "b", "count"], "1");
    comes_to(&folder, &["p", "/w==", "count", "--base64"], "1");
    comes_to(&folder, &["whole", "--whole-partition", "count", "--topic", "one"], "2");
    let until = Instant::now() + WAIT;
    let list = || run(&folder, &["state", "list", "p", "--json"], "").1;
    while list().matches("\"value\":").count() != 3 {
        assert!(Instant::now() < until, "what is kept briefly does not end: {}", list());
    }
    stopped(child);
    shown(&folder);
    in_parts(&folder);
}

/// At rest, and what has ended is over.
fn shown(folder: &Folder) {
    let (code, out, err) = run(folder, &["state", "list", "p", "--json"], "");
    assert_eq!((code, err.as_str()), (0, ""));
    assert!(out.starts_with("{\"pipeline\":\"p\",\"state\":[{\"topic\":\"in\",\"partition\":"), "{out}");
    assert!(out.ends_with("],\"more\":false}\n"), "{out}");
    let rows: Vec<&str> = out.split("\"key\":").skip(1).map(|row| row.split("},{").next().unwrap()).collect();
    let rest = ",\"name\":\"count\",\"value\":\"3\",\"ends_ms\":null,\"ended\":false";
    assert_eq!((rows.len(), rows[0]), (3, format!("\"a\"{rest}").as_str()), "{out}");
    assert!(rows[2].starts_with("{\"base64\":\"/w==\"},"), "{out}");
    // It ends in 1970, and nobody runs that would delete it.
    let past = "\\u0002\\u0000\\u0000\\u0000\\u0000\\u0000\\u0000\\u0000\\u00001";
    send(folder, "p.in.state", &format!("{{\"key\":\"\\u0001\\u0000\\u0004pastcount\",\"value\":\"{past}\"}}\n"));
    let (_, out, _) = run(folder, &["state", "list", "p", "--ended", "--key-prefix", "pa"], "");
    let words: Vec<&str> = out.lines().nth(1).unwrap().split_whitespace().collect();
    assert_eq!((words.len(), &words[..4]), (6, &["past", "count", "1", "ended"][..]), "{out}");
    assert!(words[4] == "1970-01-01T00:00:00Z" && words[5].starts_with("in/"), "{out}");
    // Where the partitioner would not have put it.
    let (code, out, _) = run(folder, &["state", "get", "p", "past", "count", "--ended"], "");
    assert_eq!((code, out.as_str()), (0, "1"));
    let (code, out, _) = run(folder, &["state", "get", "p", "a"], "");
    let rows: Vec<Vec<&str>> = out.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(
        (code, rows.len(), &rows[0][..], &rows[1][..3]),
        (0, 2, &["NAME", "VALUE", "ENDS", "OF"][..], &["count", "3", "-"][..])
    );
    let (code, out, _) = run(folder, &["state", "get", "p", "a", "count", "--json"], "");
    assert!(
        code == 0 && out.starts_with("{\"topic\":\"in\",") && out.ends_with(&format!("\"key\":\"a\"{rest}}}\n")),
        "{out}"
    );
    for key in ["gone", "over", "past", "nobody"] {
        refused(
            folder,
            &["get", "p", key, "count"],
            1,
            &format!("p keeps nothing for the key {key:?} under \"count\""),
        );
    }
    refused(folder, &["get", "p", "a", "coun"], 1, "p keeps nothing for the key \"a\" under \"coun\"");
    refused(folder, &["get", "p", "--whole-partition"], 1, "p keeps nothing for a whole partition");
}

/// Parts of it, and what can't be asked.
fn in_parts(folder: &Folder) {
    let (code, out, err) = run(folder, &["state", "list", "p", "--limit", "1"], "");
    assert_eq!((code, out.lines().count()), (0, 2), "{out}");
    assert!(err.contains("there are more than these 1: --limit shows more"), "{err}");
    let (code, out, err) = run(folder, &["state", "list", "p", "--name-prefix", "cx"], "");
    assert!(code == 0 && out.lines().count() == 1 && err.contains("p keeps nothing of that kind"), "{out}{err}");
    let partitions = (0..PARTITIONS).map(|n| {
        let (code, out, _) = run(folder, &["state", "list", "p", "--partition", &n.to_string(), "--json"], "");
        assert_eq!((code, out.matches(&format!("\"partition\":{n},")).count()), (0, out.matches("\"key\":").count()));
        out.matches("\"key\":").count()
    });
    assert_eq!(partitions.sum::<usize>(), 3);
    let (_, out, _) = run(folder, &["state", "get", "whole", "--whole-partition"], "");
    assert!(out.lines().count() > 2 && out.lines().nth(1).unwrap().ends_with("  one/0"), "{out}");
    refused(
        folder,
        &["get", "whole", "--whole-partition", "count"],
        2,
        "\"count\" is kept in several places, one/0, in/",
    );
    refused(
        folder,
        &["get", "whole", "k"],
        2,
        "belongs to whole partitions and not to keys (order.by = \"partition\")",
    );
    refused(folder, &["list", "whole", "--key-prefix", "k"], 2, "use --name-prefix");
    refused(folder, &["get", "p", "a", "count", "--whole-partition"], 2, "has no key: leave KEY out");
    refused(folder, &["get", "p", "a", "--topic", "one"], 2, "\"one\" is no input of p: they are in");
    refused(
        folder,
        &["get", "p", "a", "--partition", "4"],
        2,
        "there is no partition 4: the topic \"p.in.state\" has 4, from 0",
    );
    refused(folder, &["get", "p", "?", "--base64"], 2, "\"?\" is no base64: ");
    refused(folder, &["get", "p"], 2, "<KEY>");
    // A stranger writes where nobody may.
    send(folder, "p.in.state", "{\"key\":\"strange\",\"value\":\"x\"}\n");
    let (code, out, err) = run(folder, &["state", "list", "p"], "");
    assert!(code == 0 && out.lines().count() == 4, "{out}");
    assert!(err.contains("1 record of p.in.state passed over: Keyrail did not write them"), "{err}");
    send(folder, "p.in.state", "{\"key\":\"\\u0001\\u0000\\u0001qcount\",\"value\":\"x\"}\n");
    let (code, out, err) = run(folder, &["state", "list", "p", "--key-prefix", "q"], "");
    assert!(code == 1 && err.contains("what Keyrail did not write (it is no record of state)"), "{code} {out}{err}");
    let (code, out, _) = run(folder, &["state", "get", "p", "q", "count"], "");
    assert_eq!((code, out.as_str()), (1, ""), "what it was is not known");
}
