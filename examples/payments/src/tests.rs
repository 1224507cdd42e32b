use keyrail_sdk::testing::{Host, Input};

use super::*;

fn host() -> Host {
    Host::new().output("receipts").config("currency", "EUR")
}

const ORDER: &str = r#"{"id":"o-1","cents":1250,"currency":"EUR"}"#;

#[test]
fn an_order_gets_a_receipt_under_its_own_key() {
    let mut host = host();
    let run = host.run(handle, Input::new(ORDER).key("customer-7"));
    assert_eq!(run.outcome, Ok(Done));
    assert_eq!(run.sent.len(), 1);
    assert_eq!(run.sent[0].to, "receipts");
    assert_eq!(run.sent[0].key.as_deref(), Some(&b"customer-7"[..]));
    assert_eq!(run.sent[0].value(), ORDER.as_bytes());
    assert!(run.sent[0].header("payment-id").is_some());
    assert_eq!(host.logs()[0].message, "paid");
}

#[test]
fn what_no_retry_can_mend_is_dead_lettered() {
    let dollars = r#"{"id":"o-2","cents":1,"currency":"USD"}"#;
    for (value, code) in [("{", "bad-json"), ("", "bad-json"), (dollars, "wrong-currency")] {
        let run = host().run(handle, value);
        let problem = run.outcome.expect_err(value);
        assert_eq!((problem.code(), problem.is_dead_letter()), (code, true), "{value}");
        assert!(run.sent.is_empty());
    }
}

#[test]
fn nothing_to_pay_is_skipped() {
    let run = host().run(handle, r#"{"id":"o-3","cents":0,"currency":"EUR"}"#);
    assert_eq!(run.outcome, Ok(Skip));
    assert!(run.sent.is_empty());
}

#[test]
fn a_bank_that_is_down_costs_no_attempt() {
    let run = host().run(handle, Input::new(ORDER).header("bank", "down"));
    let problem = run.outcome.expect_err("the bank is down");
    assert_eq!(problem.code(), "bank-down");
    assert!(problem.is_outage() && !problem.is_dead_letter());
}

#[test]
fn a_busy_bank_asks_to_come_back_twice() {
    let outcomes = [1, 2, 3].map(|attempt| {
        let run = host().run(handle, Input::new(ORDER).header("bank", "busy").attempt(attempt));
        run.outcome.map_err(|problem| (problem.code().to_owned(), problem.is_outage()))
    });
    let busy = || Err(("bank-busy".to_owned(), false));
    assert_eq!(outcomes, [busy(), busy(), Ok(Done)]);
}

#[test]
fn a_manifest_without_currency_is_refused() {
    assert_eq!(open(&host().setup()), Ok(()));
    let refused = open(&Host::new().setup()).expect_err("no currency").to_string();
    assert!(refused.contains("currency is missing"), "{refused}");
}
