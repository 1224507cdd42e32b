#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use super::catalog::{FAMILIES, Kind};
use super::*;
use crate::record::TopicPartition;
use std::collections::{BTreeMap, BTreeSet};

/// A page on which every family shows.
fn full() -> Metrics {
    let metrics = Metrics::new();
    metrics.budget_limit_bytes.set(256 << 20);
    let p = metrics.pipeline("pay\"ments");
    p.received.add(3);
    p.settled.add(Fate::DeadLettered, 1);
    p.dead_letters.add(DeadLetterReason::Timeout, 1);
    p.batch_messages.observe(3);
    p.call_micros.observe(300);
    p.committed(CommitResult::Ok);
    p.partitions(|table| {
        table.set_topics(&["payments".to_owned()]);
        *table.row(TopicPartition { topic: 0, partition: 7 }) = PartitionValues {
            committed_offset: Some(40),
            received_offset: Some(45),
            end_offset: Some(50),
            unsettled: 5,
            oldest_unsettled_ms: Some(now_ms() - 60_000),
            commit_metadata_bytes: 12,
            paused: Some(PauseReason::Blocked),
            blocked: Some(BlockReason::DeadLetter),
            slow: Some((40, "a \"key\"".to_owned())),
        };
    });
    metrics
}

/// The names of this list are used in dashboards and alerts: one may be added, none renamed or taken away.
#[test]
fn the_names_stay() {
    let golden: Vec<&str> = include_str!("names.txt").lines().collect();
    let now: Vec<String> = FAMILIES.iter().map(|f| format!("{} {}", f.kind.text(), f.name)).collect();
    assert_eq!(now, golden);
    let unique: BTreeSet<&str> = FAMILIES.iter().map(|f| f.name).collect();
    assert_eq!(unique.len(), FAMILIES.len());
    for f in FAMILIES {
        assert_eq!(f.kind == Kind::Counter, f.name.ends_with("_total"), "{}", f.name);
        assert!(f.name.starts_with("keyrail_") || f.name.starts_with("process_"), "{}", f.name);
    }
}

/// Name and sorted label names of each family of a page.
fn families(page: &str) -> BTreeMap<String, BTreeSet<String>> {
    let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut family = String::new();
    for line in page.lines() {
        if let Some(head) = line.strip_prefix("# TYPE ") {
            family = head.split(' ').next().unwrap().to_owned();
            found.entry(family.clone()).or_default();
        } else if !line.starts_with('#') {
            assert!(line.starts_with(&family), "{line} does not stand under {family}");
            let labels = line.split_once('{').map_or("", |(_, rest)| rest.rsplit_once('}').unwrap().0);
            let names = labels.split("\",").filter_map(|l| l.split_once('=')).map(|(n, _)| n.to_owned());
            found.get_mut(&family).unwrap().extend(names.filter(|n| n != "le"));
        }
    }
    found
}

#[test]
fn every_metric_shows_and_metrics_md_explains_exactly_these() {
    let shown = families(&full().render(Format::Prometheus));
    let names: Vec<&str> = FAMILIES.iter().map(|f| f.name).collect();
    assert_eq!(shown.keys().map(String::as_str).collect::<BTreeSet<_>>(), names.iter().copied().collect());

    let mut explained = BTreeMap::new();
    for row in include_str!("../../../METRICS.md").lines().filter(|l| l.starts_with("| `")) {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        if cells.len() == 3 {
            continue; // An alert, see the next test.
        }
        let [name, kind, labels, meaning] = cells[..] else { panic!("four columns: {row}") };
        let labels: BTreeSet<String> =
            labels.split(',').map(|l| l.trim().trim_matches('`').to_owned()).filter(|l| !l.is_empty()).collect();
        assert!(meaning.len() > 20, "{row}");
        let before = explained.insert(name.trim_matches('`').to_owned(), (kind.to_owned(), labels));
        assert!(before.is_none(), "twice: {row}");
    }
    for f in FAMILIES {
        let (kind, labels) = explained.remove(f.name).unwrap_or_else(|| panic!("METRICS.md lacks {}", f.name));
        assert_eq!((kind.as_str(), &labels), (f.kind.text(), &shown[f.name]), "{}", f.name);
    }
    assert_eq!(explained.into_keys().collect::<Vec<_>>(), Vec::<String>::new(), "METRICS.md names what is not there");
}

