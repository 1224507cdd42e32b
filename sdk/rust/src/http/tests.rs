use super::*;
use crate::prelude::*;
use crate::testing::{Host as TestHost, Requested};

const URL: &str = "https://api.example.com/pay?token=secret#top";

fn problem(response: Response) -> Problem {
    Response { asked: Request::get(URL).named(), ..response }.ok_or_retry().unwrap_err()
}

#[test]
fn a_request_without_a_method_follows_its_body() {
    assert_eq!(Request::new(URL).method(), "GET");
    assert_eq!(Request::new(URL).body("").method(), "POST");
    assert_eq!(Request::get(URL).body("x").method(), "GET");
    let named = [Request::post(URL), Request::put(URL), Request::patch(URL), Request::delete(URL)];
    assert_eq!(named.each_ref().map(Request::method), ["POST", "PUT", "PATCH", "DELETE"]);
}

#[test]
fn a_status_says_what_becomes_of_the_message() {
    for status in [200, 204, 299] {
        assert_eq!(Response::new(status).ok_or_retry(), Ok(Response::new(status)), "{status}");
    }
    for status in [408, 425, 429, 500, 503, 599] {
        let problem = problem(Response::new(status));
        assert_eq!(problem, retry(format!("http-{status}"), format!("GET https://api.example.com/pay: {status}")));
    }
    for status in [100, 199, 300, 301, 400, 404, 499, 600] {
        let problem = problem(Response::new(status));
        assert_eq!(
            problem,
            dead_letter(format!("http-{status}"), format!("GET https://api.example.com/pay: {status}"))
        );
    }
}

#[test]
fn a_retry_after_of_429_and_503_is_the_wait() {
    let seconds = Duration::from_secs;
    let cases = [
        (429, "7", Some(seconds(7))),
        (503, " 3600 ", Some(seconds(3_600))),
        (503, "3601", Some(seconds(3_600))),
        (503, "99999999999999999999999", Some(seconds(3_600))),
        (503, "0", None),
        (503, "", None),
        (503, "-1", None),
        (503, "1.5", None),
        (503, "Wed, 21 Oct 2026 07:28:00 GMT", None),
        (500, "7", None),
    ];
    for (status, header, wait) in cases {
        let response = Response::new(status).with_header("Retry-After", header);
        assert_eq!(problem(response).delay(), wait, "{status} {header:?}");
    }
}

#[test]
fn the_detail_has_the_first_200_bytes_of_a_text() {
    let detail = |body: &[u8]| {
        let problem = problem(Response::new(500).with_body(body));
        problem.detail().strip_prefix("GET https://api.example.com/pay: 500").unwrap().to_owned()
    };
    assert_eq!(detail(b""), "");
    assert_eq!(detail(b"no room"), " no room");
    assert_eq!(detail(&[b'x'; 201]), format!(" {}", "x".repeat(200)));
    let cut = format!("{}\u{e9}", "x".repeat(199));
    assert_eq!(detail(cut.as_bytes()), format!(" {}", "x".repeat(199)), "a character cut in two");
    assert_eq!(detail(b"x\xff"), "");
    assert_eq!(
        detail(&[vec![b'x'; 200], vec![0xff]].concat()),
        format!(" {}", "x".repeat(200)),
        "what follows counts not"
    );
}

#[test]
fn a_response_tells_its_parts() {
    let response = Response::new(200).with_header("X-A", "1").with_header("x-a", "2").with_body("{}");
    assert_eq!(response.header("X-a"), Some(&b"2"[..]));
    assert_eq!(response.header("x-b"), None);
    assert_eq!((response.status(), response.ok(), response.text(), response.body()), (200, true, Ok("{}"), &b"{}"[..]));
    assert!(Response::new(200).with_body(b"\xff".to_vec()).text().is_err());
}

fn charge(_message: &Message, ctx: &Context<'_>) -> Outcome {
    let paid = ctx.fetch(Request::new(URL).header("x-a", "1").body("7").timeout(Duration::from_secs(1)))?;
    ctx.send("out", paid.ok_or_retry()?.into_body()).dispatch()?;
    Ok(Done)
}

