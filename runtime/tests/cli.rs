//! The command as a user starts it: what it says, and its exit codes. Nothing here needs a broker.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Nobody listens there: port 1 needs a right that tests don't have.
const HOST: &str = "[kafka]\n\"bootstrap.servers\" = \"127.0.0.1:1\"\n[admin]\nlisten = \"127.0.0.1:0\"\n";

/// A folder with keyrail.toml and an empty plugin folder.
fn folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("cli").join(name);
    if folder.exists() {
        std::fs::remove_dir_all(&folder).unwrap();
    }
    std::fs::create_dir_all(folder.join("plugins")).unwrap();
    std::fs::write(folder.join("keyrail.toml"), HOST).unwrap();
    folder
}

fn plugin(folder: &Path, name: &str, handler: &[u8], more: &str) {
    let manifest = format!("handler = \"{name}.wasm\"\ninput = [\"in\"]\n{more}");
    std::fs::write(folder.join(format!("plugins/{name}.toml")), manifest).unwrap();
    std::fs::write(folder.join(format!("plugins/{name}.wasm")), handler).unwrap();
}

fn guest(name: &str) -> Vec<u8> {
    wat::parse_file(Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../tests/guests/wat/{name}.wat"))).unwrap()
}

fn keyrail(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_keyrail")).args(arguments).current_dir(folder).output().unwrap()
}

fn out(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).unwrap()
}

fn err(output: &Output) -> &str {
    std::str::from_utf8(&output.stderr).unwrap()
}

#[test]
fn wrong_use_is_2_and_help_is_0() {
    let folder = folder("use");
    for wrong in [&["chek"][..], &[], &["run", "--nope"], &["check", "--json=1"]] {
        let output = keyrail(&folder, wrong);
        assert_eq!(output.status.code(), Some(2), "{wrong:?}: {}", err(&output));
        assert!(!output.stderr.is_empty() && output.stdout.is_empty());
    }
    let version = keyrail(&folder, &["--version"]);
    assert_eq!((version.status.code(), out(&version)), (Some(0), concat!("keyrail ", env!("CARGO_PKG_VERSION"), "\n")));
    assert_eq!(keyrail(&folder, &["run", "--help"]).status.code(), Some(0));
}

#[test]
fn who_stops_reading_has_seen_enough() {
    let folder = folder("closed");
    plugin(&folder, "fine", &guest("identity"), "");
    let closed = |arguments: &[&str]| {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = Command::new(env!("CARGO_BIN_EXE_keyrail"));
        let output = command.args(arguments).current_dir(&folder).stdout(writer).output().unwrap();
        (output.status.code(), err(&output).to_owned())
    };
    let embedded = ["--set", "broker=embedded"];
    assert_eq!(keyrail(&folder, &[&["topics", "--create"], &embedded[..]].concat()).status.code(), Some(0));
    let quiet = (Some(0), String::new());
    for arguments in [&["--help"][..], &["lag", "--help"], &["--version"], &["schema", "host"], &["man"]] {
        assert_eq!(closed(arguments), quiet, "{arguments:?}");
    }
    assert_eq!(closed(&["completions", "bash"]), quiet);
    for command in [
        &["check"][..],
        &["check", "--json"],
        &["check", "--resolved"],
        &["lag"],
        &["lag", "--json"],
        &["topics"],
        &["topics", "--json"],
        &["topics", "--print"],
        &["send", "in", "plugins/none.json", "--json"],
        &["tail", "in", "--from", "earliest"],
    ] {
        std::fs::write(folder.join("plugins/none.json"), "").unwrap();
        assert_eq!(closed(&[command, &embedded[..]].concat()), quiet, "{command:?}");
    }
    // What was found is told all the same: nobody listens at port 1.
    assert_eq!(closed(&["check"]), (Some(1), String::new()));
}

