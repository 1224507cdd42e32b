//! Receivers of alerts: an HTTP server and an SMTP server, each as strict as those of others, and as unreliable.

use std::collections::VecDeque;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// What a server does with the next request or mail, beside taking it.
#[derive(Debug, Clone)]
pub(crate) enum Answer {
    /// Takes it.
    Yes,
    /// A status line's number and words, and more headers.
    Http(&'static str, &'static str),
    /// A reply to the first recipient.
    Smtp(&'static str),
    /// Says nothing for so long, and then hangs up.
    Silence(Duration),
}

/// What came, of a server, and what it does next. Clones share it.
#[derive(Debug)]
pub(crate) struct Desk<T> {
    came: Arc<Mutex<Vec<T>>>,
    next: Arc<Mutex<VecDeque<Answer>>>,
}

impl<T> Clone for Desk<T> {
    fn clone(&self) -> Self {
        Self { came: self.came.clone(), next: self.next.clone() }
    }
}

impl<T: Clone> Desk<T> {
    fn new() -> Self {
        Self { came: Arc::default(), next: Arc::default() }
    }

    pub(crate) fn answers(&self, all: &[Answer]) {
        self.next.lock().unwrap().extend(all.iter().cloned());
    }

    fn answer(&self) -> Answer {
        self.next.lock().unwrap().pop_front().unwrap_or(Answer::Yes)
    }

    pub(crate) fn all(&self) -> Vec<T> {
        self.came.lock().unwrap().clone()
    }

    fn add(&self, one: T) {
        self.came.lock().unwrap().push(one);
    }

    /// Waits until so many came.
    pub(crate) fn wait(&self, count: usize, limit: Duration) -> Vec<T> {
        let until = Instant::now() + limit;
        while self.all().len() < count {
            assert!(Instant::now() < until, "{} of {count} came within {limit:?}", self.all().len());
            std::thread::sleep(Duration::from_millis(5));
        }
        self.all()
    }
}

/// A request.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
    pub(crate) at: Instant,
}

impl Request {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().skip(1).filter_map(|line| line.split_once(": "));
        lines.find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

/// Serves on each connection what `serve` does, until the process ends.
fn listen(at: &str, serve: impl Fn(TcpStream) + Clone + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind(at).unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let serve = serve.clone();
            std::thread::spawn(move || serve(stream));
        }
    });
    address
}

/// An address where nobody listens yet.
pub(crate) fn nobody() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

pub(crate) fn http(at: &str) -> (SocketAddr, Desk<Request>) {
    let desk = Desk::new();
    let kept = desk.clone();
    let address = listen(at, move |stream| {
        // Who hangs up half-way is no fault of this server's.
        let _gone = one_request(stream, &kept);
    });
    (address, desk)
}

fn one_request(stream: TcpStream, desk: &Desk<Request>) -> std::io::Result<()> {
    let mut from = BufReader::new(stream.try_clone()?);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if from.read_line(&mut head)? == 0 {
            return Ok(());
        }
    }
    let mut request = Request { head, body: Vec::new(), at: Instant::now() };
    request.body = vec![0; request.header("content-length").unwrap().parse().unwrap()];
    from.read_exact(&mut request.body)?;
    let answer = desk.answer();
    desk.add(request);
    match answer {
        Answer::Http(status, headers) => {
            write!(&stream, "HTTP/1.1 {status}\r\n{headers}content-length: 8\r\nconnection: close\r\n\r\nno\x1b[31m!")
        }
        Answer::Silence(time) => {
            std::thread::sleep(time);
            Ok(())
        }
        Answer::Yes | Answer::Smtp(_) => write!(&stream, "HTTP/1.1 204 Fine\r\nconnection: close\r\n\r\n"),
    }
}

/// A mail, as it came.
#[derive(Debug, Clone, Default)]
pub(crate) struct Letter {
    pub(crate) login: Option<String>,
    pub(crate) from: String,
    pub(crate) to: Vec<String>,
    /// Its lines, the dots in front of them taken off.
    pub(crate) lines: Vec<String>,
    /// Lines that came with a dot more.
    pub(crate) stuffed: usize,
}

impl Letter {
    /// Values of all headers of this name, folded lines joined.
    pub(crate) fn headers(&self, name: &str) -> Vec<String> {
        let mut all: Vec<String> = Vec::new();
        for line in self.lines.iter().take_while(|line| !line.is_empty()) {
            match all.last_mut() {
                Some(last) if line.starts_with(' ') => *last += line,
                _ => all.push(line.clone()),
            }
        }
        let split = all.iter().map(|line| line.split_once(": ").unwrap_or_else(|| panic!("no header: {line:?}")));
        split.filter(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.to_owned()).collect()
    }

