#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use super::report::{Report, Verdict};
use super::*;
use clap::CommandFactory as _;

fn parse(line: &str) -> Result<Cli, clap::Error> {
    Cli::try_parse_from(line.split(' '))
}

#[test]
fn the_command_line_is_sound_and_says_what_it_does() {
    Cli::command().debug_assert();
    let help = Cli::command().render_long_help().to_string();
    for part in ["run ", "check ", "--version", "0 done, 1 failed, 2 wrong use, 3 fenced"] {
        assert!(help.contains(part), "{part} not in\n{help}");
    }
}

#[test]
fn how_the_pipelines_ended_is_the_exit_code() {
    let code = |ended| Exit::from(ended) as u8;
    assert_eq!([Ended::Stopped, Ended::Failed, Ended::Fenced].map(code), [0, 1, 3]);
    assert_eq!(Exit::WrongUse as u8, 2);
}

#[test]
fn arguments_and_their_defaults() {
    let Command::Run(config) = parse("keyrail run").unwrap().command else { panic!("run") };
    assert_eq!((config.file().to_str(), &config.config, config.set.len()), (Some("keyrail.toml"), &None, 0));
    let Command::Check(args) =
        parse("keyrail check -c a.toml --set x.y=1 --set kafka.\"client.id\"=z --json").unwrap().command
    else {
        panic!("check")
    };
    assert!(args.json);
    assert_eq!(args.config.file().to_str(), Some("a.toml"));
    assert_eq!(args.config.set, ["x.y=1", "kafka.\"client.id\"=z"]);
}

#[test]
fn state_is_of_a_key_or_of_whole_partitions() {
    assert!(parse("keyrail state get p k").is_ok() && parse("keyrail state get p k name --json").is_ok());
    assert!(parse("keyrail state get p --whole-partition").is_ok());
    assert!(parse("keyrail state get p --whole-partition name").is_ok());
    assert!(parse("keyrail state get p").unwrap_err().to_string().contains("<KEY>"));
    assert!(parse("keyrail state").is_err() && parse("keyrail state list").is_err());
    assert!(parse("keyrail state list p --partition -1").is_err());
}

#[test]
fn timers_are_of_a_key_and_what_is_sent_later_is_not() {
    assert!(parse("keyrail timers list p --key k --limit 5 --json").is_ok());
    assert!(parse("keyrail timers list p --delayed --partition 3").is_ok());
    assert!(parse("keyrail timers list p --delayed --key k").is_err() && parse("keyrail timers list").is_err());
}

#[test]
fn wrong_use_says_what_was_meant() {
    let said = |line: &str| parse(line).unwrap_err().to_string();
    assert!(said("keyrail chek").contains("'check'"), "{}", said("keyrail chek"));
    assert!(said("keyrail run --sett x=1").contains("'--set'"), "{}", said("keyrail run --sett x=1"));
    assert!(said("keyrail run extra").contains("unexpected argument 'extra'"));
    assert!(parse("keyrail run --version").is_err());
    assert!(!parse("keyrail --version").unwrap_err().use_stderr());
}

#[test]
fn names_that_are_not_there_tell_which_are() {
    let told = |wrong: &str, names: &[&str]| meant(wrong, names.iter().copied());
    assert_eq!(told("ordres", &["done", "orders"]).unwrap(), "did you mean \"orders\"?");
    assert_eq!(told("x", &["done", "orders"]).unwrap(), "there are done, orders");
    assert_eq!(told("x", &["done"]).unwrap(), "there is done");
    let many = ["t1", "t2", "t3", "t4", "t5", "t6", "t7", "t8", "t9", "t10"];
    assert_eq!(told("orders", &many).unwrap(), "there are t1, t2, t3, t4, t5, t6, t7, t8 and 2 more");
    assert_eq!(told("x", &[]), None);
}

fn report() -> Report {
    let mut report = Report::default();
    report.add(Verdict::Ok, "configuration", "keyrail.toml", String::new());
    report.add(Verdict::Warning, "handler", "p.wasm", "imports state".to_owned());
    let fault = report.add(Verdict::Fault, "topic", "payments", "does not exist\x1b[2J".to_owned());
    fault.cure = "create it".to_owned();
    fault.command = Some("kafka-topics.sh --create".to_owned());
    report
}

#[test]
fn people_read_an_aligned_table() {
    let expected = "\
ok       configuration  keyrail.toml
warning  handler        p.wasm        imports state
FAULT    topic          payments      does not exist\\u{1b}[2J
                                      create it
                                      $ kafka-topics.sh --create
1 fault, 1 warning
";
    assert_eq!(report().render(None), expected);
    assert_eq!(report().render(Some(80)), expected);
    assert!(!report().is_ok());
    assert!(Report::default().is_ok());
}

#[test]
fn messages_stand_below_where_the_terminal_is_narrow() {
    let expected = "\
ok configuration keyrail.toml
warning handler p.wasm
  imports state
FAULT topic payments
  does not
  exist\\u{1b}[2J
  create it
  $ kafka-topics.sh --create
1 fault, 1 warning
";
    assert_eq!(report().render(Some(16)), expected);
    let long = "one two three four five six seven eight nine ten";
    let mut report = report();
    report.add(Verdict::Ok, "topic", "x", long.to_owned());
    let broken = format!("{0}one two three four five six\n{0}seven eight nine ten\n", " ".repeat(38));
    assert!(report.render(Some(66)).contains(broken.trim_start()), "{}", report.render(Some(66)));
}

#[test]
fn programs_read_json() {
    let json: serde_json::Value = serde_json::from_str(&report().json().unwrap()).unwrap();
    assert_eq!((&json["ok"], &json["faults"], &json["warnings"]), (&false.into(), &1.into(), &1.into()));
    let fault = &json["findings"][2];
    assert_eq!((&fault["verdict"], &fault["subject"]), (&"fault".into(), &"topic".into()));
    assert_eq!(fault["command"], "kafka-topics.sh --create");
    assert!(json["findings"][0].get("cure").is_none());
}
