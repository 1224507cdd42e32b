#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use super::*;
use crate::admin::client::ask;
use crate::admin::deployment::Deployment;
use crate::admin::http::{AdminServer, Sources};
use crate::config::Token;
use crate::rollout::board::tests::board;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

const TOKEN: &str = "0123456789abcdef";

fn server(token: Option<&str>) -> AdminServer {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let path = std::env::temp_dir().join(format!("keyrail-plugins-{}-{number}", std::process::id()));
    let token = token.map(|token| {
        std::fs::write(&path, token).unwrap();
        let read = Token::File(path.clone()).read().unwrap();
        std::fs::remove_file(path).unwrap();
        read
    });
    let board = board(&["orders", "totals"], |name, action| match (name, action) {
        ("totals", Action::Pause) => Answer::Begun,
        (_, Action::Resume) => Answer::Done,
        (_, Action::Pause) => Answer::Failed("the disk is full".to_owned()),
        _ => Answer::Refused("nothing is on trial".to_owned()),
    });
    let sources = Sources { health: Arc::default(), metrics: Arc::default(), board, token };
    AdminServer::start(([127, 0, 0, 1], 0).into(), sources, &Deployment::of("keyrail.toml".as_ref())).unwrap()
}

fn asked(server: &AdminServer, method: &str, path: &str, authorization: Option<&str>) -> (u16, String) {
    let answer = ask(method, server.address(), path, authorization, Duration::from_secs(20)).unwrap();
    (answer.status, answer.body)
}

#[test]
fn without_a_token_everybody_may_look_and_nobody_may_act() {
    let server = server(None);
    let (status, body) = asked(&server, "GET", "/plugins", None);
    let page: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!(
        (status, &page["plugins"][1]["pipeline"], &page["plugins"][1]["state"]),
        (200, &"totals".into(), &"active".into())
    );
    let (status, body) = asked(&server, "GET", "/plugins/totals", None);
    assert!(status == 200 && body.starts_with("{\"pipeline\":\"totals\",\"state\":\"active\","), "{body}");
    let (status, body) = asked(&server, "POST", "/plugins/totals/pause", Some("Bearer 0123456789abcdef"));
    assert!(status == 403 && body.contains("Set [admin] token or token-file in keyrail.toml"), "{body}");
}

#[test]
fn with_a_token_only_who_has_it_may_look_and_act() {
    let server = server(Some(TOKEN));
    let right = format!("Bearer {TOKEN}");
    for wrong in
        [None, Some("Bearer 0123456789abcdeF"), Some(TOKEN), Some("Basic 0123456789abcdef"), Some("Bearer "), Some("")]
    {
        for (method, path) in [("GET", "/plugins"), ("GET", "/plugins/nobody"), ("POST", "/plugins/totals/pause")] {
            let (status, body) = asked(&server, method, path, wrong);
            assert!(
                status == 401 && body.contains("token") && !body.contains(TOKEN),
                "{wrong:?} {path}: {status} {body}"
            );
        }
    }
    assert_eq!(asked(&server, "GET", "/plugins", Some(&right)).0, 200);
    for (path, status) in [
        ("/plugins/totals/pause", 202),
        ("/plugins/totals/resume", 200),
        ("/plugins/totals/promote", 409),
        ("/plugins/orders/pause", 500),
    ] {
        let answer = asked(&server, "POST", path, Some(&right));
        assert_eq!(answer.0, status, "{path}: {}", answer.1);
    }
    assert_eq!(
        asked(&server, "POST", "/plugins/totals/rollback", Some(&right)).1,
        "{\"error\":\"nothing is on trial\"}\n"
    );
    let (status, body) = asked(&server, "POST", "/plugins/totls/pause", Some(&right));
    assert_eq!(
        (status, body.as_str()),
        (404, "{\"error\":\"there is no pipeline \\\"totls\\\"; did you mean \\\"totals\\\"?\"}\n")
    );
    // Probes and scrapers have no token.
    assert_eq!(asked(&server, "GET", "/metrics", None).0, 200);
}

#[test]
fn other_paths_and_methods_are_told_so() {
    let server = server(None);
    for path in ["/plugins/", "/plugins/totals/stop", "/plugins/totals/pause/now", "/pluginsx"] {
        assert_eq!(asked(&server, "POST", path, None).0, 404, "{path}");
    }
    for (method, path) in [("POST", "/plugins"), ("DELETE", "/plugins/totals"), ("GET", "/plugins/totals/pause")] {
        assert_eq!(asked(&server, method, path, None).0, 405, "{method} {path}");
    }
}
