//! Where `tail` starts and ends, and `rewind` goes to: earliest, latest, an offset, or a time.

use keyrail::broker::client::Client;
use keyrail::broker::{BrokerError, LogBounds};
use keyrail::date;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// See the module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// The first record that is there.
    Earliest,
    /// The end as it is when the command starts.
    Latest,
    /// This offset of each partition.
    Offset(i64),
    /// So many records before the end of each partition.
    BeforeEnd(i64),
    /// The first record of this time or later, in milliseconds since 1970.
    Time(i64),
}

const ACCEPTED: &str = "write earliest, latest, an offset, -N for the last N of each partition, a time as \
                        2026-01-31T12:00:00Z, or how long ago as 15m (units: s, m, h, d)";

/// Reads what `--from` and `--until` take.
pub(super) fn parse(written: &str) -> Result<Place, String> {
    parse_at(written, now_ms())
}

pub(super) fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// Where that is in these partitions of a topic, of which the bounds are known.
pub(super) fn offsets(
    place: Place,
    client: &mut dyn Client,
    topic: &str,
    partitions: &[i32],
    bounds: &[LogBounds],
) -> Result<Vec<i64>, BrokerError> {
    Ok(match place {
        Place::Time(ms) => client.offsets_at(topic, partitions, ms)?,
        Place::Earliest => bounds.iter().map(|b| b.start).collect(),
        Place::Latest => bounds.iter().map(|b| b.end).collect(),
        Place::Offset(offset) => vec![offset; partitions.len()],
        Place::BeforeEnd(count) => bounds.iter().map(|b| b.end.saturating_sub(count).max(b.start)).collect(),
    })
}

