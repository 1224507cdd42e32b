//! Numbers as they are written, compared without loss: `1.10` equals `1.1`, and `12345678901234567890` is not rounded.

use std::cmp::Ordering;
use std::fmt;

#[cfg(test)]
mod tests;

/// Exponents beyond this are taken for this: no two numbers that differ only there are told apart.
const FAR: i64 = 1 << 40;

/// A JSON number: `digits` times ten to the power of `exponent`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Decimal {
    negative: bool,
    /// ASCII digits without leading and trailing zeros; none is zero.
    digits: Vec<u8>,
    exponent: i64,
}

impl Decimal {
    /// Reads a number in JSON's notation; `None` if it is none.
    pub fn parse(text: &str) -> Option<Self> {
        let (negative, text) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
        let (mantissa, exponent) = match text.split_once(['e', 'E']) {
            Some((mantissa, exponent)) => (mantissa, power(exponent)?),
            None => (text, 0),
        };
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, "0"));
        let is_digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
        if !is_digits(whole) || !is_digits(fraction) || (whole.len() > 1 && whole.starts_with('0')) {
            return None;
        }
        let mut digits: Vec<u8> = whole.bytes().chain(fraction.bytes()).skip_while(|b| *b == b'0').collect();
        let mut exponent = exponent.saturating_sub(i64::try_from(fraction.len()).ok()?);
        while digits.pop_if(|last| *last == b'0').is_some() {
            exponent = exponent.saturating_add(1);
        }
        if digits.is_empty() {
            return Some(Decimal { negative: false, digits, exponent: 0 });
        }
        Some(Decimal { negative, digits, exponent })
    }

    /// Whether it has no fraction, however it is written: `1.0` and `1e3` have none.
    pub fn is_integer(&self) -> bool {
        self.exponent >= 0
    }

    /// It as a whole number from 0 to 18 digits, if it is one.
    pub fn to_u64(&self) -> Option<u64> {
        let zeros = u32::try_from(self.exponent).ok().filter(|zeros| *zeros <= 18)?;
        if self.negative || self.digits.len() > 18 {
            return None;
        }
        let digits = self.digits.iter().fold(0_u64, |number, digit| number * 10 + u64::from(digit - b'0'));
        digits.checked_mul(10_u64.pow(zeros))
    }

    /// Whether it is greater than zero.
    pub fn is_positive(&self) -> bool {
        !self.negative && !self.digits.is_empty()
    }

    /// Whether it is `divisor` times a whole number, exactly. `None` if the divisor is zero or has more than 18 digits.
    pub fn is_multiple_of(&self, divisor: &Decimal) -> Option<bool> {
        if divisor.digits.is_empty() || divisor.digits.len() > 18 {
            return None;
        }
        let by = divisor.digits.iter().fold(0_u128, |number, digit| number * 10 + u128::from(digit - b'0'));
        if self.digits.is_empty() {
            return Some(true);
        }
        let Ok(shift) = u64::try_from(self.exponent.saturating_sub(divisor.exponent)) else {
            // Our last digit is not zero, so nothing that ends in a zero divides us.
            return Some(false);
        };
        let rest = self.digits.iter().fold(0_u128, |rest, digit| (rest * 10 + u128::from(digit - b'0')) % by);
        Some((rest * power_of_ten(shift, by)).is_multiple_of(by))
    }

    fn magnitude(&self, other: &Self) -> Ordering {
        let place = |number: &Self| number.exponent.saturating_add_unsigned(number.digits.len() as u64);
        match (self.digits.is_empty(), other.digits.is_empty()) {
            (false, false) => place(self).cmp(&place(other)).then_with(|| self.digits.cmp(&other.digits)),
            (mine, others) => others.cmp(&mine),
        }
    }
}

/// The one way to write it: equal numbers read alike.
impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = std::str::from_utf8(&self.digits).unwrap_or_default();
        let sign = if self.negative { "-" } else { "" };
        if digits.is_empty() { f.write_str("0") } else { write!(f, "{sign}{digits}e{}", self.exponent) }
    }
}

impl PartialOrd for Decimal {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Decimal {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self.negative, other.negative) {
            (false, false) => self.magnitude(other),
            (true, true) => other.magnitude(self),
            (mine, others) => others.cmp(&mine),
        }
    }
}

fn power(text: &str) -> Option<i64> {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    // Too long for an i64 is as far as it gets.
    let size = digits.parse::<i64>().unwrap_or(FAR).min(FAR);
    Some(if text.starts_with('-') { -size } else { size })
}

/// Ten to this power, modulo `by`, which is below 10^18.
fn power_of_ten(mut power: u64, by: u128) -> u128 {
    let (mut result, mut base) = (1 % by, 10 % by);
    while power > 0 {
        if power & 1 == 1 {
            result = result * base % by;
        }
        base = base * base % by;
        power >>= 1;
    }
    result
}
