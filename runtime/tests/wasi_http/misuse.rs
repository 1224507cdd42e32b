//! What nobody should do.

use super::answers::Answers;
use super::{DEADLINE, ask, call, open, told};
use keyrail::wasm::{CallFailure, Limits};

#[test]
fn headers_that_cannot_be_are_refused() {
    let Some(said) = told("headers_that_cannot_be", &Answers::new(), "headers") else { return };
    let told: Vec<_> = said.split("; ").collect();
    let expected = [
        "append: Ok(())",
        "again: Ok(())",
        "space: Err(HeaderError::InvalidSyntax)",
        "newline: Err(HeaderError::InvalidSyntax)",
        "host: Err(HeaderError::Forbidden)",
        "list: Err(HeaderError::Forbidden)",
        "set: Ok(())",
        "delete: Ok(())",
        "delete none: Ok(())",
        "delete bad: Err(HeaderError::InvalidSyntax)",
        "copy: Ok(())",
        "frozen append: Err(HeaderError::Immutable)",
        "frozen set: Err(HeaderError::Immutable)",
        "frozen delete: Err(HeaderError::Immutable)",
        "thawed: Ok(())",
        r#"[[49], [50]] true false [("A", [49]), ("a", [50])] [("A", [49]), ("a", [50]), ("d", [])]"#,
    ];
    assert_eq!(told, expected);
}

#[test]
fn a_request_s_line_holds_what_can_be_sent() {
    let Some(said) = told("a_request_s_line", &Answers::new(), "line") else { return };
    assert_eq!(said, r#"nynnnnynnyny Method::Other("PURGE") Some("?a") Some("a.test:1") None"#);
}

#[test]
fn options_are_kept() {
    let Some(said) = told("options_are_kept", &Answers::new(), "options") else { return };
    assert_eq!(said, "None (Ok(()), Ok(())) (Some(1), None, Some(3))");
}

#[test]
fn what_is_given_once_is_refused_the_second_time() {
    let Some(said) = told("what_is_given_once", &Answers::new(), "twice a.test:80") else { return };
    let closed = ["Err(StreamError::Closed)"; 3].join(", ");
    let read = "Ok(1) Ok([101, 108, 108, 111]) Err(StreamError::Closed)";
    assert_eq!(said, format!("(true, true) ({closed}) Some(true) (true, true) {read}"));
}

#[test]
fn a_body_that_nobody_finishes_is_not_sent() {
    let answers = Answers::new();
    let Some(said) = told("a_body_that_nobody", &answers, "unfinished a.test:80") else { return };
    let unfinished = "its body must be finished before its answer is waited for";
    assert!(said.contains(unfinished) && said.ends_with(" Ok(())"), "{said}");
    let Some(said) = told("a_body_that_nobody", &answers, "dropped a.test:80") else { return };
    assert_eq!(said.matches("its body was dropped before it was finished, or finished wrongly").count(), 2, "{said}");
    assert_eq!(answers.sent(), []);
}

#[test]
fn a_body_is_as_long_as_its_header_says() {
    let answers = Answers::new();
    let Some(said) = told("a_body_is_as_long", &answers, "length a.test:80") else { return };
    let told: Vec<_> = said.split("; ").collect();
    let expected = [
        "Err(ErrorCode::HttpRequestBodySize(Some(0)))",
        r#"ErrorCode::InternalError(Some("its body was dropped before it was finished, or finished wrongly"))"#,
        "Ok(())",
        r#"ErrorCode::InternalError(Some("the header content-length is not one number"))"#,
        "ErrorCode::HttpRequestBodySize(Some(0))",
    ];
    assert_eq!(told, expected);
    assert_eq!(answers.sent(), []);
}

#[test]
fn a_request_without_a_host_is_none() {
    let Some(said) = told("a_request_without_a_host", &Answers::new(), "no-host") else { return };
    assert_eq!(said, "ErrorCode::HttpRequestUriInvalid");
}

#[test]
fn what_requests_hold_is_bounded() {
    let limits = Limits { host_call_bytes: 1 << 20, output_bytes: 1 << 10, ..Limits::default() };
    let answers = Answers::new();
    let Some(mut instance) = open("what_requests_hold", Some(answers.clone()), &limits) else { return };
    let code = "ErrorCode::HttpRequestBodySize(Some(1048576))";
    for _ in 0..3 {
        let said = ask(&mut instance, "fill 60000");
        let words = "requests by wasi:http hold more than 1048576 bytes in the host";
        assert!(said.starts_with(&format!("1020000: Some({code}), {words}; Err({code}); ")), "{said}");
        assert!(said.ends_with("its body was dropped before it was finished, or finished wrongly\"))"), "{said}");
    }
    assert_eq!(answers.sent(), []);
    assert_eq!(ask(&mut instance, "flood a.test:80"), "256 ErrorCode::ConnectionLimitReached");
    let failure = call(&mut instance, &["fill-fields"], DEADLINE).unwrap_err();
    let detail = "requests by wasi:http hold more than 1048576 bytes in the host".to_owned();
    assert_eq!(failure, CallFailure::HostCalls { detail });
}

#[test]
fn a_body_outlives_what_it_came_from_but_not_the_call() {
    let test = "a_body_outlives";
    let answers = Answers::new();
    let Some(said) = told(test, &answers, "after a.test:80") else { return };
    assert_eq!(said, "true Ok([104, 101, 108, 108, 111])");
    let trap = "a handle of wasi:http is used after its end: what belongs to a request ends with the call that made it";
    for (what, then) in [
        ("answer", Err(trap)),
        ("body", Err(trap)),
        ("pollable", Ok("true")),
        ("stream", Ok("Err(StreamError::Closed) Err(StreamError::Closed)")),
        ("fields", Ok("[(\"a\", [98])]")),
    ] {
        let Some(mut instance) = open(test, Some(answers.clone()), &Limits::default()) else { return };
        for forgotten in [true, false] {
            assert_eq!(ask(&mut instance, &format!("keep {what} a.test:80")), "kept");
            if forgotten {
                assert_eq!(ask(&mut instance, "forget"), "1", "{what}");
                assert_eq!(ask(&mut instance, "get a.test:80 /"), "200 [x-a=1,x-a=2] hello");
            }
        }
        match (call(&mut instance, &["use"], DEADLINE), then) {
            (Ok(said), Ok(then)) => assert_eq!(said, [then], "{what}"),
            (Err(CallFailure::Trap { detail }), Err(trap)) => assert!(detail.starts_with(trap), "{what}: {detail}"),
            (other, then) => panic!("{what}: {other:?}, not {then:?}"),
        }
    }
}

#[test]
fn a_poll_of_nothing_traps() {
    let Some(mut instance) = open("a_poll_of_nothing", Some(Answers::new()), &Limits::default()) else { return };
    let failure = call(&mut instance, &["poll-nothing"], DEADLINE).unwrap_err();
    let CallFailure::Trap { detail } = &failure else { panic!("{failure:?}") };
    assert!(detail.starts_with("poll of nothing"), "{detail}");
}
