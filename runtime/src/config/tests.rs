//! Cases of `tests/cases/config`, and what must hold for all of them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may fail loudly")]

mod catalogue;

use super::catalogue::{HOST, PIPELINE};
use super::fault::{Fault, Faults};
use super::reader::Reader;
use super::{Pipeline, document, files, host, load, load_host, load_pipelines};
use std::fs;
use std::path::{Path, PathBuf};

/// A folder of `tests/cases/config`: keyrail.toml, manifests or both; `set.txt` holds `--set` arguments, one a line, and
/// `env.txt` variables as NAME=VALUE. There is always a payments.wasm and an orders.wasm.
struct Case {
    host: Option<String>,
    manifests: Vec<(String, String, String)>,
    sets: Vec<String>,
    variables: Vec<(String, String)>,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/cases/config")
}

fn cases() -> Vec<PathBuf> {
    let mut cases: Vec<PathBuf> = fs::read_dir(root()).unwrap().map(|entry| entry.unwrap().path()).collect();
    cases.sort();
    assert!(cases.len() >= 20, "the cases are gone");
    cases
}

fn lines(path: &Path) -> Vec<String> {
    fs::read_to_string(path).map(|text| text.lines().map(str::to_owned).collect()).unwrap_or_default()
}

impl Case {
    fn read(folder: &Path) -> Self {
        let mut names: Vec<String> =
            fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        let text = |name: &str| fs::read_to_string(folder.join(name)).unwrap();
        let manifest = |name: &String| (name.clone(), name.trim_end_matches(".toml").to_owned(), text(name));
        let case = Self {
            host: names.contains(&"keyrail.toml".to_owned()).then(|| text("keyrail.toml")),
            manifests: names.iter().filter(|name| files::is_manifest(name)).map(manifest).collect(),
            sets: lines(&folder.join("set.txt")),
            variables: lines(&folder.join("env.txt"))
                .iter()
                .map(|line| line.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned())).unwrap())
                .collect(),
        };
        assert!(case.host.is_some() || !case.manifests.is_empty(), "{}: nothing to check", folder.display());
        case
    }

    fn variable(&self, wanted: &str) -> Option<String> {
        self.variables.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.clone())
    }

    fn pipelines(&self) -> Result<Vec<Pipeline>, Faults> {
        let mut faults: Vec<Fault> = Vec::new();
        let beside = ["orders.wasm".to_owned(), "payments.wasm".to_owned()];
        let is_file = |path: &Path| beside.iter().any(|name| path == Path::new(name));
        let variables = |name: &str| self.variable(name);
        let pipelines = files::resolve(&self.manifests, Path::new(""), &beside, &is_file, &variables, &mut faults);
        Faults::unless(pipelines, faults)
    }

    /// What `check` would tell of it.
    fn told(&self) -> String {
        let mut told = Vec::new();
        if let Some(text) = &self.host {
            let variables = |name: &str| self.variable(name);
            told.push(match host::resolve("keyrail.toml", text, Path::new(""), &self.sets, &variables).result() {
                Ok(host) => host.resolved(),
                Err(faults) => format!("{faults}\n"),
            });
        }
        match self.pipelines() {
            Ok(pipelines) => {
                told.extend(pipelines.iter().map(Pipeline::resolved));
            }
            Err(faults) => told.push(format!("{faults}\n")),
        }
        told.join("\n")
    }
}

/// A folder is a case: what is told of it is its `expected.txt`. `UPDATE=1` rewrites them.
#[test]
fn cases_are_told_as_expected() {
    let mut wrong = Vec::new();
    for folder in cases() {
        let told = Case::read(&folder).told();
        let expected = folder.join("expected.txt");
        if std::env::var_os("UPDATE").is_some() {
            fs::write(&expected, &told).unwrap();
        }
        let wanted = fs::read_to_string(&expected).unwrap_or_default();
        if told != wanted {
            wrong.push(format!("--- {}\nexpected:\n{wanted}\ngot:\n{told}", folder.display()));
        }
    }
    assert!(wrong.is_empty(), "{}\n\nUPDATE=1 rewrites them", wrong.join("\n"));
}

