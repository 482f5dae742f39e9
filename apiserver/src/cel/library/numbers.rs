//! Arithmetic and comparison. Whole numbers never wrap: an overflow is an error.

use std::cmp::Ordering;
use std::sync::Arc;

use jiff::SignedDuration;

use super::{Answer, failed, no_such_overload};
use crate::cel::EvaluationError;
use crate::cel::value::Value;

pub(super) fn call<'a>(function: &str, args: &[Value<'a>]) -> Answer<'a> {
    match (function, args) {
        ("_==_", [one, two]) => Some(Ok(Value::Bool(one.equals(two)))),
        ("_!=_", [one, two]) => Some(Ok(Value::Bool(!one.equals(two)))),
        ("_<_", [one, two]) => Some(compared(one, two, Ordering::is_lt)),
        ("_<=_", [one, two]) => Some(compared(one, two, Ordering::is_le)),
        ("_>_", [one, two]) => Some(compared(one, two, Ordering::is_gt)),
        ("_>=_", [one, two]) => Some(compared(one, two, Ordering::is_ge)),
        ("_+_", [one, two]) => Some(sum(one, two)),
        ("_-_", [one, two]) => Some(difference(one, two)),
        ("_*_" | "_/_" | "_%_", [one, two]) => Some(product(function, one, two)),
        ("-_", [Value::Int(value)]) => Some(whole(value.checked_neg())),
        ("-_", [Value::Double(value)]) => Some(Ok(Value::Double(-value))),
        ("!_", [Value::Bool(value)]) => Some(Ok(Value::Bool(!value))),
        ("-_" | "!_", _) => failed("no such overload"),
        _ => None,
    }
}

fn compared<'a>(one: &Value<'a>, two: &Value<'a>, holds: fn(Ordering) -> bool) -> Result<Value<'a>, EvaluationError> {
    match one.compare(two) {
        Some(order) => Ok(Value::Bool(holds(order))),
        // Not a number compares with nothing.
        None if matches!((one, two), (Value::Double(_), _) | (_, Value::Double(_))) && numeric(one) && numeric(two) => {
            Ok(Value::Bool(false))
        }
        None => Err(no_such_overload()),
    }
}

fn numeric(value: &Value<'_>) -> bool {
    matches!(value, Value::Int(_) | Value::Uint(_) | Value::Double(_))
}

fn whole<'a>(value: Option<i64>) -> Result<Value<'a>, EvaluationError> {
    value.map(Value::Int).ok_or_else(|| EvaluationError::new("integer overflow"))
}

fn unsigned<'a>(value: Option<u64>) -> Result<Value<'a>, EvaluationError> {
    value.map(Value::Uint).ok_or_else(|| EvaluationError::new("unsigned integer overflow"))
}

fn duration<'a>(value: Option<SignedDuration>) -> Result<Value<'a>, EvaluationError> {
    // A duration is a count of nanoseconds in 64 bits.
    let fits = value.filter(|value| i64::try_from(value.as_nanos()).is_ok());
    fits.map(Value::Duration).ok_or_else(|| EvaluationError::new("duration overflow"))
}

/// Minima and sums of lists use it too.
pub(super) fn sum<'a>(one: &Value<'a>, two: &Value<'a>) -> Result<Value<'a>, EvaluationError> {
    match (one, two) {
        (Value::Int(one), Value::Int(two)) => whole(one.checked_add(*two)),
        (Value::Uint(one), Value::Uint(two)) => unsigned(one.checked_add(*two)),
        (Value::Double(one), Value::Double(two)) => Ok(Value::Double(one + two)),
        (Value::String(one), Value::String(two)) => Ok(Value::text([&**one, &**two].concat())),
        (Value::Bytes(one), Value::Bytes(two)) => Ok(Value::Bytes(Arc::from([&**one, &**two].concat()))),
        (Value::List(one), Value::List(two)) => Ok(Value::list(one.joined(two))),
        (Value::Duration(one), Value::Duration(two)) => duration(one.checked_add(*two)),
        (Value::Timestamp(at), Value::Duration(by)) | (Value::Duration(by), Value::Timestamp(at)) => {
            at.checked_add(*by).map(Value::Timestamp).map_err(|_| EvaluationError::new("timestamp overflow"))
        }
        _ => Err(no_such_overload()),
    }
}

fn difference<'a>(one: &Value<'a>, two: &Value<'a>) -> Result<Value<'a>, EvaluationError> {
    match (one, two) {
        (Value::Int(one), Value::Int(two)) => whole(one.checked_sub(*two)),
        (Value::Uint(one), Value::Uint(two)) => unsigned(one.checked_sub(*two)),
        (Value::Double(one), Value::Double(two)) => Ok(Value::Double(one - two)),
        (Value::Duration(one), Value::Duration(two)) => duration(one.checked_sub(*two)),
        (Value::Timestamp(one), Value::Timestamp(two)) => duration(Some(one.duration_since(*two))),
        (Value::Timestamp(at), Value::Duration(by)) => {
            at.checked_sub(*by).map(Value::Timestamp).map_err(|_| EvaluationError::new("timestamp overflow"))
        }
        _ => Err(no_such_overload()),
    }
}

fn product<'a>(function: &str, one: &Value<'a>, two: &Value<'a>) -> Result<Value<'a>, EvaluationError> {
    let by_zero = matches!(two, Value::Int(0) | Value::Uint(0));
    match (function, one, two) {
        ("_/_", Value::Int(_) | Value::Uint(_), _) if by_zero => Err(EvaluationError::new("division by zero")),
        ("_%_", Value::Int(_) | Value::Uint(_), _) if by_zero => Err(EvaluationError::new("modulus by zero")),
        ("_*_", Value::Int(one), Value::Int(two)) => whole(one.checked_mul(*two)),
        ("_/_", Value::Int(one), Value::Int(two)) => whole(one.checked_div(*two)),
        ("_%_", Value::Int(one), Value::Int(two)) => whole(one.checked_rem(*two)),
        ("_*_", Value::Uint(one), Value::Uint(two)) => unsigned(one.checked_mul(*two)),
        ("_/_", Value::Uint(one), Value::Uint(two)) => unsigned(one.checked_div(*two)),
        ("_%_", Value::Uint(one), Value::Uint(two)) => unsigned(one.checked_rem(*two)),
        ("_*_", Value::Double(one), Value::Double(two)) => Ok(Value::Double(one * two)),
        ("_/_", Value::Double(one), Value::Double(two)) => Ok(Value::Double(one / two)),
        _ => Err(no_such_overload()),
    }
}
