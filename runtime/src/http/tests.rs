//! Requests over real connections, and hosts as manifests write them.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's failure is a panic")]

use super::*;
use crate::admin::metrics::{HttpResult, Metrics, PipelineMetrics};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{sleep, spawn};
use std::time::Instant;

/// What a server has seen.
#[derive(Default)]
struct Seen {
    connections: AtomicUsize,
    at_once: AtomicUsize,
    most: AtomicUsize,
}

/// Answers `/slow/MS`, `/bytes/N`, `/status/CODE`, `/close` and `/never`; to all else it tells what came.
fn serve(stream: TcpStream, seen: &Seen) -> std::io::Result<()> {
    seen.connections.fetch_add(1, Ordering::Relaxed);
    let mut from = BufReader::new(stream.try_clone()?);
    loop {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            // The second is a greeting in TLS.
            if from.fill_buf()?.first() == Some(&22) || from.read_until(b'\n', &mut head)? == 0 {
                return Ok(());
            }
        }
        let head = String::from_utf8_lossy(&head).into_owned();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
        from.read_exact(&mut body)?;
        let path = head.split(' ').nth(1).unwrap();
        let (mut status, mut answer) = ("200", format!("{head}{}", String::from_utf8_lossy(&body)).into_bytes());
        seen.most.fetch_max(seen.at_once.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
        match path.trim_start_matches('/').split_once('/').unwrap_or((path, "")) {
            ("slow", ms) => sleep(Duration::from_millis(ms.parse().unwrap())),
            ("bytes", count) => answer = vec![b'x'; count.parse().unwrap()],
            ("status", code) => status = code,
            ("/close", _) => return Ok(()),
            ("/never", _) => sleep(Duration::from_secs(60)),
            _ => {}
        }
        seen.at_once.fetch_sub(1, Ordering::Relaxed);
        let head = format!("HTTP/1.1 {status} x\r\nX-Two: 1\r\nx-two: 2\r\nlocation: /else\r\ncontent-length: ");
        write!(&stream, "{head}{}\r\n\r\n", answer.len())?;
        (&stream).write_all(&answer)?;
    }
}

fn server() -> (SocketAddr, Arc<Seen>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (address, seen) = (listener.local_addr().unwrap(), Arc::<Seen>::default());
    let kept = seen.clone();
    spawn(move || {
        for stream in listener.incoming().flatten() {
            let seen = kept.clone();
            // Who hangs up half-way is no fault of this server's.
            spawn(move || drop(serve(stream, &seen)));
        }
    });
    (address, seen)
}

fn outside(hosts: &[String], at_once: usize) -> (Outside, Arc<PipelineMetrics>) {
    let metrics = Metrics::new().pipeline("p");
    let allowed = Allowed(hosts.iter().map(|host| host.parse().unwrap()).collect());
    let options = Options { allowed, timeout: Duration::from_secs(5), response_bytes: 1_000, at_once };
    (Outside::new(Client::start().unwrap(), options, metrics.clone()), metrics)
}

fn get(url: String) -> Request {
    Request { method: "GET".to_owned(), url, ..Request::default() }
}

fn soon(ms: u64) -> Arc<Scope> {
    Arc::new(Scope::new(Instant::now() + Duration::from_millis(ms), 1 << 20))
}

#[test]
fn a_request_goes_out_as_it_is_asked_for_and_its_answer_comes_back_whole() {
    let (at, _) = server();
    let (outside, metrics) = outside(&[at.to_string()], 10);
    let headers = vec![("X-Mine".to_owned(), b"a\xff".to_vec()), ("x-mine".to_owned(), b"b".to_vec())];
    let post = Request {
        method: "POST".to_owned(),
        url: format!("http://{at}/a%20b?c=d#e"),
        headers,
        body: Some(b"12345".to_vec()),
        ..Request::default()
    };
    let all = vec![post, get(format!("http://{at}/status/404")), get(format!("http://{at}/status/302"))];
    let answers: Vec<Response> = fetch_all(&outside, all, &soon(5_000)).into_iter().map(Result::unwrap).collect();
    let said = String::from_utf8_lossy(&answers[0].body).into_owned();
    assert!(said.starts_with("POST /a%20b?c=d HTTP/1.1\r\n") && said.ends_with("\r\n\r\n12345"), "{said}");
    let version = concat!("user-agent: keyrail/", env!("CARGO_PKG_VERSION"), "\r\n");
    for part in ["x-mine: a\u{fffd}\r\n", "x-mine: b\r\n", &format!("host: {at}\r\n"), "content-length: 5\r\n", version]
    {
        assert!(said.contains(part), "{part:?} in {said}");
    }
    assert_eq!(answers.iter().map(|answer| answer.status).collect::<Vec<_>>(), [200, 404, 302], "none is followed");
    let two: Vec<_> =
        answers[1].headers.iter().filter(|(name, _)| name == "x-two").map(|(_, v)| v.as_slice()).collect();
    assert_eq!(two, [b"1", b"2"]);
    let counted = [HttpResult::Success, HttpResult::Redirect, HttpResult::ClientError].map(|r| metrics.http.get(r));
    assert_eq!((counted, metrics.http_in_flight.get()), ([1, 1, 1], 0));
}

