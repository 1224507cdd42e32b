use super::*;
use keyrail_sdk::http::{Reason, Response};
use keyrail_sdk::testing::{Host, Input, Run};
use std::time::Duration;

const CHARGES: &str = "https://pay.example.com/charges";

fn host() -> Host {
    Host::new().output("charged").output("declined").config("service", "https://pay.example.com")
}

fn run(host: &mut Host, amount: &str) -> Run {
    host.run_http((prepare, handle), Input::new(amount).key("order-7"))
}

#[test]
fn an_order_is_charged_and_the_service_is_told_which_message_it_was() {
    let mut host = host().answer("POST", CHARGES, Response::new(201).with_body("receipt"));
    let run = run(&mut host, "1250");
    assert_eq!((run.outcome, run.sent[0].to.as_str(), run.sent[0].value()), (Ok(Done), "charged", &b"receipt"[..]));
    let requests = host.requests();
    assert_eq!(requests[0].request.body_bytes(), Some(&br#"{"order":"order-7","cents":1250}"#[..]));
    assert_eq!(requests[0].request.header_value("idempotency-key"), Some(requests[0].id.as_bytes()));
}

#[test]
fn a_card_that_is_declined_is_no_failure() {
    let run = run(&mut host().answer("POST", CHARGES, Response::new(402).with_body("no funds")), "1");
    assert_eq!((run.outcome, run.sent[0].to.as_str()), (Ok(Done), "declined"));
}

#[test]
fn what_may_pass_is_tried_again_and_the_rest_is_a_dead_letter() {
    let busy = Response::new(503).with_header("retry-after", "7");
    for (answer, code, dead, delay) in [
        (busy.into(), "http-503", false, Some(Duration::from_secs(7))),
        (Response::new(500).into(), "http-500", false, None),
        (Response::new(400).into(), "http-400", true, None),
        (Reason::Timeout.into(), "http-timeout", false, None),
        (Reason::Denied("no".to_owned()).into(), "http-denied", true, None),
    ] {
        let answer: Result<Response, Reason> = answer;
        let run = run(&mut host().answer("POST", CHARGES, answer), "1");
        let problem = run.outcome.err().map(|p| (p.code().to_owned(), p.is_dead_letter(), p.delay()));
        assert_eq!(problem, Some((code.to_owned(), dead, delay)));
        assert!(run.sent.is_empty());
    }
}

#[test]
fn nobody_is_charged_for_what_is_no_order() {
    let mut host = host();
    assert_eq!(run(&mut host, "much").outcome.err().map(|p| p.code().to_owned()).as_deref(), Some("no-amount"));
    let named = host.run_http((prepare, handle), Input::new("1").key("a\"b"));
    assert_eq!(named.outcome.err().map(|p| p.code().to_owned()).as_deref(), Some("no-name"));
    assert!(host.requests().is_empty());
}
