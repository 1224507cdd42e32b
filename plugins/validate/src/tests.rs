use keyrail_sdk::testing::{Host, Input, Run};

use super::*;

fn host(config: &[(&str, &str)]) -> Host {
    let host = Host::new().output("valid").output("rejected");
    config.iter().fold(host, |host, (key, value)| host.config(key, value))
}

fn run(config: &[(&str, &str)], input: impl Into<Input>) -> Run {
    let mut host = host(config);
    let mut validate = Validate::open(&host.setup()).map_err(|why| why.to_string()).unwrap();
    host.run(|message, ctx| validate.handle(message, ctx), input)
}

/// The detail of the failure; empty if the value fits.
fn said(schema: &str, value: &str) -> String {
    let run = run(&[("schema", schema)], value);
    assert_eq!(run.sent.len(), usize::from(run.outcome.is_ok()));
    run.outcome.err().map(|problem| format!("{}: {}", problem.code(), problem.detail())).unwrap_or_default()
}

fn refused(config: &[(&str, &str)]) -> String {
    Validate::open(&host(config).setup()).err().map(|why| why.to_string()).unwrap_or_default()
}

const D7: &str = "\"$schema\":\"http://json-schema.org/draft-07/schema#\"";

#[test]
fn each_keyword_fits_and_fails() {
    let cases = [
        (r#"{"type":"integer"}"#, "1.0", "1.5"),
        (r#"{"type":["string","null"]}"#, "null", "1"),
        (r#"{"enum":[1,{"a":[2,"x"],"b":3}]}"#, r#"{"b":3.0,"a":[2,"\u0078"]}"#, r#"{"a":[2,"x"]}"#),
        (r#"{"const":12345678901234567890}"#, "12345678901234567890.0", "12345678901234567891"),
        (r#"{"multipleOf":0.01}"#, "19.99", "19.999"),
        (r#"{"minimum":1,"exclusiveMaximum":2}"#, "1", "2"),
        (r#"{"exclusiveMinimum":1,"maximum":2}"#, "2", "1"),
        (r#"{"minLength":2,"maxLength":3}"#, "\"é😀\"", "\"😀\""),
        (r#"{"pattern":"^o-\\d+$"}"#, "\"o-1\"", "\"o-x\""),
        (r#"{"prefixItems":[{"type":"string"}],"items":false}"#, "[\"a\"]", "[\"a\",1]"),
        (r#"{"items":{"type":"number"}}"#, "[1,2]", "[1,\"2\"]"),
        (r#"{"contains":{"const":1},"maxContains":2}"#, "[1,2,1]", "[1,1,1]"),
        (r#"{"contains":{"const":1},"minContains":0}"#, "[2]", ""),
        (r#"{"minItems":1,"maxItems":2}"#, "[1]", "[]"),
        (r#"{"uniqueItems":true}"#, "[1,\"1\",true]", "[1,1.0]"),
        (r#"{"properties":{"a":{"type":"number"}},"additionalProperties":false}"#, "{\"a\":1}", "{\"b\":1}"),
        (r#"{"patternProperties":{"^x-":{"type":"number"}}}"#, "{\"x-a\":1}", "{\"x-a\":\"1\"}"),
        (r#"{"propertyNames":{"maxLength":2}}"#, "{\"ab\":1}", "{\"abc\":1}"),
        (r#"{"required":["a"]}"#, "{\"a\":null}", "{}"),
        (r#"{"minProperties":1,"maxProperties":2}"#, "{\"a\":1}", "{}"),
        (r#"{"dependentRequired":{"a":["b"]}}"#, "{\"b\":1}", "{\"a\":1}"),
        (r#"{"dependentSchemas":{"a":{"required":["b"]}}}"#, "{\"a\":1,\"b\":1}", "{\"a\":1}"),
        (r#"{"allOf":[{"minimum":1},{"maximum":2}]}"#, "1", "3"),
        (r#"{"anyOf":[{"type":"string"},{"minimum":2}]}"#, "2", "1"),
        (r#"{"oneOf":[{"minimum":2},{"multipleOf":3}]}"#, "2", "3"),
        (r#"{"not":{"type":"string"}}"#, "1", "\"1\""),
        (r#"{"if":{"required":["a"]},"then":{"required":["b"]},"else":{"required":["c"]}}"#, "{\"c\":1}", "{\"a\":1}"),
        (r##"{"$ref":"#/$defs/x","minimum":2,"$defs":{"x":{"type":"number"}}}"##, "2", "1"),
        (r##"{"$defs":{"x":{"$anchor":"n","type":"number"}},"$ref":"#n"}"##, "1", "\"1\""),
        (
            r#"{"allOf":[{"properties":{"a":true}}],"properties":{"b":true},"unevaluatedProperties":false}"#,
            r#"{"a":1,"b":1}"#,
            r#"{"a":1,"c":1}"#,
        ),
        (r#"{"prefixItems":[true],"unevaluatedItems":false}"#, "[1]", "[1,2]"),
        ("true", "1", ""),
        ("false", "", "1"),
    ];
    for (schema, fits, fails) in cases {
        assert_eq!(
            said(schema, if fits.is_empty() { "{" } else { fits }).is_empty(),
            !fits.is_empty(),
            "{schema} {fits}"
        );
        if !fails.is_empty() {
            assert!(said(schema, fails).starts_with("schema: "), "{schema} {fails}");
        }
    }
    let d7 = format!(
        "{{{D7},\"items\":[{{\"type\":\"string\"}}],\"additionalItems\":false,\"dependencies\":{{\"a\":[\"b\"]}}}}"
    );
    assert_eq!(said(&d7, "[\"a\"]"), "");
    assert!(said(&d7, "[\"a\",1]").contains("/1 is not allowed here"));
    assert!(said(&d7, "{\"a\":1}").contains("must have `b`"));
}

#[test]
fn the_first_violations_are_told_with_their_places() {
    let schema = r#"{"type":"object","required":["id","items"],"properties":{"id":{"type":"string"},
        "items":{"items":{"properties":{"a/b~":{"minimum":1}},"additionalProperties":false}}}}"#;
    let told = said(schema, r#"{"id":7,"items":[{"a/b~":1},{"a/b~":0,"x":1}]}"#);
    assert_eq!(
        told,
        "schema: /id must be of type string; /items/1/a~1b~0 must be at least 1; /items/1/x is not allowed here"
    );
    assert_eq!(said(schema, "{}"), "schema: the message lacks the field `id`; the message lacks the field `items`");
    let many = format!("[{}1]", "1,".repeat(1000));
    assert_eq!(said(r#"{"items":{"type":"string"}}"#, &many).matches("must be").count(), 10);
    let long = format!("{{\"{}\":1}}", "k".repeat(100_000));
    assert!(said(r#"{"additionalProperties":false}"#, &long).len() < 500);
}

#[test]
fn schemas_refer_to_each_other_by_name_and_by_id() {
    let config = [
        (
            "schema",
            r##"{"properties":{"a":{"$ref":"address"},"m":{"$ref":"https://example.com/s/money#/$defs/cents"}}}"##,
        ),
        ("schema.address", r##"{"required":["zip"],"properties":{"next":{"$ref":"#"}}}"##),
        ("schema.money", r##"{"$id":"https://example.com/s/money","$defs":{"cents":{"$ref":"whole"}}}"##),
        ("schema.whole", r##"{"$id":"https://example.com/s/whole","type":"integer"}"##),
    ];
    assert_eq!(run(&config, r#"{"a":{"zip":1,"next":{"zip":2}},"m":5}"#).outcome, Ok(Done));
    let problem = run(&config, r#"{"a":{"zip":1,"next":{}},"m":5.5}"#).outcome.unwrap_err();
    assert_eq!(problem.detail(), "/a/next lacks the field `zip`; /m must be of type integer");
}

#[test]
fn the_example_of_the_page_is_true() {
    let page = include_str!("../README.md");
    let between = |start: &str, end: &str| page.split_once(start).unwrap().1.split_once(end).unwrap().0;
    let config =
        [("schema", between("schema = '''", "'''")), ("schema.address", between("\"schema.address\" = '", "'\n"))];
    assert_eq!(run(&config, between("\n| `{", "` |").replacen("", "{", 1).as_str()).outcome, Ok(Done));
    let problem = run(&config, between("to `valid` |\n| `", "` |")).outcome.unwrap_err();
    assert_eq!(problem.detail(), between("the detail ``", " ``"));
}

#[test]
fn what_does_not_fit_goes_where_the_manifest_says() {
    let schema = ("schema", r#"{"type":"object"}"#);
    let deep = "[".repeat(1 << 20);
    for (value, code) in [
        (&b"[]"[..], "schema"),
        (b"{", "bad-json"),
        (b"", "bad-json"),
        (b"\xff", "not-utf-8"),
        (deep.as_bytes(), "too-deep"),
    ] {
        let problem = run(&[schema], value).outcome.unwrap_err();
        assert_eq!((problem.code(), problem.is_dead_letter()), (code, true));
        assert_eq!(run(&[schema, ("invalid", "drop")], value).outcome, Ok(Skip));
        let sent = run(&[schema, ("invalid", "send")], Input::new(value).key("k").header("h", "1"));
        assert_eq!((sent.outcome, sent.sent[0].to.as_str()), (Ok(Done), "rejected"));
        let record = &sent.sent[0];
        assert_eq!((record.value(), record.key.as_deref()), (value, Some(&b"k"[..])));
        assert_eq!((record.header("invalid-code"), record.header("h")), (Some(code.as_bytes()), Some(&b"1"[..])));
        assert!(record.header("invalid-detail").is_some());
    }
    for (fate, outcome, sent) in [("keep", Ok(Done), 1), ("drop", Ok(Skip), 0)] {
        let run = run(&[schema, ("tombstone", fate)], Null);
        assert_eq!((run.outcome, run.sent.len()), (outcome, sent));
    }
    assert_eq!(run(&[schema], Null).outcome, Ok(Done));
    assert_eq!(run(&[schema, ("tombstone", "dead-letter")], Null).outcome.unwrap_err().code(), "tombstone");
    let good = run(&[schema], Input::new(" {\"n\": 1.10} ").timestamp_ms(5));
    assert_eq!((good.sent[0].value(), good.sent[0].timestamp_ms), (&b" {\"n\": 1.10} "[..], 5));
}

#[test]
fn each_of_a_repeated_field_must_fit() {
    let schema = r#"{"properties":{"a":{"type":"number"}}}"#;
    assert_eq!(said(schema, r#"{"a":1,"a":2}"#), "");
    assert!(said(schema, r#"{"a":"x","a":2}"#).contains("/a must be"));
    assert!(said(schema, r#"{"a":1,"\u0061":"x"}"#).contains("/a must be"));
}

#[test]
fn hostile_messages_end_in_bounded_time_and_depth() {
    let twice = r##"{"allOf":[{"$ref":"#/$defs/t"},{"$ref":"#/$defs/t"}],"$defs":{"t":{"items":{"$ref":"#"}}}}"##;
    let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
    assert_eq!(said(twice, &nested(3)), "");
    assert!(said(twice, &nested(60)).starts_with("too-complex: "));
    let chain = r##"{"$ref":"#/$defs/a","$defs":{"a":{"$ref":"#/$defs/b"},"b":{"$ref":"#/$defs/c"},"c":{"items":{"$ref":"#"}}}}"##;
    assert_eq!(said(chain, &nested(40)), "");
    assert!(said(chain, &nested(100)).starts_with("too-deep: "));
    assert!(said(r##"{"not":{"$ref":"#/$defs/a"},"$defs":{"a":{"items":{"allOf":[{"$ref":"#/$defs/a"},{"$ref":"#/$defs/a"}]}}}}"##, &nested(90)).starts_with("too-"));
    let unique = (0..200_000).map(|n| n.to_string()).collect::<Vec<_>>().join(",");
    assert_eq!(said(r#"{"uniqueItems":true}"#, &format!("[{unique}]")), "");
    assert!(said(r#"{"uniqueItems":true}"#, &format!("[{unique},7.0]")).contains("element 200000 is"));
}

#[test]
fn a_wrong_manifest_is_refused_with_place_and_cure() {
    let schemas = [
        ("{", "[config] schema is no JSON: a key in double quotes is expected here at byte 1"),
        ("1", "a schema is an object, true or false"),
        ("{\n\"properties\":{\n\"a\":{\"tpye\":\"string\"}}}", "line 3: unknown keyword `tpye`"),
        (r#"{"requierd":["a"]}"#, "did you mean `required`?"),
        (r#"{"type":"strng"}"#, "`type` \"strng\" is unknown"),
        (r#"{"type":[]}"#, "is unknown"),
        (r#"{"required":"a"}"#, "`required` must be a list of names"),
        (r#"{"minimum":"1"}"#, "`minimum` must be a number"),
        (r#"{"minLength":-1}"#, "whole number"),
        (r#"{"multipleOf":0}"#, "`multipleOf` must be above 0"),
        (r#"{"enum":1}"#, "`enum` must be a list"),
        (r#"{"allOf":[]}"#, "`allOf` must be a list of schemas"),
        (r#"{"pattern":"(?=a)"}"#, "look-around"),
        (r#"{"items":[true]}"#, "use prefixItems"),
        (r#"{"$ref":"other"}"#, "$ref \"other\" leads nowhere"),
        (r##"{"$ref":"#/$defs/x"}"##, "leads nowhere"),
        (r##"{"$dynamicRef":"#x"}"##, "`$dynamicRef` is not supported"),
        (r##"{"$ref":"#"}"##, "never ends"),
        (r##"{"anyOf":[{"not":{"$ref":"#/$defs/a"}}],"$defs":{"a":{"$ref":"#"}}}"##, "never ends"),
        (
            r#"{"$schema":"http://json-schema.org/draft-04/schema#"}"#,
            "is not supported: use https://json-schema.org/draft/2020-12",
        ),
    ];
    for (schema, said) in schemas {
        let refused = refused(&[("schema", schema)]);
        assert!(refused.starts_with("[config] schema") && refused.contains(said), "{schema}: {refused}");
    }
    let cases: [(&[(&str, &str)], &str); 6] = [
        (&[], "[config] schema is missing"),
        (&[("schema", "true"), ("schema.a", "{")], "[config] schema.a is no JSON"),
        (&[("schema", "true"), ("schema.a", r#"{"type":"x"}"#)], "[config] schema.a: line 1"),
        (&[("schema", "true"), ("shema", "true")], "did you mean `schema`?"),
        (&[("schema", "true"), ("rejected", "rejected")], "set invalid = \"send\""),
        (&[("schema", "true"), ("output", "vald")], "did you mean `valid`?"),
    ];
    for (config, said) in cases {
        assert!(refused(config).contains(said), "{config:?}: {}", refused(config));
    }
}
