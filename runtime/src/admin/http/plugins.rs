//! `/plugins`: what runs, and, with a token, hands to pause it and let it go on.

use super::{Shown, allows_only, respond};
use crate::nearest::nearest;
use crate::rollout::board::{Action, Answer, Entry};
use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{AUTHORIZATION, HeaderMap, HeaderValue, WWW_AUTHENTICATE};
use hyper::{Method, Request, Response, StatusCode};
use serde::Serialize;
use std::time::Duration;

/// The fleet answers between two things that it does. Compiling a large handler is one.
const ANSWER: Duration = Duration::from_secs(20);

/// All of them.
#[derive(Serialize)]
struct Page {
    plugins: Vec<Entry>,
}

/// Why something is not done.
#[derive(Serialize)]
struct Refusal {
    error: String,
}

/// What a path below `/plugins` names.
enum Wanted<'a> {
    All,
    One(&'a str),
    Act(&'a str, Action),
}

/// Whether this path is for here.
pub(super) fn is_meant(path: &str) -> bool {
    path == "/plugins" || path.starts_with("/plugins/")
}

pub(super) async fn answer<B>(request: &Request<B>, shown: &Shown) -> Response<Full<Bytes>> {
    let path = request.uri().path().strip_prefix("/plugins").unwrap_or_default();
    let Some(wanted) = wanted(path) else {
        let told =
            "not found: there are /plugins, /plugins/NAME, and by POST /plugins/NAME/pause, resume, promote, rollback";
        return refused(StatusCode::NOT_FOUND, told);
    };
    let acts = matches!(wanted, Wanted::Act(..));
    match *request.method() {
        Method::POST if acts => {}
        Method::GET | Method::HEAD if !acts => {}
        _ if acts => return allows_only("POST", "only POST is answered\n"),
        _ => return allows_only("GET, HEAD", "only GET and HEAD are answered\n"),
    }
    // IMPORTANT: before anything is told, also whether a name is known.
    if let Err(response) = allowed(request.headers(), acts, shown) {
        return *response;
    }
    match wanted {
        Wanted::All => respond(StatusCode::OK, &Page { plugins: shown.board.entries(&shown.health) }),
        Wanted::One(name) => match shown.board.entry(name, &shown.health) {
            Some(entry) => respond(StatusCode::OK, &entry),
            None => unknown(name, shown),
        },
        Wanted::Act(name, action) if shown.board.entry(name, &shown.health).is_some() => act(name, action, shown).await,
        Wanted::Act(name, _) => unknown(name, shown),
    }
}

fn wanted(path: &str) -> Option<Wanted<'_>> {
    let Some(below) = path.strip_prefix('/') else { return Some(Wanted::All) };
    match below.split_once('/') {
        None if below.is_empty() => None,
        None => Some(Wanted::One(below)),
        Some((name, action)) => {
            let action = Action::ALL.into_iter().find(|known| known.as_str() == action)?;
            Some(Wanted::Act(name, action))
        }
    }
}

/// Without a token everybody may look, as at `/metrics`, and nobody may act.
fn allowed(headers: &HeaderMap, acts: bool, shown: &Shown) -> Result<(), Box<Response<Full<Bytes>>>> {
    let Some(token) = &shown.token else {
        let cure = "nobody may: this process has no token. Set [admin] token or token-file in keyrail.toml, and start it again";
        return if acts { Err(Box::new(refused(StatusCode::FORBIDDEN, cure))) } else { Ok(()) };
    };
    let given = headers.get(AUTHORIZATION).map(HeaderValue::as_bytes);
    let given =
        given.and_then(|value| value.split_at_checked(7)).filter(|(word, _)| word.eq_ignore_ascii_case(b"bearer "));
    if given.is_some_and(|(_, given)| token.is(given)) {
        return Ok(());
    }
    let told =
        if given.is_some() { "the token is another" } else { "a token is asked for: Authorization: Bearer TOKEN" };
    let mut response = refused(StatusCode::UNAUTHORIZED, told);
    response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"keyrail\""));
    Err(Box::new(response))
}

fn unknown(name: &str, shown: &Shown) -> Response<Full<Bytes>> {
    let all = shown.board.entries(&shown.health);
    let names: Vec<&str> = all.iter().map(|entry| entry.pipeline.as_str()).collect();
    let cure = match nearest(name, names.iter().copied()) {
        Some(near) => format!("did you mean {near:?}?"),
        None if names.is_empty() => "there is none at all".to_owned(),
        None => "/plugins shows all of them".to_owned(),
    };
    refused(StatusCode::NOT_FOUND, &format!("there is no pipeline {name:?}; {cure}"))
}

async fn act(name: &str, action: Action, shown: &Shown) -> Response<Full<Bytes>> {
    let (answer, answered) = tokio::sync::oneshot::channel();
    let asked = shown.board.ask(name, action, move |said| {
        // Who asked may be gone.
        drop(answer.send(said));
    });
    if let Err(why) = asked {
        return refused(StatusCode::SERVICE_UNAVAILABLE, &why);
    }
    let now = || shown.board.entry(name, &shown.health).unwrap_or_else(|| Entry::gone(name));
    match tokio::time::timeout(ANSWER, answered).await {
        Ok(Ok(Answer::Done)) => respond(StatusCode::OK, &now()),
        Ok(Ok(Answer::Begun)) => respond(StatusCode::ACCEPTED, &now()),
        Ok(Ok(Answer::Refused(why))) => refused(StatusCode::CONFLICT, &why),
        Ok(Ok(Answer::Failed(why))) => refused(StatusCode::INTERNAL_SERVER_ERROR, &why),
        Ok(Err(_)) => refused(StatusCode::SERVICE_UNAVAILABLE, "the process stops"),
        // It is in the queue still.
        Err(_) => {
            let told = "the folder is being read, which takes long: it is done then. /plugins shows when";
            refused(StatusCode::GATEWAY_TIMEOUT, told)
        }
    }
}

fn refused(status: StatusCode, why: &str) -> Response<Full<Bytes>> {
    respond(status, &Refusal { error: why.to_owned() })
}

#[cfg(test)]
mod tests;