#[test]
fn many_are_under_way_at_the_same_time_and_no_more_than_is_allowed() {
    let (at, seen) = server();
    let (outside, _) = outside(&[at.to_string()], 40);
    for (url, requests) in [("slow/150", 80), ("slow/1", 80)] {
        let all = (0..requests).map(|_| get(format!("http://{at}/{url}"))).collect();
        assert!(fetch_all(&outside, all, &soon(20_000)).iter().all(Result::is_ok));
        assert_eq!(seen.most.load(Ordering::Relaxed), 40, "two rounds of 40 each");
    }
    assert!(seen.connections.load(Ordering::Relaxed) <= 41, "connections are used again");
}

#[test]
fn what_has_no_answer_says_why() {
    let (at, _) = server();
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (outside, metrics) = outside(&[at.to_string(), nobody.to_string()], 10);
    let short = |url| Request { timeout: Some(Duration::from_millis(100)), ..get(url) };
    let all = vec![
        short(format!("http://{at}/never")),
        get(format!("http://{at}/bytes/1001")),
        get(format!("http://{at}/bytes/1000")),
        get(format!("http://{at}/close")),
        get(format!("http://{nobody}/")),
        get(format!("https://{at}/")),
    ];
    let answers = fetch_all(&outside, all, &soon(5_000));
    assert_eq!(answers[0], Err(Error::Timeout));
    assert_eq!(answers[1], Err(Error::TooLarge));
    assert_eq!(answers[2].as_ref().unwrap().body.len(), 1_000);
    for (place, words) in [(3, "connection closed"), (4, "refused"), (5, "")] {
        let Err(Error::Unreachable(why)) = &answers[place] else { panic!("{:?}", answers[place]) };
        assert!(why.contains(words), "{why}");
    }
    let unreachable = metrics.http.get(HttpResult::Unreachable);
    assert_eq!((unreachable, metrics.http.get(HttpResult::TooLarge), metrics.http_in_flight.get()), (3, 1, 0));
}

#[test]
fn the_end_of_a_call_ends_its_requests() {
    let (at, _) = server();
    let (outside, _) = outside(&[at.to_string()], 1);
    let started = Instant::now();
    let all = vec![get(format!("http://{at}/never")), get(format!("http://{at}/"))];
    assert_eq!(
        fetch_all(&outside, all, &soon(200)),
        [Err(Error::Timeout), Err(Error::Timeout)],
        "one waits for its turn"
    );
    assert!(started.elapsed() < Duration::from_secs(3));
    let again = fetch_all(&outside, vec![get(format!("http://{at}/"))], &soon(5_000));
    assert_eq!(again[0].as_ref().unwrap().status, 200, "there is room again");
}

#[test]
fn what_nobody_waits_for_any_more_is_not_sent() {
    let (at, seen) = server();
    let (outside, metrics) = outside(&[at.to_string()], 1);
    let (scope, (done, answers)) = (soon(60_000), bounded(8));
    for number in 0..8 {
        outside.start(number, get(format!("http://{at}/never")), &scope, &done);
    }
    sleep(Duration::from_millis(100));
    scope.end();
    drop(done);
    assert!(answers.iter().count() < 8, "those that waited for their turn have no answer");
    assert_eq!(fetch_all(&outside, vec![get(format!("http://{at}/"))], &soon(5_000)).len(), 1);
    assert!(seen.connections.load(Ordering::Relaxed) <= 2, "one was under way, and one came afterwards");
    assert_eq!(metrics.http_in_flight.get(), 0);
}

#[test]
fn answers_have_no_more_room_than_their_call() {
    let (at, _) = server();
    let (outside, _) = outside(&[at.to_string()], 10);
    let scope = Arc::new(Scope::new(Instant::now() + Duration::from_secs(5), 2_500));
    let all = (0..4).map(|_| get(format!("http://{at}/bytes/1000"))).collect();
    let answers = fetch_all(&outside, all, &scope);
    assert_eq!((answers.iter().filter(|a| a.is_ok()).count(), scope.is_full()), (2, true));
    assert!(answers.iter().all(|a| a.is_ok() || *a == Err(Error::TooLarge)));
}

