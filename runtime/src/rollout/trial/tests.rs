use super::*;
use keyrail_engine::message::{Epoch, Failure, Partition, Reason, Ticket};
use keyrail_engine::shard::Runs;

fn terms() -> Terms {
    Terms { share: 0.05, lasts: Duration::from_secs(600), least_messages: 100, failures: 0.01, slower: 3.0 }
}

fn ticket() -> Ticket {
    let partition = Partition { topic: 0, number: 3 };
    let (offset, epoch, lane, id, refused, shared) = (17, Epoch(1), 5, None, None, false);
    Ticket { partition, offset, epoch, lane, id, refused, shared, alone: false, parked: 0, size: 1, timestamp_ms: 0 }
}

fn account(messages: u64, overruled: u64, upheld: u64, failed_calls: u64) -> Account {
    let runs = |messages| Runs { messages, micros: messages * 50 };
    let (trial, serving) = (runs(messages), runs(20 * messages));
    let mut account = Account::default();
    let evidence = Evidence { version: 1, trial, serving, failed_calls, overruled, upheld, example: None };
    account.add(evidence, &terms(), |_| String::new());
    account
}

fn is_rolled_back(account: &Account) -> bool {
    matches!(account.judge(&terms(), Duration::from_secs(1)), Verdict::RollBack(_))
}

/// Why it is rolled back, if it is.
fn why(account: &Account) -> String {
    match account.judge(&terms(), Duration::ZERO) {
        Verdict::RollBack(why) => why,
        other => format!("{other:?}"),
    }
}

#[test]
fn what_fails_on_it_alone_rolls_it_back_and_what_fails_on_both_does_not() {
    assert!(!is_rolled_back(&account(10, 2, 0, 0)), "two may be chance");
    assert!(is_rolled_back(&account(10, 3, 0, 0)));
    assert!(!is_rolled_back(&account(300, 3, 0, 0)), "one of a hundred may fail");
    assert!(is_rolled_back(&account(300, 4, 0, 0)));
    assert!(!is_rolled_back(&account(10, 0, 10_000, 0)), "an outage is nobody's fault");
    assert!(is_rolled_back(&account(0, 0, 0, 10)), "it fails and no message is to blame");
    assert!(!is_rolled_back(&account(0, 0, 0, 9)), "which message is to blame may not be known yet");
    assert!(
        !is_rolled_back(&account(0, 0, 30, 60)),
        "thirty messages make either version trap, among others and alone"
    );
}

#[test]
fn it_is_promoted_by_its_time_and_its_messages() {
    let judge = |account: &Account, seconds| account.judge(&terms(), Duration::from_secs(seconds));
    assert_eq!(judge(&account(100, 0, 0, 0), 599), Verdict::GoesOn);
    assert_eq!(judge(&account(99, 0, 0, 0), 600), Verdict::GoesOn);
    assert_eq!(judge(&account(100, 0, 0, 0), 600), Verdict::Promote);
    assert_eq!(judge(&account(100, 2, 7, 0), 600), Verdict::Promote);
}

/// Calls of ten messages each, that cost so many microseconds a message; on the other version they cost two thousand.
fn calls(costs: impl IntoIterator<Item = u64>) -> Account {
    let mut account = Account::default();
    for each in costs {
        let (trial, serving) = (Runs { messages: 10, micros: 10 * each }, Runs { messages: 100, micros: 200_000 });
        account.add(Evidence { serving, ..Evidence::default() }, &terms(), |_| String::new());
        account.add(Evidence { trial, ..Evidence::default() }, &terms(), |_| String::new());
    }
    account
}

#[test]
fn what_costs_too_much_is_rolled_back_once_both_are_known() {
    assert!(!is_rolled_back(&calls([100_000; 9])), "too few calls");
    assert!(!is_rolled_back(&calls([7_000; 10])));
    let why = why(&calls([7_001; 10]));
    assert!(why.starts_with("it is too slow: 100 messages") && why.contains("7001 us a message, 2000 us"), "{why}");
    let stood_still = (0..100).map(|n| if n % 3 == 0 { 1_000_000 } else { 2_000 });
    assert!(!is_rolled_back(&calls(stood_still)), "most of its calls cost no more");
}

#[test]
fn the_evidence_names_the_last_message() {
    let mut account = account(10, 2, 0, 0);
    let failure = Failure { code: "no-price".to_owned(), detail: "the price is missing".to_owned() };
    let overruled = Overruled { ticket: ticket(), reason: Reason::Rejected, failure };
    let example = Some(Box::new(overruled));
    account.add(Evidence { overruled: 1, example, ..Evidence::default() }, &terms(), |_| {
        "orders/3@17, key \"a\"".to_owned()
    });
    let why = why(&account);
    assert!(why.ends_with("orders/3@17, key \"a\", rejected (no-price, the price is missing)"), "{why}");
}
