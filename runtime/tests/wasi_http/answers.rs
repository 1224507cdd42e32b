//! Answers that follow from a request's path.

use crossbeam_channel::Sender;
use keyrail::http::{Error, Fetch, Fetched, Request, Response, Scope};
use std::sync::{Arc, Mutex};

type Done = Sender<(u32, Fetched)>;

/// So many requests for `/held/` are there before the first is answered.
const HELD: usize = 3;

#[derive(Default)]
pub(crate) struct Answers {
    sent: Mutex<Vec<Request>>,
    /// Whom nobody answers, and who waits for the others.
    never: Mutex<Vec<Done>>,
    held: Mutex<Vec<(u32, Request, Done)>>,
}

impl Answers {
    pub(crate) fn new() -> Arc<Self> {
        Arc::default()
    }

    /// All requests so far.
    pub(crate) fn sent(&self) -> Vec<Request> {
        self.sent.lock().unwrap().clone()
    }
}

pub(crate) fn header<'a>(request: &'a Request, name: &str) -> Option<&'a str> {
    let found = request.headers.iter().find(|(own, _)| own.eq_ignore_ascii_case(name));
    found.map(|(_, value)| std::str::from_utf8(value).unwrap())
}

fn answer(body: &str) -> Fetched {
    let headers = ["1", "2"].map(|value| ("x-a".to_owned(), value.as_bytes().to_vec()));
    Ok(Response { status: 200, headers: headers.to_vec(), body: body.as_bytes().to_vec() })
}

fn path(request: &Request) -> &str {
    let (_, rest) = request.url.split_once("://").unwrap();
    &rest[rest.find('/').unwrap()..]
}

impl Fetch for Answers {
    fn start(&self, number: u32, request: Request, _: &Arc<Scope>, done: &Done) {
        self.sent.lock().unwrap().push(request.clone());
        let fetched = match path(&request) {
            "/denied" => Err(Error::Denied("not granted".to_owned())),
            "/invalid" => Err(Error::Invalid("wrong".to_owned())),
            "/late" => Err(Error::Timeout),
            "/lost" => return,
            "/down" => Err(Error::Unreachable("no route".to_owned())),
            "/large" => Err(Error::TooLarge),
            "/never" => return self.never.lock().unwrap().push(done.clone()),
            path if path.starts_with("/held/") => {
                let mut held = self.held.lock().unwrap();
                held.push((number, request, done.clone()));
                if held.len() == HELD {
                    for (number, request, done) in held.drain(..).rev() {
                        done.send((number, answer(self::path(&request)))).unwrap();
                    }
                }
                return;
            }
            _ => answer("hello"),
        };
        done.send((number, fetched)).unwrap();
    }
}
