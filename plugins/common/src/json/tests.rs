use super::*;

fn fault(text: impl AsRef<[u8]>) -> Fault {
    Doc::parse(text.as_ref()).expect_err(&String::from_utf8_lossy(text.as_ref()))
}

#[test]
fn what_is_json_is_read_and_every_byte_of_it_is_known() {
    for text in [
        "null",
        " true ",
        "false",
        "0",
        "-0.0e+10",
        "12345678901234567890",
        "\"\"",
        "[]",
        "{}",
        "[ ]",
        "{ }",
        "[1,[2,[]],{}]",
        "{\"a\":{\"b\":[null]},\"a\":1}",
        "\t[\n1 ,\r2 ]\n",
        "\"\\u00e9\\ud83d\\ude00\\/\"",
        "\"é😀\"",
    ] {
        let doc = Doc::parse(text.as_bytes()).unwrap();
        assert_eq!(doc.root().raw(), text.trim(), "{text}");
    }
    let doc = Doc::parse(br#" {"a": [1, "x", {}], "b\n": null} "#).unwrap();
    let members: Vec<_> = doc.root().members().map(|(key, value)| (key.text().unwrap(), value.raw())).collect();
    assert_eq!(members, [("a".into(), "[1, \"x\", {}]"), ("b\n".into(), "null")]);
    let (_, array) = doc.root().members().next().unwrap();
    let kinds: Vec<_> = array.elements().map(Value::kind).collect();
    assert_eq!(kinds, [Kind::Number, Kind::String, Kind::Object]);
    assert_eq!((array.members().count(), doc.root().elements().count()), (0, 0));
}

#[test]
fn what_is_no_json_is_refused_with_its_place() {
    let cases: [(&[u8], usize); 33] = [
        (b"", 0),
        (b" ", 1),
        (b"nul", 0),
        (b"nulls", 4),
        (b"tru", 0),
        (b"True", 0),
        (b"01", 1),
        (b"-", 1),
        (b"+1", 0),
        (b".5", 0),
        (b"1.", 2),
        (b"1e", 2),
        (b"[", 1),
        (b"[1", 2),
        (b"[1,", 3),
        (b"[1,]", 3),
        (b"[,1]", 1),
        (b"[1 2]", 3),
        (b"]", 0),
        (b"{", 1),
        (b"{]", 1),
        (b"[}", 1),
        (b"{\"a\"}", 4),
        (b"{\"a\":}", 5),
        (b"{\"a\":1,}", 7),
        (b"{a:1}", 1),
        (b"{\"a\":1 \"b\":2}", 7),
        (b"\"a", 2),
        (b"\"\\x\"", 2),
        (b"\"\\u12g4\"", 2),
        (b"\"\n\"", 1),
        (b"1 1", 2),
        (b"{}x", 2),
    ];
    for (text, at) in cases {
        let fault = fault(text);
        assert_eq!((fault.code, fault.at), ("bad-json", at), "{}: {fault}", String::from_utf8_lossy(text));
    }
    assert_eq!(fault("\u{feff}{}").at, 0);
    let fault = fault(b"{\"a\":\"\xff\"}");
    assert_eq!((fault.code, fault.at), ("not-utf-8", 6));
}

#[test]
fn nesting_and_number_of_values_are_bounded() {
    let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
    assert!(Doc::parse(nested(MAX_DEPTH).as_bytes()).is_ok());
    assert_eq!(fault(nested(MAX_DEPTH + 1)).code, "too-deep");
    assert_eq!(fault("[".repeat(1 << 20)).code, "too-deep");
    assert_eq!(fault("{\"a\":".repeat(1 << 20)).code, "too-deep");
    let long = |values: usize| format!("[{}1]", "1,".repeat(values - 2));
    assert!(Doc::parse(long(MAX_NODES).as_bytes()).is_ok());
    assert_eq!(fault(long(MAX_NODES + 1)).code, "too-large");
}

#[test]
fn escapes_are_undone_and_half_a_pair_is_replaced() {
    let cases = [
        (r#""\"\\\/\b\f\n\r\t""#, "\"\\/\u{8}\u{c}\n\r\t"),
        (r#""a\u00e9z""#, "aéz"),
        (r#""\ud83d\ude00!""#, "😀!"),
        (r#""\ud83d""#, "\u{fffd}"),
        (r#""\ud83dx""#, "\u{fffd}x"),
        (r#""\ud83d\u0041""#, "\u{fffd}A"),
        (r#""\ude00\ud83d\ude00""#, "\u{fffd}😀"),
        (r#""\u0000""#, "\0"),
    ];
    for (raw, text) in cases {
        let doc = Doc::parse(raw.as_bytes()).unwrap();
        assert_eq!(doc.root().text().as_deref(), Some(text), "{raw}");
        assert!(doc.root().is_text(text));
    }
    assert_eq!(Doc::parse(b"1").unwrap().root().text(), None);
}

#[test]
fn what_is_quoted_is_read_back() {
    for text in ["", "plain", "\"\\/\u{8}\n\r\t\u{1}\u{1f}", "é😀\u{2028}"] {
        let mut out = String::new();
        quote(text, &mut out);
        assert_eq!(Doc::parse(out.as_bytes()).unwrap().root().text().as_deref(), Some(text), "{out}");
    }
}
