//! Reads an expression.
//!
//! ```text
//! any     = all { "or" all }
//! all     = one { "and" one }
//! one     = "not" one | "(" any ")" | operand test
//! operand = path | "$key" | "$topic" | "$partition" | "$timestamp" | "$header." name
//! test    = "exists" | "==" literal | "!=" literal | "<" | "<=" | ">" | ">=" literal
//!         | "in" "[" literal { "," literal } "]" | "not" "in" "[" ... "]"
//!         | "starts-with" text | "ends-with" text | "contains" text | "matches" text
//! ```

use plugin_common::Path;
use plugin_common::config::did_you_mean;
use plugin_common::number::Decimal;
use plugin_common::path::Step;
use regex_lite::RegexBuilder;

use crate::expression::{Expression, Literal, Operand, Test};

/// The deepest nesting of parentheses and `not`.
const MAX_DEPTH: usize = 32;
/// What one regular expression may take when compiled.
const REGEX_BYTES: usize = 1 << 20;

const TESTS: [&str; 13] =
    ["exists", "==", "!=", "<=", ">=", "<", ">", "in", "not in", "starts-with", "ends-with", "contains", "matches"];

/// Reads a whole expression.
pub(crate) fn read(text: &str) -> Result<Expression, String> {
    let mut reader = Reader { text, at: 0, depth: 0 };
    let expression = reader.any()?;
    if reader.rest().is_empty() {
        return Ok(expression);
    }
    Err(reader.fault("`and`, `or` or the end is expected here"))
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
    depth: usize,
}

impl<'a> Reader<'a> {
    fn any(&mut self) -> Result<Expression, String> {
        let mut parts = vec![self.all()?];
        while self.word("or") {
            parts.push(self.all()?);
        }
        Ok(if parts.len() == 1 { parts.remove(0) } else { Expression::Any(parts) })
    }

    fn all(&mut self) -> Result<Expression, String> {
        let mut parts = vec![self.one()?];
        while self.word("and") {
            parts.push(self.one()?);
        }
        Ok(if parts.len() == 1 { parts.remove(0) } else { Expression::All(parts) })
    }