#[test]
fn faults_fit_a_terminal_and_tell_a_cure() {
    for folder in cases() {
        let case = Case::read(&folder);
        let variables = |name: &str| case.variable(name);
        let host =
            case.host.as_ref().map(|text| host::resolve("keyrail.toml", text, Path::new(""), &case.sets, &variables));
        let faults = [host.and_then(|resolved| resolved.result().err()), case.pipelines().err()];
        for fault in faults.iter().flatten().flatten() {
            let told = fault.to_string();
            for line in told.lines() {
                let breakable = line.trim_start().contains(' ');
                assert!(line.chars().count() <= 80 || !breakable, "{}: {line}", folder.display());
            }
            let syntax = fault.problem.starts_with("not TOML");
            assert!(syntax || !fault.cure.is_empty(), "{}: {told}", folder.display());
        }
    }
}

#[test]
fn what_is_resolved_reads_back_the_same() {
    let mut seen = (0, 0);
    for folder in cases() {
        let case = Case::read(&folder);
        let variables = |name: &str| case.variable(name);
        let resolve =
            |text: &str, sets: &[String]| host::resolve("keyrail.toml", text, Path::new(""), sets, &variables).result();
        if let Some(Ok(host)) = case.host.as_ref().map(|text| resolve(text, &case.sets)) {
            let again =
                resolve(&host.resolved(), &[]).unwrap_or_else(|faults| panic!("{}: {faults}", folder.display()));
            assert_eq!(again.resolved(), host.resolved(), "{}", folder.display());
            seen.0 += 1;
        }
        let Ok(pipelines) = case.pipelines() else { continue };
        for pipeline in pipelines {
            let file = (pipeline.name.clone() + ".toml", pipeline.name.clone(), pipeline.resolved());
            let again = Case { host: None, manifests: vec![file], sets: Vec::new(), variables: Vec::new() };
            let again = again.pipelines().unwrap_or_else(|faults| panic!("{}: {faults}", folder.display()));
            assert_eq!(again.first().unwrap().policy, pipeline.policy, "{}", folder.display());
            assert_eq!(again.first().unwrap().resolved(), pipeline.resolved(), "{}", folder.display());
            seen.1 += 1;
        }
    }
    assert!(seen.0 >= 3 && seen.1 >= 3, "too few cases resolve: {seen:?}");
}

/// A key that is known and not read would do nothing in silence.
#[test]
fn every_known_key_is_taken_and_shown() {
    let full = |name: &str| Case::read(&root().join(name)).told();
    // A token stands in the file or in another one.
    for (catalogue, names) in [(HOST, &["host-full", "host-admin-file"][..]), (PIPELINE, &["pipeline-full"])] {
        let has = |name: &&str, key: &str| {
            let (text, mut faults) = (full(name), Vec::new());
            let text = text.split("\nwarning:").next().unwrap();
            let table = document::parse("full.toml", text, &[], &|_| None, &mut faults).unwrap();
            Reader::new("full.toml", &table, catalogue, &mut faults).has(key)
        };
        for key in catalogue.iter().filter(|key| !key.is_later()) {
            assert!(names.iter().any(|name| has(name, key.path)), "{}", key.path);
        }
    }
}

