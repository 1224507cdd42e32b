use keyrail_sdk::testing::{Host, Input, Run};

use super::*;

const ROUTES: &str = r#"
    # one a line
    order-created -> orders
    order-*       -> rest
    order-paid-*  -> paid
    "a -> b*"     -> odd
    ""            -> odd
    7             -> seven
"#;

fn host(config: &[(&str, &str)]) -> Host {
    let host = ["orders", "rest", "paid", "odd", "seven"].into_iter().fold(Host::new(), Host::output);
    config.iter().fold(host, |host, (key, value)| host.config(key, value))
}

fn run(config: &[(&str, &str)], input: impl Into<Input>) -> Run {
    let mut host = host(config);
    let mut route = Route::open(&host.setup()).unwrap();
    host.run(|message, ctx| route.handle(message, ctx), input)
}

fn to(run: &Run) -> &str {
    run.sent.first().map_or("", |sent| &sent.to)
}

#[test]
fn the_exact_route_wins_then_the_longest_prefix() {
    for (text, output) in [
        ("order-created", "orders"),
        ("order-created-2", "rest"),
        ("order-", "rest"),
        ("order-paid-x", "paid"),
        ("order-paid-", "paid"),
        ("order-pai", "rest"),
        ("a -> b*", "odd"),
        ("a -> bc", ""),
        ("", "odd"),
        ("Order-created", ""),
        ("x", ""),
    ] {
        let value = format!("{{\"type\":\"{text}\"}}");
        for (by, input) in [
            ("header:type", Input::new(b"\xff").header("type", "no").header("type", text)),
            ("field:type", Input::new(&value)),
            ("key", Input::new(Null).key(text)),
        ] {
            let run = run(&[("by", by), ("routes", ROUTES)], input);
            assert_eq!(to(&run), output, "{by} {text}");
            assert_eq!(run.outcome.is_err(), output.is_empty());
        }
    }
    let topics =
        Host::new().topics(&["x", "order-eu"]).output("eu").config("by", "topic").config("routes", "order-* -> eu");
    let (mut host, mut route) = (topics, None::<Route>);
    let route = route.get_or_insert(Route::open(&host.setup()).unwrap());
    assert_eq!(to(&host.run(|m, ctx| route.handle(m, ctx), Input::new("v").topic(1))), "eu");
}

#[test]
fn a_message_goes_on_untouched() {
    let input = Input::new(b"\x00\xff").key("order-1").header("h", Null).timestamp_ms(9);
    let run = run(&[("by", "key"), ("routes", ROUTES)], input);
    let sent = &run.sent[0];
    assert_eq!((sent.value(), sent.key.as_deref(), sent.timestamp_ms), (&b"\x00\xff"[..], Some(&b"order-1"[..]), 9));
    assert_eq!(sent.headers.len(), 1);
}

#[test]
fn what_has_no_route_takes_the_default_or_is_told() {
    let base = [("by", "field:a.type"), ("routes", ROUTES)];
    let with = |more: &[(&'static str, &'static str)]| [&base[..], more].concat();
    let unmatched = [r#"{"a":{"type":"x"}}"#, r#"{"a":{"type":null}}"#, r#"{"a":{"type":{}}}"#, "{}", "[]", "null"];
    for value in unmatched {
        let problem = run(&base, value).outcome.unwrap_err();
        assert_eq!((problem.code(), problem.is_dead_letter()), ("no-route", true), "{value}");
        assert!(problem.detail().contains("the field a.type"), "{}", problem.detail());
        assert_eq!(to(&run(&with(&[("default", "odd")]), value)), "odd");
        assert_eq!(run(&with(&[("unmatched", "drop")]), value).outcome, Ok(Skip));
    }
    assert_eq!(run(&base, Null).outcome.unwrap_err().code(), "no-route");
    assert_eq!(to(&run(&base, r#"{"a":{"type":7}}"#)), "seven");
    let problem =
        run(&[("by", "key"), ("routes", ROUTES)], Input::new("").key(vec![0xff; 1 << 16])).outcome.unwrap_err();
    assert!(problem.detail().len() < 500, "{}", problem.detail().len());
    for (value, code) in [(&b"{"[..], "bad-json"), (b"", "bad-json"), (b"\xff", "not-utf-8")] {
        assert_eq!(run(&with(&[("default", "odd")]), value).outcome.unwrap_err().code(), code);
        assert_eq!(to(&run(&with(&[("default", "odd"), ("invalid", "default")]), value)), "odd");
        assert_eq!(run(&with(&[("invalid", "drop")]), value).outcome, Ok(Skip));
    }
}

#[test]
fn a_wrong_manifest_is_refused_with_place_and_cure() {
    let cases: [(&[(&str, &str)], &str); 17] = [
        (&[], "[config] by is missing"),
        (&[("by", "key")], "[config] routes is missing"),
        (&[("by", "value"), ("routes", "a -> odd")], "key, topic, header:NAME or field:PATH"),
        (&[("by", "header:"), ("routes", "a -> odd")], "header:NAME"),
        (&[("by", "field:a..b"), ("routes", "a -> odd")], "name is missing"),
        (&[("by", "key"), ("routes", "\n#\n")], "there is no route"),
        (&[("by", "key"), ("routes", "a => odd")], "line 1, \"a => odd\": `->` is missing"),
        (&[("by", "key"), ("routes", "\n a ->")], "line 2"),
        (&[("by", "key"), ("routes", "-> odd")], "a pattern stands before"),
        (&[("by", "key"), ("routes", "a*b -> odd")], "at the end only"),
        (&[("by", "key"), ("routes", "\"a -> odd")], "closing quote"),
        (&[("by", "key"), ("routes", "a -> odd\na -> rest")], "twice"),
        (&[("by", "key"), ("routes", "a -> ordres")], "did you mean `orders`?"),
        (&[("by", "key"), ("routes", "a -> odd"), ("default", "x")], "[config] default = \"x\""),
        (&[("by", "key"), ("routes", "a -> odd"), ("default", "odd"), ("unmatched", "drop")], "both set"),
        (&[("by", "key"), ("routes", "a -> odd"), ("invalid", "default")], "there is no default"),
        (&[("by", "key"), ("route", "a -> odd")], "did you mean `routes`?"),
    ];
    for (config, said) in cases {
        let refused = Route::open(&host(config).setup()).err().unwrap().to_string();
        assert!(refused.contains(said), "{config:?}: {refused}");
    }
}
