//! Quantities: <https://kubernetes.io/docs/reference/using-api/cel/#kubernetes-quantity-library>.

use std::sync::Arc;

use api::quantity::Quantity;

use super::opaque::Opaque;
use super::{Answer, failed};
use crate::cel::value::Value;

pub(super) fn call<'a>(function: &str, args: &[Value<'a>]) -> Answer<'a> {
    let (quantity, rest) = match args {
        [Value::String(text)] if function == "isQuantity" => {
            return Some(Ok(Value::Bool(Quantity::parse(text).is_ok())));
        }
        [Value::String(text)] if function == "quantity" => {
            return Some(match Quantity::parse(text) {
                Ok(quantity) => Ok(value(quantity)),
                Err(error) => return failed(error.to_string()),
            });
        }
        [Value::Opaque(opaque), rest @ ..] => match (&**opaque, rest) {
            (Opaque::Quantity(quantity), rest) => (*quantity, rest),
            _ => return None,
        },
        _ => return None,
    };
    let other = match rest {
        [Value::Int(number)] => Quantity::parse(&number.to_string()).ok(),
        [Value::Opaque(opaque)] => match &**opaque {
            Opaque::Quantity(other) => Some(*other),
            _ => None,
        },
        _ => None,
    };
    let answer = match (function, other) {
        ("sign", None) if quantity.is_zero() => Value::Int(0),
        ("sign", None) => Value::Int(if quantity.is_negative() { -1 } else { 1 }),
        ("isInteger", None) => Value::Bool(is_integer(quantity)),
        ("asInteger", None) if is_integer(quantity) => Value::Int(quantity.value()),
        ("asInteger", None) => return failed("cannot convert value to integer"),
        ("asApproximateFloat", None) => Value::Double(approximate(quantity)),
        ("add", Some(other)) => value(quantity + other),
        ("sub", Some(other)) => value(quantity - other),
        ("isGreaterThan", Some(other)) => Value::Bool(quantity > other),
        ("isLessThan", Some(other)) => Value::Bool(quantity < other),
        ("compareTo", Some(other)) => Value::Int(quantity.cmp(&other) as i64),
        _ => return None,
    };
    Some(Ok(answer))
}

fn value<'a>(quantity: Quantity) -> Value<'a> {
    Value::Opaque(Arc::new(Opaque::Quantity(quantity)))
}

/// Whether it is a whole number that fits 64 bits.
fn is_integer(quantity: Quantity) -> bool {
    quantity.is_integer() && Quantity::parse(&quantity.value().to_string()).is_ok_and(|whole| whole == quantity)
}

#[expect(clippy::cast_precision_loss, reason = "approximate by its name")]
fn approximate(quantity: Quantity) -> f64 {
    if quantity.is_integer() { quantity.value() as f64 } else { quantity.milli_value() as f64 / 1000.0 }
}