#[test]
fn secrets_are_never_shown() {
    const SECRET: &str = "hunter2";
    let files = [
        "[kafka]\n\"bootstrap.servers\"=\"a:1\"\n\"security.protocol\"=\"sasl_ssl\"\n\"sasl.mechanism\"=\"PLAIN\"\n\
         \"sasl.username\"=\"me\"\n\"sasl.password\"=\"hunter2\"\n\"ssl.key.password\"=\"hunter2\"",
        "[kafka]\n\"sasl.pasword\"=\"hunter2\"\n\"sasl.password\"=[\"hunter2\"]",
        "[kafka]\n\"sasl.password\"=\"${hunter2 }\"\n",
        "[kafka]\n\"sasl.password\"=\"hunter2\n",
        "[kafka]\n\"sasl.password\"=hunter2\n",
        "kafka.\"sasl.password\"=\"hunter2\"\nkafka.\"sasl.password\"=\"hunter2\"",
        "kafka=\"hunter2\"",
        "broker=\"embedded\"\nadmin.token=\"hunter2-hunter2-hunter2\"",
        "broker=\"embedded\"\n[admin]\ntoken=\"hunter2\"\ntoken-file=\"x\"",
        "broker=\"embedded\"\n[alerts.webhook]\nurl=\"https://a/hunter2?hunter2\"\nsecret=\"hunter2\"\nauthorization=\"hunter2\"\n\
         [alerts.mail]\nserver=\"a\"\nfrom=\"a@b.c\"\nto=[\"a@b.c\"]\nuser=\"me\"\npassword=\"hunter2\"",
        "[alerts.webhook]\nurl=\"https://u:hunter2@a/\"\nsecret=[\"hunter2\"]\nauthorization=\"\\nhunter2\"",
    ];
    let sets = ["kafka.\"sasl.password\"=hunter2", "kafka.sasl.password=hunter2", "kafka.pass=hunter2", "hunter2"];
    for text in files {
        for set in sets {
            let told = match host::resolve("keyrail.toml", text, Path::new(""), &[set.to_owned()], &|_| None).result() {
                Ok(host) => format!("{host:?}{}", host.resolved()),
                Err(faults) => format!("{faults:?}{faults}"),
            };
            assert!(!told.contains(SECRET), "{text}\n{set}\n{told}");
        }
    }
    let manifest = "handler=\"payments.wasm\"\ninput=[\"a\"]\n[config]\ntoken=\"x${T}\"";
    let files = vec![("payments.toml".to_owned(), "payments".to_owned(), manifest.to_owned())];
    let variables = vec![("T".to_owned(), SECRET.to_owned())];
    let pipelines = Case { host: None, manifests: files, sets: Vec::new(), variables }.pipelines().unwrap();
    let pipeline = pipelines.first().unwrap();
    assert_eq!(pipeline.config, [("token".to_owned(), "xhunter2".to_owned())]);
    assert!(!format!("{pipeline:?}{}", pipeline.resolved()).contains(SECRET));
}

/// A file that is cut anywhere, or has a character out of place, is faulty or not, but never more than that.
#[test]
fn nothing_written_can_panic() {
    let mut seen = 0;
    for folder in cases() {
        let case = Case::read(&folder);
        let texts =
            case.manifests.iter().map(|(_, _, text)| (false, text)).chain(case.host.iter().map(|text| (true, text)));
        for (is_host, text) in texts {
            for (at, c) in text.char_indices().step_by(3) {
                let (before, after) = (&text[..at], &text[at + c.len_utf8()..]);
                let odd = ['"', '\n', '[', '{', '=', '.', '$', '\u{feff}', '\u{0}', 'ü'][at % 10];
                for text in [before.to_owned(), format!("{before}{odd}{after}"), format!("{before}{after}")] {
                    let faults = if is_host {
                        host::resolve("keyrail.toml", &text, Path::new(""), std::slice::from_ref(&text), &|_| None)
                            .result()
                            .err()
                    } else {
                        let manifests = vec![("p.toml".to_owned(), "p".to_owned(), text)];
                        Case { host: None, manifests, sets: Vec::new(), variables: Vec::new() }.pipelines().err()
                    };
                    seen += faults.map_or(0, |faults| faults.to_string().len().min(1));
                }
            }
        }
    }
    assert!(seen > 3_000, "only {seen} faulty files were tried");
}

/// As large as a file may be, and as odd. Each key's place was once counted from the start: minutes for one file.
#[test]
fn the_largest_file_is_told_of_in_seconds() {
    let large = |piece: &str| piece.repeat((1 << 20) / piece.len());
    let keys = |end: &str| (0..90_000).map(|n| format!("k{n} = {n}{end}")).collect::<String>();
    let began = std::time::Instant::now();
    for text in [
        format!("{}b = 1", large("a.")),
        format!("a = {}", large("[")),
        format!("a = {}", large("{a=")),
        format!("a = \"{}\"", large("${A:-}")),
        format!("[config]\n{}", keys("\n")),
        format!("config = {{{}}}", keys(", ")),
        large("a=1\n"),
    ] {
        let manifests = vec![("p.toml".to_owned(), "p".to_owned(), text)];
        let case = Case { host: None, manifests, sets: Vec::new(), variables: Vec::new() };
        assert!(case.pipelines().is_err());
    }
    assert!(began.elapsed() < std::time::Duration::from_secs(30), "{:?}", began.elapsed());
}

