//! Records of runs as anybody may write them into a header.

use super::{Case, Kind, Lost, Recorded, Verdict, seal};
use crate::record::{RecordBuilder, TopicPartition};
use crate::wasm::{Failure, Fired, Reads, Span};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A header's value: it is refused with words, or what is read of it is written so that it is read again.
pub(crate) fn record(input: &[u8]) {
    match Recorded::decode(input) {
        Err(why) => assert!(!why.to_string().is_empty()),
        Ok((recorded, own, lost)) => {
            let again = seal(&recorded.encode(), own, &lost);
            assert_eq!(Recorded::decode(&again), Ok((recorded.clone(), own, lost.clone())));
            let mut builder = RecordBuilder::new(None, None);
            (0..3).for_each(|_| builder.header(b"h", None));
            let letter = builder.build(TopicPartition { topic: 0, partition: 0 }, 0, 0);
            if let Ok(case) = Case::of(&letter, &recorded, own, &lost) {
                assert_eq!(case.headers.len(), own + lost.len());
            }
            let room = recorded.reads.clone().within(16);
            assert!(room == recorded.reads || room.cut && room.spans.is_empty() && room.names.len() <= 2);
        }
    }
}

/// Runs of all kinds.
pub(super) fn runs() -> Vec<Recorded> {
    let value = |text: &str| Some(Arc::from(text.as_bytes()));
    let names = BTreeMap::from([("a".to_owned(), value("1")), ("b".to_owned(), None), ("é".to_owned(), value(""))]);
    let span = |after: Option<&str>, until: Option<&str>| Span {
        prefix: "p".to_owned(),
        after: after.map(str::to_owned),
        until: until.map(str::to_owned),
    };
    let spans = vec![span(None, Some("pz")), span(Some("pz"), None)];
    let all = Kind::ALL.iter().zip([0, 1, -1, i64::MAX, i64::MIN, 1 << 40, -5]);
    let run = |(kind, number): (&Kind, i64)| {
        let odd = *kind as u8 % 2 == 1;
        Recorded {
            handler: [*kind as u8; 32],
            setup: number.cast_unsigned(),
            pipeline: "payments".to_owned(),
            topic: "in".to_owned(),
            partition: 3,
            offset: number,
            timestamp_ms: number,
            timer: odd.then(|| Fired { name: "t".to_owned(), hops: u32::MAX }),
            attempt: 7,
            follows_dead_letter: odd,
            now_ms: number,
            deadline_ms: number.cast_unsigned(),
            verdict: Verdict {
                kind: *kind,
                failure: Failure { code: "code".to_owned(), detail: "words".to_owned() },
                delay_ms: odd.then_some(0),
            },
            reads: if odd { Reads::of(names.clone(), spans.clone(), true) } else { Reads::default() },
        }
    };
    all.map(run).collect()
}

pub(crate) fn record_seeds() -> Vec<Vec<u8>> {
    let lost: [Lost; 2] = [(0, b"keyrail-code".to_vec(), Some(b"x".to_vec())), (2, b"\xff".to_vec(), None)];
    runs().iter().enumerate().map(|(n, run)| seal(&run.encode(), n, &lost[..n % 3])).collect()
}
