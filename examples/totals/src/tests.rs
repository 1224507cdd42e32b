#![allow(clippy::unwrap_used, reason = "a test may fail by panic")]

use keyrail_sdk::testing::{Host, Input};

use super::*;

fn host() -> Host {
    Host::new().output("totals")
}

/// What a key's total is told to be after the amount.
fn told(host: &mut Host, key: &str, amount: &str) -> String {
    let run = host.run(handle, Input::new(amount).key(key));
    assert_eq!(run.outcome, Ok(Done));
    String::from_utf8(run.sent[0].value().to_vec()).unwrap()
}

#[test]
fn each_key_has_a_total_of_its_own() {
    let mut host = host();
    let totals = [("anna", "5"), ("ben", "2"), ("anna", "7")].map(|(key, amount)| told(&mut host, key, amount));
    assert_eq!(totals, ["5", "2", "12"]);
    assert_eq!(host.state("anna", TOTAL), Some(b"12".to_vec()));
}

#[test]
fn what_goes_to_the_dead_letters_changes_no_total() {
    let mut host = host();
    told(&mut host, "anna", "5");
    for (amount, code) in [("many", "no-amount"), ("18446744073709551615", "too-much")] {
        let run = host.run(handle, Input::new(amount).key("anna"));
        assert_eq!(run.outcome.unwrap_err().code(), code);
        assert!(run.undone && run.sent.is_empty());
    }
    assert_eq!(told(&mut host, "anna", "1"), "6");
}

#[test]
fn in_a_batch_each_message_sees_the_total_before_it() {
    let mut host = host();
    let process = |batch: &[keyrail_sdk::Delivery<'_>]| batch.iter().map(|d| handle(d.message, &d.ctx)).collect();
    let runs = host.run_batch(process, ["1", "2", "3"].map(|amount| Input::new(amount).key("anna")));
    let totals: Vec<&[u8]> = runs.iter().map(|run| run.sent[0].value()).collect();
    assert_eq!(totals, [b"1", b"3", b"6"]);
}

#[test]
fn a_message_without_a_key_has_no_total() {
    assert_eq!(host().run(handle, "5").outcome.unwrap_err().code(), "no-key");
}
