//! Requests of a scenario's handler, and what they are answered with.

use crate::http::{Error, Request, Response};
use crate::scenario::Answered;
use crate::scenario::told::Data;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// How requests are answered.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Answer {
    /// `METHOD URL`.
    answer: String,
    status: Option<u16>,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    #[serde(default)]
    body: Option<Data>,
    error: Option<String>,
}

/// A request, as it would be sent.
#[derive(Debug, Serialize)]
pub(super) struct Asked {
    method: String,
    url: String,
    headers: BTreeMap<String, Data>,
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<Data>,
}

/// Of a line; the error says what is wrong with it.
pub(super) fn answered(answer: Answer) -> Result<Answered, String> {
    let Answer { answer: request, status, headers, body, error } = answer;
    let Some((method, url)) = request.split_once(' ') else {
        return Err(format!("{request:?} is no request: write \"METHOD URL\", as \"GET https://api.example.com/x\""));
    };
    let body = body.and_then(|Data(body)| body).unwrap_or_default();
    let fetched = match (status, error.as_deref()) {
        (Some(status @ 100..=999), None) => {
            let headers = headers.into_iter().map(|(name, value)| (name.to_ascii_lowercase(), value.into_bytes()));
            Ok(Response { status, headers: headers.collect(), body })
        }
        (None, Some("timeout")) => Err(Error::Timeout),
        (None, Some("unreachable")) => Err(Error::Unreachable("the scenario says so".to_owned())),
        (None, Some(other)) => return Err(format!("{other:?} is no error: \"timeout\" or \"unreachable\"")),
        _ => return Err("an answer has a \"status\" (100 to 999), or an \"error\"".to_owned()),
    };
    Ok(Answered { method: method.to_owned(), url: url.to_owned(), fetched })
}

/// Several values of a header are joined, as HTTP reads them.
pub(super) fn asked(request: &Request) -> Asked {
    let mut headers: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    for (name, value) in &request.headers {
        let all = headers.entry(name.to_ascii_lowercase()).or_default();
        all.extend_from_slice(if all.is_empty() { b"" } else { b", " });
        all.extend_from_slice(value);
    }
    let headers = headers.into_iter().map(|(name, value)| (name, Data(Some(value)))).collect();
    let body = request.body.clone().map(|body| Data(Some(body)));
    Asked { method: request.method.clone(), url: request.url.clone(), headers, body }
}
