//! The tutorial's page, read as its reader reads it.

use std::path::PathBuf;

/// What the page tells its reader to do, or to see.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Write a file.
    File { path: PathBuf, text: String },
    /// Run a command in the second terminal; it prints this and ends well.
    Run { script: String, prints: Vec<String> },
    /// Start what stays in the first terminal.
    Start { script: String },
    /// The first terminal shows these lines, in whatever order.
    See { lines: Vec<String> },
    /// Press Ctrl-C in the first terminal; what runs there ends well.
    Interrupt,
}

/// A step and the line of the page that it begins at.
pub(crate) type Placed = (usize, Step);

/// Headings under which commands stand that are told and not run.
const TOLD: [&str; 2] = ["Before you begin", "10. On Kafka"];

/// A fenced block with what leads to it.
#[derive(Debug)]
struct Block<'a> {
    at: usize,
    language: &'a str,
    heading: &'a str,
    /// The paragraph before it, on one line; empty where it follows another block or a heading at once.
    lead: String,
    lines: Vec<&'a str>,
}

/// All steps of a page in order. Panics at a block that it does not understand: none is passed over.
pub(crate) fn steps(page: &str) -> Vec<Placed> {
    let mut steps: Vec<Placed> = Vec::new();
    for block in blocks(page) {
        let text = || block.lines.iter().map(|line| format!("{line}\n")).collect::<String>();
        let lines = || block.lines.iter().map(|line| (*line).to_owned()).collect::<Vec<_>>();
        let first = block.lead.contains("first terminal");
        match block.language {
            "console" => assert!(TOLD.contains(&block.heading), "line {}: nobody runs this: {}", block.at, text()),
            "sh" if first => steps.push((block.at, Step::Start { script: text() })),
            "sh" => steps.push((block.at, Step::Run { script: text(), prints: Vec::new() })),
            "text" if first => {
                if block.lead.contains("Ctrl-C") {
                    steps.push((block.at, Step::Interrupt));
                }
                steps.push((block.at, Step::See { lines: lines() }));
            }
            "text" => match steps.last_mut() {
                Some((_, Step::Run { prints, .. })) if block.lead.is_empty() => *prints = lines(),
                Some((_, Step::Start { .. })) if block.lead.is_empty() => {
                    steps.push((block.at, Step::See { lines: lines() }));
                }
                _ => panic!("line {}: whose output is this? {}", block.at, text()),
            },
            "toml" | "rust" | "json" => {
                let path = block.lead.strip_suffix("`:").and_then(|lead| lead.rsplit('`').next());
                let path = path.unwrap_or_else(|| panic!("line {}: which file is this? {}", block.at, block.lead));
                steps.push((block.at, Step::File { path: path.into(), text: text() }));
            }
            other => panic!("line {}: no block may be {other:?}", block.at),
        }
    }
    steps
}

fn blocks(page: &str) -> Vec<Block<'_>> {
    let mut blocks: Vec<Block<'_>> = Vec::new();
    let (mut open, mut heading, mut lead) = (false, "", String::new());
    let mut ended = false;
    for (at, line) in (1..).zip(page.lines()) {
        if let Some(language) = line.strip_prefix("```") {
            if open {
                assert_eq!(language, "", "line {at}: a block within a block");
            } else {
                let lead = std::mem::take(&mut lead);
                blocks.push(Block { at, language, heading, lead, lines: Vec::new() });
            }
            open = !open;
            ended = false;
        } else if let (true, Some(block)) = (open, blocks.last_mut()) {
            block.lines.push(line);
        } else if let Some(title) = line.strip_prefix('#') {
            (heading, lead) = (title.trim_matches(['#', ' ']), String::new());
        } else if line.is_empty() {
            ended = true;
        } else {
            if std::mem::take(&mut ended) {
                lead.clear();
            }
            if !lead.is_empty() {
                lead.push(' ');
            }
            lead.push_str(line);
        }
    }
    assert!(!open, "the last block is not closed");
    blocks
}

/// Whether a line is what the page shows: `...` in it stands for anything.
pub(crate) fn is_line(shown: &str, line: &str) -> bool {
    let mut parts = shown.split("...");
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = line.strip_prefix(first) else { return false };
    let mut parts: Vec<&str> = parts.collect();
    let Some(last) = parts.pop() else { return rest.is_empty() };
    for part in parts {
        let Some((_, behind)) = rest.split_once(part) else { return false };
        rest = behind;
    }
    rest.ends_with(last)
}

/// Whether an output is what the page shows, line for line: a line `...` stands for any number of lines.
pub(crate) fn is_output(shown: &[String], lines: &[&str]) -> bool {
    match (shown.split_first(), lines.split_first()) {
        (None, None) => true,
        (None, Some(_)) => false,
        (Some((any, rest)), _) if any == "..." => (0..=lines.len()).any(|skip| is_output(rest, &lines[skip..])),
        (Some(_), None) => false,
        (Some((one, shown)), Some((line, lines))) => is_line(one, line) && is_output(shown, lines),
    }
}

#[test]
fn what_differs_from_run_to_run_is_masked_and_nothing_else() {
    assert!(is_line("a ... c", "a b c") && is_line("...c", "c") && is_line("a...", "a") && is_line("x", "x"));
    assert!(
        !is_line("a ... c", "a b d") && !is_line("x", "xy") && !is_line("...x...", "y") && !is_line("ab...ba", "aba")
    );
    let shown = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
    assert!(is_output(&shown("...\nb"), &["a", "a", "b"]) && is_output(&shown("..."), &[]));
    assert!(!is_output(&shown("a"), &["a", "b"]) && !is_output(&shown("a\nb"), &["a"]) && !is_output(&[], &["a"]));
}

#[test]
fn a_page_is_read_as_its_reader_reads_it() {
    let page = "# T\nIn the first terminal:\n\n```sh\nrun\n```\n```text\nup\n```\nWrite `a/b.toml`:\n```toml\nx = 1\n```\n\
                ## 2\n```sh\nls\n```\n```text\nb\n```\nPress Ctrl-C in the first\nterminal:\n```text\nbye\n```\n";
    let lines = |line: &str| vec![line.to_owned()];
    let expected = vec![
        (4, Step::Start { script: "run\n".into() }),
        (7, Step::See { lines: lines("up") }),
        (11, Step::File { path: "a/b.toml".into(), text: "x = 1\n".into() }),
        (15, Step::Run { script: "ls\n".into(), prints: lines("b") }),
        (23, Step::Interrupt),
        (23, Step::See { lines: lines("bye") }),
    ];
    assert_eq!(steps(page), expected);
}
