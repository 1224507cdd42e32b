//! Durations and sizes as people write them.

/// A duration's units, in milliseconds.
const TIMES: [(&str, u64); 5] = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];
/// A size's units, in bytes.
const SIZES: [(&str, u64); 4] = [("B", 1), ("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30)];
/// Units of a size that mean one thing to some and another to others.
const VAGUE: [(&str, &str); 9] = [
    ("K", "KiB"),
    ("k", "KiB"),
    ("M", "MiB"),
    ("G", "GiB"),
    ("KB", "KiB"),
    ("kB", "KiB"),
    ("MB", "MiB"),
    ("GB", "GiB"),
    ("b", "B"),
];

/// What is wrong, and the cure.
pub(super) type Refused = (String, String);

/// Milliseconds of a duration such as `5s`.
pub(super) fn duration(written: &str) -> Result<u64, Refused> {
    parse(written, &TIMES, "a duration", "5s")
}

/// Bytes of a size such as `64MiB`.
pub(super) fn size(written: &str) -> Result<u64, Refused> {
    let unit = written.trim_start_matches(|c: char| c.is_ascii_digit());
    if let Some((_, meant)) = VAGUE.iter().find(|(vague, _)| *vague == unit) {
        let digits = &written[..written.len() - unit.len()];
        return Err((
            format!("{unit:?} can be read in two ways"),
            format!("write {:?} (units: {})", format!("{digits}{meant}"), names(&SIZES)),
        ));
    }
    parse(written, &SIZES, "a size", "64MiB")
}

/// A pattern that every duration matches.
pub(super) fn duration_pattern() -> String {
    pattern(&TIMES)
}

/// A pattern that every size matches.
pub(super) fn size_pattern() -> String {
    pattern(&SIZES)
}

fn pattern(units: &[(&str, u64)]) -> String {
    format!("^[0-9]+(?:{})$", units.iter().map(|(name, _)| *name).collect::<Vec<_>>().join("|"))
}

/// A duration in the largest unit that divides it.
pub(super) fn show_duration(ms: u64) -> String {
    show(ms, &TIMES)
}

/// A size in the largest unit that divides it.
pub(super) fn show_size(bytes: u64) -> String {
    show(bytes, &SIZES)
}

fn show(amount: u64, units: &[(&str, u64)]) -> String {
    let fitting = units.iter().rev().find(|(_, worth)| amount > 0 && amount.is_multiple_of(*worth));
    let (unit, worth) = fitting.or(units.first()).copied().unwrap_or(("", 1));
    format!("{}{unit}", amount / worth)
}

fn names(units: &[(&str, u64)]) -> String {
    units.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ")
}

fn parse(written: &str, units: &[(&str, u64)], what: &str, example: &str) -> Result<u64, Refused> {
    let accepted = format!("write a whole number and a unit, as {example:?} (units: {})", names(units));
    let unit = written.trim_start_matches(|c: char| c.is_ascii_digit());
    let digits = &written[..written.len() - unit.len()];
    if digits.is_empty() {
        return Err((format!("{written:?} is not {what}"), accepted));
    }
    if unit.is_empty() {
        return Err((format!("{written:?} has no unit"), accepted));
    }
    if let Some((_, worth)) = units.iter().find(|(name, _)| *name == unit) {
        let amount = digits.parse::<u64>().ok().and_then(|amount| amount.checked_mul(*worth));
        return amount.ok_or_else(|| (format!("{written:?} is too large"), accepted));
    }
    let meant = unit.trim();
    let slip = units.iter().find(|(name, _)| name.eq_ignore_ascii_case(meant)).or_else(|| spelt_out(meant, units));
    let cure = match slip {
        Some((name, _)) => format!("write {:?} (units: {})", format!("{digits}{name}"), names(units)),
        None => accepted,
    };
    let problem = if unit.starts_with('.') || unit.chars().any(|c| c.is_ascii_digit()) {
        format!("{written:?} is not {what} in one whole number")
    } else {
        format!("{unit:?} is not a unit of {what}")
    };
    Err((problem, cure))
}

/// `sec`, `minutes`: the unit that was meant.
fn spelt_out<'a>(word: &str, units: &'a [(&'a str, u64)]) -> Option<&'a (&'a str, u64)> {
    let short = match word {
        "msec" | "msecs" | "millis" | "millisecond" | "milliseconds" => "ms",
        "sec" | "secs" | "second" | "seconds" => "s",
        "min" | "mins" | "minute" | "minutes" => "m",
        "hr" | "hrs" | "hour" | "hours" => "h",
        "day" | "days" => "d",
        "byte" | "bytes" => "B",
        _ => return None,
    };
    units.iter().find(|(name, _)| *name == short)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may fail loudly")]
    use super::{SIZES, TIMES, duration, show_duration, show_size, size};

    #[test]
    fn units_are_exact() {
        for (written, ms) in
            [("0s", 0), ("1ms", 1), ("5s", 5_000), ("2m", 120_000), ("24h", 86_400_000), ("7d", 604_800_000)]
        {
            assert_eq!(duration(written), Ok(ms), "{written}");
        }
        for (written, bytes) in [("0B", 0), ("7B", 7), ("1KiB", 1024), ("256MiB", 256 << 20), ("3GiB", 3 << 30)] {
            assert_eq!(size(written), Ok(bytes), "{written}");
        }
    }

    #[test]
    fn what_is_shown_reads_back() {
        // A walk over amounts of every magnitude, around each unit's worth.
        let around = |worth: u64| [worth.saturating_sub(1), worth, worth + 1, worth * 3, worth * 61];
        for amount in
            TIMES.iter().chain(&SIZES).flat_map(|(_, worth)| around(*worth)).chain((0..60).map(|bit| 1 << bit))
        {
            assert_eq!(duration(&show_duration(amount)), Ok(amount));
            assert_eq!(size(&show_size(amount)), Ok(amount));
        }
    }

    #[test]
    fn refusals_tell_the_cure() {
        for (written, cure) in [
            ("5 sec", "write \"5s\""),
            ("5 s", "write \"5s\""),
            ("5S", "write \"5s\""),
            ("2 minutes", "write \"2m\""),
            ("5", "units: ms, s, m, h, d"),
            ("", "units: ms, s, m, h, d"),
            ("s", "units: ms, s, m, h, d"),
            ("-5s", "units: ms, s, m, h, d"),
            ("1.5s", "a whole number"),
            ("1h30m", "a whole number"),
            ("5µs", "units: ms, s, m, h, d"),
            ("٣s", "units: ms, s, m, h, d"),
            ("99999999999999999999d", "a whole number"),
            ("18446744073709551615d", "a whole number"),
        ] {
            let (problem, told) = duration(written).unwrap_err();
            assert!(!problem.is_empty() && told.contains(cure), "{written}: {problem}; {told}");
        }
        for (written, cure) in [
            ("64MB", "write \"64MiB\""),
            ("64M", "write \"64MiB\""),
            ("1kB", "write \"1KiB\""),
            ("64mib", "write \"64MiB\""),
            ("64 MiB", "write \"64MiB\""),
            ("10 bytes", "write \"10B\""),
            ("64", "units: B, KiB, MiB, GiB"),
            ("1TiB", "units: B, KiB, MiB, GiB"),
            ("99999999999GiB", "a whole number"),
        ] {
            let (problem, told) = size(written).unwrap_err();
            assert!(!problem.is_empty() && told.contains(cure), "{written}: {problem}; {told}");
        }
    }
}
