//! Handlers that make HTTP requests, to a real server.

use crate::commands::run as command;
use crate::play::Play;
use crate::run::{beside, by_key};
use crate::support::{Folder, text};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread::{sleep, spawn};
use std::time::Duration;

/// A request, as the server was sent it.
#[derive(Debug, Clone)]
struct Request {
    method: String,
    path: String,
    headers: BTreeMap<String, String>,
    body: String,
}

/// What came, in the order in which it came.
#[derive(Default)]
struct Log {
    requests: Vec<Request>,
    at_once: usize,
    most: usize,
}

/// Answers `STATUS BODY`, after a while.
type Answer = fn(&Request, earlier: usize) -> (u16, Duration);

struct Server {
    at: SocketAddr,
    log: Arc<Mutex<Log>>,
}

impl Server {
    /// `answer` is told how often the same body was sent before.
    fn start(answer: Answer) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (at, log) = (listener.local_addr().unwrap(), Arc::<Mutex<Log>>::default());
        let kept = log.clone();
        spawn(move || {
            for stream in listener.incoming().flatten() {
                let log = kept.clone();
                // A client that is killed hangs up half-way.
                spawn(move || drop(serve(&stream, &log, answer)));
            }
        });
        Self { at, log }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}/{path}", self.at)
    }

    /// With what a manifest needs.
    fn granted(&self, more: &str) -> String {
        format!("{more}\n[capabilities]\nhttp = [\"{}\"]\n", self.at)
    }

    fn requests(&self) -> Vec<Request> {
        self.log.lock().unwrap().requests.clone()
    }
}

fn serve(stream: &TcpStream, log: &Mutex<Log>, answer: Answer) -> std::io::Result<()> {
    let mut from = BufReader::new(stream.try_clone()?);
    loop {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if from.read_line(&mut head)? == 0 {
                return Ok(());
            }
        }
        let mut words = head.split(' ').map(str::to_owned);
        let (method, path) = (words.next().unwrap(), words.next().unwrap());
        let lines = head.lines().skip(1).filter_map(|line| line.split_once(": "));
        let headers: BTreeMap<_, _> = lines.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        let mut body = vec![0; headers.get("content-length").map_or(0, |length| length.parse().unwrap())];
        from.read_exact(&mut body)?;
        let request = Request { method, path, headers, body: String::from_utf8(body).unwrap() };
        let earlier = {
            let mut log = log.lock().unwrap();
            let earlier = log.requests.iter().filter(|r| r.body == request.body).count();
            log.requests.push(request.clone());
            log.at_once += 1;
            log.most = log.most.max(log.at_once);
            earlier
        };
        let (status, wait) = answer(&request, earlier);
        sleep(wait);
        log.lock().unwrap().at_once -= 1;
        let body = format!("got {}", request.body);
        write!(&*stream, "HTTP/1.1 {status} x\r\ncontent-length: {}\r\n\r\n{body}", body.len())?;
    }
}

const QUICK: &str = "[retry]\nattempts = 5\nbackoff = { first = \"30ms\", factor = 1.0, max = \"30ms\", jitter = 0.0 }";

/// By key, what the server was asked, in its order.
fn bodies(requests: &[Request]) -> BTreeMap<String, Vec<String>> {
    let mut keys: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for request in requests {
        let (key, number) = request.body.split_once('-').unwrap();
        keys.entry(key.to_owned()).or_default().push(number.to_owned());
    }
    keys
}

#[test]
fn a_server_is_asked_in_the_order_of_each_key_also_while_one_of_its_messages_is_retried() {
    let test = "a_server_is_asked_in_the_order_of_each_key_also_while_one_of_its_messages_is_retried";
    // Each key's third request fails twice.
    let server = Server::start(|request, earlier| {
        let status = if request.body.ends_with("-2") && earlier < 2 { 503 } else { 200 };
        (status, Duration::from_millis(5))
    });
    let Some(mut play) = Play::of(test, "caller", &server.granted(QUICK)) else { return };
    let mut messages = Vec::new();
    for n in 0..6 {
        for key in 0..40 {
            messages.push((format!("k{key}"), format!("POST {} k{key}-{n}", server.url("pay"))));
        }
    }
    play.send_plain(play.client().as_mut(), &messages);
    play.settle(play.start());
    let mut ids: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for request in server.requests() {
        ids.entry(request.body.clone()).or_default().insert(request.headers["idempotency-key"].clone());
        assert_eq!((request.method.as_str(), request.path.as_str()), ("POST", "/pay"));
    }
    let all: BTreeSet<_> = ids.values().flatten().collect();
    assert!(ids.values().all(|ids| ids.len() == 1) && all.len() == 240, "an id for each message, the same each time");
    let asked = bodies(&server.requests());
    assert_eq!(asked.len(), 40);
    for (key, numbers) in asked {
        assert_eq!(numbers, ["0", "1", "2", "2", "2", "3", "4", "5"], "{key}");
    }
    let out = by_key(play.client().as_mut(), "out");
    for (key, values) in &out {
        let expected: Vec<_> = (0..6).map(|n| format!("200 got {key}-{n}")).collect();
        assert_eq!(*values, expected, "nothing of a run that failed");
    }
    assert_eq!(out.len(), 40);
}

