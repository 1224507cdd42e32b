//! One question to an admin server, and its answer: for commands beside a running process.

use super::deployment::reachable;
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// An answer that is longer is cut, and counts as none: thousands of pipelines have room.
const LONGEST: usize = 16 << 20;

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// As in HTTP: 200.
    pub status: u16,
    /// All of it.
    pub body: String,
}

/// Asks, and waits for the answer's last byte. `authorization`: the header's value.
///
/// # Errors
/// Nobody listens, or who listens gives no answer of HTTP within `wait`.
pub fn ask(
    method: &str,
    address: SocketAddr,
    path: &str,
    authorization: Option<&str>,
    wait: Duration,
) -> io::Result<Answer> {
    let until = Instant::now() + wait;
    let address = reachable(address);
    let mut stream = TcpStream::connect_timeout(&address, wait)?;
    stream.set_write_timeout(Some(wait))?;
    let authorization = authorization.map(|value| format!("authorization: {value}\r\n")).unwrap_or_default();
    let head = format!("{method} {path} HTTP/1.1\r\nhost: {address}\r\ncontent-length: 0\r\nconnection: close\r\n");
    stream.write_all(format!("{head}{authorization}\r\n").as_bytes())?;
    let (mut all, mut part) = (Vec::new(), vec![0; 16 << 10]);
    loop {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(ErrorKind::TimedOut.into());
        }
        stream.set_read_timeout(Some(left))?;
        let read = match stream.read(&mut part) {
            // What a socket says whose time is up.
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Err(ErrorKind::TimedOut.into()),
            read => read?,
        };
        if read == 0 {
            return answer(&all);
        }
        all.extend_from_slice(&part[..read]);
        if all.len() > LONGEST {
            return Err(io::Error::new(ErrorKind::InvalidData, "its answer is too long"));
        }
    }
}

fn answer(all: &[u8]) -> io::Result<Answer> {
    let none = || io::Error::new(ErrorKind::InvalidData, "what it says is no answer of HTTP");
    let text = std::str::from_utf8(all).map_err(|_| none())?;
    let (head, body) = text.split_once("\r\n\r\n").ok_or_else(none)?;
    let mut lines = head.lines();
    let status = lines.next().and_then(|line| line.strip_prefix("HTTP/1.")).ok_or_else(none)?;
    let status = status.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or_else(none)?;
    let length = lines.find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
    });
    if length != Some(body.len()) {
        return Err(io::Error::new(ErrorKind::UnexpectedEof, "its answer is not whole"));
    }
    Ok(Answer { status, body: body.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_whole_answer_counts() {
        let body = |text: &[u8]| answer(text).map(|answer| (answer.status, answer.body)).map_err(|e| e.to_string());
        assert_eq!(body(b"HTTP/1.1 202 Accepted\r\nContent-Length: 2\r\n\r\nok"), Ok((202, "ok".to_owned())));
        let part = "its answer is not whole".to_owned();
        assert_eq!(body(b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nok"), Err(part.clone()));
        assert_eq!(body(b"HTTP/1.1 200 OK\r\n\r\nok"), Err(part));
        for stranger in [&b""[..], b"220 smtp.example.com\r\n\r\n", b"HTTP/1.1\r\n\r\n", b"\xff\r\n\r\n"] {
            assert_eq!(body(stranger), Err("what it says is no answer of HTTP".to_owned()));
        }
    }
}
