//! Amounts of resources, exact: `100m`, `1Gi`, `1.5` (shown as `1500m`).
//!
//! Kept as whole nano-units in an i128, never as a float. Invariant: `parse(display(q)) == q`, and Display is the
//! canonical form of upstream (no fraction, the largest suffix that loses nothing, the family of suffixes of the input).

use std::cmp::Ordering;
use std::fmt;
use std::iter::Sum;
use std::ops::{Add, AddAssign, Neg, Sub, SubAssign};
use std::str::FromStr;

use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Wire;

const NANO: i128 = 1_000_000_000;
/// Larger magnitudes are capped, as upstream does.
const MAX: i128 = i64::MAX as i128 * NANO;
const FRACTION_DIGITS: usize = 18;

/// The family of suffixes a quantity was written with and is shown in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// n, u, m, none, k, M, G, T, P, E.
    #[default]
    DecimalSi,
    /// Ki, Mi, Gi, Ti, Pi, Ei.
    BinarySi,
    /// e3, e6, E9.
    DecimalExponent,
}

/// Why a text is no quantity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// Not `<signedNumber><suffix>`.
    #[error("quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'")]
    Format,
    /// The number has more than one point.
    #[error("unable to parse numeric part of quantity")]
    Number,
    /// No such suffix.
    #[error("unable to parse quantity's suffix")]
    Suffix,
}

/// An exact amount.
#[derive(Clone, Copy, Debug, Default)]
pub struct Quantity {
    nano: i128,
    format: Format,
}

impl Quantity {
    /// Nothing.
    pub const ZERO: Self = Self { nano: 0, format: Format::DecimalSi };

    /// Parses the text of a manifest.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        let text = text.trim();
        let number_end = text
            .char_indices()
            .find(|(i, c)| !(c.is_ascii_digit() || *c == '.' || (*i == 0 && matches!(c, '+' | '-'))))
            .map_or(text.len(), |(i, _)| i);
        let (number, suffix) = text.split_at(number_end);
        let (negative, digits) = match number.as_bytes().first() {
            Some(b'-') => (true, &number[1..]),
            Some(b'+') => (false, &number[1..]),
            _ => (false, number),
        };
        if digits.is_empty() || !suffix_shape(suffix) {
            return Err(ParseError::Format);
        }
        let scale = Scale::parse(suffix)?;
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        if fraction.contains('.') || (whole.is_empty() && fraction.is_empty()) {
            return Err(ParseError::Number);
        }
        let nano = scale.nano(whole, fraction).min(MAX);
        Ok(Self { nano: if negative { -nano } else { nano }, format: scale.format })
    }

    /// A whole amount.
    pub const fn new(value: i64) -> Self {
        Self { nano: value as i128 * NANO, format: Format::DecimalSi }
    }

    /// A whole amount, shown with binary suffixes (bytes).
    pub const fn bytes(value: i64) -> Self {
        Self { nano: value as i128 * NANO, format: Format::BinarySi }
    }

    /// Thousandths (of a core).
    pub const fn milli(value: i64) -> Self {
        Self { nano: value as i128 * (NANO / 1000), format: Format::DecimalSi }
    }

    /// The amount, rounded up to a whole number.
    pub fn value(&self) -> i64 {
        clamp(ceil_div(self.nano, NANO))
    }

    /// The amount in thousandths, rounded up.
    pub fn milli_value(&self) -> i64 {
        clamp(ceil_div(self.nano, NANO / 1000))
    }

    /// Whether the amount is zero.
    pub fn is_zero(&self) -> bool {
        self.nano == 0
    }

    /// Whether the amount is below zero.
    pub fn is_negative(&self) -> bool {
        self.nano < 0
    }

    /// Whether the amount is a whole number.
    pub fn is_integer(&self) -> bool {
        self.nano % NANO == 0
    }

    /// The family of suffixes it is shown in.
    pub fn format(&self) -> Format {
        self.format
    }

    /// The canonical text of a quantity in a manifest, or why it is none.
    pub fn canonical(text: &str) -> Result<String, ParseError> {
        Self::parse(text).map(|q| q.to_string())
    }

    fn with(self, nano: i128, other: Self) -> Self {
        // Upstream: a zero takes the format of what is added to it.
        let format = if self.nano == 0 { other.format } else { self.format };
        Self { nano: nano.clamp(-MAX, MAX), format }
    }
}

/// What a suffix multiplies by: 2^bits or 10^exponent.
struct Scale {
    format: Format,
    bits: u32,
    exponent: i32,
}