#[test]
fn what_is_resolved_says_of_a_pattern_s_dead_letters_what_it_is_read_as() {
    let read = |text: &str| super::for_tests("p", text);
    for (written, topic) in [("", None), ("dead-letter.topic = \"bad\"\n", Some("bad"))] {
        let pipeline = read(&format!("handler = \"h.wasm\"\ninput = [\"first\", \"^eu\\\\.\"]\n{written}"));
        assert_eq!(pipeline.dead_letter.given.as_deref(), topic);
        assert_eq!(read(&pipeline.resolved()), pipeline, "{}", pipeline.resolved());
    }
}

/// The examples of the reference are taken as they stand.
#[test]
fn the_reference_s_examples_resolve() {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("CONFIGURATION.md")).unwrap();
    let mut examples = text.split("```toml\n").skip(1).map(|part| part.split("```").next().unwrap().to_owned());
    let (host, manifest) = (examples.next().unwrap(), examples.next().unwrap());
    let variables = vec![("KAFKA_PASSWORD".to_owned(), "secret".to_owned())];
    let manifests = vec![("payments.toml".to_owned(), "payments".to_owned(), manifest)];
    let case = Case { host: Some(host), manifests, sets: Vec::new(), variables };
    let variables = |name: &str| case.variable(name);
    let host = host::resolve("keyrail.toml", case.host.as_ref().unwrap(), Path::new(""), &[], &variables);
    host.result().unwrap_or_else(|faults| panic!("{faults}"));
    case.pipelines().unwrap_or_else(|faults| panic!("{faults}"));
}

/// A folder of its own, removed at the end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("keyrail-config-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        fs::write(self.0.join(name), content).unwrap();
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            eprintln!("{} stays: {error}", self.0.display());
        }
    }
}

#[test]
fn files_are_found_where_they_lie() {
    let folder = Folder::new("whole");
    folder.write("keyrail.toml", "plugins.dir = \"./p\"\nkafka.\"bootstrap.servers\" = \"a:1\"\n");
    let host = load_host(&folder.0.join("keyrail.toml"), &[], &|_| None).unwrap();
    assert_eq!(host.plugins_dir, folder.0.join("p"));
    let host = load_host(&folder.0.join("keyrail.toml"), &["plugins.dir=./q".to_owned()], &|_| None).unwrap();
    assert_eq!(host.plugins_dir, Path::new("q"));
    for (dir, expected) in [(".", "."), ("./", "."), ("/p", "/p"), ("../p", "../p"), ("a/./b/", "a/b")] {
        let text = format!("plugins.dir = {dir:?}\nkafka.\"bootstrap.servers\" = \"a:1\"\n");
        let host = host::resolve("keyrail.toml", &text, Path::new(""), &[], &|_| None).result().unwrap();
        assert_eq!(host.plugins_dir.as_os_str(), expected, "{dir}");
    }
    // As `keyrail dev` names it.
    let text = "broker = \"embedded\"\nplugins.dir = \".\"\n";
    let host = host::resolve("./keyrail.toml", text, Path::new("."), &[], &|_| None).result().unwrap();
    assert_eq!((host.plugins_dir.as_os_str(), host.embedded.dir.as_os_str()), (".".as_ref(), "./data".as_ref()));

    folder.write("payments.toml", "handler = \"payments.wasm\"\ninput = [\"payments\"]\n");
    folder.write("payments.wasm", "");
    folder.write(".hidden.toml", "not = [toml");
    folder.write("payments.toml~", "not = [toml");
    folder.write("notes.txt", "");
    let pipelines = load_pipelines(&folder.0, &|_| None).unwrap();
    assert_eq!(pipelines.len(), 1);
    let pipeline = pipelines.first().unwrap();
    assert_eq!((pipeline.name.as_str(), pipeline.group.as_str()), ("payments", "payments"));
    assert_eq!(pipeline.handler, folder.0.join("payments.wasm"));
    assert_eq!(pipeline.manifest, folder.0.join("payments.toml"));
    assert_eq!(pipeline.dead_letter.topics, ["payments.payments.dlq"]);
}