#[test]
fn alerts_are_built_on_metrics_that_exist() {
    let text = include_str!("../../../METRICS.md");
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').filter(|w| w.starts_with("keyrail_"));
    let mut found = 0;
    for word in words {
        assert!(FAMILIES.iter().any(|f| f.name == word), "METRICS.md speaks of {word}, which does not exist");
        found += 1;
    }
    assert!(found > FAMILIES.len(), "{found} names only");
}

#[test]
fn metrics_md_lists_every_label_value() {
    let text = include_str!("../../../METRICS.md");
    fn values<L: Label>() -> Vec<&'static str> {
        L::ALL.iter().map(|l| l.text()).collect()
    }
    let all = [
        values::<Fate>(),
        values::<DeadLetterReason>(),
        values::<Failure>(),
        values::<PauseReason>(),
        values::<BlockReason>(),
        values::<CommitResult>(),
        values::<Produced>(),
        values::<RefusedReason>(),
        values::<Rebalance>(),
        values::<ForgottenReason>(),
        values::<ClosedReason>(),
        values::<CommandResult>(),
    ];
    for value in all.iter().flatten() {
        assert!(text.contains(&format!("`{value}`")), "METRICS.md lacks the label value {value}");
    }
}

#[test]
fn values_come_out_with_labels_escaped() {
    let page = full().render(Format::Prometheus);
    for line in [
        "keyrail_records_received_total{pipeline=\"pay\\\"ments\"} 3",
        "keyrail_messages_settled_total{pipeline=\"pay\\\"ments\",fate=\"dead_lettered\"} 1",
        "keyrail_messages_settled_total{pipeline=\"pay\\\"ments\",fate=\"discarded\"} 0",
        "keyrail_dead_letters_total{pipeline=\"pay\\\"ments\",reason=\"timeout\"} 1",
        "keyrail_partition_lag_records{pipeline=\"pay\\\"ments\",topic=\"payments\",partition=\"7\"} 10",
        "keyrail_partition_blocked{pipeline=\"pay\\\"ments\",topic=\"payments\",partition=\"7\",reason=\"dead_letter\"} 1",
        "keyrail_partitions_paused{pipeline=\"pay\\\"ments\",reason=\"blocked\"} 1",
        "keyrail_partitions_paused{pipeline=\"pay\\\"ments\",reason=\"budget\"} 0",
        "keyrail_batch_messages_bucket{pipeline=\"pay\\\"ments\",le=\"2.0\"} 0",
        "keyrail_batch_messages_bucket{pipeline=\"pay\\\"ments\",le=\"4.0\"} 1",
        "keyrail_batch_messages_bucket{pipeline=\"pay\\\"ments\",le=\"+Inf\"} 1",
        "keyrail_call_duration_seconds_sum{pipeline=\"pay\\\"ments\"} 0.0003",
        "keyrail_budget_limit_bytes 268435456",
    ] {
        assert!(page.lines().any(|l| l == line), "{line}\nnot in\n{page}");
    }
    let age = page.lines().find(|l| l.starts_with("keyrail_partition_oldest_unsettled_age_seconds{")).unwrap();
    let age: f64 = age.rsplit_once(' ').unwrap().1.parse().unwrap();
    assert!((60.0..90.0).contains(&age), "{age}");
}

#[test]
fn open_metrics_differs_only_where_it_must() {
    let page = full().render(Format::OpenMetrics);
    assert!(page.contains("# TYPE keyrail_records_received counter\nkeyrail_records_received_total{"));
    assert!(page.ends_with("\n# EOF\n"));
    assert!(!full().render(Format::Prometheus).contains("# EOF"));
}

#[test]
fn a_commit_ahead_of_a_stale_end_is_no_negative_lag() {
    let metrics = Metrics::new();
    let p = metrics.pipeline("p");
    let at = TopicPartition { topic: 0, partition: 0 };
    p.partitions(|t| {
        *t.row(at) = PartitionValues { committed_offset: Some(9), end_offset: Some(5), ..Default::default() };
    });
    assert!(
        metrics
            .render(Format::Prometheus)
            .contains("keyrail_partition_lag_records{pipeline=\"p\",topic=\"\",partition=\"0\"} 0\n")
    );
    p.partitions(|t| {
        t.remove(at);
        t.update(at, |row| row.unsettled = 1);
    });
    assert!(!metrics.render(Format::Prometheus).contains("keyrail_partition_"), "a revoked partition's series end");
}