#[test]
fn what_is_not_granted_and_what_can_t_be_sent_never_leaves() {
    let allowed = Allowed(["a.test:443", "*.b.test:80", "[::1]:8080"].map(|host| host.parse().unwrap()).into());
    let check = |request: &Request| allowed.check(request).map(|ready| ready.uri.to_string());
    for url in
        ["https://a.test/x", "HTTPS://A.test:443", "http://x.b.test", "http://x.y.B.TEST:80/", "http://[::1]:8080/"]
    {
        assert!(check(&get(url.to_owned())).is_ok(), "{url}: {:?}", check(&get(url.to_owned())));
    }
    for (url, words) in [
        ("http://a.test/", "a.test:80 is not granted: add \"a.test:80\" to capabilities.http in the manifest"),
        ("https://a.test:444/", "a.test:444 is not granted"),
        ("http://b.test/", "b.test:80 is not granted"),
        ("http://xb.test/", "xb.test:80"),
        ("https://a.test.evil/", "a.test.evil:443"),
        ("http://[::2]:8080/", "[::2]:8080"),
    ] {
        let Err(Error::Denied(why)) = check(&get(url.to_owned())) else { panic!("{url}") };
        assert!(why.starts_with(words), "{why}");
    }
    let with = |name: &str, value: &[u8]| Request {
        headers: vec![(name.to_owned(), value.to_vec())],
        ..get("https://a.test/".to_owned())
    };
    let method = |method: &str| Request { method: method.to_owned(), ..get("https://a.test/".to_owned()) };
    let many = Request { headers: vec![("a".to_owned(), Vec::new()); 40_000], ..get("https://a.test/".to_owned()) };
    for (request, words) in [
        (many, "it has 40000 headers: at most 500 are sent"),
        (get("https://a.test/ b?token=x".to_owned()), "\"https://a.test/ b\" is no URL"),
        (get("a.test/x".to_owned()), "\"a.test/x\" is no URL"),
        (get("/x".to_owned()), "\"/x\" does not begin with https:// or http://"),
        (get("ftp://a.test/".to_owned()), "\"ftp://a.test/\" does not begin with"),
        (get("https://me:secret@a.test/".to_owned()), "the URL holds a user: send an authorization header"),
        (get("https://a.test/ b".to_owned()), "\"https://a.test/ b\" is no URL"),
        (method("GE T"), "\"GE T\" is no method to send"),
        (method(""), "\"\" is no method"),
        (method("CONNECT"), "\"CONNECT\" is no method"),
        (with("Host", b"x"), "the header host is the host's to set: leave it out"),
        (with("Content-Length", b"1"), "the header content-length is the host's"),
        (with("keep-alive", b"1"), "the header keep-alive is the host's"),
        (with("a b", b"x"), "\"a b\" is no name of a header"),
        (with("a", b"x\r\ny: z"), "what the header a holds can't be sent"),
    ] {
        let Err(Error::Invalid(why)) = check(&request) else { panic!("{request:?}") };
        assert!(why.starts_with(words), "{why}");
    }
}

#[test]
fn a_host_in_a_manifest_is_a_name_and_a_port() {
    for text in ["a.test:443", "*.a.test:1", "127.0.0.1:65535", "[::1]:80", "my_host:80"] {
        assert_eq!(text.parse::<Host>().unwrap().to_string(), text);
    }
    for (text, problem, cure) in [
        ("https://a.test", "is a URL", "write \"a.test:443\""),
        ("http://a.test/x", "is a URL", "write \"a.test:80\""),
        ("http://a.test:8080/x", "is a URL", "write \"a.test:8080\""),
        ("a.test/x:80", "names a path", "write \"HOST:PORT\""),
        ("a.test", "has no port", "write \"a.test:443\""),
        ("::1", "has no port", "write \"[::1]:443\""),
        ("a.test:0", "has no port that is one", "a number"),
        ("a.test:https", "has no port that is one", "a number"),
        (":80", "names no host", "write \"HOST:PORT\""),
        ("*:80", "names no host", "write"),
        ("*.:80", "names no host", "write"),
        ("*a.test:80", "names no host", "write"),
        ("a.*.test:80", "names no host", "write"),
        ("a test:80", "names no host", "write"),
        ("[::g]:80", "names no host", "write"),
    ] {
        let fault = text.parse::<Host>().unwrap_err();
        assert_eq!(
            fault.problem.split_at_checked(text.len() + 3).map(|(_, rest)| &rest[..problem.len()]),
            Some(problem),
            "{fault:?}"
        );
        assert!(fault.cure.starts_with(cure), "{text}: {fault:?}");
    }
}
