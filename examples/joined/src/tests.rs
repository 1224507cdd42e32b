#![allow(clippy::unwrap_used, reason = "a test may fail by panic")]

use keyrail_sdk::testing::{Host, Input, Run};

use super::*;

fn host() -> Host {
    Host::new().topics(&["orders", "payments"]).output("paid")
}

fn order(key: &str, value: &str) -> Input {
    Input::new(value).key(key).topic(0)
}

fn payment(key: &str, value: &str) -> Input {
    Input::new(value).key(key).topic(1)
}

fn sent(run: &Run) -> Vec<&str> {
    run.sent.iter().map(|sent| std::str::from_utf8(sent.value()).unwrap()).collect()
}

const PAID: &str = r#"{"order":{"book":2},"payment":{"eur":30}}"#;

#[test]
fn an_order_and_its_payment_become_one_message_whichever_comes_first() {
    let both = [order("o1", r#"{"book":2}"#), payment("o1", r#"{"eur":30}"#)];
    let [first, second] = both.clone();
    for inputs in [both, [second, first]] {
        let mut host = host();
        let [first, second] = inputs.map(|input| host.run(handle, input));
        assert_eq!((first.outcome, first.sent.len()), (Ok(Done), 0));
        assert_eq!((sent(&second), second.outcome.clone()), (vec![PAID], Ok(Done)));
        assert_eq!((host.state("o1", ORDER), host.state("o1", PAYMENT)), (None, None), "nothing waits any more");
    }
}

#[test]
fn orders_are_joined_with_their_own_payments() {
    let mut host = host();
    host.run(handle, order("o1", "1"));
    host.run(handle, order("o2", "2"));
    assert_eq!(sent(&host.run(handle, payment("o2", "20"))), [r#"{"order":2,"payment":20}"#]);
    assert_eq!(host.state("o1", ORDER), Some(b"1".to_vec()), "it waits on");
}

#[test]
fn what_nobody_pays_is_forgotten_after_a_week() {
    let mut host = host();
    host.run(handle, order("o1", "1"));
    host.advance(PATIENCE);
    assert_eq!(host.run(handle, payment("o1", "10")).sent.len(), 0);
    assert_eq!(host.state("o1", PAYMENT), Some(b"10".to_vec()));
}

#[test]
fn what_can_not_be_joined_is_a_dead_letter() {
    let mut host = host();
    for (input, code) in
        [(Input::new(None::<&str>).key("o1").topic(0), "no-value"), (Input::new("x").key("o1").topic(2), "no-input")]
    {
        assert_eq!(host.run(handle, input).outcome.unwrap_err().code(), code);
    }
    assert_eq!(host.run(handle, Input::new("no key").topic(0)).outcome.unwrap_err().code(), "no-key");
}
