//! A server on loopback that says what it was asked.

use keyrail::admin::metrics::Metrics;
use keyrail::http::{Allowed, Client, Fetch, Options, Outside};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

/// Its `HOST:PORT`. It ends with the process.
pub(crate) fn start() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            std::thread::spawn(move || serve(&stream.unwrap()));
        }
    });
    address
}

/// The real client, for that server alone.
pub(crate) fn outside(server: &str) -> Arc<dyn Fetch> {
    let allowed = Allowed(vec![server.parse().unwrap()]);
    let options = Options { allowed, timeout: Duration::from_secs(30), response_bytes: 1 << 20, at_once: 8 };
    Arc::new(Outside::new(Client::start().unwrap(), options, Metrics::new().pipeline("outgoing")))
}

fn serve(mut stream: &TcpStream) {
    let mut reader = BufReader::new(stream);
    while let Some(said) = asked(&mut reader) {
        write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{said}", said.len()).unwrap();
    }
}

/// The next request's line, the headers that tests look at, and the body; `None`: there is none.
fn asked(reader: &mut BufReader<&TcpStream>) -> Option<String> {
    let mut line = String::new();
    if reader.read_line(&mut line).ok()? == 0 {
        return None;
    }
    let (line, _version) = line.trim_end().rsplit_once(' ')?;
    let (mut headers, mut length) = (Vec::new(), 0);
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).ok()?;
        let Some((name, value)) = header.trim_end().split_once(": ") else { break };
        let name = name.to_ascii_lowercase();
        if name == "content-length" {
            length = value.parse().unwrap();
        }
        if ["content-length", "content-type", "idempotency-key"].contains(&name.as_str()) {
            headers.push(format!("{name}={value}"));
        }
    }
    headers.sort_unstable();
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(format!("{line} {} {}", headers.join(" "), String::from_utf8(body).unwrap()))
}
