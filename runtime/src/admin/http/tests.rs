#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use super::*;
use crate::admin::health::State;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Instant;

const FILE: &str = "keyrail.toml";

struct Rig {
    server: AdminServer,
    health: Arc<Health>,
    metrics: Arc<Metrics>,
}

fn rig() -> Rig {
    let (health, metrics) = (Arc::new(Health::new()), Arc::new(Metrics::new()));
    let (listen, deployment) = (([127, 0, 0, 1], 0).into(), Deployment::of(FILE.as_ref()));
    let sources = Sources { health: health.clone(), metrics: metrics.clone(), board: Board::default(), token: None };
    let server = AdminServer::start(listen, sources, &deployment).unwrap();
    Rig { server, health, metrics }
}

impl Rig {
    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.server.address()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream
    }

    /// Sends bytes, returns status line with headers, and body.
    fn send(&self, request: &str) -> (String, String) {
        let mut stream = self.connect();
        stream.write_all(request.as_bytes()).unwrap();
        let mut all = String::new();
        stream.read_to_string(&mut all).unwrap();
        let (head, body) = all.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {all:?}"));
        (head.to_owned(), body.to_owned())
    }

    fn get(&self, path: &str) -> (u16, String) {
        let (head, body) = self.send(&format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n"));
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body)
    }
}

#[test]
fn probes_follow_the_pipelines() {
    let rig = rig();
    assert_eq!(rig.get("/livez"), (200, "ok\n".to_owned()));
    assert_eq!(rig.get("/readyz"), (503, "starting: no pipeline yet\n".to_owned()));
    let (a, b) = (rig.health.pipeline("a"), rig.health.pipeline("b"));
    a.set(State::NotReady("no broker answers".to_owned()));
    assert_eq!(rig.get("/readyz").1, "pipeline a: no broker answers\npipeline b: starting\n");
    assert_eq!(rig.get("/livez").0, 200, "a broker that is away is no reason to restart");
    a.set(State::Ready);
    b.set(State::Ready);
    assert_eq!(rig.get("/readyz?verbose=1"), (200, "ok\n".to_owned()));
    b.set(State::Paused);
    assert_eq!(rig.get("/readyz"), (200, "ok\npipeline b: paused\n".to_owned()));
    let _beat = b.heartbeat("shard 1", Duration::ZERO);
    std::thread::sleep(Duration::from_millis(5));
    let (status, body) = rig.get("/livez");
    assert_eq!(status, 503);
    assert!(body.starts_with("pipeline b: thread shard 1 gave no sign of life"), "{body}");
}

#[test]
fn metrics_come_in_the_format_asked_for() {
    let rig = rig();
    rig.metrics.pipeline("payments").received.add(5);
    let (head, body) = rig.send("GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n");
    assert!(head.contains("content-type: text/plain; version=0.0.4; charset=utf-8"), "{head}");
    assert!(body.contains("keyrail_records_received_total{pipeline=\"payments\"} 5\n"), "{body}");
    let (head, body) = rig.send("GET /metrics HTTP/1.1\r\nhost: x\r\naccept: application/openmetrics-text\r\n\r\n");
    assert!(head.contains("content-type: application/openmetrics-text; version=1.0.0; charset=utf-8"), "{head}");
    assert!(body.ends_with("# EOF\n"), "{body}");
}

#[test]
fn other_paths_methods_and_nonsense_are_told_so() {
    let rig = rig();
    let (status, body) = rig.get("/metrics/");
    assert_eq!((status, body.as_str()), (404, "not found: there are /livez, /readyz, /metrics and /plugins\n"));
    let (head, body) = rig.send("POST /metrics HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\nhi");
    assert!(head.starts_with("HTTP/1.1 405 ") && head.contains("allow: GET, HEAD"), "{head}");
    assert_eq!(body, "only GET and HEAD are answered\n");
    let (head, body) = rig.send("HEAD /livez HTTP/1.1\r\nhost: x\r\n\r\n");
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    assert_eq!(body, "");
    assert!(rig.send("\x01\x02nonsense\r\n\r\n").0.starts_with("HTTP/1.1 400 "));
    let many = "x: y\r\n".repeat(MAX_HEADERS + 1);
    assert!(rig.send(&format!("GET /livez HTTP/1.1\r\n{many}\r\n")).0.starts_with("HTTP/1.1 431 "));
    let long = "y".repeat(2 * MAX_HEADER_BYTES);
    assert!(rig.send(&format!("GET /livez HTTP/1.1\r\nx: {long}")).0.starts_with("HTTP/1.1 431 "));
    assert_eq!(rig.get("/livez").0, 200);
}

#[test]
fn silent_connections_take_all_slots_for_a_while_only() {
    let rig = rig();
    let begun = Instant::now();
    let silent: Vec<TcpStream> = (0..MAX_CONNECTIONS).map(|_| rig.connect()).collect();
    // This one waits in the backlog until the silent ones are thrown out.
    assert_eq!(rig.get("/livez").0, 200);
    assert!(begun.elapsed() >= HEADER_TIMEOUT.mul_f32(0.8), "{:?}", begun.elapsed());
    drop(silent);
}

#[test]
fn stopping_frees_the_port_even_with_a_connection_open() {
    let rig = rig();
    let address = rig.server.address();
    let open = rig.connect();
    let begun = Instant::now();
    drop(rig.server);
    assert!(begun.elapsed() < STOP_GRACE + Duration::from_secs(2), "{:?}", begun.elapsed());
    assert!(TcpStream::connect(address).is_err());
    drop(open);
}

#[test]
fn an_address_that_can_not_be_used_is_named_with_the_cure() {
    let rig = rig();
    let taken = rig.server.address();
    let error = check_address(taken).unwrap_err();
    assert!(error.is_taken(), "{error}");
    let error = error.to_string();
    assert!(error.starts_with(&format!("[admin] listen = \"{taken}\" can't be used: ")), "{error}");
    assert!(error.contains("another process listens there, most often a keyrail that runs already: end it"), "{error}");
    assert!(error.ends_with("as with --set admin.listen=127.0.0.1:0, where 0 picks a free one"), "{error}");
    let (foreign, own) = (([192, 0, 2, 1], 8080).into(), Deployment::of(FILE.as_ref()));
    let (health, metrics) = (rig.health.clone(), rig.metrics.clone());
    let sources = Sources { health, metrics, board: Board::default(), token: None };
    let error = AdminServer::start(foreign, sources, &own).unwrap_err();
    assert!(!error.is_taken(), "{error}");
    let error = error.to_string();
    assert!(error.contains("this machine has no such address"), "{error}");
    assert_eq!(check_address(([127, 0, 0, 1], 0).into()), Ok(()));
}

#[test]
fn a_check_of_the_same_file_knows_its_own_server() {
    let rig = rig();
    let here = rig.server.address();
    assert!(Deployment::of(FILE.as_ref()).answers_at(here));
    assert!(Deployment::of(&std::path::Path::new(".").join(FILE)).answers_at(here));
    assert!(!Deployment::of("other.toml".as_ref()).answers_at(here));
    // A probe that is told no is told by whom all the same.
    let (head, _) = rig.send("GET /nope HTTP/1.1\r\nhost: x\r\n\r\n");
    assert!(head.starts_with("HTTP/1.1 404") && head.contains("keyrail-deployment: "), "{head}");
}