#[test]
fn requests_of_many_keys_are_under_way_at_the_same_time() {
    let test = "requests_of_many_keys_are_under_way_at_the_same_time";
    let server = Server::start(|_, _| (200, Duration::from_millis(300)));
    let tables = server.granted("[batch]\nconcurrency = 4\n[limits]\nrequests = 150");
    let Some(mut play) = Play::of(test, "caller", &tables) else { return };
    let message = |n| (format!("k{n}"), format!("GET {}", server.url("slow")));
    play.send_plain(play.client().as_mut(), &(0..600).map(message).collect::<Vec<_>>());
    play.settle(play.start());
    let log = server.log.lock().unwrap();
    assert_eq!(log.requests.len(), 600);
    assert!((100..=150).contains(&log.most), "{} were under way at the same time", log.most);
}

#[test]
fn what_is_refused_is_a_dead_letter_that_says_why_and_what_has_no_answer_is_retried() {
    let test = "what_is_refused_is_a_dead_letter_that_says_why_and_what_has_no_answer_is_retried";
    let server = Server::start(|request, earlier| match (request.path.as_str(), earlier) {
        ("/late", 0) => (200, Duration::from_secs(2)),
        ("/no", _) => (404, Duration::ZERO),
        _ => (200, Duration::ZERO),
    });
    let tables = server.granted(&format!("{QUICK}\n[limits]\nresponse-bytes = \"100B\""));
    let Some(mut play) = Play::of(test, "caller", &tables) else { return };
    let long = "x".repeat(100);
    let cases = [
        ("elsewhere", "GET http://127.0.0.1:1/".to_owned(), Some("denied")),
        ("nothing", "GET nonsense".to_owned(), Some("invalid")),
        ("large", format!("POST {} {long}", server.url("a")), Some("too-large")),
        ("no", format!("GET {}", server.url("no")), Some("refused")),
        ("late", format!("~300 PUT {} late", server.url("late")), None),
        ("two", format!("POST {} one\nPOST {} two\nGET {}", server.url("1"), server.url("2"), server.url("3")), None),
    ];
    let messages: Vec<_> = cases.iter().map(|(key, value, _)| ((*key).to_owned(), value.clone())).collect();
    play.send_plain(play.client().as_mut(), &messages);
    play.settle(play.start());
    let mut client = play.client();
    let mut codes = BTreeMap::new();
    for letter in play.letters(client.as_mut()) {
        let told = |name: &[u8]| text(letter.header(name).flatten()).to_owned();
        codes.insert(text(letter.key()).to_owned(), (told(b"keyrail-code"), told(b"keyrail-detail")));
    }
    for (key, _, code) in &cases {
        assert_eq!(codes.get(*key).map(|(code, _)| code.as_str()), *code, "{key}");
    }
    assert_eq!(
        codes["elsewhere"].1,
        "127.0.0.1:1 is not granted: add \"127.0.0.1:1\" to capabilities.http in the manifest"
    );
    let out = by_key(client.as_mut(), "out");
    assert_eq!(out["late"], ["200 got late"]);
    assert_eq!(out["two"], ["200 got one", "200 got two", "200 got "]);
    let of =
        |path: &str| server.requests().into_iter().find(|r| r.path == path).unwrap().headers["idempotency-key"].clone();
    let ids = [of("/1"), of("/2"), of("/3")];
    assert_eq!(ids, [ids[0].clone(), format!("{}-2", ids[0]), ids[0].clone()], "two that change something differ");
}

