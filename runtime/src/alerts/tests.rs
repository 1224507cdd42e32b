#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use super::*;

fn line(events: Channel<Event>) -> Line {
    Line { events, missed: Arc::default(), metrics: Arc::default() }
}

fn alerts(kinds: &[Kind], shows_keys: bool, to: Vec<Line>) -> Alerts {
    Alerts(Some(Arc::new(Lines { kinds: kinds.to_vec(), parked_age: Duration::from_secs(9), shows_keys, to })))
}

fn letter() -> What {
    let example = Example { key: Some("k".to_owned()), offset: Some(4), ..Example::default() };
    What::Happened { count: 1, places: Vec::new(), example }
}

#[test]
fn nobody_is_waited_for_and_what_finds_no_room_is_counted() {
    let (events, heard) = bounded(2);
    let (others, other) = bounded(8);
    let alerts = alerts(&[Kind::DeadLetters], true, vec![line(events), line(others)]);
    (0..5).for_each(|_| alerts.tell("p", Kind::DeadLetters, letter()));
    assert_eq!((heard.len(), other.len()), (2, 5), "one that is full holds up no other");
    let counts = |n: usize| {
        let line = &alerts.0.as_ref().unwrap().to[n];
        (line.missed.load(Relaxed), line.metrics.dropped.get())
    };
    assert_eq!((counts(0), counts(1)), ((3, 3), (0, 0)));
    drop(heard);
    alerts.tell("p", Kind::DeadLetters, letter());
    assert_eq!(counts(0), (4, 4), "a thread that is gone does no harm");
}

#[test]
fn only_what_is_wanted_is_told_and_keys_may_be_hidden() {
    let (events, heard) = bounded(8);
    let alerts = alerts(&[Kind::DeadLetters, Kind::Held], false, vec![line(events)]);
    assert!(alerts.wants(Kind::Held) && !alerts.wants(Kind::Breaker));
    alerts.tell("p", Kind::Breaker, What::Over);
    alerts.tell("p", Kind::DeadLetters, letter());
    let What::Happened { example, .. } = heard.try_recv().unwrap().what else { panic!("something else") };
    assert_eq!((example.key, example.offset), (None, Some(4)));
    alerts.rests("p");
    assert_eq!(heard.try_iter().map(|event| event.kind).collect::<Vec<_>>(), [Kind::Held]);
    let off = Alerts::default();
    assert!(!off.wants(Kind::DeadLetters));
    off.tell("p", Kind::DeadLetters, letter());
}