impl Scale {
    fn parse(suffix: &str) -> Result<Self, ParseError> {
        let binary = |bits| Ok(Self { format: Format::BinarySi, bits, exponent: 0 });
        let decimal = |exponent| Ok(Self { format: Format::DecimalSi, bits: 0, exponent });
        match suffix {
            "Ki" => binary(10),
            "Mi" => binary(20),
            "Gi" => binary(30),
            "Ti" => binary(40),
            "Pi" => binary(50),
            "Ei" => binary(60),
            "n" => decimal(-9),
            "u" => decimal(-6),
            "m" => decimal(-3),
            "" => decimal(0),
            "k" => decimal(3),
            "M" => decimal(6),
            "G" => decimal(9),
            "T" => decimal(12),
            "P" => decimal(15),
            "E" => decimal(18),
            _ => {
                let exponent = suffix.strip_prefix(['e', 'E']).ok_or(ParseError::Suffix)?;
                let exponent = exponent.parse::<i32>().map_err(|_| ParseError::Suffix)?;
                Ok(Self { format: Format::DecimalExponent, bits: 0, exponent })
            }
        }
    }

    /// `whole.fraction` times this scale in nano-units, rounded up; saturates.
    fn nano(&self, whole: &str, fraction: &str) -> i128 {
        let fraction = fraction.trim_end_matches('0');
        let kept = &fraction[..fraction.len().min(FRACTION_DIGITS)];
        let rest = i128::from(fraction.len() > kept.len());
        let part = kept.parse::<i128>().unwrap_or(0) + rest;
        let whole = whole.trim_start_matches('0');
        let whole = if whole.is_empty() { 0 } else { whole.parse::<i128>().unwrap_or(i128::MAX) };
        let factor = 1i128 << self.bits;
        let digits = i32::try_from(kept.len()).unwrap_or(0);
        let whole = times_power_of_ten(whole.saturating_mul(factor), self.exponent.saturating_add(9));
        let part = times_power_of_ten(part.saturating_mul(factor), self.exponent.saturating_add(9 - digits));
        whole.saturating_add(part)
    }
}

/// `value * 10^exponent` for a value that is not negative, rounded up; saturates.
fn times_power_of_ten(value: i128, exponent: i32) -> i128 {
    if value == 0 {
        return 0;
    }
    match (10i128.checked_pow(exponent.unsigned_abs()), exponent >= 0) {
        (Some(power), true) => value.saturating_mul(power),
        (None, true) => i128::MAX,
        (Some(power), false) => ceil_div(value, power),
        (None, false) => 1,
    }
}

fn suffix_shape(suffix: &str) -> bool {
    let rest = suffix.trim_start_matches(['e', 'E', 'i', 'n', 'u', 'm', 'k', 'K', 'M', 'G', 'T', 'P']);
    let rest = rest.strip_prefix(['-', '+']).unwrap_or(rest);
    rest.bytes().all(|b| b.is_ascii_digit())
}

/// Division that rounds away from zero, as upstream rounds.
fn ceil_div(value: i128, by: i128) -> i128 {
    let whole = value / by;
    if value % by == 0 { whole } else { whole + value.signum() }
}

fn clamp(value: i128) -> i64 {
    i64::try_from(value).unwrap_or(if value < 0 { i64::MIN } else { i64::MAX })
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.nano == 0 {
            return f.write_str("0");
        }
        // Small and fractional amounts are shown in decimal even if they were written with a binary suffix.
        if self.format == Format::BinarySi && self.is_integer() && self.nano.abs() >= 1024 * NANO {
            let (mut value, mut power) = (self.nano / NANO, 0);
            while value % 1024 == 0 && power < 6 {
                value /= 1024;
                power += 1;
            }
            return write!(f, "{value}{}", ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"][power]);
        }
        let (mut value, mut step) = (self.nano, 0);
        while value % 1000 == 0 && step < 9 {
            value /= 1000;
            step += 1;
        }
        match (self.format, step) {
            (Format::DecimalExponent, 3) => write!(f, "{value}"),
            (Format::DecimalExponent, _) => write!(f, "{value}e{}", (i32::try_from(step).unwrap_or(0) - 3) * 3),
            (Format::DecimalSi | Format::BinarySi, _) => {
                write!(f, "{value}{}", ["n", "u", "m", "", "k", "M", "G", "T", "P", "E"][step])
            }
        }
    }
}

impl FromStr for Quantity {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        Self::parse(text)
    }
}

impl TryFrom<&Wire> for Quantity {
    type Error = ParseError;

    fn try_from(wire: &Wire) -> Result<Self, ParseError> {
        Self::parse(&wire.0)
    }
}

