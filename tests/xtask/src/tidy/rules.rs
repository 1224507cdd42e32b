//! The rules. Each takes a file and returns the lines that break it; each has a good and a bad example in `tests.rs`.

use super::source::Source;
use std::fmt;
use std::path::Path;

#[cfg(test)]
mod tests;

/// A place that breaks a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) rule: &'static str,
    pub(crate) path: String,
    pub(crate) line: usize,
    /// What is wrong and what to do.
    pub(crate) what: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {} [{}]", self.path, self.line, self.what, self.rule)
    }
}

type Found = Vec<(usize, String)>;
type Rule = fn(&Source<'_>, &Path) -> Found;

pub(crate) const RULES: [(&str, Rule); 10] = [
    ("imports", imports),
    ("engine-is-pure", engine_is_pure),
    ("file-length", file_length),
    ("function-length", function_length),
    ("no-ignore", no_ignore),
    ("unfinished", unfinished),
    ("bounded", bounded),
    ("machine-paths", machine_paths),
    ("lints-inherited", lints_inherited),
    ("links", links),
];

pub(crate) const FILE_LINES: usize = 500;
pub(crate) const FUNCTION_LINES: usize = 70;

/// Who may import what. Everyone else goes through the types of the module named.
const IMPORTS: [(&str, &[&str]); 24] = [
    ("rdkafka", &["runtime/src/broker/kafka", "tests/kafka/", "tests/bench/"]),
    ("rdkafka_sys", &["runtime/src/broker/kafka"]),
    ("rusqlite", &["runtime/src/broker/embedded/sqlite/", "runtime/store/src/state/sqlite.rs", "tests/bench/stores/"]),
    ("crc32fast", &["runtime/src/broker/embedded/", "runtime/store/"]),
    ("wasmtime", &["runtime/src/wasm/"]),
    ("wit_component", &["runtime/src/wasm/", "runtime/tests/wasi_http/"]),
    ("wit_parser", &["runtime/src/wasm/"]),
    ("wasmparser", &["runtime/src/wasm/"]),
    ("toml", &["runtime/src/config/"]),
    ("regex_lite", &["runtime/src/config/pattern.rs", "plugins/"]),
    ("notify", &["runtime/src/rollout/watch.rs"]),
    ("minisign_verify", &["runtime/src/signature.rs"]),
    ("ureq", &["runtime/src/alerts/webhook.rs"]),
    ("lettre", &["runtime/src/alerts/mail.rs"]),
    ("hmac", &["runtime/src/alerts/webhook.rs", "tests/embedded/"]),
    ("tokio", &["runtime/src/admin/", "runtime/src/http/", "tests/bench/", "runtime/src/cli/signals"]),
    ("hyper", &["runtime/src/admin/", "runtime/src/http/"]),
    ("hyper_util", &["runtime/src/admin/", "runtime/src/http/"]),
    ("hyper_tls", &["runtime/src/http/"]),
    ("tracing_subscriber", &["runtime/src/admin/", "runtime/src/wasm/tests/", "runtime/tests/wasi_http/"]),
    ("clap", &["runtime/src/cli/", "tests/bench/", "tests/sim/", "tests/kafka/"]),
    ("clap_complete", &["runtime/src/cli/"]),
    ("clap_mangen", &["runtime/src/cli/"]),
    ("wit_bindgen", &["sdk/rust/", "tests/guests/caller/", "tests/guests/outgoing/", "tests/guests/raw/"]),
];

fn imports(source: &Source<'_>, _: &Path) -> Found {
    let mut found = Vec::new();
    for (name, allowed) in IMPORTS {
        if allowed.iter().any(|a| source.path.starts_with(a)) {
            continue;
        }
        for at in source.words(name) {
            let before = source.code.get(..at).unwrap_or_default().trim_end();
            let after = source.code.get(at + name.len()..).unwrap_or_default();
            // `self::toml::x` is a module of ours that has the same name.
            let from_outside = !before.ends_with("::") && !before.ends_with("mod") && !before.ends_with('.');
            if from_outside && (after.starts_with("::") || before.ends_with("use") || before.ends_with("extern crate"))
            {
                found.push((source.line_at(at), format!("only {} may use the crate {name}", allowed.join(", "))));
            }
        }
    }
    found
}

fn engine_is_pure(source: &Source<'_>, _: &Path) -> Found {
    let mut found = Vec::new();
    let is_test = source.path.ends_with("tests.rs") || source.path.contains("/tests/");
    if !source.path.starts_with("runtime/engine/src/") || !source.is_rust() || is_test {
        return found;
    }
    if source.path == "runtime/engine/src/lib.rs" && !source.code.contains("#![no_std]") {
        found.push((1, "the engine must be #![no_std]: the compiler then forbids clock, thread and disk".to_owned()));
    }
    let code = source.code_outside_tests();
    let outside = Source { path: source.path, text: source.text, code };
    for at in outside.words("std::") {
        found.push((source.line_at(at), "no `std::` in the engine: use core:: or alloc::".to_owned()));
    }
    found
}

fn file_length(source: &Source<'_>, _: &Path) -> Found {
    let code = [".rs", ".sh", ".wit", ".py"].iter().any(|end| source.path.ends_with(end)) || source.path == ".ci/run";
    let lines = source.text.lines().count();
    if !code || lines <= FILE_LINES {
        return Vec::new();
    }
    vec![(lines, format!("{lines} lines, more than {FILE_LINES}: split the file by what its parts do"))]
}

fn function_length(source: &Source<'_>, _: &Path) -> Found {
    let long = source.functions().into_iter().filter(|f| f.lines > FUNCTION_LINES);
    long.map(|f| {
        (f.line, format!("fn {} has {} lines, more than {FUNCTION_LINES}: take steps out of it", f.name, f.lines))
    })
    .collect()
}

fn no_ignore(source: &Source<'_>, _: &Path) -> Found {
    let why = "an ignored test tests nothing: mend it, or take it out";
    ["#[ignore]", "#[ignore ="].iter().flat_map(|word| at_code(source, word, why)).collect()
}

fn unfinished(source: &Source<'_>, _: &Path) -> Found {
    let why = "unfinished code is not committed";
    ["todo!", "unimplemented!"].iter().flat_map(|word| at_code(source, word, why)).collect()
}

fn bounded(source: &Source<'_>, _: &Path) -> Found {
    let why = "a queue without a bound grows until memory ends: use bounded() or sync_channel() and say what happens when it is full";
    let words = [
        "unbounded(",
        "unbounded_channel(",
        "unbounded::<",
        "unbounded_channel::<",
        "mpsc::channel(",
        "mpsc::channel::<",
    ];
    // tokio's `mpsc::channel(n)` is bounded; std's takes no argument.
    let calls = words.iter().flat_map(|word| at_code(source, word, why));
    calls
        .filter(|(line, _)| {
            !source.text.lines().nth(line - 1).is_some_and(|l| l.contains("tokio::sync::mpsc::channel"))
        })
        .collect()
}

fn machine_paths(source: &Source<'_>, _: &Path) -> Found {
    let words = [concat!("/wo", "rk/"), concat!("/ro", "ot/"), concat!("/ho", "me/")];
    let mut found = Vec::new();
    for (number, line) in source.text.lines().enumerate() {
        for word in words {
            // `src/work/x` is a relative path, and `~root/` no path of this machine.
            let starts = line
                .match_indices(word)
                .any(|(at, _)| !line.as_bytes().get(at.wrapping_sub(1)).is_some_and(|b| is_path(*b)));
            if starts {
                found.push((number + 1, format!("{word} is a path of one machine: make it relative, or a setting")));
            }
        }
    }
    found
}

fn is_path(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"_-.}$~".contains(&byte)
}

fn lints_inherited(source: &Source<'_>, _: &Path) -> Found {
    let is_crate =
        source.path.ends_with("Cargo.toml") && crate::manifest::value(source.text, "package", "name").is_some();
    let inherits = crate::manifest::value(source.text, "lints", "workspace").as_deref() == Some("true");
    if is_crate && !inherits { vec![(1, "say [lints] workspace = true".to_owned())] } else { Vec::new() }
}

fn links(source: &Source<'_>, root: &Path) -> Found {
    let mut found = Vec::new();
    if !source.path.ends_with(".md") {
        return found;
    }
    let folder = root.join(source.path).parent().map(Path::to_path_buf).unwrap_or_default();
    let mut fenced = false;
    for (number, line) in source.text.lines().enumerate() {
        fenced ^= line.trim_start().starts_with("```");
        if fenced {
            continue;
        }
        for target in line.split("](").skip(1).filter_map(|rest| rest.split([')', ' ']).next()) {
            let file = target.split('#').next().unwrap_or_default();
            if !file.is_empty()
                && !target.contains("://")
                && !target.starts_with("mailto:")
                && !folder.join(file).exists()
            {
                found.push((number + 1, format!("the link to {target} leads nowhere")));
            }
        }
    }
    found
}

fn at_code(source: &Source<'_>, word: &'static str, why: &str) -> Found {
    let name = word.trim_end_matches(['(', '<', ':', ' ', '=']);
    source.words(word).map(|at| (source.line_at(at), format!("{name}: {why}"))).collect()
}
