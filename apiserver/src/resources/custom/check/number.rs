//! Bounds and factors of numbers. Entry points: [`Node::number`], and [`go_float`] for how floats are shown.

use super::Node;
use super::found::Found;

impl Node<'_> {
    /// What is wrong with a number.
    pub(super) fn number(&self, number: &serde_json::Number) -> Found {
        let mut found = Found { fits: 1, ..Found::default() };
        let (float, whole) = (number.as_f64().unwrap_or_default(), number.as_i64());
        let shown = |bound: f64| if whole.is_some() { whole_part(bound).to_string() } else { go_float(bound) };
        let order = |bound: f64| match whole {
            Some(whole) => whole.partial_cmp(&whole_part(bound)),
            None => float.partial_cmp(&bound),
        };
        if let Some(factor) = self.schema.multiple_of
            && !is_multiple(float, whole, factor)
        {
            found.merge(self.invalid(number.clone(), &format!("should be a multiple of {}", shown(factor))));
        }
        if let Some(least) = self.schema.minimum {
            let exclusive = self.schema.exclusive_minimum;
            if order(least).is_some_and(|order| order.is_lt() || (exclusive && order.is_eq())) {
                let or_equal = if exclusive { "" } else { " or equal to" };
                found
                    .merge(self.invalid(number.clone(), &format!("should be greater than{or_equal} {}", shown(least))));
            }
        }
        if let Some(most) = self.schema.maximum {
            let exclusive = self.schema.exclusive_maximum;
            if order(most).is_some_and(|order| order.is_gt() || (exclusive && order.is_eq())) {
                let or_equal = if exclusive { "" } else { " or equal to" };
                found.merge(self.invalid(number.clone(), &format!("should be less than{or_equal} {}", shown(most))));
            }
        }
        found
    }
}

/// Whether a float counts as an integer: beyond these it can't be told.
pub(super) fn is_whole(number: f64) -> bool {
    const MOST: f64 = 9_007_199_254_740_991.0;
    number.fract() == 0.0 && number.abs() <= MOST
}

fn is_multiple(float: f64, whole: Option<i64>, factor: f64) -> bool {
    match (whole, whole_part(factor)) {
        (Some(whole), factor) if factor != 0 => whole % factor == 0,
        _ => {
            let times = if factor < 1.0 { 1.0 / factor * float } else { float / factor };
            (times - times.round()).abs() < 1e-9
        }
    }
}

#[expect(clippy::cast_possible_truncation, reason = "what Go's conversion does to the bounds of integers")]
fn whole_part(number: f64) -> i64 {
    number as i64
}

/// A number as Go's `%v` writes it.
pub fn go_float(number: f64) -> String {
    if number.is_nan() {
        return "NaN".to_owned();
    }
    if number.is_infinite() {
        return if number < 0.0 { "-Inf" } else { "+Inf" }.to_owned();
    }
    if number != 0.0 && !(1e-4..1e21).contains(&number.abs()) {
        let text = format!("{number:e}");
        let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        let (sign, exponent) = exponent.strip_prefix('-').map_or(('+', exponent), |exponent| ('-', exponent));
        return format!("{digits}e{sign}{exponent:0>2}");
    }
    number.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_as_gos() {
        for (number, text) in
            [(1.5, "1.5"), (3.0, "3"), (1e21, "1e+21"), (1.5e-7, "1.5e-07"), (0.0, "0"), (f64::NEG_INFINITY, "-Inf")]
        {
            assert_eq!(go_float(number), text);
        }
    }
}
