//! Which letters are meant. A choice is remembered in the broker, so its form is frozen: a field may come, none may go or
//! change its meaning.

use super::letter::Letter;
use crate::cli::WrongUse;
use crate::cli::line;
use crate::cli::place::{self, Place};
use clap::Args;
use keyrail::record::Record;
use serde::{Deserialize, Serialize};

/// Options that choose. Of one kind any may hold, of different kinds all must.
#[derive(Debug, Args, Default)]
pub(in crate::cli) struct Filters {
    /// Only letters with this key; may be repeated, as all that follow
    #[arg(long)]
    key: Vec<String>,
    /// Keys are given as base64
    #[arg(long)]
    base64: bool,
    /// Only letters written at this time or later: 2026-01-31T12:00:00Z, or how long ago as 15m
    #[arg(long, value_name = "TIME", value_parser = time)]
    since: Option<i64>,
    /// Only letters written before this time
    #[arg(long, value_name = "TIME", value_parser = time)]
    until: Option<i64>,
    /// Only letters with this code; of Spring, Streams and Connect the exception's class
    #[arg(long)]
    code: Vec<String>,
    /// Only letters with this reason: attempts, age, rejected, expired, trap, timeout, oversized, undeliverable,
    /// undecodable, follows
    #[arg(long)]
    reason: Vec<String>,
    /// Only letters of this handler: NAME, or NAME@DIGEST, whose digest may be cut
    #[arg(long, value_name = "NAME[@DIGEST]")]
    handler: Vec<String>,
    /// Only letters with this header
    #[arg(long, value_name = "NAME=VALUE", value_parser = header)]
    header: Vec<(String, String)>,
    /// Only letters whose message was first read from this topic
    #[arg(long, value_name = "TOPIC")]
    origin: Vec<String>,
    /// Only this partition of the dead letters
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(0..))]
    partition: Vec<i32>,
    /// Only the letter at this offset of the dead letters; needs --partition
    #[arg(long, value_name = "N", requires = "partition", value_parser = clap::value_parser!(i64).range(0..))]
    offset: Vec<i64>,
    /// Not the letter at this place of the dead letters
    #[arg(long, value_name = "PARTITION/OFFSET", value_parser = spot)]
    except: Vec<(i32, i64)>,
}

fn time(written: &str) -> Result<i64, String> {
    match place::parse(written) {
        Ok(Place::Time(ms)) => Ok(ms),
        _ => Err("write a time as 2026-01-31T12:00:00Z, or how long ago as 15m (units: s, m, h, d)".to_owned()),
    }
}

fn header(written: &str) -> Result<(String, String), String> {
    let (name, value) = written.split_once('=').ok_or("write NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

fn spot(written: &str) -> Result<(i32, i64), String> {
    let both =
        written.split_once('/').and_then(|(partition, offset)| Some((partition.parse().ok()?, offset.parse().ok()?)));
    both.filter(|(partition, offset)| *partition >= 0 && *offset >= 0)
        .ok_or_else(|| "write PARTITION/OFFSET, as 0/17".to_owned())
}

impl Filters {
    /// `most`: letters that were sent back so often are not meant.
    pub(in crate::cli) fn wanted(&self, most: Option<u32>) -> Result<Wanted, WrongUse> {
        let key = |written: &String| line::argument(written, self.base64).map(Base64);
        Ok(Wanted {
            keys: self.key.iter().map(key).collect::<Result<_, _>>()?,
            since: self.since,
            until: self.until,
            codes: sorted(&self.code),
            reasons: sorted(&self.reason),
            handlers: sorted(&self.handler),
            headers: sorted(&self.header),
            origins: sorted(&self.origin),
            partitions: sorted(&self.partition),
            offsets: sorted(&self.offset),
            except: sorted(&self.except),
            redrives_below: most,
        })
    }
}

/// The same choice has one form, whatever the order in which it is written.
fn sorted<T: Clone + Ord>(all: &[T]) -> Vec<T> {
    let mut all = all.to_vec();
    all.sort();
    all.dedup();
    all
}

/// Bytes, as text in JSON.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::cli) struct Base64(pub(super) Vec<u8>);

impl Serialize for Base64 {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&line::to_base64(&self.0))
    }
}

impl<'de> Deserialize<'de> for Base64 {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        line::from_base64(&text).map(Self).map_err(serde::de::Error::custom)
    }
}

/// See the module. What is empty chooses all.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(in crate::cli) struct Wanted {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    keys: Vec<Base64>,
    /// Milliseconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) since: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    until: Option<i64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    codes: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    reasons: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    handlers: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    headers: Vec<(String, String)>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    origins: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) partitions: Vec<i32>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    offsets: Vec<i64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    except: Vec<(i32, i64)>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) redrives_below: Option<u32>,
}

impl Wanted {
    /// Whether a letter is meant, but for how often it was sent back.
    pub(in crate::cli) fn chooses(&self, record: &Record, letter: &Letter) -> bool {
        let spot = (record.at.partition, record.offset);
        let is = |all: &[String], one: &str| all.is_empty() || all.iter().any(|wanted| wanted == one);
        let since = self.since.is_none_or(|since| record.timestamp_ms >= since);
        let until = self.until.is_none_or(|until| record.timestamp_ms < until);
        let key = self.keys.is_empty() || self.keys.iter().any(|key| record.key() == Some(key.0.as_slice()));
        let place = (self.partitions.is_empty() || self.partitions.contains(&spot.0))
            && (self.offsets.is_empty() || self.offsets.contains(&spot.1))
            && !self.except.contains(&spot);
        let header = |(name, value): &(String, String)| {
            record.headers().any(|(n, v)| n == name.as_bytes() && v == Some(value.as_bytes()))
        };
        since
            && until
            && place
            && key
            && is(&self.codes, letter.code())
            && is(&self.reasons, letter.reason())
            && (self.handlers.is_empty() || self.handlers.iter().any(|wanted| is_handler(letter.handler(), wanted)))
            && (self.headers.is_empty() || self.headers.iter().any(header))
            && (self.origins.is_empty()
                || letter.origin.as_ref().is_some_and(|origin| self.origins.contains(&origin.topic)))
    }

