use super::*;

fn number(text: &str) -> Decimal {
    Decimal::parse(text).unwrap_or(Decimal { negative: true, digits: vec![b'?'], exponent: 0 })
}

#[test]
fn numbers_are_compared_as_they_are_written_not_as_floats() {
    let rising = [
        "-1e400",
        "-12345678901234567891",
        "-12345678901234567890",
        "-2",
        "-1.5",
        "-0.1",
        "0",
        "1e-400",
        "0.1",
        "0.11",
        "0.9",
        "1",
        "1.0000000000000000000001",
        "9.99",
        "10",
        "12345678901234567890",
        "12345678901234567890.5",
        "1e400",
        "1e99999999999999999999",
    ];
    for (i, a) in rising.iter().enumerate() {
        for (j, b) in rising.iter().enumerate() {
            assert_eq!(number(a).cmp(&number(b)), i.cmp(&j), "{a} against {b}");
        }
    }
    for (a, b) in [("1.10", "1.1"), ("100", "1e2"), ("-0", "0"), ("0.0e5", "0"), ("1.5E+1", "15"), ("0.00120", "12e-4")]
    {
        assert_eq!(number(a), number(b), "{a} {b}");
    }
}

#[test]
fn what_is_no_number_is_none() {
    for text in ["", "-", "+1", "01", ".5", "5.", "1e", "1e+", "0x1", "NaN", "1 ", "--1", "1e1.5", "1.e5", "١"] {
        assert_eq!(Decimal::parse(text), None, "{text}");
    }
}

#[test]
fn whole_numbers_and_multiples_are_exact() {
    for (text, is) in [("1", true), ("1.0", true), ("1.5e1", true), ("1.5", false), ("1e-1", false), ("0", true)] {
        assert_eq!(number(text).is_integer(), is, "{text}");
    }
    let cases = [
        ("0.3", "0.1", true),
        ("19.99", "0.01", true),
        ("19.999", "0.01", false),
        ("12345678901234567890", "10", true),
        ("12345678901234567891", "10", false),
        ("1e308", "0.123456789", false),
        ("1e308", "0.5", true),
        ("-9", "3", true),
        ("0", "7", true),
        ("1", "1e5", false),
        ("35", "1.5", false),
        ("4.5", "1.5", true),
        ("1e1000000000000", "7", false),
    ];
    for (number_text, by, is) in cases {
        assert_eq!(number(number_text).is_multiple_of(&number(by)), Some(is), "{number_text} by {by}");
    }
    assert_eq!(number("1").is_multiple_of(&number("0")), None);
    assert_eq!(number("1").is_multiple_of(&number("1234567890123456789")), None);
}
