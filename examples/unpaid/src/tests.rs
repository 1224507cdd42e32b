use super::*;
use keyrail_sdk::testing::{Host, Input};

fn host() -> Host {
    Host::new().output("cancelled")
}

fn order(value: &str) -> Input {
    Input::new(value).key("order-1")
}

#[test]
fn an_order_that_nobody_pays_is_cancelled_when_its_time_is_over() {
    let mut host = host();
    assert_eq!(host.run(handle, order("placed")).outcome, Ok(Done));
    host.advance(TIME_TO_PAY - Duration::from_secs(1));
    assert!(host.due_timers().is_empty());
    host.advance(Duration::from_secs(1));
    let due = host.due_timers();
    assert_eq!(due.len(), 1);
    let run = host.run(handle, due[0].clone());
    assert_eq!((run.outcome, run.sent[0].key.as_deref()), (Ok(Done), Some(&b"order-1"[..])));
}

#[test]
fn an_order_that_is_paid_is_not() {
    let mut host = host();
    for value in ["placed", "paid"] {
        assert_eq!(host.run(handle, order(value)).outcome, Ok(Done));
    }
    host.advance(TIME_TO_PAY);
    assert!(host.due_timers().is_empty());
}

#[test]
fn what_it_does_not_know_becomes_a_dead_letter() {
    assert!(host().run(handle, order("shipped")).outcome.is_err());
}