#[test]
fn an_error_that_is_not_caught_becomes_an_outcome() {
    let cases = [
        (Reason::Denied("not granted".to_owned()), dead_letter("http-denied", "not granted")),
        (Reason::Invalid("no URL".to_owned()), dead_letter("http-invalid", "no URL")),
        (Reason::TooLarge, dead_letter("http-too-large", "the answer is larger than limits.response-bytes allows")),
        (Reason::Timeout, retry("http-timeout", "no answer in time")),
        (Reason::Unreachable("refused".to_owned()), retry("http-unreachable", "refused")),
    ];
    for (reason, expected) in cases {
        let run = TestHost::new().answer("POST", URL, reason).run(charge, "m");
        let problem = run.outcome.unwrap_err();
        assert_eq!(problem.code(), expected.code());
        assert_eq!(problem.is_dead_letter(), expected.is_dead_letter(), "{problem:?}");
        assert!(!problem.is_outage());
        assert_eq!(problem.detail(), format!("POST https://api.example.com/pay: {}", expected.detail()));
    }
}

#[test]
fn an_error_can_be_handled() {
    let handle = |_: &Message, ctx: &Context<'_>| match ctx.fetch(Request::get(URL)) {
        Err(error) if *error.reason() == Reason::Timeout => Err(retry("slow", error.code()).outage()),
        _ => Ok(Skip),
    };
    let run = TestHost::new().answer_with(|_| Reason::Timeout).run(handle, "m");
    assert_eq!(run.outcome, Err(retry("slow", "http-timeout").outage()));
}

#[test]
fn the_host_in_memory_answers_and_keeps_what_was_asked() {
    let mut host = TestHost::new().output("out").answer("POST", URL, Response::new(200).with_body("paid"));
    let run = host.run(charge, "m");
    assert_eq!((run.outcome, run.sent[0].value()), (Ok(Done), &b"paid"[..]));
    let request = Request::post(URL).header("x-a", "1").header("idempotency-key", "input/0/0").body("7");
    let [made] = <[Requested; 1]>::try_from(host.requests()).unwrap();
    assert_eq!((made.slot, &*made.id, made.request.method()), (0, "input/0/0", "POST"));
    assert_eq!(made.request.headers(), request.headers());
    assert_eq!(made.request.body_bytes(), Some(&b"7"[..]));
    assert_eq!(made.request.timeout_set(), Some(Duration::from_secs(1)));
}

#[test]
fn a_request_without_an_answer_says_how_to_give_one() {
    let problem = TestHost::new().run(charge, "m").outcome.unwrap_err();
    assert_eq!(problem.code(), "http-denied");
    assert!(problem.detail().contains("Host::answer"), "{}", problem.detail());
}

#[test]
fn requests_of_one_call_are_answered_in_their_order() {
    let handle = |_: &Message, ctx: &Context<'_>| {
        let urls = ["https://a/1", "https://a/2", "https://a/3"];
        for answer in ctx.fetch_all(urls.map(|url| Request::new(url).body("x"))) {
            let told = answer.map_or_else(|error| error.code().to_owned(), |found| found.text().unwrap().to_owned());
            ctx.send("out", told).dispatch()?;
        }
        assert_eq!(ctx.fetch_all([]), []);
        Ok(Done)
    };
    let mut host =
        TestHost::new().output("out").answer("POST", "https://a/2", Reason::TooLarge).answer_with(|request| {
            let key = request.header_value("Idempotency-Key").unwrap();
            Response::new(200).with_body([request.url().as_bytes(), b" ", key].concat())
        });
    let run = host.run(handle, "m");
    let sent: Vec<_> = run.sent.iter().map(|sent| String::from_utf8_lossy(sent.value()).into_owned()).collect();
    assert_eq!(sent, ["https://a/1 input/0/0", "http-too-large", "https://a/3 input/0/0-3"]);
}

#[test]
fn a_key_of_ones_own_stays_and_a_safe_method_takes_no_number() {
    let handle = |_: &Message, ctx: &Context<'_>| {
        let own = Request::post(URL).header("Idempotency-Key", "mine");
        drop(ctx.fetch_all([Request::get(URL), own, Request::get(URL), Request::delete(URL)]));
        Ok(Done)
    };
    let mut host = TestHost::new();
    assert_eq!(host.run(handle, "m").outcome, Ok(Done));
    let keys: Vec<_> = host
        .requests()
        .iter()
        .map(|made| String::from_utf8_lossy(made.request.header_value("idempotency-key").unwrap()).into_owned())
        .collect();
    assert_eq!(keys, ["input/0/0", "mine", "input/0/0", "input/0/0-2"]);
}