    /// Whether it was not sent back too often.
    pub(in crate::cli) fn allows(&self, letter: &Letter) -> bool {
        self.redrives_below.is_none_or(|most| letter.redrives < most)
    }

    /// Whether a letter was sent back when these were.
    pub(in crate::cli) fn takes(&self, record: &Record, letter: &Letter) -> bool {
        self.allows(letter) && self.chooses(record, letter)
    }
}

fn is_handler(handler: &str, wanted: &str) -> bool {
    handler.strip_prefix(wanted).is_some_and(|rest| rest.is_empty() || rest.starts_with('@') || wanted.contains('@'))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may fail by panic")]

    use super::*;
    use keyrail::record::{RecordBuilder, TopicPartition};

    fn record(key: &str, headers: &[(&str, &str)], timestamp_ms: i64) -> Record {
        let mut builder = RecordBuilder::new(Some(key.as_bytes()), Some(b"v"));
        headers.iter().for_each(|(name, value)| builder.header(name.as_bytes(), Some(value.as_bytes())));
        builder.build(TopicPartition { topic: 0, partition: 1 }, 17, timestamp_ms)
    }

    fn takes(filters: &Filters, record: &Record) -> bool {
        filters.wanted(Some(3)).unwrap().takes(record, &Letter::of(record))
    }

    #[test]
    fn of_one_kind_any_holds_and_of_different_kinds_all() {
        let letter = record(
            "a",
            &[
                ("h", "1"),
                ("h", "2"),
                ("keyrail-topic", "orders"),
                ("keyrail-code", "late"),
                ("keyrail-reason", "age"),
                ("keyrail-handler", "pay@abcdef"),
            ],
            500,
        );
        let strings = |all: &[&str]| all.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>();
        let all = |change: fn(&mut Filters)| {
            let mut filters = Filters::default();
            change(&mut filters);
            takes(&filters, &letter)
        };
        assert!(all(|_| {}));
        assert!(all(|f| f.key = vec!["b".into(), "a".into()]) && !all(|f| f.key = vec!["b".into()]));
        assert!(all(|f| (f.key, f.base64) = (vec!["YQ".into()], true)));
        assert!(all(|f| f.since = Some(500)) && !all(|f| f.since = Some(501)));
        assert!(all(|f| f.until = Some(501)) && !all(|f| f.until = Some(500)));
        assert!(
            all(|f| f.code = vec!["late".into()])
                && !all(|f| (f.code, f.reason) = (vec!["late".into()], vec!["trap".into()]))
        );
        assert!(all(|f| f.handler = vec!["pay".into()]) && !all(|f| f.handler = vec!["pa".into()]));
        assert!(all(|f| f.handler = vec!["pay@abc".into()]) && !all(|f| f.handler = vec!["pay@abd".into()]));
        assert!(
            all(|f| f.header = vec![("h".into(), "1".into())]) && !all(|f| f.header = vec![("h".into(), "3".into())])
        );
        assert!(all(|f| f.origin = vec!["orders".into()]) && !all(|f| f.origin = vec!["order".into()]));
        assert!(all(|f| (f.partition, f.offset) = (vec![1], vec![17])) && !all(|f| f.partition = vec![0]));
        assert!(!all(|f| f.except = vec![(1, 17)]) && all(|f| f.except = vec![(0, 17)]));
        assert_eq!(strings(&["a"]), ["a"]);
        let often = record("a", &[("keyrail-redrives", "3")], 500);
        assert!(!takes(&Filters::default(), &often));
    }

    #[test]
    fn a_choice_is_remembered_as_it_is_and_one_of_a_later_version_is_none() {
        let filters = Filters {
            key: vec!["b".to_owned(), "\u{e4}".to_owned()],
            code: vec!["z".to_owned(), "a".to_owned(), "z".to_owned()],
            header: vec![("n".to_owned(), "v=w".to_owned())],
            except: vec![(0, 4)],
            since: Some(5),
            ..Filters::default()
        };
        let wanted = filters.wanted(Some(5)).unwrap();
        let text = serde_json::to_string(&wanted).unwrap();
        assert_eq!(
            text,
            r#"{"keys":["Yg==","w6Q="],"since":5,"codes":["a","z"],"headers":[["n","v=w"]],"except":[[0,4]],"redrives-below":5}"#
        );
        assert_eq!(serde_json::from_str::<Wanted>(&text).unwrap(), wanted);
        assert_eq!(serde_json::from_str::<Wanted>("{}").unwrap(), Wanted::default());
        assert!(serde_json::from_str::<Wanted>(r#"{"colours":["red"]}"#).is_err());
    }

    #[test]
    fn arguments_that_are_none_are_told() {
        assert_eq!(header("a=b=c"), Ok(("a".to_owned(), "b=c".to_owned())));
        assert!(header("a").is_err() && time("17").is_err() && time("earliest").is_err() && time("1h").is_ok());
        assert_eq!(spot("2/17"), Ok((2, 17)));
        assert!(["17", "-1/2", "1/-2", "a/b", "/"].iter().all(|text| spot(text).is_err()));
        let filters = Filters { key: vec!["!".to_owned()], base64: true, ..Filters::default() };
        assert!(filters.wanted(None).is_err());
    }
}