#[test]
fn without_a_grant_each_request_is_denied_with_the_cure() {
    let Some(mut play) = Play::of("without_a_grant_each_request_is_denied_with_the_cure", "caller", "") else { return };
    play.send_plain(play.client().as_mut(), &[("k".to_owned(), "GET http://127.0.0.1:1/".to_owned())]);
    play.settle(play.start());
    let letters = play.letters(play.client().as_mut());
    let detail = text(letters[0].header(b"keyrail-detail").flatten()).to_owned();
    let told = "the manifest grants no HTTP: add the host to capabilities.http, as in http = [\"api.example.com:443\"]";
    assert_eq!((letters.len(), detail.as_str()), (1, told));
}

#[test]
fn a_process_that_is_killed_while_it_waits_asks_again_with_the_same_id() {
    let test = "a_process_that_is_killed_while_it_waits_asks_again_with_the_same_id";
    let server = Server::start(|_, _| (200, Duration::from_millis(20)));
    let Some(mut play) = Play::of(test, "caller", &server.granted(QUICK)) else { return };
    let mut messages = Vec::new();
    for n in 0..40 {
        for key in 0..20 {
            messages.push((format!("k{key}"), format!("POST {} k{key}-{n}", server.url("pay"))));
        }
    }
    play.send_plain(play.client().as_mut(), &messages);
    for _ in 0..4 {
        let mut child = play.start();
        let (mut client, asked) = (beside(&play.folder, &child), server.requests().len());
        while server.requests().len() < asked + 100 && play.uncommitted(client.as_mut()) > 0 {
            sleep(Duration::from_millis(5));
        }
        child.kill().unwrap();
        child.wait().unwrap();
    }
    play.settle(play.start());
    let mut ids: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for request in server.requests() {
        ids.entry(request.body).or_default().insert(request.headers["idempotency-key"].clone());
    }
    assert_eq!(ids.len(), 800);
    assert!(ids.values().all(|ids| ids.len() == 1), "asked again with another id");
    let out = by_key(play.client().as_mut(), "out");
    for key in 0..20 {
        let expected: Vec<_> = (0..40).map(|n| format!("200 got k{key}-{n}")).collect();
        assert_eq!(out[&format!("k{key}")], expected, "each once, in order");
    }
}

/// A scenario's answers, and the example that README shows.
#[test]
fn the_example_charges_each_order_as_its_scenario_says() {
    let test = "the_example_charges_each_order_as_its_scenario_says";
    let Some(guests) = crate::run::guests(test) else { return };
    let example = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/charges"));
    let folder = Folder::new();
    for sub in ["plugins", "fixtures"] {
        std::fs::create_dir(folder.path().join(sub)).unwrap();
    }
    std::fs::copy(guests.join("charges.wasm"), folder.path().join("plugins/charges.wasm")).unwrap();
    std::fs::copy(example.join("charges.toml"), folder.path().join("plugins/charges.toml")).unwrap();
    for file in ["orders.jsonl", "orders.expected.jsonl"] {
        std::fs::copy(example.join("fixtures").join(file), folder.path().join("fixtures").join(file)).unwrap();
    }
    std::fs::write(folder.path().join("keyrail.toml"), "broker = \"embedded\"\n").unwrap();
    let (code, out, err) = command(&folder, &["test"], "");
    assert_eq!((code, err.as_str()), (0, "keyrail: 1 fixture, all as expected\n"), "{out}");
    // A request that no line answers, and one to a host that is not granted, say what to do.
    for (from, to, told) in [
        ("\"status\":503", "\"status\":99", "orders.jsonl:2: an answer has a \"status\" (100 to 999), or an \"error\""),
        (
            "\"answer\":\"POST http",
            "\"answer\":\"GET http",
            "the scenario has no answer to POST http://127.0.0.1:8090/charges",
        ),
        ("{\"answer\":\"POST http://127.0.0.1:8090/charges\"", "{\"answer\":\"POST\"", "\"POST\" is no request"),
    ] {
        let text = std::fs::read_to_string(example.join("fixtures/orders.jsonl")).unwrap();
        std::fs::write(folder.path().join("fixtures/orders.jsonl"), text.replace(from, to)).unwrap();
        let (code, out, err) = command(&folder, &["test"], "");
        assert!(code == 1 && format!("{out}{err}").contains(told), "{told}: {out}{err}");
    }
}