    /// The text, decoded.
    pub(crate) fn text(&self) -> String {
        let body: Vec<&str> =
            self.lines.iter().skip_while(|line| !line.is_empty()).skip(1).map(String::as_str).collect();
        match self.headers("Content-Transfer-Encoding")[..] {
            [ref how] if how == "7bit" => body.join("\n"),
            [ref how] if how == "quoted-printable" => quoted_printable(&body),
            ref other => panic!("{other:?}"),
        }
    }
}

fn quoted_printable(lines: &[&str]) -> String {
    let mut out = Vec::new();
    for line in lines {
        assert!(line.len() <= 76, "too long a line: {line}");
        let (text, soft) = line.strip_suffix('=').map_or((*line, false), |text| (text, true));
        let mut bytes = text.bytes();
        while let Some(byte) = bytes.next() {
            if byte != b'=' {
                out.push(byte);
                continue;
            }
            let digits = [bytes.next().unwrap(), bytes.next().unwrap()];
            out.push(u8::from_str_radix(std::str::from_utf8(&digits).unwrap(), 16).unwrap());
        }
        if !soft {
            out.push(b'\n');
        }
    }
    String::from_utf8(out).unwrap()
}

pub(crate) fn smtp(at: &str) -> (SocketAddr, Desk<Letter>) {
    let desk = Desk::new();
    let kept = desk.clone();
    let address = listen(at, move |stream| {
        if let Err(why) = one_session(stream, &kept) {
            // A breach of the protocol is shown by the mail that does not come, and told here.
            eprintln!("smtp: {why}");
        }
    });
    (address, desk)
}

/// A session by RFC 5321: what comes out of order, or without CR LF, ends it.
fn one_session(stream: TcpStream, desk: &Desk<Letter>) -> Result<(), String> {
    let mut from = BufReader::new(stream.try_clone().map_err(|e| e.to_string())?);
    let mut line = move || -> Result<String, String> {
        let mut line = Vec::new();
        if from.read_until(b'\n', &mut line).map_err(|e| e.to_string())? == 0 {
            return Err("hung up without QUIT".to_owned());
        }
        let line = String::from_utf8(line).map_err(|_| "8 bits without being asked".to_owned())?;
        let line = line.strip_suffix("\r\n").ok_or(format!("no CR LF: {line:?}"))?;
        if line.contains(['\r', '\n']) { Err(format!("a bare CR: {line:?}")) } else { Ok(line.to_owned()) }
    };
    let say = |text: &str| write!(&stream, "{text}\r\n").map_err(|e| e.to_string());
    let answer = desk.answer();
    if let Answer::Silence(time) = answer {
        std::thread::sleep(time);
        return Ok(());
    }
    say("220 mail.test ESMTP")?;
    let mut letter = Letter::default();
    let mut greeted = false;
    loop {
        let command = line()?;
        let (verb, rest) = command.split_once(' ').unwrap_or((&command, ""));
        match verb.to_ascii_uppercase().as_str() {
            "EHLO" if !rest.is_empty() => {
                greeted = true;
                say("250-mail.test\r\n250-AUTH PLAIN LOGIN\r\n250 SIZE 1000000")?;
            }
            "AUTH" if greeted => {
                letter.login = Some(rest.to_owned());
                say("235 welcome")?;
            }
            "MAIL" if greeted && letter.from.is_empty() => {
                letter.from = path(rest, "FROM:")?;
                say("250 fine")?;
            }
            "RCPT" if !letter.from.is_empty() => match answer {
                Answer::Smtp(reply) => say(reply)?,
                _ => {
                    letter.to.push(path(rest, "TO:")?);
                    say("250 fine")?;
                }
            },
            "DATA" if rest.is_empty() && !letter.to.is_empty() => {
                say("354 go on")?;
                loop {
                    let line = line()?;
                    match line.strip_prefix('.') {
                        Some("") => break,
                        Some(rest) => {
                            letter.stuffed += 1;
                            letter.lines.push(rest.to_owned());
                        }
                        None => letter.lines.push(line),
                    }
                }
                desk.add(std::mem::take(&mut letter));
                say("250 taken as 4711")?;
            }
            "RSET" | "NOOP" => say("250 fine")?,
            "QUIT" => return say("221 bye"),
            _ => {
                say("503 out of order")?;
                return Err(format!("out of order: {command:?}"));
            }
        }
    }
}

/// `<a@b>` behind `FROM:` or `TO:`.
fn path(rest: &str, of: &str) -> Result<String, String> {
    let path = rest.strip_prefix(of).and_then(|rest| rest.split(' ').next());
    let inner = path.and_then(|path| path.strip_prefix('<')).and_then(|path| path.strip_suffix('>'));
    inner.map(str::to_owned).ok_or(format!("no path: {rest:?}"))
}