#[test]
fn an_argument_that_is_at_fault_is_wrong_use() {
    let folder = folder("set");
    plugin(&folder, "fine", &guest("identity"), "");
    for command in [&["check"][..], &["run"], &["lag"], &["topics"], &["tail", "in"], &["dev"]] {
        for (set, why) in [
            ("foo", "invalid value 'foo' for '--set <KEY=VALUE>': it is KEY=VALUE, as logging.level=debug"),
            ("a b=1", "\"a b\" is no key"),
            ("logging.level=loud", "\"loud\" is not known"),
            ("shutdown-grace=5", "must be a duration, not a whole number"),
            ("kafka=x", "write --set kafka.KEY=VALUE, once for each key"),
        ] {
            let output = keyrail(&folder, &[command, &["--set", set]].concat());
            let told = format!("{}{}", err(&output), out(&output));
            assert_eq!(output.status.code(), Some(2), "{command:?} {set}: {told}");
            assert!(told.contains(why), "{command:?} {set}: {told}");
        }
    }
    // A file at fault is not.
    std::fs::write(folder.join("keyrail.toml"), "brocker = 1\n").unwrap();
    assert_eq!(keyrail(&folder, &["lag", "--set", "logging.level=loud"]).status.code(), Some(1));
}

#[test]
fn a_name_that_is_not_there_is_wrong_use_and_tells_which_are() {
    let folder = folder("names");
    std::fs::write(folder.join("keyrail.toml"), "broker = \"embedded\"\n[embedded]\npartitions = 3\n").unwrap();
    plugin(&folder, "pay", &guest("identity"), "");
    std::fs::write(folder.join("lines.json"), "{\"value\":\"a\"}\n").unwrap();
    assert_eq!(keyrail(&folder, &["topics", "--create"]).status.code(), Some(0));
    for (arguments, why) in [
        (&["lag", "pya"][..], "there is no pipeline \"pya\"; did you mean \"pay\"?"),
        (&["lag", "nowhere"], "there is no pipeline \"nowhere\"; there is pay"),
        (&["rewind", "nowhere", "--to", "earliest"], "there is no pipeline \"nowhere\"; there is pay"),
        (&["tail", "nope"], "data; there are in, pay.in.dlq"),
        (&["tail", "ni"], "did you mean \"in\"?"),
        (&["send", "nope", "lines.json"], "data; there are in, pay.in.dlq; --create makes it"),
        (&["tail", "in", "--partition", "99"], "there is no partition 99: the topic \"in\" has 3, from 0"),
        (&["send", "in", "--partition", "99"], "there is no partition 99: the topic \"in\" has 3, from 0"),
        (&["send", "in", "line.json"], "can't read line.json: it is not there; did you mean lines.json?"),
        (&["send", "in", "zzz"], "can't read zzz: it is not there\n"),
        (&["lag", "-c", "keyrial.toml"], "keyrial.toml: is not there; did you mean keyrail.toml?"),
        (&["run", "-c", "nope.toml"], "nope.toml: is not there\n    name another one with -c FILE"),
        (&["check", "-c", "keyrial.toml"], "did you mean keyrail.toml?"),
        (&["dev", "plugin"], "there is no folder plugin: make it, or name another; did you mean plugins?"),
    ] {
        let output = keyrail(&folder, arguments);
        let told = format!("{}{}", err(&output), out(&output));
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {told}");
        assert!(told.contains(why), "{arguments:?}: {told}");
    }
    // Nothing that was written is at fault where the file that every folder has is missing, or what is there can't be read.
    std::fs::create_dir(folder.join("empty")).unwrap();
    let none = keyrail(&folder.join("empty"), &["lag"]);
    assert_eq!(none.status.code(), Some(1), "{}", err(&none));
    let unreadable = keyrail(&folder, &["lag", "-c", "plugins"]);
    assert_eq!(unreadable.status.code(), Some(1), "{}", err(&unreadable));
}

