use std::fmt;

use super::*;

fn problem_of<E>(error: E) -> Problem
where
    Problem: From<E>,
{
    error.into()
}

#[test]
fn a_refused_call_is_dead_lettered_where_no_other_run_can_mend_it() {
    let cases = [
        (Error::NoKey, "no-key", true),
        (Error::UnknownOutput, "unknown-output", true),
        (Error::TooLarge, "too-large", true),
        (Error::OverQuota, "over-quota", true),
        (Error::Other("no state here".to_owned()), "host", false),
    ];
    for (error, code, is_dead_letter) in cases {
        let problem = problem_of(error.clone());
        assert_eq!((problem.code(), problem.is_dead_letter()), (code, is_dead_letter), "{error:?}");
        assert_eq!(problem.detail(), error.to_string());
    }
}

#[derive(Debug)]
struct Outer(std::num::ParseIntError);

impl fmt::Display for Outer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no amount")
    }
}

impl std::error::Error for Outer {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.0)
    }
}

#[test]
fn any_other_error_is_retried_and_tells_its_sources() {
    let problem = problem_of(Outer("x".parse::<u8>().unwrap_err()));
    assert_eq!((problem.code(), problem.is_dead_letter(), problem.is_outage()), ("error", false, false));
    assert_eq!(problem.detail(), "no amount: invalid digit found in string");
}

#[test]
fn an_error_can_be_given_another_meaning() {
    let error = || Err::<(), _>("why");
    assert_eq!(error().or_dead_letter("c"), Err(dead_letter("c", "why")));
    assert_eq!(error().or_retry("c"), Err(retry("c", "why")));
    assert_eq!(error().or_outage("c"), Err(retry("c", "why").outage()));
    assert_eq!(Ok::<_, &str>(7).or_retry("c"), Ok(7));
}

#[test]
fn what_crosses_the_border_is_what_was_said() {
    let failure = || contract::Failure { code: "c".to_owned(), detail: "d".to_owned() };
    let retried = |delay_ms, outage| contract::Outcome::Retry(contract::Retry { failure: failure(), delay_ms, outage });
    let wait = Duration::from_micros(1_500_999);
    let cases = [
        (Ok(Verdict::Done), contract::Outcome::Done),
        (Ok(Verdict::Skip), contract::Outcome::Skip),
        (Err(retry("c", "d")), retried(None, false)),
        (Err(retry("c", "d").outage()), retried(None, true)),
        (Err(retry("c", "d").after(wait)), retried(Some(1_500), false)),
        (Err(retry("c", "d").after(Duration::MAX).outage()), retried(Some(u64::MAX), true)),
        (Err(dead_letter("c", "d")), contract::Outcome::DeadLetter(failure())),
        (Err(dead_letter("c", "d").after(wait).outage()), contract::Outcome::DeadLetter(failure())),
    ];
    for (outcome, expected) in cases {
        assert_eq!(contract::Outcome::from(outcome.clone()), expected, "{outcome:?}");
    }
}