impl From<Quantity> for Wire {
    fn from(quantity: Quantity) -> Self {
        Self(quantity.to_string())
    }
}

/// Equal amounts are equal, however they were written.
impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.nano == other.nano
    }
}

impl Eq for Quantity {}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> Ordering {
        self.nano.cmp(&other.nano)
    }
}

impl Add for Quantity {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        self.with(self.nano + other.nano, other)
    }
}

impl Sub for Quantity {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        self.with(self.nano - other.nano, other)
    }
}

impl AddAssign for Quantity {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl SubAssign for Quantity {
    fn sub_assign(&mut self, other: Self) {
        *self = *self - other;
    }
}

impl Neg for Quantity {
    type Output = Self;

    fn neg(self) -> Self {
        Self { nano: -self.nano, format: self.format }
    }
}

impl Sum for Quantity {
    fn sum<I: Iterator<Item = Self>>(amounts: I) -> Self {
        amounts.fold(Self::ZERO, Add::add)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn canonical_forms() {
        let table = [
            ("0", "0"),
            ("100m", "100m"),
            ("1Gi", "1Gi"),
            ("1.5", "1500m"),
            ("1.5Gi", "1536Mi"),
            ("1024Mi", "1Gi"),
            ("1000m", "1"),
            ("1000", "1k"),
            ("1024", "1024"),
            ("0.5Gi", "512Mi"),
            ("512", "512"),
            ("1e3", "1e3"),
            ("1500", "1500"),
            ("1e-3", "1e-3"),
            ("12e6", "12e6"),
            ("10e5", "1e6"),
            ("0.1m", "100u"),
            ("0.1n", "1n"),
            ("-5", "-5"),
            ("+5", "5"),
            (".5", "500m"),
            ("5.", "5"),
            ("100Ki", "100Ki"),
            ("0.5Ki", "512"),
            ("1E", "1E"),
            ("1e18", "1e18"),
            ("1e19", "9223372036854775807e0"),
            ("9Ei", "9223372036854775807"),
            ("1.0000000001Gi", "1073741824107374183n"),
            ("00012", "12"),
            ("1.500", "1500m"),
        ];
        for (text, canonical) in table {
            let shown = Quantity::canonical(text).unwrap_or_else(|e| panic!("{text}: {e}"));
            assert_eq!(shown, canonical.replace("e0", ""), "{text}");
        }
    }

    #[test]
    fn bad_quantities() {
        for text in ["", "a", "1 Gi", "--1", "1Gi1x", "m", "+", "Ki"] {
            assert_eq!(Quantity::parse(text), Err(ParseError::Format), "{text}");
        }
        for text in ["1Kii", "1e", "1ki", "1K"] {
            assert_eq!(Quantity::parse(text), Err(ParseError::Suffix), "{text}");
        }
        for text in ["1.2.3", "."] {
            assert_eq!(Quantity::parse(text), Err(ParseError::Number), "{text}");
        }
    }

    #[test]
    fn arithmetic_and_rounding() {
        let q = |text| Quantity::parse(text).expect("a quantity");
        assert_eq!((q("100m") + q("1.9")).to_string(), "2");
        assert_eq!((Quantity::ZERO + q("1Gi")).to_string(), "1Gi");
        assert_eq!((q("1Gi") - q("1Mi")).to_string(), "1023Mi");
        assert_eq!(q("1001u").milli_value(), 2);
        assert_eq!(q("1.1").value(), 2);
        assert_eq!(q("-1.1").value(), -2);
        assert!(q("1Gi") > q("1G"));
        assert_eq!(q("1024Mi"), q("1Gi"));
        assert_eq!(Quantity::milli(1500).to_string(), "1500m");
    }

    proptest! {
        #[test]
        fn display_parses_back(value in -(1i64 << 52)..(1i64 << 52), suffix in prop::sample::select(vec!["n", "u", "m", "", "k", "Ki", "Mi", "e2"])) {
            let q = Quantity::parse(&format!("{value}{suffix}")).expect("well formed");
            let again = Quantity::parse(&q.to_string()).expect("canonical form parses");
            prop_assert_eq!(again, q);
            prop_assert_eq!(again.to_string(), q.to_string());
        }

        #[test]
        fn sums_are_exact(a in 0i64..1_000_000_000, b in 0i64..1_000_000_000) {
            prop_assert_eq!(Quantity::milli(a) + Quantity::milli(b), Quantity::milli(a + b));
            prop_assert_eq!(Quantity::milli(a) + Quantity::milli(b) - Quantity::milli(b), Quantity::milli(a));
        }
    }
}