#[test]
fn lag_and_topics_need_no_handler_and_leave_out_what_is_broken() {
    let folder = folder("unfit");
    std::fs::write(folder.join("keyrail.toml"), "broker = \"embedded\"\n").unwrap();
    plugin(&folder, "fine", b"", "");
    std::fs::remove_file(folder.join("plugins/fine.wasm")).unwrap();
    assert_eq!(keyrail(&folder, &["topics", "--create"]).status.code(), Some(0));
    assert_eq!(keyrail(&folder, &["lag"]).status.code(), Some(0));
    plugin(&folder, "broken", b"", "[retry]\natempts = 3\n");
    for command in ["lag", "topics"] {
        let table = keyrail(&folder, &[command]);
        assert_eq!(table.status.code(), Some(1), "{}", err(&table));
        assert!(out(&table).contains("fine") && !out(&table).contains("broken"), "{}", out(&table));
        let told = err(&table);
        assert!(told.starts_with("keyrail: broken is left out: its manifest has faults\n"), "{told}");
        assert!(told.contains("broken.toml:4:1: retry.atempts: unknown key"), "{told}");
        let json: serde_json::Value = serde_json::from_str(out(&keyrail(&folder, &[command, "--json"]))).unwrap();
        assert!(json["unfit"]["broken"][0].as_str().unwrap().contains("did you mean `attempts`?"), "{json}");
    }
    // Where none is left there is no table of nothing.
    std::fs::rename(folder.join("plugins/fine.toml"), folder.join("fine.toml")).unwrap();
    for command in ["lag", "topics"] {
        let none = keyrail(&folder, &[command]);
        assert_eq!((none.status.code(), out(&none)), (Some(1), ""), "{command}");
        let told =
            "keyrail: there is no pipeline to show: the manifests of all have faults\nkeyrail: broken is left out: ";
        assert!(err(&none).starts_with(told), "{}", err(&none));
    }
    std::fs::rename(folder.join("fine.toml"), folder.join("plugins/fine.toml")).unwrap();
    let one = keyrail(&folder, &["lag", "fine"]);
    assert_eq!((one.status.code(), err(&one)), (Some(0), ""));
    let other = keyrail(&folder, &["lag", "broken"]);
    assert_eq!(other.status.code(), Some(1));
    assert!(err(&other).starts_with("keyrail: the manifest of broken has faults\n"), "{}", err(&other));
}

#[test]
fn faults_of_the_configuration_are_1_for_check_and_run() {
    let folder = folder("faults");
    plugin(&folder, "p", b"", "[retry]\natempts = 3\n");
    let check = keyrail(&folder, &["check"]);
    assert_eq!(check.status.code(), Some(1), "{}", err(&check));
    assert!(out(&check).contains("FAULT    configuration  "), "{}", out(&check));
    assert!(out(&check).contains("p.toml:4:1  retry.atempts: unknown key\n"), "{}", out(&check));
    assert!(out(&check).contains("did you mean `attempts`?"), "{}", out(&check));
    assert!(out(&check).ends_with("1 fault, 0 warnings\n"), "{}", out(&check));
    let run = keyrail(&folder, &["run"]);
    assert_eq!((run.status.code(), out(&run)), (Some(1), ""));
    assert!(err(&run).starts_with("keyrail: the configuration has faults, and nothing was started\n"), "{}", err(&run));
    assert!(err(&run).contains("retry.atempts: unknown key; did you mean"), "{}", err(&run));
    let none = keyrail(&folder, &["check", "-c", "none.toml"]);
    assert_eq!(none.status.code(), Some(2));
    assert!(out(&none).contains("none.toml  is not there\n"), "{}", out(&none));
}