    fn one(&mut self) -> Result<Expression, String> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(self.fault("nested deeper than 32 levels: simplify it"));
        }
        let expression = if self.word("not") {
            Expression::Not(Box::new(self.one()?))
        } else if self.sign("(") {
            let inner = self.any()?;
            if !self.sign(")") {
                return Err(self.fault("`)` is expected here"));
            }
            inner
        } else {
            let operand = self.operand()?;
            self.test(operand)?
        };
        self.depth -= 1;
        Ok(expression)
    }

    fn operand(&mut self) -> Result<Operand, String> {
        if self.rest().is_empty() {
            return Err(self.fault("a field is expected here, as in `total >= 100`"));
        }
        let (path, rest) = Path::read(self.rest()).map_err(|why| self.fault(&why))?;
        let quoted = self.rest().starts_with('"');
        let operand = match path.steps() {
            [Step::Field(name)] if name.starts_with('$') && !quoted => match name.as_str() {
                "$key" => Operand::Key,
                "$topic" => Operand::Topic,
                "$partition" => Operand::Partition,
                "$timestamp" => Operand::Timestamp,
                _ => {
                    let names = ["$key", "$topic", "$partition", "$timestamp", "$header.NAME"];
                    let near = did_you_mean(name, names.into_iter());
                    return Err(self.fault(&format!("unknown `{name}`{near}; there are {}", names.join(", "))));
                }
            },
            [Step::Field(first), Step::Field(name)] if first == "$header" && !quoted => Operand::Header(name.clone()),
            [Step::Field(first), ..] if first.starts_with('$') && !quoted => {
                return Err(self.fault(
                    "$header takes one name, with quotes if it is odd: $header.type, $header.\"my.type\"; a field that starts with $ stands in quotes",
                ));
            }
            _ => Operand::Field(path),
        };
        self.at = self.text.len() - rest.len();
        Ok(operand)
    }

    fn test(&mut self, operand: Operand) -> Result<Expression, String> {
        let negated = self.word("not");
        let test = if self.word("in") {
            Test::In(self.list()?)
        } else if negated {
            return Err(self.fault("`in` is expected after `not` here; `not` stands before what it negates"));
        } else if self.sign("==") {
            Test::In(vec![self.literal()?])
        } else if self.sign("!=") {
            let test = Test::In(vec![self.literal()?]);
            return Ok(Expression::Not(Box::new(Expression::Test(operand, test))));
        } else if self.sign("<=") {
            Test::AtMost(self.ordered()?)
        } else if self.sign(">=") {
            Test::AtLeast(self.ordered()?)
        } else if self.sign("<") {
            Test::Below(self.ordered()?)
        } else if self.sign(">") {
            Test::Above(self.ordered()?)
        } else {
            self.word_test()?
        };
        let test = Expression::Test(operand, test);
        Ok(if negated { Expression::Not(Box::new(test)) } else { test })
    }

    fn word_test(&mut self) -> Result<Test, String> {
        if self.word("exists") {
            return Ok(Test::Exists);
        }
        for (word, make) in [
            ("starts-with", Test::StartsWith as fn(String) -> Test),
            ("ends-with", Test::EndsWith),
            ("contains", Test::Contains),
        ] {
            if self.word(word) {
                return Ok(make(self.quoted()?));
            }
        }
        if self.word("matches") {
            let pattern = self.quoted()?;
            let regex = RegexBuilder::new(&pattern).size_limit(REGEX_BYTES).build();
            return regex
                .map(Test::Matches)
                .map_err(|why| self.fault(&format!("the regular expression {pattern:?}: {why}")));
        }
        let end = self.rest().find(|c: char| c.is_whitespace() || "()[]'\"".contains(c)).unwrap_or(self.rest().len());
        let word = &self.rest()[..end];
        let near = if word == "=" { "; did you mean `==`?".to_owned() } else { did_you_mean(word, TESTS.into_iter()) };
        Err(self.fault(&format!("a test is expected here{near}; there are {}", TESTS.join(", "))))
    }

    fn list(&mut self) -> Result<Vec<Literal>, String> {
        if !self.sign("[") {
            return Err(self.fault("`[` is expected here, as in `status in [\"new\", \"paid\"]`"));
        }
        let mut literals = vec![self.literal()?];
        while self.sign(",") {
            literals.push(self.literal()?);
        }
        if self.sign("]") { Ok(literals) } else { Err(self.fault("`,` or `]` is expected here")) }
    }

    fn ordered(&mut self) -> Result<Literal, String> {
        match self.literal()? {
            literal @ (Literal::Number(_) | Literal::Text(_)) => Ok(literal),
            _ => Err(self.fault("only numbers and texts have an order: use == or !=")),
        }
    }

    fn literal(&mut self) -> Result<Literal, String> {
        if self.rest().starts_with(['"', '\'']) {
            return self.quoted().map(Literal::Text);
        }
        for (word, literal) in [("true", Literal::Bool(true)), ("false", Literal::Bool(false)), ("null", Literal::Null)]
        {
            if self.word(word) {
                return Ok(literal);
            }
        }
        let rest = self.rest();
        let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || "+-._".contains(c))).unwrap_or(rest.len());
        let number = Decimal::parse(&rest[..end])
            .ok_or_else(|| self.fault("a value is expected here: a number, a text in quotes, true, false or null"))?;
        self.at = self.text.len() - rest.len() + end;
        Ok(Literal::Number(number))
    }

    /// A text in single or double quotes; a backslash takes the next character as it is.
    fn quoted(&mut self) -> Result<String, String> {
        let rest = self.rest();
        let mut chars = rest.char_indices();
        let Some((_, quote @ ('"' | '\''))) = chars.next() else {
            return Err(self.fault("a text in quotes is expected here"));
        };
        let mut text = String::new();
        while let Some((at, c)) = chars.next() {
            match c {
                c if c == quote => {
                    self.at = self.text.len() - rest.len() + at + 1;
                    return Ok(text);
                }
                '\\' => match chars.next() {
                    Some((_, next)) if next == quote || next == '\\' => text.push(next),
                    // Regular expressions are full of backslashes: only a quote and itself need one.
                    Some((_, next)) => text.extend(['\\', next]),
                    None => break,
                },
                c => text.push(c),
            }
        }
        Err(self.fault("the closing quote is missing"))
    }

    /// What is left, without leading space.
    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default().trim_start()
    }

    fn sign(&mut self, sign: &str) -> bool {
        let Some(after) = self.rest().strip_prefix(sign) else { return false };
        self.at = self.text.len() - after.len();
        true
    }

    fn word(&mut self, word: &str) -> bool {
        let Some(after) = self.rest().strip_prefix(word) else { return false };
        // A longer name, or a field that has the word's name: `not.a`, `not[0]`.
        let goes_on = |c: char| c.is_alphanumeric() || "_-@$.".contains(c) || (c == '[' && word == "not");
        if after.starts_with(goes_on) {
            return false;
        }
        self.at = self.text.len() - after.len();
        true
    }

    fn fault(&self, what: &str) -> String {
        let rest = self.rest();
        let column = self.text[..self.text.len() - rest.len()].chars().count() + 1;
        match rest.chars().take(20).collect::<String>() {
            near if near.is_empty() => format!("{what}, at the end of {:?}", self.text.trim()),
            near => format!("{what}, at character {column}: {near:?}"),
        }
    }
}