#[test]
fn a_pipeline_asked_for_twice_is_one() {
    let metrics = Metrics::new();
    metrics.pipeline("a").received.add(1);
    metrics.pipeline("a").received.add(1);
    assert_eq!(metrics.pipeline("a").received.get(), 2);
}

#[derive(Debug)]
struct Fixed(Vec<Sample>);

impl ExtraMetrics for Fixed {
    fn render(&self, out: &mut Vec<Sample>) {
        out.extend(self.0.iter().cloned());
    }
}

fn sample(name: &str, labels: &[(&str, &str)], value: SampleValue) -> Sample {
    let labels = labels.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
    Sample { name: name.to_owned(), labels, value }
}

#[test]
fn a_handlers_own_metrics_can_not_break_the_page() {
    let metrics = Metrics::new();
    metrics.pipeline("a").set_handler(Arc::new(Fixed(vec![
        sample("seen", &[("k", "x\n\"y")], SampleValue::Counter(2.0)),
        sample("seen", &[("k", "x\n\"y")], SampleValue::Counter(3.0)),
        sample(
            "seen_total",
            &[("pipeline", "forged"), ("0", "z"), ("__name__", "up"), ("le", "1")],
            SampleValue::Counter(4.0),
        ),
        sample("\n# TYPE x", &[], SampleValue::Gauge(f64::NAN)),
        sample("size", &[], SampleValue::Histogram { bounds: vec![1.0, 2.5], counts: vec![1, 0, 2], sum: 9.5 }),
        sample("bad", &[], SampleValue::Histogram { bounds: vec![2.0, 1.0], counts: vec![0, 0, 0], sum: 0.0 }),
        sample("worse", &[], SampleValue::Histogram { bounds: vec![1.0], counts: vec![], sum: 0.0 }),
    ])));
    metrics.pipeline("b").set_handler(Arc::new(Fixed(vec![
        sample("size", &[], SampleValue::Gauge(1.0)),
        sample("seen", &[], SampleValue::Counter(7.0)),
    ])));
    let page = metrics.render(Format::Prometheus);
    let handlers: Vec<&str> = page.lines().filter(|l| l.contains("handler_") && !l.contains("keyrail_")).collect();
    assert_eq!(
        handlers,
        [
            "# HELP handler____TYPE_x Reported by a handler",
            "# TYPE handler____TYPE_x gauge",
            "handler____TYPE_x{pipeline=\"a\"} NaN",
            "# HELP handler_seen_total Reported by a handler",
            "# TYPE handler_seen_total counter",
            "handler_seen_total{pipeline=\"a\",k=\"x\\n\\\"y\"} 2",
            "handler_seen_total{pipeline=\"a\",l0=\"z\",l__name__=\"up\"} 4",
            "handler_seen_total{pipeline=\"b\"} 7",
            "# HELP handler_size Reported by a handler",
            "# TYPE handler_size histogram",
            "handler_size_bucket{pipeline=\"a\",le=\"1.0\"} 1",
            "handler_size_bucket{pipeline=\"a\",le=\"2.5\"} 1",
            "handler_size_bucket{pipeline=\"a\",le=\"+Inf\"} 3",
            "handler_size_sum{pipeline=\"a\"} 9.5",
            "handler_size_count{pipeline=\"a\"} 3",
        ]
    );
    assert!(page.contains("keyrail_handler_series_dropped 4\n"), "{page}");
}

#[test]
fn handlers_together_have_a_limit() {
    let many = (0..10_050).map(|i| sample("n", &[("i", &i.to_string())], SampleValue::Gauge(1.0))).collect();
    let metrics = Metrics::new();
    metrics.pipeline("a").set_handler(Arc::new(Fixed(many)));
    assert!(metrics.render(Format::Prometheus).contains("keyrail_handler_series_dropped 50\n"));
}

#[test]
fn accept_headers_choose_the_format() {
    let prometheus_3 = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,text/plain;version=0.0.4;q=0.4,*/*;q=0.1";
    for (accept, format) in [
        (None, Format::Prometheus),
        (Some("*/*"), Format::Prometheus),
        (Some("text/plain;version=0.0.4"), Format::Prometheus),
        (Some("application/openmetrics-text; q=0"), Format::Prometheus),
        (Some(""), Format::Prometheus),
        (Some(prometheus_3), Format::OpenMetrics),
        (Some("text/html, Application/OpenMetrics-Text"), Format::OpenMetrics),
    ] {
        assert_eq!(Format::accepted(accept), format, "{accept:?}");
    }
}