#[test]
fn check_tells_every_fault_of_handlers_and_broker_at_once() {
    let folder = folder("handlers");
    plugin(&folder, "fine", &guest("identity"), "");
    plugin(&folder, "probe", &guest("probe"), "order.by = \"none\"\n");
    plugin(&folder, "whole", &guest("probe"), "");
    plugin(&folder, "text", b"#!/bin/sh\n", "");
    plugin(&folder, "other", &guest("identity"), &format!("sha256 = \"{}\"\n", "0".repeat(64)));
    let check = keyrail(&folder, &["check", "--json"]);
    assert_eq!(check.status.code(), Some(1), "{}", err(&check));
    let report: serde_json::Value = serde_json::from_str(out(&check)).unwrap();
    assert_eq!(
        (&report["ok"], &report["faults"], &report["warnings"]),
        (&false.into(), &3.into(), &2.into()),
        "{report}"
    );
    let findings = report["findings"].as_array().unwrap();
    let said = |verdict: &str, subject: &str, name: &str| -> Vec<&str> {
        findings
            .iter()
            .filter(|f| {
                f["verdict"] == verdict && f["subject"] == subject && f["name"].as_str().unwrap().contains(name)
            })
            .map(|f| f["message"].as_str().unwrap())
            .collect()
    };
    assert!(said("ok", "handler", "fine.wasm")[0].starts_with("sha256 "));
    let timers =
        "imports timers, which need an order key, and order.by is \"none\": each call of them answers with an error";
    let state =
        "imports state, which needs an order key, and order.by is \"none\": each call of it answers with an error";
    assert_eq!(said("warning", "handler", "probe.wasm"), [state, timers]);
    assert!(said("warning", "handler", "whole.wasm").is_empty());
    assert!(said("fault", "handler", "text.wasm")[0].contains("no WebAssembly"));
    assert!(said("fault", "handler", "other.wasm")[0].contains("other.toml demands another"));
    let broker = said("fault", "broker", "127.0.0.1:1");
    assert!(broker[0].contains("is a broker running at 127.0.0.1:1?"), "{broker:?}");
}

#[test]
fn a_port_in_use_is_a_warning_for_check_and_stops_run() {
    let folder = folder("port");
    plugin(&folder, "fine", &guest("identity"), "");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let set = format!("admin.listen={address}");
    let check = keyrail(&folder, &["check", "--set", &set]);
    let warning = out(&check).lines().find(|l| l.starts_with("warning  admin")).unwrap();
    assert!(warning.contains("another process listens there"), "{warning}");
    let run = keyrail(&folder, &["run", "--set", &set]);
    assert_eq!(run.status.code(), Some(1));
    let said = err(&run).lines().last().unwrap();
    assert!(said.starts_with(&format!("keyrail: [admin] listen = \"{address}\" can't be used: ")), "{said}");
    assert!(said.contains("most often a keyrail that runs already: end it, or choose another port"), "{said}");
    assert!(said.ends_with("--set admin.listen=127.0.0.1:0, where 0 picks a free one"), "{said}");
    // The cure is one: what it finds next is that no broker is there.
    let cured = keyrail(&folder, &["check", "--set", "admin.listen=127.0.0.1:0"]);
    assert!(out(&cured).contains("ok       admin          127.0.0.1:0"), "{}", out(&cured));
}

#[test]
fn durability_of_the_embedded_broker_is_whether_it_syncs() {
    let folder = folder("durability");
    plugin(&folder, "fine", &guest("identity"), "");
    let check = |more: &[&str]| keyrail(&folder, &[&["check", "--set", "broker=embedded"], more].concat());
    let full = check(&["--durability"]);
    assert_eq!(full.status.code(), Some(0), "{}", out(&full));
    assert!(out(&full).contains("ok       durability     [embedded]"), "{}", out(&full));
    let normal = check(&["--durability", "--set", "embedded.sync=normal"]);
    assert_eq!(normal.status.code(), Some(1), "{}", out(&normal));
    let told =
        ["FAULT    durability     [embedded]", "a loss of power takes", "write sync = \"full\" below [embedded]"];
    assert!(told.iter().all(|part| out(&normal).contains(part)), "{}", out(&normal));
    // Unasked, it is no fault.
    let unasked = check(&["--set", "embedded.sync=normal"]);
    assert_eq!(unasked.status.code(), Some(0), "{}", out(&unasked));
    assert!(!out(&unasked).contains("durability"), "{}", out(&unasked));
}