#[test]
fn every_file_s_faults_are_told_at_once() {
    let folder = Folder::new("broken");
    folder.write("a b.toml", "handler = \"x.wasm\"\ninput = [\"in\"]\n");
    folder.write("binary.toml", b"handler = \"\xff\"\n");
    folder.write("large.toml", vec![b'\n'; (1 << 20) + 1]);
    folder.write("syntax.toml", "handler = \n");
    fs::create_dir(folder.0.join("folder.toml")).unwrap();
    let faults = load_pipelines(&folder.0, &|_| None).unwrap_err();
    let base = format!("{}/", folder.0.display());
    let told: Vec<String> =
        faults.iter().map(|fault| format!("{}: {}", fault.file.replace(&base, ""), fault.problem)).collect();
    assert_eq!(
        told,
        [
            "a b.toml: \"a b\" can't be a pipeline's name",
            "a b.toml: there is no file \"x.wasm\"",
            "binary.toml: not UTF-8 in line 1",
            "folder.toml: is a folder, not a file",
            "large.toml: larger than 1MiB: no configuration",
            "syntax.toml: not TOML: string values must be quoted, expected literal string",
        ]
    );
}

#[test]
fn host_and_pipelines_are_told_together() {
    let folder = Folder::new("together");
    let told = |host: &str| {
        folder.write("keyrail.toml", host);
        let faults = load(&folder.0.join("keyrail.toml"), &[], &|_| None).unwrap_err();
        faults.iter().map(|fault| fault.key.clone()).collect::<Vec<_>>()
    };
    folder.write("payments.toml", "handler = \"payments.wasm\"\n");
    folder.write("payments.wasm", "");
    let kafka = "kafka.\"bootstrap.servers\" = \"a:1\"\n";
    assert_eq!(told(&format!("broker = 1\nplugins.dir = \".\"\n{kafka}")), ["broker", "input"]);
    assert_eq!(told(&format!("plugins.dir = \".\"\n{kafka}")), ["input"]);
    // Which folder is meant nobody knows.
    assert_eq!(told(&format!("plugins.dri = \".\"\n{kafka}")), ["plugins.dri"]);
    assert_eq!(told(&format!("plugin.dir = \".\"\n{kafka}")), ["plugin"]);
    assert_eq!(told("broker = \n"), [""]);

    folder.write("payments.toml", "handler = \"payments.wasm\"\ninput = [\"a\"]\n");
    folder.write("keyrail.toml", format!("plugins.dir = \".\"\n{kafka}"));
    let (host, pipelines) = load(&folder.0.join("keyrail.toml"), &[], &|_| None).unwrap();
    assert_eq!((host.kafka.len(), pipelines.len()), (1, 1));
    // Whether a member may be static the pipelines decide.
    let member = "kafka.\"group.instance.id\" = \"one\"\nplugins.dir = \".\"\n";
    folder.write("keyrail.toml", format!("{kafka}{member}"));
    let refused = load(&folder.0.join("keyrail.toml"), &[], &|_| None).unwrap_err().to_string();
    let expected = "keyrail.toml:2:7: kafka.\"group.instance.id\"";
    assert!(refused.contains(expected) && refused.contains("exactly-once\" of payments"), "{refused}");
    let embedded = load(&folder.0.join("keyrail.toml"), &["broker=embedded".to_owned()], &|_| None);
    assert!(embedded.is_ok(), "{embedded:?}");
    folder.write("payments.toml", "handler = \"payments.wasm\"\ninput = [\"a\"]\nguarantee = \"at-least-once\"\n");
    assert!(load(&folder.0.join("keyrail.toml"), &[], &|_| None).is_ok());
}

#[test]
fn what_is_missing_is_named() {
    let folder = Folder::new("missing");
    let none = load_pipelines(&folder.0, &|_| None).unwrap_err().to_string();
    assert!(none.contains("no pipeline in it") && none.contains("plugins.dir"), "{none}");
    let gone = load_pipelines(&folder.0.join("gone"), &|_| None).unwrap_err().to_string();
    assert!(gone.contains("gone: is not there") && gone.contains("plugins.dir"), "{gone}");
    let host = load_host(&folder.0.join("keyrail.toml"), &[], &|_| None).unwrap_err().to_string();
    assert!(host.contains("keyrail.toml: is not there") && host.contains("-c FILE"), "{host}");
}
