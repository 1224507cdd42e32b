//! Who answers HTTP requests in tests.

use std::collections::BTreeMap;

use crate::http::{Reason, Request, Response};

/// Methods that change nothing.
const SAFE: [&str; 4] = ["GET", "HEAD", "OPTIONS", "TRACE"];
const IDEMPOTENCY_KEY: &str = "idempotency-key";

type Fetched = Result<Response, Reason>;
type Server = Box<dyn FnMut(&Request) -> Fetched>;

impl From<Response> for Fetched {
    fn from(response: Response) -> Self {
        Ok(response)
    }
}

impl From<Reason> for Fetched {
    fn from(reason: Reason) -> Self {
        Err(reason)
    }
}

/// A request that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requested {
    /// The slot of its message: the index in the batch.
    pub slot: u32,
    /// Its message's [`Context::id`](crate::Context::id).
    pub id: String,
    /// As it went out, with the host's `idempotency-key`.
    pub request: Request,
}

#[derive(Default)]
pub(super) struct Outside {
    table: BTreeMap<(String, String), Fetched>,
    server: Option<Server>,
    pub(super) made: Vec<Requested>,
}

impl Outside {
    pub(super) fn answer(&mut self, method: &str, url: &str, answer: Fetched) {
        self.table.insert((method.to_owned(), url.to_owned()), answer);
    }

    pub(super) fn serve(&mut self, server: Server) {
        self.server = Some(server);
    }

    /// Answers a request, the message's `changing`th of those that may change something if it is one.
    pub(super) fn fetch(&mut self, slot: u32, id: String, changing: &mut u32, mut request: Request) -> Fetched {
        let safe = SAFE.contains(&request.method());
        *changing += u32::from(!safe);
        if request.header_value(IDEMPOTENCY_KEY).is_none() {
            let key = if safe || *changing == 1 { id.clone() } else { format!("{id}-{changing}") };
            request = request.header(IDEMPOTENCY_KEY, key);
        }
        let known = (request.method().to_owned(), request.url().to_owned());
        let fetched = match (self.table.get(&known), &mut self.server) {
            (Some(answer), _) => answer.clone(),
            (None, Some(server)) => server(&request),
            (None, None) => Err(Reason::Denied(
                "the test gives it no answer: say Host::answer, or Host::answer_with for all".to_owned(),
            )),
        };
        self.made.push(Requested { slot, id, request });
        fetched
    }
}