/// `10m` as milliseconds. `None`: it is written otherwise; the inner one: it is too long to count.
fn millis(written: &str) -> Option<Option<i64>> {
    let unit_at = written.find(|c: char| !c.is_ascii_digit()).filter(|at| *at > 0)?;
    let (digits, unit) = written.split_at(unit_at);
    let worth = match unit {
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    Some(digits.parse::<i64>().ok().and_then(|amount| amount.checked_mul(worth)))
}

/// Reads how long something lasts.
pub(super) fn lasts(written: &str) -> Result<Duration, String> {
    let ms = millis(written).flatten().and_then(|ms| u64::try_from(ms).ok()).filter(|ms| *ms > 0);
    ms.map(Duration::from_millis).ok_or_else(|| "write how long, as 10m (units: s, m, h, d)".to_owned())
}

fn parse_at(written: &str, now_ms: i64) -> Result<Place, String> {
    let wrong = || ACCEPTED.to_owned();
    match written {
        "earliest" | "beginning" => return Ok(Place::Earliest),
        "latest" | "end" => return Ok(Place::Latest),
        _ => {}
    }
    let is_digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if is_digits(written) {
        return written.parse().map(Place::Offset).map_err(|_| format!("{written} is larger than any offset"));
    }
    if let Some(count) = written.strip_prefix('-').filter(|rest| is_digits(rest)) {
        return count.parse().map(Place::BeforeEnd).map_err(|_| format!("{written} is more than any log holds"));
    }
    if let Some(ago) = millis(written) {
        return Ok(Place::Time(now_ms.saturating_sub(ago.ok_or_else(wrong)?).max(0)));
    }
    time(written).map(Place::Time).ok_or_else(wrong)
}

/// RFC 3339, with a space for the T if one likes; a date alone is its first moment in UTC.
fn time(written: &str) -> Option<i64> {
    let (date, rest) = written.split_at_checked(10)?;
    let number = |text: &str, range: std::ops::RangeInclusive<i64>| {
        let all_digits = text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse::<i64>().ok().filter(|number| all_digits && range.contains(number))
    };
    if date.get(4..5)? != "-" || date.get(7..8)? != "-" {
        return None;
    }
    let (year, month) = (number(date.get(..4)?, 1970..=9999)?, number(date.get(5..7)?, 1..=12)?);
    let day = number(date.get(8..)?, 1..=days_of(year, month))?;
    let days = days_before(year) + (1..month).map(|month| days_of(year, month)).sum::<i64>() + day - 1;
    if rest.is_empty() {
        return Some(days * 86_400_000);
    }
    let clock = rest.strip_prefix(['T', 't', ' '])?;
    let zone_at = clock.find(['Z', 'z', '+', '-'])?;
    let (clock, zone) = clock.split_at(zone_at);
    let (whole, fraction) = clock.split_once('.').unwrap_or((clock, "0"));
    let mut parts = whole.split(':');
    let (hour, minute) = (number(parts.next()?, 0..=23)?, number(parts.next()?, 0..=59)?);
    let second = parts.next().map_or(Some(0), |part| number(part, 0..=59))?;
    if parts.next().is_some() || fraction.is_empty() || fraction.len() > 9 {
        return None;
    }
    let ms = number(&format!("{fraction:0<3}")[..3], 0..=999)?;
    number(fraction, 0..=999_999_999)?;
    let ahead_minutes = match zone.split_at_checked(1)? {
        ("Z" | "z", "") => 0,
        (sign @ ("+" | "-"), ahead) => {
            let (hours, minutes) = ahead.split_once(':')?;
            let ahead = number(hours, 0..=23)? * 60 + number(minutes, 0..=59)?;
            if sign == "-" { -ahead } else { ahead }
        }
        _ => return None,
    };
    let minutes = (days * 24 + hour) * 60 + minute - ahead_minutes;
    Some(((minutes * 60 + second) * 1000 + ms).max(0))
}

fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

fn days_of(year: i64, month: i64) -> i64 {
    match month {
        2 if is_leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days from 1970 to the year's first.
fn days_before(year: i64) -> i64 {
    let before = year - 1;
    (year - 1970) * 365 + (before / 4 - before / 100 + before / 400) - (1969 / 4 - 1969 / 100 + 1969 / 400)
}

/// RFC 3339 in UTC, to the second; the number itself where no date is known for it.
pub(super) fn utc(ms: i64) -> String {
    date::utc(ms).unwrap_or_else(|| ms.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_as_a_time_is_read_as_that_time() {
        assert_eq!(utc(1_700_000_000_999), "2023-11-14T22:13:20Z");
        for ms in [0, 951_782_400_000, 951_868_799_000, 1_709_164_800_000, 4_102_444_799_000, 253_402_300_799_000] {
            assert_eq!(time(&utc(ms)), Some(ms), "{}", utc(ms));
        }
        assert_eq!(
            [utc(-1), utc(i64::MAX), utc(253_402_300_800_000)],
            ["-1".to_owned(), i64::MAX.to_string(), "253402300800000".to_owned()]
        );
    }

    #[test]
    fn places_and_times() {
        let now = 1_700_000_000_000;
        for (written, place) in [
            ("earliest", Place::Earliest),
            ("latest", Place::Latest),
            ("0", Place::Offset(0)),
            ("9223372036854775807", Place::Offset(i64::MAX)),
            ("-10", Place::BeforeEnd(10)),
            ("15m", Place::Time(now - 900_000)),
            ("99999d", Place::Time(0)),
            ("1970-01-01", Place::Time(0)),
            ("2023-11-14T22:13:20Z", Place::Time(now)),
            ("2023-11-14 23:13:20.5+01:00", Place::Time(now + 500)),
            ("2023-11-14t22:13-00:30", Place::Time(now - 20_000 + 1_800_000)),
            ("2024-02-29", Place::Time(1_709_164_800_000)),
            ("2100-03-01T00:00:00.123456Z", Place::Time(4_107_542_400_123)),
        ] {
            assert_eq!(parse_at(written, now), Ok(place), "{written}");
        }
    }

    #[test]
    fn what_is_no_place_is_told_what_is() {
        for written in [
            "",
            "-",
            "soon",
            "15 m",
            "m",
            "2023-02-29",
            "2023-13-01",
            "1969-12-31",
            "2023-11-14T22:13:20",
            "--1",
            "2023-11-14T24:00Z",
            "2023-11-14T22:13:20.Z",
            "2023-11-14T22:13:20+1",
            "9999999999999999999d",
            "ä",
            "2023-11-14T22:13:20:00Z",
            "+5",
        ] {
            assert!(parse_at(written, 0).is_err_and(|why| why.contains("write earliest")), "{written}");
        }
        assert!(parse_at("9223372036854775808", 0).is_err_and(|why| why.contains("larger than any offset")));
    }
}
