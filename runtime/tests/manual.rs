//! What the program says of itself: completions in a real shell, pages through a real `man`, schemas as JSON.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const COMMANDS: [&str; 8] = ["run", "check", "send", "tail", "lag", "topics", "rewind", "plugins"];
/// Commands below others.
const BELOW: [(&str, &[&str]); 3] =
    [("state", &["get", "list"]), ("parked", &["list", "show"]), ("dlq", &["list", "show", "redrive"])];

fn folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("manual").join(name);
    if folder.exists() {
        std::fs::remove_dir_all(&folder).unwrap();
    }
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

fn text(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn keyrail(arguments: &[&str]) -> String {
    text(&Command::new(env!("CARGO_BIN_EXE_keyrail")).args(arguments).output().unwrap())
}

/// What bash offers for the last of the words.
fn completed(folder: &Path, words: &[&str]) -> Vec<String> {
    let (last, before) = words.split_last().unwrap();
    // `compopt` works in a running completion alone, and changes how words are shown, not which.
    let script = format!(
        "set -u; compopt() {{ :; }}; source ./keyrail.bash; complete -p keyrail >&2\n\
         COMP_WORDS=({}); COMP_CWORD={}\n\
         _keyrail keyrail {last:?} {:?}; printf '%s\\n' \"${{COMPREPLY[@]}}\"",
        words.join(" "),
        before.len(),
        before.last().unwrap(),
    );
    let bash = Command::new("bash").args(["--norc", "-c", &script]).current_dir(folder).output().unwrap();
    assert!(String::from_utf8_lossy(&bash.stderr).contains("-F _keyrail"), "{}", String::from_utf8_lossy(&bash.stderr));
    text(&bash).lines().filter(|line| !line.is_empty()).map(str::to_owned).collect()
}

#[test]
fn bash_completes_commands_options_and_files() {
    let folder = folder("bash");
    std::fs::write(folder.join("keyrail.bash"), keyrail(&["completions", "bash"])).unwrap();
    std::fs::write(folder.join("other.toml"), "").unwrap();
    assert_eq!(completed(&folder, &["keyrail", "ru"]), ["run"]);
    assert_eq!(completed(&folder, &["keyrail", "run", "--conf"]), ["--config"]);
    assert_eq!(completed(&folder, &["keyrail", "run", "-c", "oth"]), ["other.toml"]);
    assert_eq!(completed(&folder, &["keyrail", "send", "topic", "--on-error", "sk"]), ["skip"]);
    assert_eq!(completed(&folder, &["keyrail", "state", "li"]), ["list"]);
    assert_eq!(completed(&folder, &["keyrail", "state", "get", "p", "--whole"]), ["--whole-partition"]);
    let all = completed(&folder, &["keyrail", "''"]);
    assert!(COMMANDS.iter().all(|command| all.iter().any(|word| word == command)), "{all:?}");
}

#[test]
fn every_shell_has_a_script_that_knows_every_command() {
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let script = keyrail(&["completions", shell]);
        for command in COMMANDS.iter().chain(BELOW.iter().flat_map(|(_, below)| *below)) {
            assert!(script.contains(command), "{shell}: {command}");
        }
    }
    let wrong = Command::new(env!("CARGO_BIN_EXE_keyrail")).args(["completions", "csh"]).output().unwrap();
    assert_eq!(wrong.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&wrong.stderr).contains("[possible values: bash, elvish, fish, powershell, zsh]"));
}

/// A page as `man` shows it, or its source where there is none.
fn shown(page: &Path) -> String {
    let man =
        Command::new("man").args(["-l", page.to_str().unwrap()]).env("MANWIDTH", "100").env("MANPAGER", "cat").output();
    match man {
        Ok(output) if output.status.success() && !output.stdout.is_empty() => text(&output),
        _ => std::fs::read_to_string(page).unwrap().replace("\\-", "-"),
    }
}

#[test]
fn there_is_a_page_for_the_program_and_for_each_command() {
    let folder = folder("man").join("made/man1");
    assert_eq!(keyrail(&["man", "--dir", folder.to_str().unwrap()]), "");
    assert_eq!(keyrail(&["man"]), std::fs::read_to_string(folder.join("keyrail.1")).unwrap());
    let main = shown(&folder.join("keyrail.1"));
    for part in
        ["NAME", "SYNOPSIS", "OPTIONS", "SUBCOMMANDS", "Exit codes: 0 done, 1 failed, 2 wrong use", "keyrail-run(1)"]
    {
        assert!(main.contains(part), "{part} not in\n{main}");
    }
    let below = |(command, below): &(&str, &[&str])| below.iter().map(|b| format!("{command}-{b}")).collect::<Vec<_>>();
    let below: Vec<String> = BELOW.iter().flat_map(below).collect();
    for command in COMMANDS.into_iter().chain(below.iter().map(String::as_str)) {
        let page = shown(&folder.join(format!("keyrail-{command}.1")));
        for part in [&format!("keyrail-{command}") as &str, "SYNOPSIS", "--config", "keyrail.toml"] {
            assert!(page.contains(part), "{part} not in\n{page}");
        }
    }
    let state = shown(&folder.join("keyrail-state.1"));
    assert!(state.contains("keyrail-state-get(1)"), "{state}");
    // What troff can't make sense of it tells on standard error.
    if let Ok(troff) =
        Command::new("groff").args(["-man", "-ww", "-Tascii"]).arg(folder.join("keyrail-send.1")).output()
    {
        assert_eq!(String::from_utf8_lossy(&troff.stderr), "");
    }
    let file = folder.join("keyrail.1");
    let wrong = Command::new(env!("CARGO_BIN_EXE_keyrail")).args(["man", "--dir"]).arg(&file).output().unwrap();
    assert_eq!(wrong.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&wrong.stderr).contains("keyrail.1"), "{wrong:?}");
}

#[test]
fn schemas_are_those_of_the_repository() {
    for (file, name) in [("host", "keyrail"), ("pipeline", "pipeline")] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("schemas/{name}.schema.json"));
        let printed = keyrail(&["schema", file]);
        assert_eq!(printed, std::fs::read_to_string(path).unwrap());
        let json: serde_json::Value = serde_json::from_str(&printed).unwrap();
        assert_eq!(json["$schema"], "https://json-schema.org/draft/2020-12/schema");
    }
}
