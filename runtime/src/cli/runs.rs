//! Runs of messages in lines, and what differs between two: for `replay`, `test` and `backtest`.

use super::line;
use super::place::utc;
use super::table::painted;
use super::terminal::Clean;
use keyrail::replay::{Change, Sent, Verdict};

/// So much of a line is shown; compared is all of it.
const SHOWN_CHARS: usize = 400;

/// How a run ended, in a line.
pub(super) fn verdict(verdict: &Verdict) -> String {
    let failure = &verdict.failure;
    let code = if failure.code.is_empty() { String::new() } else { format!(" {}", failure.code) };
    let detail = if failure.detail.is_empty() { String::new() } else { format!(": {}", failure.detail) };
    let wait = verdict.delay_ms.map_or_else(String::new, |ms| format!(" (again after {ms} ms)"));
    format!("{}{code}{detail}{wait}", verdict.kind.as_str())
}

/// As text, in base64, or null.
pub(super) fn bytes(bytes: Option<&[u8]>) -> String {
    bytes.map_or_else(|| "null".to_owned(), line::told)
}

/// To the millisecond: times that differ must not look the same.
pub(super) fn time(ms: i64) -> String {
    let told = utc(ms);
    told.strip_suffix('Z').map_or_else(|| told.clone(), |seconds| format!("{seconds}.{:03}Z", ms % 1_000))
}

/// One line of text for a terminal.
pub(super) fn clean(text: &str) -> String {
    let text = Clean(&text.replace('\n', "\\n")).to_string();
    let cut: String = text.chars().take(SHOWN_CHARS).collect();
    if cut.len() < text.len() { format!("{cut}... ({} more bytes)", text.len() - cut.len()) } else { cut }
}

/// A record that is sent, in a line.
pub(super) fn sent(sent: &Sent) -> String {
    let mut out = format!("send {} key {} value {}", sent.to, bytes(sent.key.as_deref()), bytes(sent.value.as_deref()));
    for (name, value) in &sent.headers {
        out += &format!(" header {}: {}", line::told(name), bytes(value.as_deref()));
    }
    if sent.forward_headers {
        out += " with the message's headers";
    }
    out + &sent.timestamp_ms.map_or_else(String::new, |ms| format!(" at {}", time(ms)))
}

/// A change of state or of a timer, in a line.
pub(super) fn change(change: &Change) -> String {
    match change {
        Change::State(name, None) => format!("state {name} deleted"),
        Change::State(name, Some((value, end))) => {
            let until = end.map_or_else(String::new, |ms| format!(" until {}", time(ms)));
            format!("state {name} = {}{until}", bytes(Some(value)))
        }
        Change::Timer(name, None) => format!("timer {name} cancelled"),
        Change::Timer(name, Some((at_ms, payload))) => {
            format!("timer {name} at {}: {}", time(*at_ms), bytes(Some(payload)))
        }
    }
}

/// What is only in `old` with `-`, what is only in `new` with `+`: what both begin and end with is the same.
pub(super) fn difference(old: &[String], new: &[String]) -> Vec<(char, String)> {
    let same = old.iter().zip(new).take_while(|(a, b)| a == b).count();
    let (rest, other) = (&old[same..], &new[same..]);
    let end = rest.iter().rev().zip(other.iter().rev()).take_while(|(a, b)| a == b).count();
    let of = |sign: char, lines: &[String]| lines.iter().map(|line| (sign, line.clone())).collect::<Vec<_>>();
    [
        of(' ', &old[..same]),
        of('-', &rest[..rest.len() - end]),
        of('+', &other[..other.len() - end]),
        of(' ', &other[other.len() - end..]),
    ]
    .concat()
}

/// Lines of a difference in a block; they are clean.
pub(super) fn painted_difference(difference: &[(char, String)], colours: bool) -> String {
    let mut out = String::new();
    for (sign, line) in difference {
        let colour = if *sign == '-' { "\x1b[31m" } else { "\x1b[32m" };
        let line = format!("  {sign} {line}");
        out += &(if *sign == ' ' { line } else { painted(&line, colour, colours) } + "\n");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_is_told_and_what_both_begin_and_end_with_is_not() {
        let of = |text: &str| text.split(' ').filter(|word| !word.is_empty()).map(str::to_owned).collect::<Vec<_>>();
        let told = |old: &str, new: &str| {
            let all = difference(&of(old), &of(new));
            all.iter().map(|(sign, line)| format!("{sign}{line}")).collect::<Vec<_>>().join("")
        };
        assert_eq!(told("a b c", "a x c"), " a-b+x c");
        assert_eq!(told("a", "a b"), " a+b");
        assert_eq!(told("a b b", "a b"), " a b-b");
        assert_eq!(told("", "a"), "+a");
        assert_eq!(told("a", "a"), " a");
    }
}
